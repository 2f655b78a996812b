//! Receiver: one request with spans to whoever takes them, and what its answer means.
//!
//! Nothing of an answer is trusted: it has a size and a time, redirects are not followed (they would be
//! given the headers), and a proxy of the environment is not used.

use std::time::Duration;

use prost::Message as _;
use ureq::http::Response;

use crate::config::{Secret, TracesOptions};

use super::otlp::Answer;

/// How long a request may take.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);
/// The largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// The longest text of an answer that is told.
const TOLD_CHARS_MAX: usize = 200;
/// The longest wait that a receiver may ask for.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// See the module.
pub(super) struct Receiver {
    agent: ureq::Agent,
    url: String,
    headers: Vec<(String, Secret)>,
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It was taken, but for so many spans; why.
    Taken { rejected: usize, why: String },
    /// It may be taken later, not before this time.
    Later { wait: Option<Duration>, why: String },
    /// It will never be taken.
    Refused { why: String },
}

impl Receiver {
    pub(super) fn new(options: &TracesOptions) -> Self {
        let config = ureq::Agent::config_builder()
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!("millstream/", env!("CARGO_PKG_VERSION")))
            .timeout_global(Some(REQUEST_WITHIN));
        #[cfg(feature = "tls")]
        let config = config.tls_config(
            ureq::tls::TlsConfig::builder()
                // The TLS that the client library of Kafka brings, with the machine's own authorities.
                .provider(ureq::tls::TlsProvider::NativeTls)
                .root_certs(ureq::tls::RootCerts::PlatformVerifier)
                .build(),
        );
        let (url, headers) = (options.url.clone(), options.headers.clone());
        Self { agent: config.build().into(), url, headers }
    }

    /// Where it is.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Sends one request.
    pub(super) fn send(&self, request: &[u8]) -> Sent {
        let mut post = self.agent.post(&self.url).content_type("application/x-protobuf");
        for (name, value) in &self.headers {
            post = post.header(name, value.expose());
        }
        match post.send(request) {
            Ok(answer) => read(answer),
            Err(error) => Sent::Later { wait: None, why: error.to_string() },
        }
    }
}

fn read(mut answer: Response<ureq::Body>) -> Sent {
    let status = answer.status().as_u16();
    let wait = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
    let wait = wait.and_then(|text| text.parse().ok()).map(Duration::from_secs);
    let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
    let why = || {
        let text = String::from_utf8_lossy(body.as_deref().unwrap_or_default()).into_owned();
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        let text: String = text.chars().map(plain).take(TOLD_CHARS_MAX).collect();
        format!("it answers {status}: {}", text.trim())
    };
    match status {
        200..=299 => {
            // An answer that cannot be read is no reason to send the spans twice.
            let answer = Answer::decode(body.as_deref().unwrap_or_default()).unwrap_or_default();
            let partial = answer.partial_success.unwrap_or_default();
            let rejected = usize::try_from(partial.rejected_spans).unwrap_or(0);
            Sent::Taken { rejected, why: partial.error_message }
        }
        // As the protocol has it: these pass, all others do not.
        429 | 502..=504 => Sent::Later { wait: wait.map(|wait| wait.min(WAIT_MAX)), why: why() },
        _ => Sent::Refused { why: why() },
    }
}
