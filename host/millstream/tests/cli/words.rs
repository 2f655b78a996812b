//! Help, wrong usage, and errors as a person reads them.

use crate::ORDERS;
use crate::folder::Folder;

#[test]
fn help_is_as_it_was() {
    let folder = Folder::new();
    folder.run(&["--help"]).done().golden("help");
    folder.run(&["topics", "create", "--help"]).done().golden("help-topics-create");
    folder.run(&["consume", "--help"]).done().golden("help-consume");
    folder.run(&["scaler", "--help"]).done().golden("help-scaler");
    folder.run(&["plugin", "test", "--help"]).done().golden("help-plugin-test");
}

#[test]
fn no_command_and_wrong_arguments_are_wrong_usage() {
    let folder = Folder::new();
    assert_eq!(folder.run(&[]).code, 2);
    folder.run(&["prodduce"]).fails(2, "produce");
    folder.run(&["consume", "orders", "--max", "many"]).fails(2, "--max");
    folder.run(&["topics", "create"]).fails(2, "required");
    folder.run(&["topics", "create", "a", "--pipelines"]).fails(2, "cannot be used with");
    folder.run(&["topics", "create", "a", "--partitions", "0"]).fails(2, "--partitions");
    folder.run(&["--log", "no=such=level", "completions", "bash"]).fails(2, "MS2005");
}

#[test]
fn a_missing_configuration_says_which_file_and_what_to_do() {
    let folder = Folder::new();
    folder.run(&["check"]).golden("no-config");
    folder.run(&["--config", "other.toml", "lag"]).golden("no-other-config");
    folder.run(&["topics", "list"]).golden("no-config-nor-folder");
}

#[test]
fn an_unknown_key_is_shown_with_its_line() {
    let folder = Folder::new();
    folder.write("millstream.toml", &ORDERS.replace("delays", "delay"));
    folder.run(&["check"]).golden("unknown-key");
}

#[test]
fn errors_are_not_coloured_when_they_go_into_a_file() {
    let folder = Folder::new();
    let ran = folder.run(&["check"]).fails(2, "error[MS1001]");
    assert!(!ran.stderr.contains('\x1b'), "{ran:?}");
}

#[test]
fn check_names_a_missing_plugin_and_exits_2() {
    let folder = Folder::new();
    folder.write("millstream.toml", ORDERS);
    folder.run(&["check"]).golden("missing-plugin");
}

#[test]
fn check_finds_everything_at_once() {
    let folder = Folder::new();
    let second = ORDERS.replace("orders", "payments");
    let second = second.split_once("[pipelines").expect("a pipeline").1;
    folder.write("millstream.toml", &format!("{ORDERS}\n[pipelines{second}"));
    folder.write("payments.wasm", "no Wasm at all");
    let ran = folder.run(&["check"]).fails(2, "2 errors");
    assert!(ran.stderr.contains("orders.wasm") && ran.stderr.contains("payments.wasm"), "{ran:?}");
}

#[test]
fn completions_know_the_commands() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish"] {
        let ran = folder.run(&["completions", shell]).done();
        assert!(ran.stdout.contains("redrive"), "{shell}");
    }
}
