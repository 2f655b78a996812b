//! What a host refuses before its first message, and what `produce` refuses.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use millstream_tests::folder::Folder;
use millstream_tests::host::{END_WITHIN, Host};

use crate::{config, disk, fails, folder, with_topics};

#[test]
fn a_configuration_with_an_unknown_key_names_the_nearest_one() {
    let config = config("", "delivry = \"exactly_once\"");
    let folder = folder(&config);
    for command in ["run", "check", "lag"] {
        fails(
            &folder.run(&[command], ""),
            2,
            &[folder.path()],
            r#"
error[MS1003]: unknown key `delivry`
   --> millstream.toml:13:1
   |
13 | delivry = "exactly_once"
   | ^^^^^^^
  why: `pipelines.work` may have `source`, `plugin`, `outputs`, `delivery`, `ordering`, `in_flight`, `waiting`, `instances`, `retry`, `dead_letter`, `idempotency`, `limits`, `capabilities`, `commit`, `drain`, `held_up_after`, `traces`
  do: did you mean `delivery`? Else take it out
"#,
        );
    }
    assert!(!folder.path().join("data").exists(), "nothing is made before all is understood");
}

#[test]
fn a_plugin_file_that_is_not_there_is_named() {
    let folder = Folder::new(&config("", ""));
    fails(
        &folder.run(&["run"], ""),
        2,
        &[folder.path()],
        r#"
error[MS2001]: the plugin cannot be read
  --> hostile.wasm
  why: No such file or directory (os error 2)
  do: correct the path, or build it with `millstream plugin build`
"#,
    );
    assert!(!folder.log_dir().exists(), "no log is made for a plugin that is not there");
}

#[test]
fn a_plugin_file_that_is_no_plugin_is_refused() {
    let folder = Folder::new(&config("", ""));
    folder.write("hostile.wasm", "hello");
    fails(
        &folder.run(&["run"], ""),
        2,
        &[folder.path()],
        r#"
error[MS2001]: the plugin cannot be used
  --> hostile.wasm
  why: it is not WebAssembly
  do: it begins with 68 65 6c 6c where 00 61 73 6d is expected; name the .wasm file that the build made
"#,
    );
}

#[test]
fn an_admin_address_that_is_in_use_is_named() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let config = config("", "").replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    let folder = folder(&config);
    fails(
        &folder.run(&["run"], ""),
        1,
        &[folder.path()],
        r#"
error[MS3002]: the admin API cannot be served
  why: the admin address 127.0.0.1:[PORT] is in use by another process, perhaps another host
  do: stop it, or set `host.admin` to a free address (port 0 takes any)
"#,
    );
    drop(other);
    folder.ok(&["run", "--until-caught-up"], "");
}

#[test]
fn a_second_host_on_the_same_folder_is_told_of_the_first() {
    let folder = with_topics(&config("", ""));
    let mut host = Host::start(&folder);
    host.until_ready();
    let second = folder.run(&["run"], "");
    fails(
        &second,
        1,
        &[folder.path()],
        r#"
error[MS2002]: the log cannot be opened
  why: data/log is in use by process [PID]
  do: stop it first, or reach it through its admin API at 127.0.0.1:[PORT]
"#,
    );
    assert!(second.stderr.contains(&format!("process {}", host.pid())), "{}", second.stderr);
    let address = host.address().unwrap();
    assert!(second.stderr.contains(&address), "{address} is not in: {}", second.stderr);
    let (ready, _) = host.get("/health/ready").unwrap();
    assert_eq!(ready, 200, "the first host does not mind");
    host.stop(END_WITHIN);
}

#[test]
fn a_read_only_folder_is_refused() {
    let folder = folder(&config("data_dir = \"disk\"", ""));
    let data = folder.path().join("disk");
    let refused = |why: &str| {
        let expected = format!(
            r#"
error[MS2001]: the sandbox cannot start
  why: the folder of compiled plugins disk/compiled cannot be made: {why}
  do: make the folder this user's own (mode 0700), or remove it
"#
        );
        fails(&folder.run(&["run"], ""), 2, &[folder.path()], &expected);
    };
    match disk(64) {
        Some(disk) => {
            disk.read_only();
            std::os::unix::fs::symlink(disk.path(), &data).unwrap();
            refused("Read-only file system (os error 30)");
        }
        None => {
            std::fs::create_dir(&data).unwrap();
            std::fs::set_permissions(&data, PermissionsExt::from_mode(0o500)).unwrap();
            refused("Permission denied (os error 13)");
        }
    }
}

#[test]
fn a_log_folder_that_cannot_be_written_is_refused() {
    let Some(disk) = disk(200) else { return };
    let folder = folder(&config("", ""));
    std::fs::create_dir(folder.path().join("data")).unwrap();
    std::os::unix::fs::symlink(disk.path(), folder.log_dir()).unwrap();
    folder.ok(&["run", "--until-caught-up"], "");
    disk.read_only();
    fails(
        &folder.run(&["run"], ""),
        1,
        &[folder.path()],
        r#"
error[MS2002]: the log cannot be opened
  why: data/log/host.lock cannot be written (Read-only file system (os error 30))
  do: the log needs a folder it may write; check its owner and mode, and that the file system is not mounted read-only
"#,
    );
}

#[test]
fn a_message_larger_than_its_topic_takes_is_refused_by_line() {
    let folder = with_topics(&config("", "").replace(
        "durability = \"100ms\"",
        "new_topics = { partitions = 1, message_max = \"4KiB\" }",
    ));
    let large = format!("small\n{}\nsmall as well\n", "x".repeat(5000));
    let ended = folder.run(&["produce", "work", "--values"], &large);
    fails(
        &ended,
        1,
        &[folder.path()],
        r#"
error[MS2004]: line 2 was refused by the log
  --> stdin
  why: record of 5000 bytes is larger than the 4096 bytes topic work takes
  do: correct it; of lines 1 to 3 those that are not refused are appended
"#,
    );
    let values: Vec<_> = folder.consume("work").iter().map(|l| l.text().to_owned()).collect();
    assert_eq!(values, ["small", "small as well"], "what else was sent with it is there");
}
