//! Recent failures: what attempts of a pipeline fail of now, those alike together, with how many came in each of the
//! last minutes. For whoever asks what is wrong, since when, and whether it goes on.
//!
//! Beside `partition`, which notes every failed attempt; shown by `status` and the console. Nothing depends on it.
//! Failures are alike if they are of one kind and their reasons differ in digits at most: `order 17 has no price` and
//! `order 18 has no price` are one.
//!
//! Limits: [`GROUPS_MAX`] groups; one more takes the place of the one that was not seen for longest. A reason is
//! kept to [`REASON_BYTES_MAX`]. It is of this process: a restart begins anew, dead letters tell what was before.

use serde::Serialize;

use crate::message::{EpochMs, Offset, Partition};

/// Different failures that are kept.
pub const GROUPS_MAX: usize = 64;
/// What is kept of a reason.
pub const REASON_BYTES_MAX: usize = 1_000;
/// How many minutes are counted one by one.
pub const MINUTES: usize = 30;

const MINUTE_MS: EpochMs = 60_000;

/// Failures that are alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailureGroup {
    /// The kind, as metrics and dead letters have it.
    pub kind: &'static str,
    /// Why, in the words of the latest.
    pub reason: String,
    /// How many attempts failed like this.
    pub count: u64,
    /// When one did first.
    pub first: EpochMs,
    /// When one did last.
    pub last: EpochMs,
    /// How many did in each of the last [`MINUTES`] minutes, this one last.
    pub minutes: Vec<u32>,
    /// The source topic of the latest.
    pub topic: String,
    /// Its source partition.
    pub partition: u32,
    /// Its source offset.
    pub offset: Offset,
    /// Which attempt it was.
    pub attempt: u32,
}

/// A failed attempt.
#[derive(Clone, Copy, Debug)]
pub struct Failed<'a> {
    /// How.
    pub kind: &'static str,
    /// Why.
    pub reason: &'a str,
    /// Of a message of this partition.
    pub partition: &'a Partition,
    /// At this source offset.
    pub offset: Offset,
    /// Which attempt it was.
    pub attempt: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub struct RecentFailures {
    groups: Vec<Counted>,
}

#[derive(Debug)]
struct Counted {
    shape: String,
    latest: FailureGroup,
    /// The minute that the last entry of `minutes` is of.
    minute: EpochMs,
}

impl RecentFailures {
    /// Notes a failed attempt.
    pub fn note(&mut self, failed: Failed<'_>, now: EpochMs) {
        let reason = kept(failed.reason);
        let shape = shape(reason);
        let known = self
            .groups
            .iter()
            .position(|group| group.latest.kind == failed.kind && group.shape == shape);
        let index = known.unwrap_or_else(|| self.make_room(failed.kind, shape, now));
        let Some(group) = self.groups.get_mut(index) else { return };
        group.turn_to(now / MINUTE_MS);
        let latest = &mut group.latest;
        latest.count = latest.count.saturating_add(1);
        latest.last = now.max(latest.last);
        if let Some(minute) = latest.minutes.last_mut() {
            *minute = minute.saturating_add(1);
        }
        if latest.reason != reason {
            reason.clone_into(&mut latest.reason);
        }
        if *latest.topic != *failed.partition.topic {
            latest.topic = failed.partition.topic.to_string();
        }
        (latest.partition, latest.offset) = (failed.partition.number, failed.offset);
        latest.attempt = failed.attempt;
    }

    /// All groups as of now, the one that was seen last first.
    pub fn groups(&self, now: EpochMs) -> Vec<FailureGroup> {
        let mut groups: Vec<FailureGroup> =
            self.groups.iter().map(|group| group.as_of(now)).collect();
        groups.sort_by(|a, b| b.last.cmp(&a.last).then_with(|| b.count.cmp(&a.count)));
        groups
    }

    fn make_room(&mut self, kind: &'static str, shape: String, now: EpochMs) -> usize {
        let group = Counted {
            shape,
            minute: now / MINUTE_MS,
            latest: FailureGroup {
                kind,
                reason: String::new(),
                count: 0,
                first: now,
                last: now,
                minutes: vec![0; MINUTES],
                topic: String::new(),
                partition: 0,
                offset: 0,
                attempt: 0,
            },
        };
        if self.groups.len() < GROUPS_MAX {
            self.groups.push(group);
            return self.groups.len() - 1;
        }
        let oldest = self.groups.iter().enumerate().min_by_key(|(_, group)| group.latest.last);
        let index = oldest.map_or(0, |(index, _)| index);
        if let Some(place) = self.groups.get_mut(index) {
            *place = group;
        }
        index
    }
}

