//! `[pipelines.NAME.dead_letter]`: where messages go that were given up, and when.
//!
//! Part of `pipeline`.

use std::time::Duration;

use millstream_core::dead_letter::Mask;
use millstream_core::pipeline_spec::DeadLetterSpec;

use crate::config::bounds::{Bounds, Checker};
use crate::config::checked::RETENTION;
use crate::config::document::join;
use crate::config::raw::RawDeadLetter;
use crate::config::template;

/// The deaths after which a message is a dead letter if nothing is said: two that name nobody, one that names a few
/// messages, two that name one.
const AFTER_HOST_CRASHES: u32 = 5;
/// A letter that was redriven so often is parked if nothing is said ...
const PARK_AFTER: u32 = 3;
/// ... and the most that goes.
const PARK_AFTER_MAX: u32 = 1_000;
/// How long letters are kept if nothing is said.
const RETENTION_DEFAULT: Duration = Duration::from_secs(14 * 86_400);

/// Checks where the dead letters of a pipeline go. `shared`: another pipeline reads its topic too.
pub(super) fn check(
    checker: &mut Checker<'_>,
    path: &str,
    raw: RawDeadLetter,
    shared: bool,
) -> DeadLetterSpec {
    let default = if shared { "{topic}.{group}.dlq" } else { "{topic}.dlq" };
    DeadLetterSpec {
        topic: template::check(checker, &join(path, "topic"), raw.topic, default, false, shared),
        retention: checker.retention(
            &join(path, "retention"),
            raw.retention.as_deref(),
            Some(RETENTION_DEFAULT),
            RETENTION,
        ),
        after_host_crashes: after_host_crashes(
            checker,
            &join(path, "after_host_crashes"),
            raw.after_host_crashes,
        ),
        park_after: park_after(checker, &join(path, "park_after"), raw.park_after),
        mask: Mask { values: raw.mask.unwrap_or_default(), headers: raw.mask_headers },
    }
}

fn park_after(checker: &mut Checker<'_>, path: &str, raw: Option<u32>) -> Option<u32> {
    let count = raw.unwrap_or(PARK_AFTER);
    if count == 0 {
        return None;
    }
    let bounds = Bounds {
        min: (1, "1"),
        max: (PARK_AFTER_MAX, "1000"),
        reason: "a letter that fails so often is a person's business",
    };
    Some(checker.count(path, raw, count, bounds))
}

fn after_host_crashes(checker: &mut Checker<'_>, path: &str, raw: Option<u32>) -> Option<u32> {
    let count = raw.unwrap_or(AFTER_HOST_CRASHES);
    if count == 0 {
        return None;
    }
    let count = checker.count(
        path,
        raw,
        count,
        Bounds {
            min: (DeadLetterSpec::UNNAMED_HOST_CRASHES + 1, "3"),
            max: (100, "100"),
            reason: "the first two crashes only begin the search for the message, and each one more costs a host; 0 searches for none",
        },
    );
    Some(count)
}
