//! `[traces]`: where spans go, and how many of the messages are traced.
//!
//! Part of `checked`. Worst without it: a secret of the receiver in a message about the file, or an address that
//! is found to be none when the first span is lost.

use std::collections::BTreeMap;
use std::str::FromStr as _;

use ureq::http::{HeaderName, HeaderValue, Uri};

use crate::config::bounds::{Bounds, Checker};
use crate::config::checked::Secret;
use crate::config::document::join;
use crate::config::raw::{RawPipelineTraces, RawTraces};
use crate::finding::{Code, Finding};

/// Where headers stand, whose values may be secrets.
pub(super) const HEADERS: &str = "traces.headers.";
/// What is traced if nothing is said.
const SAMPLE_DEFAULT: f64 = 0.01;
/// The name of the service if nothing is said.
const SERVICE_DEFAULT: &str = "millstream";
/// More than any receiver asks for.
const HEADERS_MAX: usize = 32;
/// The longest name of a service.
const SERVICE_CHARS_MAX: usize = 128;
/// Where receivers take spans over HTTP, if the endpoint is an address only.
const PATH: &str = "/v1/traces";
/// Words in a header's name whose value is a secret.
const SECRET_WORDS: [&str; 6] = ["auth", "cookie", "key", "password", "secret", "token"];
/// What the exporter says itself.
const OWN_HEADERS: [&str; 4] = ["content-length", "content-type", "host", "user-agent"];

const SAMPLE: Bounds<f64> = Bounds {
    min: (0.0, "0.0"),
    max: (1.0, "1.0"),
    reason: "it is a share of the messages, from none to all",
};

/// `[traces]`, checked.
#[derive(Clone, Debug)]
pub struct TracesOptions {
    /// Where spans are sent.
    pub url: String,
    /// What is sent with them: names and values.
    pub headers: Vec<(String, Secret)>,
    /// The share of messages without context that is traced.
    pub sample: f64,
    /// The name under which spans are found.
    pub service: String,
}

/// Checks `[traces]`.
pub(super) fn check(checker: &mut Checker<'_>, raw: RawTraces) -> TracesOptions {
    let service = raw.service.unwrap_or_else(|| SERVICE_DEFAULT.to_owned());
    let chars = service.chars().count();
    if !(1..=SERVICE_CHARS_MAX).contains(&chars) || service.chars().any(char::is_control) {
        let what = "`traces.service` is no name";
        let fix = format!("write 1 to {SERVICE_CHARS_MAX} characters, for example \"orders\"");
        checker.value(Finding::new(Code::BadValue, what, fix), "traces.service");
    }
    TracesOptions {
        url: endpoint(checker, &raw.endpoint),
        headers: headers(checker, raw.headers),
        sample: sample(checker, "traces", raw.sample).unwrap_or(SAMPLE_DEFAULT),
        service,
    }
}

/// Checks `traces` of a pipeline; `path` is the pipeline's.
pub(super) fn check_pipeline(
    checker: &mut Checker<'_>,
    path: &str,
    raw: RawPipelineTraces,
) -> Option<f64> {
    sample(checker, &join(path, "traces"), raw.sample)
}

/// A pipeline that says how much is traced, and no place for it to go.
pub(super) fn without_receiver(checker: &mut Checker<'_>, pipeline: &str) {
    let path = join(&join("pipelines", pipeline), "traces");
    let finding = Finding::new(
        Code::Unsupported,
        format!("`{path}` has no effect"),
        "add `[traces]` with an `endpoint`, or take it out",
    );
    checker.key(finding.because("there is no table `[traces]`: nothing is traced"), &path);
}

fn sample(checker: &mut Checker<'_>, table: &str, sample: Option<f64>) -> Option<f64> {
    let path = join(table, "sample");
    // Not a number is within no bounds.
    sample.map(|sample| checker.share(&path, sample, SAMPLE))
}