impl Counted {
    /// Makes `minute` the last of the minutes that are counted. A clock that goes back changes nothing.
    fn turn_to(&mut self, minute: EpochMs) {
        let passed = usize::try_from(minute.saturating_sub(self.minute)).unwrap_or(0);
        if passed == 0 {
            return;
        }
        let minutes = &mut self.latest.minutes;
        minutes.drain(..passed.min(MINUTES));
        minutes.resize(MINUTES, 0);
        self.minute = minute;
    }

    fn as_of(&self, now: EpochMs) -> FailureGroup {
        let mut shown =
            Self { shape: String::new(), latest: self.latest.clone(), minute: self.minute };
        shown.turn_to(now / MINUTE_MS);
        shown.latest
    }
}

fn kept(reason: &str) -> &str {
    reason.get(..reason.floor_char_boundary(REASON_BYTES_MAX)).unwrap_or(reason)
}

/// The reason with each run of digits as one.
fn shape(reason: &str) -> String {
    let mut shape = String::with_capacity(reason.len());
    for c in reason.chars() {
        match c {
            '0'..='9' if shape.ends_with('0') => {}
            '0'..='9' => shape.push('0'),
            c => shape.push(c),
        }
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: EpochMs = MINUTE_MS;

    fn note(failures: &mut RecentFailures, kind: &'static str, reason: &str, now: EpochMs) {
        let partition = Partition::new("orders", 2);
        let failed = Failed { kind, reason, partition: &partition, offset: 7, attempt: 1 };
        failures.note(failed, now);
    }

    #[test]
    fn reasons_that_differ_in_digits_are_one_and_kinds_are_not() {
        let mut failures = RecentFailures::default();
        note(&mut failures, "retry", "order 17 has no price", 1_000);
        note(&mut failures, "retry", "order 18888 has no price", 2_000);
        note(&mut failures, "reject", "order 19 has no price", 1_500);
        let groups = failures.groups(3_000);
        let brief: Vec<_> =
            groups.iter().map(|g| (g.kind, &*g.reason, g.count, g.first, g.last)).collect();
        let expected = [
            ("retry", "order 18888 has no price", 2, 1_000, 2_000),
            ("reject", "order 19 has no price", 1, 1_500, 1_500),
        ];
        assert_eq!(brief, expected);
        assert_eq!((&*groups[0].topic, groups[0].partition, groups[0].offset), ("orders", 2, 7));
    }

    #[test]
    fn each_minute_counts_its_own_and_old_ones_fall_out() {
        let mut failures = RecentFailures::default();
        note(&mut failures, "trap", "x", 10 * MINUTE);
        note(&mut failures, "trap", "x", 10 * MINUTE + 1);
        note(&mut failures, "trap", "x", 12 * MINUTE);
        let minutes = &failures.groups(13 * MINUTE)[0].minutes;
        assert_eq!(minutes.len(), MINUTES);
        assert_eq!(minutes[MINUTES - 4..], [2, 0, 1, 0]);
        let later = &failures.groups((12 + MINUTES as EpochMs) * MINUTE)[0];
        assert!(later.minutes.iter().all(|n| *n == 0), "{later:?}");
        assert_eq!(later.count, 3, "the count stays");
    }

    #[test]
    fn a_clock_that_goes_back_breaks_nothing() {
        let mut failures = RecentFailures::default();
        note(&mut failures, "trap", "x", 10 * MINUTE);
        note(&mut failures, "trap", "x", EpochMs::MIN);
        note(&mut failures, "trap", "x", EpochMs::MAX);
        let group = &failures.groups(0)[0];
        assert_eq!((group.count, group.first, group.last), (3, 10 * MINUTE, EpochMs::MAX));
    }

    #[test]
    fn endless_different_reasons_take_no_endless_room() {
        let mut failures = RecentFailures::default();
        for n in 0..1_000 {
            note(&mut failures, "retry", &"é".repeat(n), n as EpochMs);
        }
        note(&mut failures, "retry", "the newest", 5_000);
        let groups = failures.groups(5_000);
        assert_eq!(groups.len(), GROUPS_MAX);
        assert_eq!(groups[0].reason, "the newest");
        assert!(groups.iter().all(|group| group.reason.len() <= REASON_BYTES_MAX));
    }
}
