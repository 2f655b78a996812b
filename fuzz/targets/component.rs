//! A plugin's file: loaded, or refused with what is wrong; never executed here.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use millstream_sandbox::{PluginOptions, PluginSource, Sandbox, SandboxOptions};

/// Few instances: each reserves address space.
static SANDBOX: LazyLock<Sandbox> = LazyLock::new(|| {
    Sandbox::new(SandboxOptions { instances_max: 4, ..SandboxOptions::default() })
        .expect("a sandbox")
});

/// Where `fuzz/run` finds the input of a process that is gone.
static LAST: LazyLock<PathBuf> = LazyLock::new(|| std::env::temp_dir().join("last-input"));

fuzz_target!(|bytes: &[u8]| {
    // A stack that overflows ends the process before libFuzzer could keep the input.
    std::fs::write(&*LAST, bytes).expect("a file");
    let source = || PluginSource::Bytes { name: "fuzzed".to_owned(), bytes: bytes.to_vec() };
    let checked = SANDBOX.check(source(), &PluginOptions::new("fuzz"));
    let fit = checked.is_ok_and(|report| report.differences.is_empty());
    match SANDBOX.load(source(), PluginOptions::new("fuzz")) {
        Ok(_) => assert!(fit, "loaded, though the check found something"),
        Err(error) => assert!(!fit, "passed the check, and is not loaded: {error}"),
    }
});
