//! Every way to misbehave gives its own kind and reason, and the next message knows nothing of it.

use super::*;

/// The way must be a fault of this kind, and the message after it handled by fresh state.
async fn misbehaves(way: &str, limits: Limits, kind: FaultKind, reason: &str) -> Fault {
    let sandbox = sandbox();
    let plugin = load(&sandbox, "hostile", PluginOptions { limits, ..options() });
    let mut instance = instance(&plugin).await;
    assert_eq!(text(handle(&mut instance, "count").await), "0");
    let fault = assert_fault(handle(&mut instance, way).await, kind, reason);
    assert!(fault.reason.len() <= 1024 && !fault.reason.contains('\n'), "{}", fault.reason);
    assert_eq!(text(handle(&mut instance, "count").await), "0", "the instance was not replaced");
    assert_eq!(text(handle(&mut instance, "count").await), "1", "a warm instance is kept");
    fault
}

fn ample() -> Limits {
    options().limits
}

fn short() -> Limits {
    Limits { time: Duration::from_millis(500), ..Limits::default() }
}

#[tokio::test]
async fn an_endless_loop_is_a_timeout() {
    let reason = "handling took longer than limits.time = 500ms";
    let fault = misbehaves("loop", short(), FaultKind::Timeout, reason).await;
    assert_eq!(fault.reason, reason);
}

#[tokio::test]
async fn a_guest_that_waits_too_long_is_a_timeout() {
    misbehaves("wait", short(), FaultKind::Timeout, "limits.time = 500ms").await;
}

#[tokio::test]
async fn endless_allocation_is_a_memory_fault_with_the_limit_in_its_reason() {
    let reason = "of memory, limits.memory allows 64 MiB";
    let fault = misbehaves("allocate", ample(), FaultKind::Memory, reason).await;
    assert!(fault.reason.contains("the plugin asked for 64."), "{}", fault.reason);
    assert!(fault.backtrace.is_some(), "the trap that followed has a stack");
}

#[tokio::test]
async fn deep_recursion_is_a_memory_fault_with_a_bounded_backtrace() {
    let reason = "the call stack grew beyond 512 KiB";
    let fault = misbehaves("recurse", ample(), FaultKind::Memory, reason).await;
    let backtrace = fault.backtrace.expect("a backtrace");
    assert!(backtrace.contains("recurse"), "{backtrace}");
    assert!(backtrace.len() <= 2048 && backtrace.ends_with("… [cut]"), "{backtrace}");
}

#[tokio::test]
async fn huge_outputs_are_oversize() {
    misbehaves(
        "huge",
        ample(),
        FaultKind::Oversize,
        "hold 2097152 bytes, limits.output allows 1 MiB",
    )
    .await;
    // Not even copied.
    misbehaves("huger", ample(), FaultKind::Oversize, "the outputs are larger than limits.output")
        .await;
}

#[tokio::test]
async fn countless_outputs_are_oversize() {
    let reason = "2000 outputs were returned, limits.outputs allows 1000";
    misbehaves("countless", ample(), FaultKind::Oversize, reason).await;
    misbehaves("more-countless", ample(), FaultKind::Oversize, "the outputs are larger").await;
}

#[tokio::test]
async fn too_many_too_large_and_aliased_headers_are_oversize() {
    let reason = "output 0 has 65 headers, limits.headers allows 64";
    misbehaves("many-headers", ample(), FaultKind::Oversize, reason).await;
    let reason = "output 0 has headers of 81924 bytes, limits.header_bytes allows 64 KiB";
    misbehaves("giant-headers", ample(), FaultKind::Oversize, reason).await;
    let reason = "the outputs are larger than limits.output";
    misbehaves("aliased-headers", ample(), FaultKind::Oversize, reason).await;
}

#[tokio::test]
async fn invalid_text_cannot_be_read() {
    misbehaves(
        "invalid-text",
        ample(),
        FaultKind::Decode,
        "what the plugin returned cannot be read",
    )
    .await;
    misbehaves("invalid-log", ample(), FaultKind::Decode, "a host call failed").await;
}

