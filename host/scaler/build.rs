//! Makes Rust of KEDA's interface file. A compiler in Rust reads it, so `protoc` need not be there.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/externalscaler.proto");
    let interface = protox::compile(["proto/externalscaler.proto"], ["proto"])?;
    tonic_prost_build::configure().build_transport(false).compile_fds(interface)?;
    Ok(())
}
