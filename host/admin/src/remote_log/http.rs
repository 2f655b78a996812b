//! HTTP to a host on this machine: no TLS, no proxy, no redirects.
//!
//! The client blocks, so each request has a thread of tokio's blocking pool; a dropped call goes on
//! there until it is answered or out of time.

use std::sync::Arc;

use millstream_core::log::LogError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::{Class, FailureBody};
use crate::limits::{ANSWER_BYTES_MAX, CLIENT_TIME_MAX, CONNECT_TIME_MAX};
use crate::token::Token;

/// Why a host cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers there.
    #[error("the host at {address} does not answer: {reason}: see that it runs and try again")]
    NotThere {
        /// Where it should be.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// It does not take the token.
    #[error("the host at {address} refuses: {reason}")]
    Refused {
        /// Where it is.
        address: String,
        /// What it said, and what to do.
        reason: String,
    },
    /// Something answers, and it is no host or one in trouble.
    #[error("the host at {address} cannot be used: {reason}")]
    Unusable {
        /// Where it is.
        address: String,
        /// What is wrong.
        reason: String,
    },
}

/// Why a request was not answered as hoped.
#[derive(Debug)]
pub(super) enum Failed {
    /// It got no answer.
    NoAnswer(String),
    /// The host gave this for an answer.
    Answered(u16, FailureBody),
    /// The answer is none of a host.
    Strange(String),
}

impl From<Failed> for LogError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::NoAnswer(reason) => Self::Unavailable(reason),
            Failed::Strange(reason) => Self::Fatal(reason),
            Failed::Answered(_, FailureBody { error, class }) => match class {
                Class::Unavailable => Self::Unavailable(error),
                Class::Fenced => Self::Fenced(error),
                Class::Fatal | Class::Request => Self::Fatal(error),
            },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Get,
    Put,
    Post,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Http {
    agent: ureq::Agent,
    address: Arc<str>,
    token: Token,
}

impl Http {
    pub(super) fn new(address: &str, token: &Token) -> Self {
        let config = ureq::Agent::config_builder()
            // A proxy of the environment would get the token, and would not reach this machine.
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIME_MAX))
            .timeout_global(Some(CLIENT_TIME_MAX))
            // The server closes idle connections; a request on one of those would fail for nothing.
            .max_idle_age(crate::limits::HEAD_TIME_MAX / 2)
            .build();
        Self { agent: config.into(), address: address.into(), token: token.clone() }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) async fn get<A: DeserializeOwned + Send + 'static>(
        &self,
        route: &str,
    ) -> Result<A, Failed> {
        self.ask(Asked::Get, route, Vec::new()).await
    }

    pub(super) async fn send<Q: Serialize, A: DeserializeOwned + Send + 'static>(
        &self,
        asked: Asked,
        route: &str,
        request: &Q,
    ) -> Result<A, Failed> {
        let body = serde_json::to_vec(request)
            .map_err(|error| Failed::Strange(format!("the request is not JSON: {error}")))?;
        self.ask(asked, route, body).await
    }

    async fn ask<A: DeserializeOwned + Send + 'static>(
        &self,
        asked: Asked,
        route: &str,
        body: Vec<u8>,
    ) -> Result<A, Failed> {
        let http = self.clone();
        let url = format!("http://{}/api/v1/{route}", self.address);
        let answered = tokio::task::spawn_blocking(move || http.ask_blocking(asked, &url, body));
        answered.await.unwrap_or_else(|error| {
            Err(Failed::NoAnswer(format!("the request to {} ended: {error}", self.address)))
        })
    }

    fn ask_blocking<A: DeserializeOwned>(
        &self,
        asked: Asked,
        url: &str,
        body: Vec<u8>,
    ) -> Result<A, Failed> {
        let bearer = self.token.bearer();
        let json = "application/json";
        let sent = match asked {
            Asked::Get => self.agent.get(url).header("authorization", bearer).call(),
            Asked::Put | Asked::Post => {
                let request =
                    if asked == Asked::Put { self.agent.put(url) } else { self.agent.post(url) };
                request.header("authorization", bearer).header("content-type", json).send(body)
            }
        };
        let no_answer = |error: ureq::Error| {
            Failed::NoAnswer(format!("no answer from the host at {}: {error}", self.address))
        };
        let mut response = sent.map_err(no_answer)?;
        let status = response.status().as_u16();
        let answer =
            response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec().map_err(
                |error| match error {
                    ureq::Error::BodyExceedsLimit(_) => self.strange(status),
                    other => no_answer(other),
                },
            )?;
        if status == 200 {
            serde_json::from_slice(&answer).map_err(|_| self.strange(status))
        } else {
            match serde_json::from_slice(&answer) {
                Ok(failure) => Err(Failed::Answered(status, failure)),
                Err(_) => Err(self.strange(status)),
            }
        }
    }

    fn strange(&self, status: u16) -> Failed {
        Failed::Strange(format!(
            "what answers at {} (status {status}) is no Millstream host, or one of another version: see that the address is right",
            self.address
        ))
    }

    pub(super) fn connect_error(&self, failed: Failed) -> ConnectError {
        let address = self.address.to_string();
        match failed {
            Failed::NoAnswer(reason) => ConnectError::NotThere { address, reason },
            Failed::Answered(401 | 403, body) => {
                ConnectError::Refused { address, reason: body.error }
            }
            Failed::Answered(_, body) => ConnectError::Unusable { address, reason: body.error },
            Failed::Strange(reason) => ConnectError::Unusable { address, reason },
        }
    }
}

/// A name as part of a path: all but letters, digits, `-`, `.`, `_` and `~` in percent form.
pub(super) fn path_segment(name: &str) -> String {
    let mut segment = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                segment.push(char::from(byte));
            }
            _ => segment.push_str(&format!("%{byte:02X}")),
        }
    }
    segment
}
