//! `[pipelines.NAME.idempotency]`: by what messages are known again, and for how long.
//!
//! Part of `pipeline`.

use std::time::Duration;

use millstream_core::idempotency::KeySource;
use millstream_core::pipeline_spec::{Delivery, IdempotencySpec, MissingKey};

use crate::config::bounds::{Bounds, Checker};
use crate::config::document::join;
use crate::config::log::LogKind;
use crate::config::raw::RawIdempotency;
use crate::finding::{Code, Finding};

/// How long a key is kept if nothing is said.
const TTL_DEFAULT: Duration = Duration::from_secs(7 * 86_400);
const TTL_MAX: Duration = Duration::from_secs(366 * 86_400);

/// Checks how messages are known again.
pub(super) fn check(
    checker: &mut Checker<'_>,
    path: &str,
    raw: RawIdempotency,
    delivery: Delivery,
    log: &LogKind,
) -> IdempotencySpec {
    if delivery == Delivery::AtMostOnce {
        let what = format!("`{path}` does nothing with `delivery = \"at_most_once\"`");
        let why = "a message is committed before it is handled, so no mark can be relied on";
        let fix = "use `at_least_once` with idempotency, or take the table out";
        checker.key(Finding::new(Code::Unsupported, what, fix).because(why), path);
    }
    IdempotencySpec {
        key: key_source(checker, &join(path, "key"), &raw.key),
        ttl: checker.duration(
            &join(path, "ttl"),
            raw.ttl.as_deref(),
            TTL_DEFAULT,
            Bounds {
                min: (Duration::from_secs(1), "1s"),
                max: (TTL_MAX, "366d"),
                reason: "every key handled in this time is kept on disk",
            },
        ),
        missing: checker.word(
            &join(path, "missing"),
            raw.missing.as_deref(),
            MissingKey::Reject,
            &[("reject", MissingKey::Reject), ("handle", MissingKey::Handle)],
        ),
        in_topic: log.is_kafka(),
    }
}

fn key_source(checker: &mut Checker<'_>, path: &str, text: &str) -> KeySource {
    let problem = match text.split_once(':') {
        None if text == "key" => return KeySource::MessageKey,
        Some(("header", "")) => "the header's name is missing",
        Some(("header", name)) if name.starts_with("millstream-") => {
            "headers that begin with `millstream-` are the host's own"
        }
        Some(("header", name)) => return KeySource::Header(name.to_owned()),
        Some(("json", pointer)) if !pointer.starts_with('/') => {
            "a JSON pointer begins with `/`, for example `json:/order_id`"
        }
        Some(("json", pointer)) if bad_escape(pointer) => {
            "in a JSON pointer `~` is written `~0`, and `/` within a name `~1`"
        }
        Some(("json", pointer)) => return KeySource::JsonPointer(pointer.to_owned()),
        None if text == "plugin" => "keys made by the plugin are not in this version",
        _ => "it is none of \"header:NAME\", \"key\", \"json:POINTER\"",
    };
    let shown = checker.document.shown(path, text);
    let fix = "say where the key is: \"header:NAME\", \"key\" or \"json:/order_id\"";
    let finding = Finding::new(Code::BadValue, format!("`{path}` cannot be {shown}"), fix);
    checker.value(finding.because(problem), path);
    KeySource::MessageKey
}

fn bad_escape(pointer: &str) -> bool {
    pointer.split('~').skip(1).any(|rest| !rest.starts_with(['0', '1']))
}