#[tokio::test]
async fn a_trap_has_a_symbolised_backtrace() {
    let reason = "wasm trap: wasm `unreachable` instruction executed";
    let fault = misbehaves("trap", ample(), FaultKind::Trap, reason).await;
    let backtrace = fault.backtrace.expect("a backtrace");
    assert!(backtrace.contains("hostile") && backtrace.contains("handle"), "{backtrace}");
    assert!(backtrace.len() <= 2048, "{} bytes", backtrace.len());
}

#[tokio::test]
async fn a_panics_message_is_the_reason() {
    let fault = misbehaves("panic 1000 ducks", ample(), FaultKind::Trap, "panicked at ").await;
    assert!(fault.reason.contains("no price for 1000 ducks (wasm trap"), "{}", fault.reason);
}

#[tokio::test]
async fn a_core_modules_panic_reaches_the_reason_through_its_log() {
    let sandbox = sandbox();
    let plugin = load(&sandbox, "core-echo", options());
    let mut instance = instance(&plugin).await;
    let outcome = handle(&mut instance, "panic").await;
    assert_fault(outcome, FaultKind::Trap, "no price for offset 42");
    assert_eq!(text(handle(&mut instance, "on").await), "on");
}

#[tokio::test]
async fn state_of_a_trapped_call_is_gone() {
    misbehaves("panic-counted", ample(), FaultKind::Trap, "after counting").await;
}

#[tokio::test]
async fn an_exit_ends_the_call_and_not_the_host() {
    misbehaves("exit", ample(), FaultKind::Trap, "the plugin ended itself with exit code 1").await;
}

#[tokio::test]
async fn a_network_connection_is_denied() {
    let reason = "the plugin used wasi:sockets/";
    misbehaves("connect", ample(), FaultKind::Denied, reason).await;
}

#[tokio::test]
async fn a_line_of_many_megabytes_is_oversize() {
    let reason = "a host call's parameters are larger";
    misbehaves("longest-line", ample(), FaultKind::Oversize, reason).await;
}

#[tokio::test]
async fn a_giant_reason_is_cut() {
    let sandbox = sandbox();
    let plugin = load(&sandbox, "hostile", options());
    let outcome = handle(&mut instance(&plugin).await, "giant-reason").await;
    let Outcome::Retry { reason, .. } = outcome else { panic!("{outcome:?}") };
    assert!(reason.len() <= 1024 && reason.ends_with("… [cut]"), "{reason}");
}

#[tokio::test]
async fn a_guest_that_never_starts_is_bounded_by_the_time_limit() {
    let sandbox = sandbox();
    let plugin = load(&sandbox, "slow-start", PluginOptions { limits: short(), ..options() });
    let error = plugin.instance().await.err().expect("no instance").to_string();
    let expected = "plugin slow_start of pipeline orders: timeout: starting took longer than \
                    limits.time = 500ms";
    assert_eq!(error, expected);
}

#[tokio::test]
async fn a_cancelled_call_leaves_a_fresh_instance() {
    let sandbox = sandbox();
    let plugin = load(&sandbox, "hostile", options());
    let mut instance = instance(&plugin).await;
    assert_eq!(text(handle(&mut instance, "count").await), "0");
    let cancelled =
        tokio::time::timeout(Duration::from_millis(50), handle(&mut instance, "loop")).await;
    assert!(cancelled.is_err(), "the loop went on until it was dropped");
    assert_eq!(text(handle(&mut instance, "count").await), "0");
}

/// On one thread: the endless guest must yield, or nothing else ran before its time was up.
#[tokio::test(flavor = "current_thread")]
async fn an_endless_guest_does_not_hold_its_worker() {
    let sandbox = sandbox();
    let limits = Limits { time: Duration::from_secs(20), ..Limits::default() };
    let hostile = load(&sandbox, "hostile", PluginOptions { limits, ..options() });
    let echo = load(&sandbox, "echo", PluginOptions { pipeline: "healthy".into(), ..options() });
    let mut endless = instance(&hostile).await;
    let mut healthy = instance(&echo).await;
    let work = async {
        for _ in 0..200 {
            assert_eq!(text(handle(&mut healthy, "on").await), "on");
            // As a worker does between messages.
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        outcome = handle(&mut endless, "loop") => panic!("it held the worker: {outcome:?}"),
        () = work => {}
    }
}
