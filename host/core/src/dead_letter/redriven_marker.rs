//! Redriven markers: which letters of a partition were put back while others below them stayed.
//!
//! Appended by `redrive` behind the letters, read by `scan` before them. A marker is believed only
//! about offsets below its own, and only by the group it names.

use std::ops::RangeInclusive;

use bytestring::ByteString;

use crate::message::{Header, Message, Offset, Partition, Record};

/// What makes a record a marker: `5-9,12-12`, ascending.
const REDRIVEN: ByteString = ByteString::from_static("millstream-redriven");
/// The group the letters were put back for.
const GROUP: ByteString = ByteString::from_static("millstream-origin-group");
/// A range is at most two numbers of 20 digits, a dash and a comma: a marker stays below 2.7 KiB.
const RANGES_MAX: usize = 64;
const TEXT_BYTES_MAX: usize = RANGES_MAX * 42;

/// The markers that say that `offsets` (ascending) were put back for `group`.
pub(super) fn records(partition: &Partition, group: &str, offsets: &[Offset]) -> Vec<Record> {
    let mut ranges: Vec<RangeInclusive<Offset>> = Vec::new();
    for offset in offsets {
        match ranges.last_mut() {
            Some(last) if last.end().checked_add(1) == Some(*offset) => {
                *last = *last.start()..=*offset;
            }
            _ => ranges.push(*offset..=*offset),
        }
    }
    let text = |ranges: &[RangeInclusive<Offset>]| {
        let texts: Vec<_> = ranges.iter().map(|r| format!("{}-{}", r.start(), r.end())).collect();
        texts.join(",")
    };
    let record = |ranges: &[RangeInclusive<Offset>]| Record {
        topic: partition.topic.clone(),
        partition: Some(partition.number),
        timestamp: None,
        key: None,
        value: None,
        headers: vec![
            Header { name: REDRIVEN, value: text(ranges).into() },
            Header { name: GROUP, value: group.to_owned().into() },
        ],
    };
    ranges.chunks(RANGES_MAX).map(record).collect()
}

/// Whether this is a marker of `group`.
pub(super) fn is_marker(message: &Message, group: &str) -> bool {
    message.key.is_none()
        && message.value.is_none()
        && message.headers.iter().any(|h| h.name == REDRIVEN)
        && message.headers.iter().any(|h| h.name == GROUP && h.value == group.as_bytes())
}

/// The offsets that a marker names; none if it is not to be believed.
pub(super) fn ranges(marker: &Message) -> Vec<RangeInclusive<Offset>> {
    let text = marker.headers.iter().rev().find(|h| h.name == REDRIVEN).map(|h| &h.value);
    let Some(text) = text.filter(|text| text.len() <= TEXT_BYTES_MAX) else { return Vec::new() };
    let range = |text: &str| {
        let (start, end) = text.split_once('-')?;
        let (start, end): (Offset, Offset) = (start.parse().ok()?, end.parse().ok()?);
        (start <= end && end < marker.offset).then_some(start..=end)
    };
    let ranges =
        std::str::from_utf8(text).ok().and_then(|text| text.split(',').map(range).collect());
    ranges.unwrap_or_default()
}
