//! The sandbox against real guests, well-behaved and hostile (`tests/guests`).
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "this is a test: what is not as expected ends it"
)]

mod cache;
mod capabilities;
mod hostile;
mod load;
mod pool;
mod rests;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use millstream_core::message::{Header, Message};
use millstream_core::outcome::{Fault, FaultKind, Outcome, Output};
use millstream_core::plugin::{AttemptContext, Instance, Plugin as _};
use millstream_guest_builder::guest;
use millstream_sandbox::{
    Limits, LoadedPlugin, LogLine, PluginLog, PluginOptions, Rests, Sandbox, SandboxOptions,
};

/// Enough on a busy machine; tests about time set their own.
const TIME_AMPLE: Duration = Duration::from_secs(60);

/// Shares compiled code with the other tests and the run before: compiling is most of their time.
fn sandbox() -> Sandbox {
    sandbox_of(16)
}

fn sandbox_of(instances_max: u32) -> Sandbox {
    let cache_dir = Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled-guests"));
    let options = SandboxOptions { cache_dir, instances_max, ..SandboxOptions::default() };
    Sandbox::new(options).expect("a sandbox")
}

fn options() -> PluginOptions {
    let limits = Limits { time: TIME_AMPLE, ..Limits::default() };
    PluginOptions { limits, ..PluginOptions::new("orders") }
}

fn load(sandbox: &Sandbox, name: &str, options: PluginOptions) -> Arc<LoadedPlugin> {
    sandbox.load(guest(name), options).unwrap_or_else(|error| panic!("{error}"))
}

async fn instance(plugin: &LoadedPlugin) -> Box<dyn Instance> {
    plugin.instance().await.expect("an instance")
}

fn message(value: &str) -> Message {
    Message {
        topic: "orders.created".into(),
        partition: 3,
        offset: 42,
        timestamp: 1_700_000_000_000,
        key: Some(Bytes::from_static(b"k\xff")),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: vec![Header::new("traceparent", "00-1"), Header::new("traceparent", "00-2")],
    }
}

fn attempt(attempt: u32) -> AttemptContext {
    AttemptContext { attempt, turn: 42, timestamp: 1_600_000_000_123, trace: None }
}

async fn handle(instance: &mut Box<dyn Instance>, value: &str) -> Outcome {
    instance.handle(&message(value), attempt(1)).await
}

fn done(outcome: Outcome) -> Vec<Output> {
    match outcome {
        Outcome::Done(outputs) => outputs,
        other => panic!("expected outputs, got {other:?}"),
    }
}

/// The value of the only output, as text.
fn text(outcome: Outcome) -> String {
    let [output] = &done(outcome)[..] else { panic!("expected one output") };
    String::from_utf8_lossy(output.value.as_deref().unwrap_or_default()).into_owned()
}

fn fault(outcome: Outcome) -> Fault {
    match outcome {
        Outcome::Fault(fault) => fault,
        other => panic!("expected a fault, got {other:?}"),
    }
}

#[track_caller]
fn assert_fault(outcome: Outcome, kind: FaultKind, reason: &str) -> Fault {
    let fault = fault(outcome);
    assert_eq!(fault.kind, kind, "{fault:?}");
    assert!(fault.reason.contains(reason), "expected {reason:?} in {:?}", fault.reason);
    fault
}

/// Keeps a plugin's lines as `level position context: text`.
#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl PluginLog for Lines {
    fn line(&self, line: &LogLine<'_>) {
        let position = line.position.map_or("start".to_owned(), |p| p.to_string());
        let LogLine { level, pipeline, context, text, .. } = line;
        let line = format!("{level:?} {pipeline} {position} {context}: {text}");
        self.0.lock().unwrap().push(line);
    }
}
