//! Window: which messages of the source may be attempted now in `exactly_once`, so that the commit's
//! metadata can tell apart all that is settled above it. A range that is forgotten would be a doubled
//! output.
//!
//! Each settled range above the commit lies behind a message that is not decided (attempted, or dropped as
//! a duplicate). So if a message is decided only while fewer than `ranges_max` undecided ones lie below it,
//! there are never more ranges than that. The lowest undecided message always may: no outcome is ever held
//! back, so nothing waits in a circle.
//!
//! Ranges that an earlier owner left count too, until the commit has passed the last of them.

use std::collections::BTreeSet;

use crate::ledger::Ledger;
use crate::message::Offset;

/// See the module.
#[derive(Debug)]
pub(super) struct Window {
    /// `None`: what is settled may be forgotten, so there is no window.
    ranges_max: Option<usize>,
    undecided: BTreeSet<Offset>,
    /// How many ranges the earlier owner left, and where the last ends.
    restored: (usize, Offset),
}

impl Window {
    /// A window for so many ranges.
    pub(super) fn new(ranges_max: Option<usize>) -> Self {
        Self { ranges_max, undecided: BTreeSet::new(), restored: (0, 0) }
    }

    /// Notes what the earlier owner left.
    pub(super) fn restore(&mut self, source: &Ledger) {
        self.restored = source.restored_ranges();
    }

    /// A message came in.
    pub(super) fn enter(&mut self, offset: Offset) {
        if self.ranges_max.is_some() {
            self.undecided.insert(offset);
        }
    }

    /// What becomes of a message is known.
    pub(super) fn decided(&mut self, offset: Offset) {
        self.undecided.remove(&offset);
    }

    /// The last offset that may be attempted now, `committed` being the next that is not settled; `None`
    /// if all may.
    pub(super) fn last(&self, next: Offset) -> Option<Offset> {
        let ranges_max = self.ranges_max?;
        let (left, until) = self.restored;
        let size = if next < until { ranges_max.saturating_sub(left) } else { ranges_max };
        self.undecided.iter().nth(size.max(1) - 1).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Commit;

    #[test]
    fn as_many_undecided_messages_may_be_attempted_as_ranges_are_kept() {
        let mut window = Window::new(Some(2));
        (0..5).for_each(|offset| window.enter(offset));
        assert_eq!(window.last(0), Some(1));
        window.decided(1);
        assert_eq!(window.last(0), Some(2), "1 is a range, 2 joins it, 3 would part another");
        window.decided(0);
        assert_eq!(window.last(0), Some(3));
    }

    #[test]
    fn ranges_of_an_earlier_owner_take_their_part_until_they_are_passed() {
        let commit = Commit { next: 0, settled_above: vec![5..6, 8..9], attempts: vec![] };
        let mut window = Window::new(Some(3));
        window.restore(&Ledger::restore(&commit));
        (0..5).for_each(|offset| window.enter(offset));
        assert_eq!(window.last(0), Some(0));
        assert_eq!(window.last(9), Some(2));
    }

    #[test]
    fn where_ranges_may_be_forgotten_all_may_be_attempted() {
        let mut window = Window::new(None);
        window.enter(7);
        assert_eq!(window.last(0), None);
    }
}
