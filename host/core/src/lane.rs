//! Lanes: ordered queues of messages that must not overtake one another.
//!
//! After `intake`, before `dedupe`; one [`Lanes`] for each assigned partition. With order by
//! partition there is one lane, with order by key one for each key in hand, without order (and for
//! messages without key) each message has its own.
//!
//! Invariants:
//! - at most one batch of a lane's messages is with a worker at any time;
//! - messages leave a lane in the order they came, and what a worker hands back goes to its front; where
//!   order is kept across retries, in the order of their turns, whenever they come;
//! - a lane that waits (for a time, or to be woken) gives nothing out.
//!
//! Limit: as many lanes as messages are in flight or waiting.

use std::collections::VecDeque;
use std::hash::BuildHasherDefault;

use bytes::Bytes;
use rustc_hash::FxHasher;
use slab::Slab;

use crate::message::Offset;
use crate::pipeline_spec::Ordering;

type KeyMap = std::collections::HashMap<Bytes, usize, BuildHasherDefault<FxHasher>>;

/// Names a lane while it has messages, queued or with a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId(usize);

/// What a lane waits for. A lane that waits for its time is not woken by a claim that ended: a later
/// message of it may have asked for that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// A retry in place or a pause has its time.
    Time,
    /// Another message's claim ends, or the store answers.
    Claim,
    /// An earlier message of its key comes back from a retry tier, or has ended.
    Turn,
}

/// How a lane stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// In `ready`.
    Ready,
    /// Some of its messages are with a worker (or taken and not yet handed back).
    Busy,
    /// Nothing is given out until it is woken for this.
    Waiting(WaitsFor),
}

#[derive(Debug)]
struct Lane<T> {
    key: Option<Bytes>,
    queue: VecDeque<T>,
    state: State,
}

/// See the module.
#[derive(Debug)]
pub struct Lanes<T> {
    ordering: Ordering,
    /// A message's turn, if lanes are kept in their order.
    turn: Option<fn(&T) -> Offset>,
    lanes: Slab<Lane<T>>,
    by_key: KeyMap,
    ready: VecDeque<usize>,
    queued: usize,
    waiting: usize,
}

impl<T> Lanes<T> {
    /// No lanes yet. With `turn`, lanes are kept in the order of turns.
    pub fn new(ordering: Ordering, turn: Option<fn(&T) -> Offset>) -> Self {
        Self {
            ordering,
            turn,
            lanes: Slab::new(),
            by_key: KeyMap::default(),
            ready: VecDeque::new(),
            queued: 0,
            waiting: 0,
        }
    }

    /// Puts a message at the end of its lane, or at its turn. Answers which lane that is, if it waits for
    /// a turn. A lane that has another head now waits for no turn and no claim any more.
    pub fn push(&mut self, key: Option<&Bytes>, message: T) -> Option<LaneId> {
        let lane_key = match self.ordering {
            // All of the partition share the lane of the empty key.
            Ordering::Partition => Some(Bytes::new()),
            Ordering::Key => key.cloned(),
            Ordering::None => None,
        };
        self.queued += 1;
        if let Some(index) = lane_key.as_ref().and_then(|key| self.by_key.get(key)).copied()
            && let Some(lane) = self.lanes.get_mut(index)
        {
            let at = place(&lane.queue, &message, self.turn);
            lane.queue.insert(at, message);
            let id = LaneId(index);
            if at == 0 {
                self.wake(id, WaitsFor::Turn);
                self.wake(id, WaitsFor::Claim);
            }
            return self.waits_for_turn(id).then_some(id);
        }
        let lane =
            Lane { key: lane_key.clone(), queue: VecDeque::from([message]), state: State::Ready };
        let index = self.lanes.insert(lane);
        if let Some(key) = lane_key {
            self.by_key.insert(key, index);
        }
        self.ready.push_back(index);
        None
    }

    fn waits_for_turn(&self, lane: LaneId) -> bool {
        self.lanes.get(lane.0).is_some_and(|lane| lane.state == State::Waiting(WaitsFor::Turn))
    }

    /// The lane of a key goes on, if it waits for a turn.
    pub fn wake_key(&mut self, key: &Bytes) {
        if let Some(index) = self.by_key.get(key) {
            self.wake(LaneId(*index), WaitsFor::Turn);
        }
    }

