//! Window: which messages of the source are admitted now in `exactly_once`, so that the commit's metadata
//! can tell apart all that is settled above it. A range that is forgotten would be a doubled output.
//!
//! Each settled range above the commit lies behind a message that is not decided (attempted, or dropped as
//! a duplicate). So if at most `ranges_max` undecided messages are admitted at a time, in the order of their
//! offsets, there are never more ranges than that. The lowest undecided message is always admitted: no
//! outcome is ever held back, so nothing waits in a circle.
//!
//! Ranges that an earlier owner left count too, until the commit has passed the last of them.
//!
//! Limit: it holds what is in flight and not admitted.

use std::collections::VecDeque;

use crate::ledger::Ledger;
use crate::message::Offset;

/// See the module.
#[derive(Debug)]
pub(super) struct Window<T> {
    /// `None`: what is settled may be forgotten, so there is no window.
    ranges_max: Option<usize>,
    /// Admitted and not decided.
    undecided: usize,
    /// Not admitted yet, in the order of their offsets.
    beyond: VecDeque<T>,
    /// How many ranges the earlier owner left, and where the last ends.
    restored: (usize, Offset),
}

impl<T> Window<T> {
    /// A window for so many ranges.
    pub(super) fn new(ranges_max: Option<usize>) -> Self {
        Self { ranges_max, undecided: 0, beyond: VecDeque::new(), restored: (0, 0) }
    }

    /// Notes what the earlier owner left.
    pub(super) fn restore(&mut self, source: &Ledger) {
        self.restored = source.restored_ranges();
    }

    /// A message came in, above all that came before. It is handed back if there is no window.
    pub(super) fn enter(&mut self, message: T) -> Option<T> {
        if self.ranges_max.is_none() {
            return Some(message);
        }
        self.beyond.push_back(message);
        None
    }

    /// The next message to be admitted, if it may be; `next` is the first offset that is not settled.
    pub(super) fn admit(&mut self, next: Offset) -> Option<T> {
        if self.undecided >= self.size(next)? {
            return None;
        }
        let message = self.beyond.pop_front()?;
        self.undecided += 1;
        Some(message)
    }

    /// The first message that is not admitted.
    pub(super) fn first(&self) -> Option<&T> {
        self.beyond.front()
    }

    /// How many undecided messages are admitted at a time, if there is a bound; `next` as in
    /// [`Window::admit`].
    pub(super) fn size(&self, next: Offset) -> Option<usize> {
        let (left, until) = self.restored;
        let ranges_max = self.ranges_max?;
        let size = if next < until { ranges_max.saturating_sub(left) } else { ranges_max };
        Some(size.max(1))
    }

    /// What becomes of an admitted message is known.
    pub(super) fn decided(&mut self) {
        self.undecided = self.undecided.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Commit;

    fn admitted(window: &mut Window<Offset>, next: Offset) -> Vec<Offset> {
        std::iter::from_fn(|| window.admit(next)).collect()
    }

    #[test]
    fn as_many_undecided_messages_are_admitted_as_ranges_are_kept() {
        let mut window = Window::new(Some(2));
        assert!((0..5).all(|offset| window.enter(offset).is_none()));
        assert_eq!(admitted(&mut window, 0), [0, 1]);
        window.decided();
        assert_eq!(admitted(&mut window, 0), [2], "1 is a range, 2 joins it, 3 would part another");
        window.decided();
        window.decided();
        assert_eq!(admitted(&mut window, 0), [3, 4]);
        window.decided();
        assert_eq!(admitted(&mut window, 0), [0; 0]);
    }

    #[test]
    fn ranges_of_an_earlier_owner_take_their_part_until_they_are_passed() {
        let commit = Commit { next: 0, settled_above: vec![5..6, 8..9], ..Commit::default() };
        let mut window = Window::new(Some(3));
        window.restore(&Ledger::restore(&commit));
        assert!((0..5).all(|offset| window.enter(offset).is_none()));
        assert_eq!(admitted(&mut window, 0), [0]);
        assert_eq!(admitted(&mut window, 9), [1, 2]);
    }

    #[test]
    fn the_lowest_is_admitted_even_if_the_earlier_owner_left_no_room() {
        let commit = Commit { next: 0, settled_above: vec![5..6, 8..9], ..Commit::default() };
        let mut window = Window::new(Some(2));
        window.restore(&Ledger::restore(&commit));
        assert!((0..2).all(|offset| window.enter(offset).is_none()));
        assert_eq!(admitted(&mut window, 0), [0]);
    }

    #[test]
    fn where_ranges_may_be_forgotten_nothing_waits() {
        let mut window = Window::new(None);
        assert_eq!(window.enter(7), Some(7));
        assert_eq!(window.admit(0), None);
    }
}
