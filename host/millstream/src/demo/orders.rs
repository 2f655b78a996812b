//! The demo's orders: made from their number alone, so that the sums are known beforehand.

use std::fmt::Write as _;

/// Every so-many-th order is of this kind; the numbers have no common divisor, so kinds mix.
const FLAKY_EVERY: u64 = 23;
const POISON_EVERY: u64 = 101;
const TWICE_EVERY: u64 = 37;

/// A run's orders.
pub(super) struct Orders {
    unique: u64,
}

impl Orders {
    pub(super) fn new(unique: u64) -> Self {
        Self { unique }
    }

    /// How many different orders there are.
    pub(super) fn unique(&self) -> u64 {
        self.unique
    }

    /// How many fail at first and succeed later. Poison wins where an order is both.
    pub(super) fn flaky(&self) -> u64 {
        self.count(|n| n.is_multiple_of(FLAKY_EVERY) && !n.is_multiple_of(POISON_EVERY))
    }

    /// How many the plugin with the bug can't handle.
    pub(super) fn poison(&self) -> u64 {
        self.count(|n| n.is_multiple_of(POISON_EVERY))
    }

    /// How many are sent a second time.
    pub(super) fn twice(&self) -> u64 {
        self.count(|n| n.is_multiple_of(TWICE_EVERY))
    }

    /// How many messages are sent, not counting what is sent again after the kill.
    pub(super) fn sent(&self) -> u64 {
        self.unique + self.twice()
    }

    /// The messages of one part, as lines for `produce`.
    pub(super) fn lines(&self, part: u64, parts: u64) -> String {
        let mut lines = String::new();
        for n in self.numbers(part, parts) {
            self.line(&mut lines, n);
            if n.is_multiple_of(TWICE_EVERY) {
                self.line(&mut lines, n);
            }
        }
        lines
    }

    /// How many messages a part has.
    pub(super) fn part_messages(&self, part: u64, parts: u64) -> u64 {
        let numbers = self.numbers(part, parts);
        numbers.map(|n| if n.is_multiple_of(TWICE_EVERY) { 2 } else { 1 }).sum()
    }

    /// The id of an order.
    pub(super) fn id(n: u64) -> String {
        format!("o-{n:07}")
    }

    fn numbers(&self, part: u64, parts: u64) -> std::ops::Range<u64> {
        part * self.unique / parts..(part + 1) * self.unique / parts
    }

    fn count(&self, is: impl Fn(u64) -> bool) -> u64 {
        (0..self.unique).filter(|n| is(*n)).count() as u64
    }

    fn line(&self, lines: &mut String, n: u64) {
        let poison = n.is_multiple_of(POISON_EVERY);
        let flaky = if !poison && n.is_multiple_of(FLAKY_EVERY) { 1 + n % 2 } else { 0 };
        let item = ["bolt", "nut", "washer", "screw"].get(n as usize % 4).unwrap_or(&"bolt");
        let (id, quantity, price) = (Self::id(n), 1 + n % 9, 100 + n % 400);
        // Writing to a String cannot fail.
        let _ = writeln!(
            lines,
            r#"{{"key":"{id}","value":{{"order_id":"{id}","item":"{item}","quantity":{quantity},"unit_price":{price},"flaky":{flaky},"poison":{poison}}}}}"#,
        );
    }
}
