//! The contract's types as they cross the sandbox's wall, and what an answer means.
//!
//! The message is lowered from borrowed parts (bytes are copied once, into the guest's memory); the
//! answer is lifted into owned parts and checked against the limits before it becomes an outcome.
//! The field names and their order are those of `wit/plugin-0.1.0/plugin.wit`.

use std::time::Duration;

use bytes::Bytes;
use millstream_core::message::{Header, Message};
use millstream_core::outcome::{Destination, Fault, FaultKind, Outcome, Output};
use millstream_core::plugin::AttemptContext;
use wasmtime::component::types::ComponentFunc;
use wasmtime::component::{ComponentType, Lift, Lower, TypedFunc};

use crate::bounded_text::{bytes_text, reason};
use crate::limits::Limits;

/// The interface every plugin exports, without its version.
pub(crate) const HANDLE_INTERFACE: &str = "millstream:plugin/handle";

/// The types' own interface, which a plugin imports without functions.
pub(crate) const TYPES_INTERFACE: &str = "millstream:plugin/types";

/// The contract this host speaks.
pub(crate) const CONTRACT_VERSION: &str = "0.1.0";

/// The exported interface's full name.
pub(crate) const HANDLE_EXPORT: &str = "millstream:plugin/handle@0.1.0";

/// The exported function's name within the interface.
pub(crate) const HANDLE_FUNCTION: &str = "handle";

/// The parameters of `handle`.
pub(crate) type Parameters<'a> = (MessageIn<'a>,);

/// The results of `handle`.
pub(crate) type Results = (Result<Vec<OutputOut>, FailureOut>,);

/// `handle` of one instance. `Parameters` is covariant: it takes messages that live shorter.
pub(crate) type HandleFunction = TypedFunc<Parameters<'static>, Results>;

#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct HeaderIn<'a> {
    name: &'a str,
    value: &'a [u8],
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct MessageIn<'a> {
    topic: &'a str,
    partition: u32,
    offset: u64,
    timestamp: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: Vec<HeaderIn<'a>>,
    attempt: u32,
}