    /// The messages that are queued in a lane.
    pub fn queue_mut(&mut self, lane: LaneId) -> impl DoubleEndedIterator<Item = &mut T> {
        self.lanes.get_mut(lane.0).into_iter().flat_map(|lane| lane.queue.iter_mut())
    }

    /// Takes out of a lane what is asked for, of its last messages first, while `wanted` says so.
    pub fn take_back(
        &mut self,
        lane: LaneId,
        mut wanted: impl FnMut(&T) -> Option<bool>,
    ) -> Vec<T> {
        let Some(found) = self.lanes.get_mut(lane.0) else { return Vec::new() };
        let (mut taken, mut at) = (Vec::new(), found.queue.len());
        while let Some(before) = at.checked_sub(1) {
            at = before;
            match found.queue.get(at).map(&mut wanted) {
                Some(Some(true)) => taken.extend(found.queue.remove(at)),
                Some(Some(false)) => {}
                Some(None) | None => break,
            }
        }
        self.queued -= taken.len();
        taken.reverse();
        taken
    }

    /// Takes the next ready lane out; the caller pops what it wants of it. The lane is busy until
    /// [`Lanes::hand_back`] or [`Lanes::wait`] says how it goes on.
    pub fn next_ready(&mut self) -> Option<LaneId> {
        let index = self.ready.pop_front()?;
        if let Some(lane) = self.lanes.get_mut(index) {
            lane.state = State::Busy;
        }
        Some(LaneId(index))
    }

    /// The first message of a lane.
    pub fn head(&self, lane: LaneId) -> Option<&T> {
        self.lanes.get(lane.0)?.queue.front()
    }

    /// Takes the first message of a lane that [`Lanes::next_ready`] gave out.
    pub fn pop(&mut self, lane: LaneId) -> Option<T> {
        let message = self.lanes.get_mut(lane.0)?.queue.pop_front()?;
        self.queued -= 1;
        Some(message)
    }

    /// A busy lane goes on: `returned`, in their order, go to its front. A lane without messages
    /// ends here.
    pub fn hand_back(&mut self, lane: LaneId, returned: Vec<T>) {
        self.put_to_front(lane, returned);
        let Some(found) = self.lanes.get_mut(lane.0) else { return };
        if found.queue.is_empty() {
            let key = self.lanes.remove(lane.0).key;
            if let Some(key) = key {
                self.by_key.remove(&key);
            }
            return;
        }
        found.state = State::Ready;
        self.ready.push_back(lane.0);
    }

    /// A busy lane waits until [`Lanes::wake`] for the same reason: `returned` go to its front.
    pub fn wait(&mut self, lane: LaneId, returned: Vec<T>, reason: WaitsFor) {
        self.put_to_front(lane, returned);
        if let Some(found) = self.lanes.get_mut(lane.0) {
            found.state = State::Waiting(reason);
            self.waiting += 1;
        }
    }

    /// A waiting lane goes on. Nothing happens to a lane that does not wait for this.
    pub fn wake(&mut self, lane: LaneId, reason: WaitsFor) {
        if let Some(found) = self.lanes.get_mut(lane.0)
            && found.state == State::Waiting(reason)
        {
            self.waiting -= 1;
            found.state = State::Ready;
            self.ready.push_back(lane.0);
        }
    }

    /// How many messages are queued, those with workers not counted.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// How many lanes wait to be woken.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// How the lane stands in which a message is queued; `None` if none is wanted. It looks at all of them.
    pub fn state_of(&self, wanted: impl Fn(&T) -> bool) -> Option<State> {
        let mut lanes = self.lanes.iter().map(|(_, lane)| lane);
        lanes.find(|lane| lane.queue.iter().any(&wanted)).map(|lane| lane.state)
    }

    /// Whether any lane is ready.
    pub fn any_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    fn put_to_front(&mut self, lane: LaneId, returned: Vec<T>) {
        let Some(found) = self.lanes.get_mut(lane.0) else { return };
        self.queued += returned.len();
        for message in returned.into_iter().rev() {
            let at = self.turn.map_or(0, |_| place(&found.queue, &message, self.turn));
            found.queue.insert(at, message);
        }
    }
}

/// Where a message belongs in a queue: behind all, or behind those whose turn comes before.
fn place<T>(queue: &VecDeque<T>, message: &T, turn: Option<fn(&T) -> Offset>) -> usize {
    let Some(turn) = turn else { return queue.len() };
    queue.partition_point(|other| turn(other) <= turn(message))
}

#[cfg(test)]
mod tests;
