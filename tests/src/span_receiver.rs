//! A receiver of spans: OTLP over HTTP, decoded with OpenTelemetry's own types, which the host's encoder
//! does not use.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use crate::waiting;

/// The largest request that is taken.
const REQUEST_BYTES_MAX: usize = 16 << 20;
/// The type that both ends speak.
const PROTOBUF: &str = "application/x-protobuf";

/// How a request is answered.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Its spans are not taken, with this status.
    Status(u16),
    /// All are taken but for so many.
    Rejects(i64),
}

/// A span as it was received.
#[derive(Clone, Debug)]
pub struct Received {
    /// The span.
    pub span: Span,
    /// The attributes of the process that recorded it.
    pub resource: Vec<KeyValue>,
    /// What came with the request.
    pub headers: HeaderMap,
}

#[derive(Default)]
struct Desk {
    answers: Mutex<VecDeque<Answer>>,
    spans: Mutex<Vec<Received>>,
    /// Of a blind one only.
    bytes: AtomicUsize,
}

/// A running receiver; ends with the process.
pub struct SpanReceiver {
    address: SocketAddr,
    desk: Arc<Desk>,
}

impl SpanReceiver {
    /// Begins to listen.
    ///
    /// # Panics
    /// When the system gives no port or thread.
    pub fn start() -> Self {
        Self::serve(post(take))
    }

    /// One that takes everything and looks at nothing, so that a measurement has only the host's part.
    ///
    /// # Panics
    /// When the system gives no port or thread.
    pub fn start_blind() -> Self {
        Self::serve(post(count))
    }

    fn serve(taking: MethodRouter<Arc<Desk>>) -> Self {
        let desk = Arc::new(Desk::default());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new()
            .route("/v1/traces", taking)
            .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
            .with_state(Arc::clone(&desk));
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, routes).await.unwrap();
            });
        });
        Self { address, desk }
    }

    /// What stands in the configuration.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next requests are answered like this, one after the other; all others are taken.
    pub fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.desk.answers.lock().unwrap().extend(answers);
    }

    /// What it has taken.
    pub fn spans(&self) -> Vec<Received> {
        self.desk.spans.lock().unwrap().clone()
    }

    /// How many bytes a blind one has taken.
    pub fn bytes(&self) -> usize {
        self.desk.bytes.load(Ordering::Relaxed)
    }

    /// Waits until it has taken so many spans.
    ///
    /// # Panics
    /// When they do not come, or more do.
    pub fn until(&self, count: usize, within: Duration) -> Vec<Received> {
        waiting::until(&format!("{count} spans are there"), within, || {
            (self.desk.spans.lock().unwrap().len() >= count).then_some(())
        });
        let spans = self.spans();
        assert_eq!(spans.len(), count, "{spans:#?}");
        spans
    }
}

async fn count(State(desk): State<Arc<Desk>>, body: Bytes) -> Response {
    desk.bytes.fetch_add(body.len(), Ordering::Relaxed);
    let answer = ExportTraceServiceResponse::default().encode_to_vec();
    ([(header::CONTENT_TYPE, PROTOBUF)], answer).into_response()
}

async fn take(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> Response {
    assert_eq!(headers[header::CONTENT_TYPE], PROTOBUF);
    let answer = desk.answers.lock().unwrap().pop_front();
    if let Some(Answer::Status(status)) = answer {
        return StatusCode::from_u16(status).unwrap().into_response();
    }
    let request = ExportTraceServiceRequest::decode(body).expect("a request for spans");
    let mut received = Vec::new();
    for of_resource in request.resource_spans {
        let resource = of_resource.resource.expect("who sends is said").attributes;
        for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            received.push(Received { span, resource: resource.clone(), headers: headers.clone() });
        }
    }
    desk.spans.lock().unwrap().extend(received);
    let partial_success = match answer {
        Some(Answer::Rejects(rejected_spans)) => {
            Some(ExportTracePartialSuccess { rejected_spans, error_message: "too old".to_owned() })
        }
        _ => None,
    };
    let answer = ExportTraceServiceResponse { partial_success }.encode_to_vec();
    ([(header::CONTENT_TYPE, PROTOBUF)], answer).into_response()
}

/// The text or number of an attribute that is there once.
///
/// # Panics
/// When it is there twice, or is something else.
pub fn attribute(attributes: &[KeyValue], name: &str) -> Option<String> {
    let mut named = attributes.iter().filter(|attribute| attribute.key == name);
    let found = named.next()?;
    assert_eq!(named.next(), None, "{name} is there twice");
    match found.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text.clone()),
        any_value::Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{name} is {other:?}"),
    }
}

/// An id as `traceparent` has it.
pub fn hexadecimal(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
