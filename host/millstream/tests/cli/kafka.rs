//! Kafka as far as it goes without a broker: who a host is, and what is said when nobody answers.

use crate::folder::Folder;

/// Nobody listens on port 1.
const CONFIG: &str = r#"
[host]
admin = "127.0.0.1:0"

[log]
kind = "kafka"
bootstrap_servers = "127.0.0.1:1"

[pipelines.orders]
source = { topics = ["orders"] }
plugin = "orders.wasm"
instances = 1
"#;

fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("millstream.toml", CONFIG);
    folder
}

#[cfg(not(feature = "kafka"))]
#[test]
fn a_build_without_kafka_says_how_one_is_made_that_has_it() {
    let ran = folder().run(&["topics", "list"]).fails(2, "MS1010");
    assert!(ran.stderr.contains("this build has no Kafka"), "{ran:?}");
    assert!(ran.stderr.contains("cargo build -p millstream"), "{ran:?}");
}

#[test]
fn a_scaler_of_an_embedded_log_is_refused_with_what_to_do() {
    let folder = Folder::new();
    folder.write("millstream.toml", crate::ORDERS);
    let ran = folder.run(&["scaler"]).fails(2, "MS1010");
    assert!(ran.stderr.contains("log.kind = \"kafka\""), "{ran:?}");
    assert!(ran.stderr.contains("without a scaler"), "{ran:?}");
}

#[cfg(feature = "kafka")]
mod with_kafka {
    use millstream_guest_builder::guest;

    use super::*;

    #[test]
    fn a_second_host_on_a_data_folder_is_refused_before_it_reaches_the_cluster() {
        let folder = folder();
        std::fs::copy(guest("hostile"), folder.path().join("orders.wasm")).expect("copied");
        folder.write("data/host.lock", "4711                ");
        let path = folder.path().join("data/host.lock");
        let lock = std::fs::OpenOptions::new().write(true).open(path).expect("the lock file");
        lock.try_lock().expect("free");
        folder.run(&["run"]).fails(1, "MS3003").fails(1, "the host in process 4711");
    }

    #[test]
    fn the_status_of_a_host_that_does_not_run_needs_no_cluster() {
        let folder = folder();
        folder.run(&["status"]).fails(1, "no host runs on data");
        // One that was killed left its address behind, and its token.
        folder.write("data/admin.address", "127.0.0.1:1\n");
        folder.write("data/admin.token", "0123456789abcdef0123456789abcdef\n");
        folder.run(&["status"]).fails(1, "no host runs on data");
    }

    #[test]
    fn a_cluster_where_nobody_answers_is_named_with_what_to_do() {
        let ran = folder().run(&["topics", "list"]).fails(1, "MS2002");
        assert!(ran.stderr.contains("127.0.0.1:1"), "{ran:?}");
        assert!(ran.stderr.contains("log.bootstrap_servers"), "{ran:?}");
    }

    #[test]
    fn a_scaler_whose_address_is_taken_names_the_option() {
        let folder = folder();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let taken = listener.local_addr().expect("its address").to_string();
        for option in ["--listen", "--metrics"] {
            let other = if option == "--listen" { "--metrics" } else { "--listen" };
            let args = ["scaler", option, &taken, other, "127.0.0.1:0"];
            let ran = folder.run(&args).fails(1, "MS3002");
            assert!(ran.stderr.contains(option) && ran.stderr.contains(&taken), "{ran:?}");
        }
        folder.run(&["scaler", "--listen", "nowhere"]).fails(2, "--listen");
    }

    #[test]
    fn check_without_the_log_asks_no_broker() {
        let folder = folder();
        std::fs::copy(guest("hostile"), folder.path().join("orders.wasm")).expect("copied");
        let ran = folder.run(&["check", "--offline"]).done();
        assert!(ran.stdout.contains("kafka at 127.0.0.1:1"), "{ran:?}");
        assert!(!folder.path().join("data").exists(), "a check leaves nothing behind");
    }
}
