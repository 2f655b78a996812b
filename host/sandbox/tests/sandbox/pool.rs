//! The pool: room is reserved at load, and faults by the thousand leave nothing behind.

use super::*;

fn small() -> Sandbox {
    sandbox_of(4)
}

#[tokio::test]
async fn a_plugin_that_does_not_fit_is_refused_when_it_is_loaded() {
    let sandbox = small();
    let two =
        |pipeline: &str| PluginOptions { instances: 2, pipeline: pipeline.into(), ..options() };
    let first = load(&sandbox, "echo", two("orders"));
    let deployed = load(&sandbox, "hostile", two("orders"));
    let error = sandbox.load(guest("echo"), two("billing")).err().expect("refused").to_string();
    assert!(
        error.contains(
            "it needs room for 4 instances (2 versions at a time), other pipelines hold 4, the \
             sandbox has 4"
        ),
        "{error}"
    );
    let held = instance(&first).await;
    drop((first, deployed));
    assert!(sandbox.load(guest("echo"), two("billing")).is_err(), "an instance holds its room");
    drop(held);
    load(&sandbox, "echo", two("billing"));
}

#[tokio::test]
async fn no_more_instances_than_there_is_room_for() {
    let sandbox = small();
    let plugin = load(&sandbox, "echo", options());
    let (_first, second) = (instance(&plugin).await, instance(&plugin).await);
    let error = plugin.instance().await.err().expect("refused").to_string();
    assert_eq!(
        error,
        "plugin echo of pipeline orders has 2 instances, for which its room is reserved: raise \
         the pipeline's `instances`"
    );
    drop(second);
    instance(&plugin).await;
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

#[tokio::test]
async fn thousands_of_faults_leave_no_memory_behind() {
    let sandbox = small();
    let plugin = load(&sandbox, "hostile", options());
    let mut instance = instance(&plugin).await;
    let mut cycle = async |rounds: usize| {
        for _ in 0..rounds {
            for way in ["trap", "panic again", "huge", "count", "connect"] {
                let outcome = handle(&mut instance, way).await;
                assert_eq!(outcome.kind() == "done", way == "count", "{way}: {outcome:?}");
            }
        }
    };
    cycle(100).await;
    let before = resident_bytes();
    cycle(600).await;
    let grown = resident_bytes().saturating_sub(before);
    // 2,400 replaced instances: one page kept of each would be 9 MiB. Other tests run beside it.
    assert!(grown < 64 << 20, "{grown} bytes more after 2,400 faults");
}
