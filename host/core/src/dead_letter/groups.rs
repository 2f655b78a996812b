//! Groups: letters that failed alike, counted.
//!
//! Alike are those of one kind and plugin version whose reasons differ in nothing but numbers and ids: a run of
//! digits, and a word of eight or more hexadecimal digits (a UUID has several), counts as the same whatever it is.
//! A group with one wording is shown in its own words, else with `#` in their place.
//!
//! Limit: [`GROUPS_MAX`] groups; letters of further ones are counted together.

use std::collections::HashMap;

use serde::Serialize;

use super::letter::Letter;
use crate::message::EpochMs;

/// Different failures that a listing counts one by one; further ones are counted together.
pub const GROUPS_MAX: usize = 1_000;
/// Shortest word that is an id if it has hexadecimal digits only.
const HEX_CHARS_MIN: usize = 8;

/// Letters that failed alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// How they failed, or [`super::FOREIGN`].
    pub kind: String,
    /// Why; `#` stands for numbers and ids in which they differ.
    pub reason: String,
    /// The version of the plugin they failed with.
    pub plugin_version: Option<String>,
    /// How many there are.
    pub count: u64,
    /// When the first of them became a dead letter.
    pub first: EpochMs,
    /// When the last of them did.
    pub last: EpochMs,
}

/// Counts letters by how they failed.
#[derive(Debug, Default)]
pub(super) struct Groups {
    by_failure: HashMap<(String, String, Option<String>), Group>,
    /// Letters in no group.
    pub(super) ungrouped: u64,
}

impl Groups {
    pub(super) fn add(&mut self, letter: &Letter) {
        let (reason, at) = (letter.reason(), letter.message.timestamp);
        let pattern = pattern(reason);
        let version = letter.plugin_version().cloned();
        let failure = (letter.kind().to_owned(), pattern, version);
        if self.by_failure.len() >= GROUPS_MAX && !self.by_failure.contains_key(&failure) {
            self.ungrouped += 1;
            return;
        }
        let (kind, pattern, plugin_version) = failure.clone();
        let group = self.by_failure.entry(failure).or_insert_with(|| Group {
            kind,
            reason: reason.to_owned(),
            plugin_version,
            count: 0,
            first: at,
            last: at,
        });
        if group.reason != reason {
            group.reason = pattern;
        }
        group.count += 1;
        group.first = group.first.min(at);
        group.last = group.last.max(at);
    }

    /// The most frequent first.
    pub(super) fn sorted(self) -> Vec<Group> {
        let mut groups: Vec<Group> = self.by_failure.into_values().collect();
        // The rest of the order only keeps the output the same from run to run.
        groups.sort_by(|a, b| {
            let rest = |g: &Group| (g.kind.clone(), g.reason.clone(), g.plugin_version.clone());
            b.count.cmp(&a.count).then_with(|| rest(a).cmp(&rest(b)))
        });
        groups
    }
}

/// The reason with `#` for what differs between failures of one cause.
fn pattern(reason: &str) -> String {
    let mut pattern = String::with_capacity(reason.len());
    let mut word = String::new();
    let end = |word: &mut String, pattern: &mut String| {
        let is_id = word.chars().count() >= HEX_CHARS_MIN
            && word.chars().all(|c| c.is_ascii_hexdigit())
            && word.contains(|c: char| c.is_ascii_digit());
        if is_id {
            pattern.push('#');
        } else {
            let mut in_number = false;
            for c in word.chars() {
                if !c.is_ascii_digit() {
                    pattern.push(c);
                } else if !in_number {
                    pattern.push('#');
                }
                in_number = c.is_ascii_digit();
            }
        }
        word.clear();
    };
    for c in reason.chars() {
        if c.is_alphanumeric() {
            word.push(c);
        } else {
            end(&mut word, &mut pattern);
            pattern.push(c);
        }
    }
    end(&mut word, &mut pattern);
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_that_differ_in_numbers_and_ids_are_alike_and_others_are_not() {
        let alike = [
            ("order 17: no price", "order 4711: no price"),
            ("id 550e8400-e29b-41d4-a716-446655440000", "id 123e4567-e89b-12d3-a456-426614174000"),
            ("at 0x7f3a: bad", "at 0x7f3a: bad"),
        ];
        for (one, other) in alike {
            assert_eq!(pattern(one), pattern(other));
        }
        let apart = [
            ("field `total` is missing", "field `amount` is missing"),
            ("feedface", "deadbeef"),
            ("", "1"),
        ];
        for (one, other) in apart {
            assert_ne!(pattern(one), pattern(other), "{one} and {other}");
        }
    }
}
