//! OTLP: spans as the receiver's messages, in protobuf.
//!
//! The part of OpenTelemetry's protocol 1.x that is said here; its numbers are fixed for good. The
//! receiver of the tests has the project's own types, so the two are held against one another.

use millstream_core::trace::{Operation, Span, SpanContext, Value};

/// The conventions that names of attributes are taken from.
const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.43.0";
/// Who records.
const SCOPE: &str = "millstream";

/// Kinds of spans.
const KIND_CLIENT: i32 = 3;
const KIND_CONSUMER: i32 = 5;
/// The status of what failed.
const STATUS_ERROR: i32 = 2;
/// Bits of `flags`: recorded; and whether the context came from another process.
const FLAG_SAMPLED: u32 = 0x01;
const FLAG_REMOTE_KNOWN: u32 = 0x100;
const FLAG_REMOTE: u32 = 0x200;

/// A request with spans.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Request {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

/// The answer to it.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Answer {
    /// What was not taken of it.
    #[prost(message, optional, tag = "1")]
    pub(super) partial_success: Option<PartialSuccess>,
}

/// What the receiver did not take.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PartialSuccess {
    #[prost(int64, tag = "1")]
    pub(super) rejected_spans: i64,
    #[prost(string, tag = "2")]
    pub(super) error_message: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
    #[prost(string, tag = "3")]
    schema_url: String,
}

/// Who sends: the service, its version, its process.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<WireSpan>,
    #[prost(string, tag = "3")]
    schema_url: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireSpan {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    trace_state: String,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, repeated, tag = "13")]
    links: Vec<Link>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Link {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(fixed32, tag = "6")]
    flags: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AnyValue {
    #[prost(oneof = "Scalar", tags = "1, 2, 3")]
    value: Option<Scalar>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Scalar {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Truth(bool),
    #[prost(int64, tag = "3")]
    Number(i64),
}

impl Resource {
    /// This process, as a part of `service`.
    pub(super) fn new(service: &str, instance: String) -> Self {
        let text = |key: &str, text: String| key_value(key, Scalar::Text(text));
        Self {
            attributes: vec![
                text("service.name", service.to_owned()),
                text("service.version", env!("CARGO_PKG_VERSION").to_owned()),
                text("service.instance.id", instance),
                key_value("process.pid", Scalar::Number(std::process::id().into())),
            ],
        }
    }
}

impl Request {
    /// These spans, recorded by `resource`.
    pub(super) fn new(resource: &Resource, spans: &[Span]) -> Self {
        let scope = Scope { name: SCOPE.to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
        let scope_spans = ScopeSpans {
            scope: Some(scope),
            spans: spans.iter().map(wire).collect(),
            schema_url: SCHEMA_URL.to_owned(),
        };
        let resource_spans = ResourceSpans {
            resource: Some(resource.clone()),
            scope_spans: vec![scope_spans],
            schema_url: SCHEMA_URL.to_owned(),
        };
        Self { resource_spans: vec![resource_spans] }
    }
}

fn wire(span: &Span) -> WireSpan {
    let (kind, remote) = match span.operation {
        // Its parent sent the message, as a rule from elsewhere.
        Operation::Process => (KIND_CONSUMER, FLAG_REMOTE_KNOWN | FLAG_REMOTE),
        Operation::Settle => (KIND_CLIENT, FLAG_REMOTE_KNOWN),
    };
    WireSpan {
        trace_id: span.context.trace.0.get().to_be_bytes().to_vec(),
        span_id: span.context.span.0.get().to_be_bytes().to_vec(),
        trace_state: span.state.as_ref().map(ToString::to_string).unwrap_or_default(),
        parent_span_id: span.parent.map_or(Vec::new(), |id| id.0.get().to_be_bytes().to_vec()),
        name: format!("{} {}", span.operation.as_str(), span.topic),
        kind,
        start_time_unix_nano: span.begin_nanos,
        end_time_unix_nano: span.end_nanos,
        attributes: span.attributes.iter().map(|(key, value)| attribute(key, value)).collect(),
        links: span.link.iter().map(link).collect(),
        status: span
            .failure
            .as_ref()
            .map(|why| Status { message: why.clone(), code: STATUS_ERROR }),
        flags: FLAG_SAMPLED | remote,
    }
}

fn link(to: &SpanContext) -> Link {
    let remote = FLAG_REMOTE_KNOWN | FLAG_REMOTE;
    Link {
        trace_id: to.trace.0.get().to_be_bytes().to_vec(),
        span_id: to.span.0.get().to_be_bytes().to_vec(),
        flags: if to.sampled { FLAG_SAMPLED | remote } else { remote },
    }
}

fn attribute(key: &str, value: &Value) -> KeyValue {
    let value = match value {
        Value::Text(text) => Scalar::Text(text.to_string()),
        Value::Number(number) => Scalar::Number(*number),
        Value::Truth(truth) => Scalar::Truth(*truth),
    };
    key_value(key, value)
}

fn key_value(key: &str, value: Scalar) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}
