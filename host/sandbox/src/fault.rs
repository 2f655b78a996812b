//! Fault: what a call that did not end by itself came to: its kind, a reason, the guest's stack.
//!
//! Invariant: whatever a guest does ends in exactly one kind; a growth that was refused wins over the
//! trap that follows it, because the trap is how a guest reacts to it.

use std::time::Duration;

use millstream_core::outcome::{Fault, FaultKind};
use wasmtime::component::ResourceTableError;
use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::bounded_text::{BACKTRACE_BYTES_MAX, bytes_text, cut, one_line, reason};
use crate::capabilities::Refused;
use crate::instance::State;
use crate::limits::{Limits, Refusal};

/// What the guest was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Starting: start functions and initialisers.
    Start,
    /// Handling a message.
    Call,
}

/// The fault of a call or start that ended with an error.
pub(crate) fn of_error(
    error: &wasmtime::Error,
    state: &State,
    limits: &Limits,
    stack_bytes: usize,
    stage: Stage,
) -> Fault {
    let backtrace = error.downcast_ref::<WasmBacktrace>();
    let (kind, text) = classify(error, backtrace.is_some(), state, limits, stack_bytes, stage);
    let text = match stage {
        Stage::Start => format!("the plugin did not start: {text}"),
        Stage::Call => text,
    };
    Fault { kind, reason: reason(&text), backtrace: backtrace.and_then(backtrace_text) }
}

/// The fault of a call or start that took too long, `rested` not counted.
pub(crate) fn of_timeout(state: &State, limits: &Limits, rested: Duration, stage: Stage) -> Fault {
    let doing = match stage {
        Stage::Start => "starting",
        Stage::Call => "handling",
    };
    let mut text = format!("{doing} took longer than limits.time = {:?}", limits.time);
    if !rested.is_zero() {
        let milliseconds = rested.as_millis();
        // The operator sees how long it took, and would wonder.
        text += &format!(" (and {milliseconds} ms in which it was held back for earlier faults)");
    }
    let text = with_last_words(text, state);
    Fault { kind: FaultKind::Timeout, reason: reason(&text), backtrace: None }
}

fn classify(
    error: &wasmtime::Error,
    in_guest: bool,
    state: &State,
    limits: &Limits,
    stack_bytes: usize,
    stage: Stage,
) -> (FaultKind, String) {
    if let Some(refused) = error.downcast_ref::<Refused>() {
        return (refused.kind, refused.reason.clone());
    }
    if let Some(refusal) = state.limiter.refused {
        return (FaultKind::Memory, with_last_words(refusal_text(refusal, limits), state));
    }
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        let text = format!("the plugin ended itself with exit code {}", exit.0);
        return (FaultKind::Trap, with_last_words(text, state));
    }
    if error.downcast_ref::<ResourceTableError>().is_some() {
        let text = format!("the plugin holds too many handles: {}", error.root_cause());
        return (FaultKind::Memory, text);
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        return match trap {
            Trap::StackOverflow => {
                let stack = bytes_text(stack_bytes);
                (
                    FaultKind::Memory,
                    format!("the call stack grew beyond {stack}: endless recursion?"),
                )
            }
            trap => (FaultKind::Trap, with_last_words(trap.to_string(), state)),
        };
    }
    let cause = error.root_cause().to_string();
    // The error's type is private to wasmtime; its text is checked by the tests for aliased lists.
    if cause.contains("fuel allocated for hostcalls has been exhausted") {
        let what = if in_guest { "a host call's parameters" } else { "the outputs" };
        return (
            FaultKind::Oversize,
            format!(
                "{what} are larger than limits.output = {} and the other limits allow; they were \
                 not copied",
                bytes_text(limits.output_bytes)
            ),
        );
    }
    match stage {
        Stage::Start => (FaultKind::Trap, cause),
        Stage::Call if in_guest => (FaultKind::Decode, format!("a host call failed: {cause}")),
        Stage::Call => {
            (FaultKind::Decode, format!("what the plugin returned cannot be read: {cause}"))
        }
    }
}

fn refusal_text(refusal: Refusal, limits: &Limits) -> String {
    match refusal {
        Refusal::Memory { wanted_bytes } => format!(
            "the plugin asked for {} of memory, limits.memory allows {}",
            bytes_text(wanted_bytes),
            bytes_text(limits.memory_bytes)
        ),
        Refusal::Table { wanted_elements } => format!(
            "the plugin asked for tables of {wanted_elements} elements, limits.table allows {}",
            limits.table_elements
        ),
    }
}

/// A panic's message stands first: it is what the author looks for.
fn with_last_words(text: String, state: &State) -> String {
    match state.log.lock().last_words() {
        Some(words) => format!("{words} ({text})"),
        None => text,
    }
}

/// One frame a line, innermost first, with file and line where the plugin has debug information.
fn backtrace_text(backtrace: &WasmBacktrace) -> Option<String> {
    let mut text = String::new();
    // The first line is wasmtime's heading.
    for line in backtrace.to_string().lines().skip(1) {
        if text.len() > BACKTRACE_BYTES_MAX {
            break;
        }
        text.push_str(&one_line(line.trim()));
        text.push('\n');
    }
    let text = cut(text.trim_end().to_owned(), BACKTRACE_BYTES_MAX);
    (!text.is_empty()).then_some(text)
}