fn endpoint(checker: &mut Checker<'_>, text: &str) -> String {
    let path = "traces.endpoint";
    let fix = "write the receiver's address for OTLP over HTTP: \"http://127.0.0.1:4318\"";
    let why = match url(text) {
        Ok(url) if url.starts_with("https:") && !cfg!(feature = "tls") => {
            let what = format!("`{path}` cannot be {}", checker.document.shown(path, text));
            let fix = "take a build with the feature `tls`, or a collector on this machine";
            let finding = Finding::new(Code::Unsupported, what, fix);
            checker.value(finding.because("this build has no TLS"), path);
            return url;
        }
        Ok(url) => return url,
        Err(why) => why,
    };
    let what = format!("`{path}` cannot be {}", checker.document.shown(path, text));
    checker.value(Finding::new(Code::BadValue, what, fix).because(why), path);
    String::new()
}

/// The whole address, or what is wrong with it. Does not name it: it may come from a variable.
fn url(text: &str) -> Result<String, &'static str> {
    let uri = Uri::from_str(text).map_err(|_| "it is no address of the form `http://host:port`")?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("it begins with neither `http://` nor `https://`");
    }
    let authority = uri.authority().ok_or("it names no host")?;
    if authority.as_str().contains('@') {
        return Err("a user and password have no place in it: use `headers`");
    }
    if authority.host().is_empty() || (authority.port().is_some() && authority.port_u16().is_none())
    {
        return Err("it names no host and port");
    }
    if uri.query().is_some() {
        return Err("it has a query, which receivers of OTLP have not");
    }
    let address = text.trim_end_matches('/');
    Ok(if matches!(uri.path(), "" | "/") { format!("{address}{PATH}") } else { text.to_owned() })
}

fn headers(checker: &mut Checker<'_>, raw: BTreeMap<String, String>) -> Vec<(String, Secret)> {
    if raw.len() > HEADERS_MAX {
        let what = format!("`traces.headers` has {} headers", raw.len());
        let fix = format!("keep those the receiver asks for, at most {HEADERS_MAX}");
        checker.key(Finding::new(Code::BadValue, what, fix), "traces.headers");
    }
    let mut headers = Vec::new();
    for (name, value) in raw {
        let path = join(HEADERS.trim_end_matches('.'), &name);
        let lower = name.to_ascii_lowercase();
        let finding = if HeaderName::from_bytes(name.as_bytes()).is_err() {
            let fix = "write a header's name, for example `authorization`";
            Finding::new(Code::BadName, format!("{name:?} is no name of a header"), fix)
        } else if OWN_HEADERS.contains(&lower.as_str()) {
            let what = format!("header `{name}` is not to be set");
            Finding::new(Code::Unsupported, what, "take it out").because("the host says it itself")
        } else if HeaderValue::from_str(&value).is_err() {
            let what = format!("header `{name}` cannot have this value");
            let fix = "write visible ASCII characters, without a line break";
            Finding::new(Code::BadValue, what, fix)
        } else if SECRET_WORDS.iter().any(|word| lower.contains(word))
            && !checker.document.is_substituted(&path)
        {
            let what = format!("header `{name}` stands in the file itself");
            let why = "it is a secret: who may read the configuration could use it";
            let fix = "hand it in as `${VARIABLE}` or `${file:PATH}`";
            Finding::new(Code::BadValue, what, fix).because(why)
        } else {
            headers.push((lower, Secret::new(value)));
            continue;
        };
        checker.value(finding, &path);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::url;

    #[test]
    fn an_address_alone_gets_the_path_that_receivers_have() {
        for (text, expected) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://collector:4318/", "http://collector:4318/v1/traces"),
            ("https://[::1]:4318", "https://[::1]:4318/v1/traces"),
            ("https://otlp.example.com/otlp/v1/traces", "https://otlp.example.com/otlp/v1/traces"),
        ] {
            assert_eq!(url(text).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn what_no_receiver_can_be_at_is_refused() {
        for text in [
            "",
            "collector:4318",
            "/v1/traces",
            "ftp://collector",
            "http://",
            "http://a b",
            "http://user:password@collector",
            "http://collector:99999",
            "http://collector?x=1",
        ] {
            assert!(url(text).is_err(), "{text}");
        }
    }
}
