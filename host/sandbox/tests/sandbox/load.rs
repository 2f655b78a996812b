//! What is wrong with a plugin is found when it is loaded, all of it, with what to do.

use millstream_core::plugin::PluginIdentity;
use millstream_sandbox::{Form, LoadError, PluginSource};
use serde_json::json;

use super::*;

/// The differences that loading names.
fn differences(sandbox: &Sandbox, source: PluginSource, options: PluginOptions) -> Vec<String> {
    match sandbox.load(source, options) {
        Err(LoadError::Unfit { differences, .. }) => differences,
        Err(other) => panic!("expected differences, got {other}"),
        Ok(_) => panic!("expected differences, but it was loaded"),
    }
}

fn bytes(bytes: &[u8]) -> PluginSource {
    PluginSource::Bytes { name: "given".into(), bytes: bytes.to_vec() }
}

#[test]
fn every_difference_of_a_foreign_plugin_is_named_at_once() {
    let sandbox = sandbox();
    let found = differences(&sandbox, guest("future-contract").into(), options());
    assert_eq!(
        found,
        [
            "it exports millstream:plugin/handle@0.2.0, this host speaks \
             millstream:plugin/handle@0.1.0: build it against contract 0.1.0, or run it on a host \
             of its own version",
            "it imports acme:telepathy/minds@1.0.0, which this host does not provide: build the \
             plugin without it",
            "it imports wasi:config/store@0.2.0-rc.1, which its pipeline does not grant: add a \
             `capabilities.config` table to the pipeline, or build the plugin without it",
            "it imports wasi:logging/logging@0.2.0, this host provides \
             wasi:logging/logging@0.1.0-draft: build it against that version",
        ]
    );
    let error = sandbox.load(guest("future-contract"), options()).err().unwrap().to_string();
    let path = guest("future-contract");
    let heading = format!("plugin {} of pipeline orders cannot be used:\n", path.display());
    assert!(error.starts_with(&heading), "{error}");
    assert_eq!(error.lines().count(), 5, "one line each: {error}");
}

#[test]
fn another_shape_of_the_handler_is_refused() {
    let found = differences(&sandbox(), guest("wrong-shape").into(), options());
    let [difference] = &found[..] else { panic!("{found:?}") };
    let start = "its function handle in millstream:plugin/handle@0.1.0 has another shape (";
    assert!(difference.starts_with(start), "{difference}");
    assert!(difference.contains("expected record of 8 fields, found 2"), "{difference}");
}

#[test]
fn settings_without_a_grant_are_refused() {
    let found = differences(&sandbox(), guest("settings").into(), options());
    let [difference] = &found[..] else { panic!("{found:?}") };
    assert!(difference.contains("does not grant: add a `capabilities.config` table"));
}

#[test]
fn what_is_no_plugin_is_told_apart() {
    let sandbox = sandbox();
    let tell = |given: &[u8]| differences(&sandbox, bytes(given), options()).join("|");
    assert_eq!(tell(b""), "it is empty: is its build finished?");
    assert_eq!(
        tell(b"\x7fELF and more"),
        "it is not WebAssembly: it begins with 7f 45 4c 46 where 00 61 73 6d is expected; name \
         the .wasm file that the build made"
    );
    let module = b"\0asm\x01\0\0\0";
    assert!(tell(module).starts_with("it is a core module without its component type: build it"));
    let component = b"\0asm\x0d\0\x01\0";
    assert_eq!(
        tell(component),
        "it does not export millstream:plugin/handle@0.1.0, nor anything else: build it with the \
         Millstream SDK or for the world millstream:plugin/handler@0.1.0"
    );
    let whole = std::fs::read(guest("echo")).unwrap();
    let cut = tell(&whole[..whole.len() / 2]);
    assert!(cut.starts_with("it cannot be compiled: "), "{cut}");
    let whole = std::fs::read(guest("core-echo")).unwrap();
    let cut = tell(&whole[..whole.len() / 2]);
    assert!(cut.starts_with("it is damaged: "), "{cut}");
}

#[test]
fn a_missing_file_is_named() {
    let sandbox = sandbox();
    let missing = PluginSource::Path("/nowhere/pricing.wasm".into());
    let error = sandbox.load(missing, options()).err().unwrap();
    assert!(matches!(error, LoadError::Unreadable { .. }), "{error:?}");
    let expected = "plugin /nowhere/pricing.wasm of pipeline orders cannot be read: No such file";
    assert!(error.to_string().starts_with(expected), "{error}");
    let error = sandbox.load(PluginSource::Path("/tmp".into()), options()).err().unwrap();
    assert!(error.to_string().contains("it is not a regular file"), "{error}");
}

#[test]
fn limits_that_the_plugin_or_the_sandbox_cannot_keep_are_refused() {
    let sandbox = sandbox();
    let limits = Limits { memory_bytes: 64 << 10, table_elements: 1, ..Limits::default() };
    let found = differences(&sandbox, guest("echo").into(), PluginOptions { limits, ..options() });
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].ends_with("of memory, limits.memory allows 64 KiB: raise the limit"));
    assert!(found[1].ends_with("elements, limits.table allows 1: raise the limit"), "{found:?}");
    let limits = Limits { memory_bytes: 5 << 30, ..Limits::default() };
    let found = differences(&sandbox, guest("echo").into(), PluginOptions { limits, ..options() });
    assert_eq!(found, ["limits.memory is 5 GiB, this sandbox gives at most 4 GiB: lower it"]);
}

#[test]
fn a_core_module_becomes_a_component_and_tells_its_version() {
    let sandbox = sandbox();
    let plugin = load(&sandbox, "core-echo", options());
    assert_eq!(plugin.report().form, Form::CoreModule);
    let PluginIdentity { name, version, digest } = plugin.identity();
    assert_eq!((name.as_str(), version.as_str()), ("core_echo", "7.8.9"));
    assert!(digest.starts_with("sha256:") && digest.len() == 71, "{digest}");
    let named = PluginOptions { name: Some("pricing".into()), ..options() };
    assert_eq!(load(&sandbox, "core-echo", named).identity().name, "pricing");
}

#[test]
fn a_check_reports_imports_and_differences_without_refusing() {
    let sandbox = sandbox();
    let report = sandbox.check(guest("settings"), &options()).unwrap();
    assert_eq!(report.differences.len(), 1);
    let shown = serde_json::to_value(&report).unwrap();
    assert_eq!(shown["exports"], json!(["millstream:plugin/handle@0.1.0"]));
    assert_eq!(shown["form"], "component");
    assert_eq!(shown["name"], "settings");
    assert_eq!(shown["version"], "unknown");
    assert!(shown["compiled"]["from_cache"].is_boolean());
    let access = |name: &str| {
        let imports = shown["imports"].as_array().unwrap();
        imports.iter().find(|import| import["name"] == name).unwrap()["access"].clone()
    };
    assert_eq!(access("wasi:config/store@0.2.0-rc.1"), "refused");
    assert_eq!(access("wasi:cli/stderr@0.2.6"), "closed");
    assert_eq!(access("millstream:plugin/types@0.1.0"), "always");
    let report = sandbox.check(guest("hostile"), &options()).unwrap();
    assert_eq!(report.differences, Vec::<String>::new());
    let shown = serde_json::to_string(&report.imports).unwrap();
    assert!(shown.contains(r#"{"name":"wasi:sockets/tcp@0.2.6","access":"denied_in_use"}"#));
}
