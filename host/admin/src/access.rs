//! Access: what a caller may, by the token it shows and where the server listens.
//!
//! Four steps, each with all of the one before: nothing but the console's page, probes (metrics and health), reads,
//! writes. What shows messages counts as a write (`fetch`, a dead letter in full): a read token is for whoever may know
//! how a pipeline fares and not what flows through it. What a read answers has keys and values masked.
//!
//! Without a token: on loopback reads, as long as no read token is configured; with one, probes. Beyond loopback
//! probes, if they are open, else nothing. So whoever shares the machine with a host sees numbers, topic names and reasons of
//! failures, never a message, and changes nothing.

use axum::http::Method;
use serde::Serialize;

use crate::token::Token;

/// What a caller may, and what a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Access {
    /// The console's page, which holds nothing.
    Nothing,
    /// Metrics and health.
    Probes,
    /// How pipelines fare, without messages.
    Read,
    /// Everything.
    Write,
}

impl Access {
    /// What this request needs. Whatever is not known to be less needs everything.
    pub(crate) fn needed(method: &Method, path: &str) -> Self {
        let looks = method == Method::GET || method == Method::HEAD;
        match path {
            "/" | "/console" if looks => Self::Nothing,
            _ if looks && path.starts_with("/console/") => Self::Nothing,
            "/metrics" => Self::Probes,
            _ if path.starts_with("/health/") => Self::Probes,
            // Asked with a body, and change nothing.
            "/api/v1/ends" | "/api/v1/committed" => Self::Read,
            _ if looks => Self::Read,
            _ => Self::Write,
        }
    }

    /// As an audit entry names the caller.
    pub(crate) fn token_name(self) -> &'static str {
        match self {
            Self::Nothing => "no token",
            Self::Probes => "metrics token",
            Self::Read => "read token",
            Self::Write => "write token",
        }
    }
}

/// The tokens that open something.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    /// Opens everything.
    pub(crate) write: Token,
    /// Opens reads.
    pub(crate) read: Option<Token>,
    /// Opens metrics and health.
    pub(crate) metrics: Option<Token>,
}

impl Tokens {
    /// What `shown` opens; `None` if it is none of them. All are compared, whichever it is.
    pub(crate) fn opens(&self, shown: &[u8]) -> Option<Access> {
        let is = |token: &Option<Token>| token.as_ref().is_some_and(|token| token.is(shown));
        let (write, read, metrics) = (self.write.is(shown), is(&self.read), is(&self.metrics));
        let found = [(write, Access::Write), (read, Access::Read), (metrics, Access::Probes)];
        found.into_iter().find(|(is, _)| *is).map(|(_, access)| access)
    }

    /// What is open to everybody who gets here.
    pub(crate) fn without(&self, loopback: bool, open_probes: bool) -> Access {
        match (loopback, self.read.is_some()) {
            (true, false) => Access::Read,
            (true, true) => Access::Probes,
            (false, _) if open_probes => Access::Probes,
            (false, _) => Access::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_to_be_harmless_needs_everything() {
        for (method, path, needed) in [
            (Method::GET, "/", Access::Nothing),
            (Method::GET, "/console/console.js", Access::Nothing),
            (Method::POST, "/console/console.js", Access::Write),
            (Method::GET, "/metrics", Access::Probes),
            (Method::GET, "/health/ready", Access::Probes),
            (Method::GET, "/api/v1/status", Access::Read),
            (Method::GET, "/anything", Access::Read),
            (Method::POST, "/api/v1/ends", Access::Read),
            (Method::POST, "/api/v1/fetch", Access::Write),
            (Method::POST, "/api/v1/append", Access::Write),
            (Method::PUT, "/api/v1/topics/x", Access::Write),
            (Method::DELETE, "/api/v1/status", Access::Write),
            (Method::POST, "/api/v1/unknown", Access::Write),
        ] {
            assert_eq!(Access::needed(&method, path), needed, "{method} {path}");
        }
    }
}
