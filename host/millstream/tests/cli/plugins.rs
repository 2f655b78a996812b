//! `plugin new|check|test`.

use millstream_guest_builder::guest;

use crate::ORDERS;
use crate::folder::Folder;

#[test]
fn a_new_plugin_is_a_folder_of_its_own() {
    let folder = Folder::new();
    folder.run(&["plugin", "new", "hello-world"]).done().golden("plugin-new");
    let file = |path: &str| {
        std::fs::read_to_string(folder.path().join("hello-world").join(path)).expect(path)
    };
    assert!(file("Cargo.toml").contains("name = \"hello-world\""));
    assert!(file("vendor/millstream-plugin/Cargo.toml").contains("name = \"millstream-plugin\""));
    assert!(file("vendor/millstream-plugin/src/lib.rs").len() > 100);
    for path in ["Cargo.toml", "README.md", "millstream.toml"] {
        assert!(!file(path).contains("{{"), "{path} has a placeholder left");
    }
    let config = folder.path().join("hello-world/millstream.toml");
    let config = millstream::config::load(&config).expect("its pipeline is well-formed");
    assert!(config.pipelines[0].plugin.ends_with("hello-world.wasm"));
    folder.run(&["plugin", "new", "hello-world"]).fails(2, "is there already");
    folder.run(&["plugin", "new", "Hello"]).fails(2, "MS1007");
}

#[test]
fn what_is_no_plugin_is_refused_by_every_plugin_command() {
    let folder = Folder::new();
    folder.write("text.wasm", "no Wasm at all");
    folder.run(&["plugin", "check", "text.wasm"]).fails(2, "MS2001");
    folder.run(&["plugin", "check", "none.wasm"]).fails(2, "cannot be read");
    folder.run(&["plugin", "build"]).fails(2, "no Cargo.toml");
    folder.run(&["plugin", "test"]).fails(1, "MS2008");
    folder.write("cases/readme.txt", "");
    folder.run(&["plugin", "test"]).fails(1, "there are no cases");
    folder.write("cases/one/in.jsonl", "{\"value\":\"1\"}\n");
    folder.write("cases/one/expect.jsonl", "{\"don\":[]}\n");
    folder.run(&["plugin", "test", "--wasm", "text.wasm"]).fails(1, "expect.jsonl:1");
    folder.write("cases/one/expect.jsonl", "");
    folder.run(&["plugin", "test", "--wasm", "text.wasm"]).fails(1, "has 1 messages");
    folder.write("cases/one/expect.jsonl", "{\"done\":[]}\n");
    folder.run(&["plugin", "test", "--wasm", "text.wasm"]).fails(2, "MS2001");
}

#[test]
fn cases_pass_against_the_real_plugin_in_the_real_sandbox() {
    let folder = Folder::new();
    folder.write(
        "cases/ways/in.jsonl",
        r#"{"value":"echo","headers":[["h","1"]]}
{"value":"retry not yet"}
{"value":"reject never"}
{"value":"pause down"}
{"value":"named audit"}
{"value":"reply"}
{"value":"recurse"}
{"value":"loop"}
{"value":"huge"}
"#,
    );
    folder.write(
        "cases/ways/expect.jsonl",
        r#"{"done":[{"to":"default","value":"echo","headers":[["h","1"]]}]}
{"retry":{"reason":"not yet"}}
{"reject":{"reason":"never"}}
{"pause":{"reason":"down","for_ms":1500}}
{"done":[{"to":"audit"}]}
{"fault":{"kind":"denied","reason":"reply"}}
{"fault":{}}
{"fault":{"kind":"timeout"}}
{"fault":{"kind":"oversize"}}
"#,
    );
    let wasm = guest("hostile");
    let wasm = wasm.to_str().expect("UTF-8");
    folder.run(&["plugin", "test", "--wasm", wasm]).done().golden("plugin-test-passes");
}

#[test]
fn a_case_gives_the_same_each_time_with_clock_and_random_pinned() {
    let folder = Folder::new();
    folder.write("cases/time/in.jsonl", "{\"value\":\"time\"}\n");
    folder.write("cases/time/expect.jsonl", "{\"reject\":{}}\n");
    let wasm = guest("hostile");
    let wasm = wasm.to_str().expect("UTF-8");
    let first = folder.run(&["plugin", "test", "--wasm", wasm]).fails(1, "1 of 1 cases failed");
    let second = folder.run(&["plugin", "test", "--wasm", wasm]).fails(1, "1 of 1 cases failed");
    assert!(first.stdout.contains("expected reject, came done"), "{first:?}");
    assert_eq!(first.stdout, second.stdout);
}

#[test]
fn a_failed_case_shows_what_differs_and_its_settings_reach_the_plugin() {
    let folder = Folder::new();
    folder.write("cases/euro/in.jsonl", "{\"value\":\"currency\"}\n{\"value\":\"rate\"}\n");
    folder.write(
        "cases/euro/expect.jsonl",
        "{\"done\":[{\"value\":\"EUR\"}]}\n\n{\"done\":[{\"value\":\"1.5\"}]}\n",
    );
    folder.write("cases/euro/case.toml", "config = { currency = \"USD\", rate = 1.5 }\n");
    let wasm = guest("settings");
    let wasm = wasm.to_str().expect("UTF-8");
    folder.run(&["plugin", "test", "--wasm", wasm]).golden("plugin-test-fails");
    let ran = folder.run(&["plugin", "test", "--wasm", wasm, "--json"]).fails(1, "MS2007");
    let results: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(results[0]["differences"][0]["in_line"], 1, "{results}");
}

#[test]
fn a_plugin_is_checked_against_what_its_pipeline_grants() {
    let folder = Folder::new();
    std::fs::copy(guest("settings"), folder.path().join("orders.wasm")).expect("copied");
    folder.write("millstream.toml", ORDERS);
    let ran = folder.run(&["check"]).fails(2, "MS2001");
    assert!(ran.stderr.contains("capabilities.config"), "{ran:?}");
    folder.run(&["plugin", "check", "orders.wasm", "--pipeline", "orders"]).fails(2, "MS2001");
    let granted = format!("{ORDERS}capabilities = {{ config = {{ currency = \"EUR\" }} }}\n");
    folder.write("millstream.toml", &granted);
    folder.run(&["check"]).done();
    let ran = folder.run(&["plugin", "check", "orders.wasm", "--pipeline", "orders", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&ran.done().stdout).expect("JSON");
    assert_eq!(report["differences"], serde_json::json!([]), "{report}");
    assert_eq!(report["exports"][0], "millstream:plugin/handle@0.1.0", "{report}");
    folder.run(&["plugin", "check", "orders.wasm", "--pipeline", "none"]).fails(2, "no pipeline");
}