impl<'a> MessageIn<'a> {
    /// The message as the guest sees it: in a retry, with the time it was first written.
    pub(crate) fn new(message: &'a Message, context: AttemptContext) -> Self {
        let header = |h: &'a Header| HeaderIn { name: &h.name, value: &h.value };
        Self {
            topic: &message.topic,
            partition: message.partition,
            offset: message.offset,
            timestamp: context.timestamp,
            key: message.key.as_deref(),
            value: message.value.as_deref(),
            headers: message.headers.iter().map(header).collect(),
            attempt: context.attempt,
        }
    }
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct HeaderOut {
    name: String,
    value: Vec<u8>,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(crate) enum DestinationOut {
    #[component(name = "default")]
    Default,
    #[component(name = "named")]
    Named(String),
    #[component(name = "reply")]
    Reply,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct OutputOut {
    to: DestinationOut,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<HeaderOut>,
    partition: Option<u32>,
    timestamp: Option<i64>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct RetryOut {
    reason: String,
    after: Option<u64>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct RejectOut {
    reason: String,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct PauseOut {
    reason: String,
    duration: u64,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(crate) enum FailureOut {
    #[component(name = "retry")]
    Retry(RetryOut),
    #[component(name = "reject")]
    Reject(RejectOut),
    #[component(name = "pause")]
    Pause(PauseOut),
}

/// `wasi:logging/logging.level`.
#[derive(ComponentType, Lift, Clone, Copy)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "lifting makes its values out of the guest's discriminants")]
pub(crate) enum LevelOut {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "critical")]
    Critical,
}

/// `wasi:config/store.error`.
#[derive(ComponentType, Lower)]
#[component(variant)]
pub(crate) enum ConfigErrorIn {
    #[component(name = "upstream")]
    #[expect(dead_code, reason = "the type needs all its cases; settings in memory never fail")]
    Upstream(String),
    #[component(name = "io")]
    #[expect(dead_code, reason = "the type needs all its cases; settings in memory never fail")]
    Io(String),
}

/// Whether a function is `handle` as the contract has it.
///
/// # Errors
/// What differs.
pub(crate) fn check_shape(
    function: &ComponentFunc,
    component: &wasmtime::component::types::Component,
) -> wasmtime::Result<()> {
    function.typecheck::<Parameters<'static>, Results>(&component.instance_type())
}

/// How many bytes the host copies at most out of the guest in one call. Whatever keeps the limits
/// fits: the payload, and the host's own structures around it. Without it a list of aliased strings,
/// small in the guest's memory, would be huge in the host's.
pub(crate) fn hostcall_fuel(limits: &Limits) -> usize {
    let headers = limits.header_count.saturating_mul(size_of::<HeaderOut>());
    let per_output = headers.saturating_add(size_of::<OutputOut>());
    let structure = per_output.saturating_mul(limits.output_count);
    // A reason and a log line must pass even where outputs may hold next to nothing.
    limits.output_bytes.saturating_add(structure).saturating_add(64 << 10)
}

/// What the guest's answer means, or the fault that it breaks a limit.
pub(crate) fn outcome(answer: Result<Vec<OutputOut>, FailureOut>, limits: &Limits) -> Outcome {
    match answer {
        Ok(outputs) => match checked(outputs, limits) {
            Ok(outputs) => Outcome::Done(outputs),
            Err(excess) => {
                let reason = reason(&excess);
                Outcome::Fault(Fault { kind: FaultKind::Oversize, reason, backtrace: None })
            }
        },
        Err(FailureOut::Retry(retry)) => Outcome::Retry {
            reason: reason(&retry.reason),
            after: retry.after.map(Duration::from_millis),
        },
        Err(FailureOut::Reject(reject)) => Outcome::Reject { reason: reason(&reject.reason) },
        Err(FailureOut::Pause(pause)) => Outcome::Pause {
            reason: reason(&pause.reason),
            pause: Duration::from_millis(pause.duration),
        },
    }
}

fn checked(outputs: Vec<OutputOut>, limits: &Limits) -> Result<Vec<Output>, String> {
    if outputs.len() > limits.output_count {
        let (count, max) = (outputs.len(), limits.output_count);
        return Err(format!("{count} outputs were returned, limits.outputs allows {max}"));
    }
    let mut bytes = 0_usize;
    for (index, output) in outputs.iter().enumerate() {
        if output.headers.len() > limits.header_count {
            let (count, max) = (output.headers.len(), limits.header_count);
            return Err(format!("output {index} has {count} headers, limits.headers allows {max}"));
        }
        let header_bytes: usize = output.headers.iter().map(|h| h.name.len() + h.value.len()).sum();
        if header_bytes > limits.header_bytes {
            return Err(format!(
                "output {index} has headers of {header_bytes} bytes, limits.header_bytes allows {}",
                bytes_text(limits.header_bytes)
            ));
        }
        bytes += header_bytes
            + output.key.as_ref().map_or(0, Vec::len)
            + output.value.as_ref().map_or(0, Vec::len);
    }
    if bytes > limits.output_bytes {
        return Err(format!(
            "the outputs hold {bytes} bytes, limits.output allows {}",
            bytes_text(limits.output_bytes)
        ));
    }
    Ok(outputs.into_iter().map(output).collect())
}

fn output(output: OutputOut) -> Output {
    let header = |h: HeaderOut| Header::new(h.name, h.value);
    Output {
        to: match output.to {
            DestinationOut::Default => Destination::Default,
            DestinationOut::Named(name) => Destination::Named(name),
            DestinationOut::Reply => Destination::Reply,
        },
        key: output.key.map(Bytes::from),
        value: output.value.map(Bytes::from),
        headers: output.headers.into_iter().map(header).collect(),
        partition: output.partition,
        timestamp: output.timestamp,
    }
}
