//! A plugin that runs more in calls that fault than in others is held back, and no call fails for it.
//!
//! Lower bounds of rests are exact; how long a guest ran is the CPU time of the test's own thread,
//! which other tests don't move.

use tokio::time::Instant;

use super::*;

const LIMIT: Duration = Duration::from_millis(200);

fn limited(time: Duration) -> PluginOptions {
    PluginOptions { limits: Limits { time, ..Limits::default() }, ..options() }
}

/// CPU time of this thread. Tests with one thread run their guests on it.
fn thread_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}

async fn times_out(instance: &mut Box<dyn Instance>) -> Fault {
    assert_fault(handle(instance, "loop").await, FaultKind::Timeout, "limits.time = ")
}

/// One timeout is forgiven, the second one is not.
async fn hold_back(plugin: &LoadedPlugin, instance: &mut Box<dyn Instance>) {
    times_out(instance).await;
    times_out(instance).await;
    assert_eq!(plugin.rests().count, 0, "it began to rest too early");
}

#[tokio::test]
async fn a_plugin_that_times_out_again_and_again_runs_a_tenth_of_the_time() {
    let sandbox = sandbox();
    let plugin = load(&sandbox, "hostile", limited(LIMIT));
    let mut instance = instance(&plugin).await;
    hold_back(&plugin, &mut instance).await;

    let (begin, cpu) = (Instant::now(), thread_cpu());
    for _ in 0..2 {
        let fault = times_out(&mut instance).await;
        assert!(fault.reason.contains("held back for earlier faults"), "{}", fault.reason);
    }
    let (time, cpu) = (begin.elapsed(), thread_cpu() - cpu);
    // It ran for two limits at most; what the thread itself did is in there too.
    assert!(cpu < LIMIT * 3, "{cpu:?}");
    let rests = plugin.rests();
    // On a busy machine a guest gets through fewer slices in its limit.
    assert!(rests.count >= 2 && rests.time >= LIMIT, "{rests:?}");
    assert!(time >= rests.time, "{time:?} {rests:?}");
    assert!(rests.time >= 4 * cpu, "it ran {cpu:?} and rested {rests:?}");
}

#[tokio::test]
async fn a_long_handler_is_not_slowed_by_the_single_timeout_of_another_message() {
    let sandbox = sandbox();
    let plugin = load(&sandbox, "hostile", limited(Duration::from_secs(2)));
    let mut instance = instance(&plugin).await;
    times_out(&mut instance).await;
    let cpu = thread_cpu();
    for _ in 0..10 {
        assert_eq!(handle(&mut instance, "lines 10000").await.kind(), "done");
    }
    let cpu = thread_cpu() - cpu;
    assert!(cpu > Duration::from_millis(20), "not long: {cpu:?}");
    assert_eq!(plugin.rests(), Rests::default());
}

#[tokio::test]
async fn a_handler_that_rests_for_longer_than_its_limit_is_done() {
    let sandbox = sandbox();
    let time = Duration::from_secs(1);
    let plugin = load(&sandbox, "hostile", limited(time));
    let mut instance = instance(&plugin).await;
    hold_back(&plugin, &mut instance).await;
    // How fast the machine is decides how many lines take long enough.
    let mut lines = 10_000;
    loop {
        let before = plugin.rests().time;
        let outcome = handle(&mut instance, &format!("lines {lines}")).await;
        assert_eq!(outcome.kind(), "done", "{outcome:?}");
        if plugin.rests().time - before > time {
            return;
        }
        lines *= 2;
    }
}

#[tokio::test]
async fn short_calls_are_not_slowed_while_their_plugin_is_held_back() {
    let sandbox = sandbox();
    let plugin = load(&sandbox, "hostile", limited(LIMIT));
    let mut instance = instance(&plugin).await;
    hold_back(&plugin, &mut instance).await;
    times_out(&mut instance).await;
    let before = plugin.rests().count;
    for _ in 0..100 {
        handle(&mut instance, "echo").await;
    }
    let rests = plugin.rests().count - before;
    // One, if the machine stopped this thread for a slice in the midst of a call.
    assert!(rests <= 1, "{rests} rests in 100 short calls");
}

/// Traps, allocation and recursion are short, and would take a worker's whole share by their number.
#[tokio::test]
async fn short_faults_without_end_run_a_tenth_of_the_time() {
    let sandbox = sandbox();
    let plugin = load(&sandbox, "hostile", limited(LIMIT));
    let mut instance = instance(&plugin).await;
    let ways = ["trap", "allocate", "panic x", "recurse", "huge"];
    let mut round = async || {
        for way in ways {
            fault(handle(&mut instance, way).await);
        }
    };
    while plugin.rests().count == 0 {
        round().await;
    }
    let (before, cpu) = (plugin.rests(), thread_cpu());
    while plugin.rests().count < before.count + 10 {
        round().await;
    }
    let (rested, cpu) = (plugin.rests().time - before.time, thread_cpu() - cpu);
    assert!(rested >= 4 * cpu, "it ran {cpu:?} and rested {rested:?}");
}

#[tokio::test]
async fn a_plugin_that_never_starts_is_held_back() {
    let sandbox = sandbox();
    let plugin = load(&sandbox, "slow-start", limited(LIMIT));
    for _ in 0..2 {
        assert!(plugin.instance().await.is_err());
    }
    assert_eq!(plugin.rests().count, 0);
    let error = plugin.instance().await.err().expect("no instance").to_string();
    assert!(error.contains("starting took longer than limits.time = 200ms (and "), "{error}");
    assert!(plugin.rests().time >= LIMIT, "{:?}", plugin.rests());
}

/// A guest that waits takes nothing from its neighbours.
#[tokio::test]
async fn a_guest_that_waits_until_its_time_is_up_is_not_held_back() {
    let sandbox = sandbox();
    let plugin = load(&sandbox, "hostile", limited(LIMIT));
    let mut instance = instance(&plugin).await;
    for _ in 0..5 {
        assert_fault(handle(&mut instance, "wait").await, FaultKind::Timeout, "limits.time");
    }
    assert_eq!(plugin.rests().count, 0);
}

#[tokio::test]
async fn a_call_that_is_dropped_while_it_rests_leaves_a_fresh_instance() {
    let sandbox = sandbox();
    let plugin = load(&sandbox, "hostile", limited(LIMIT));
    let mut instance = instance(&plugin).await;
    hold_back(&plugin, &mut instance).await;
    let cancelled = tokio::time::timeout(LIMIT / 2, handle(&mut instance, "loop")).await;
    assert!(cancelled.is_err(), "it rested until it was dropped");
    assert_eq!(text(handle(&mut instance, "count").await), "0");
}
