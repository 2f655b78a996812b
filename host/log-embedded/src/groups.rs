//! Groups: which member of a consumer group owns which source partition.
//!
//! One process owns the log, so all members are in it, and this is the whole coordinator.
//!
//! A partition changes hands in three steps: the old owner is told `Revoked`, it drains, commits and
//! calls `release`, and only then the new owner is told `Assigned`. Nobody waits for a partition
//! that stays where it is.
//!
//! Invariants: the writer thread alone gives partitions out ([`Groups::hand_out`]), between two
//! writes, and it alone checks ownership, just before a write. So a member that released a
//! partition (or was dropped with requests still queued) commits nothing after the next owner was
//! told of it, and the next owner reads commits that will not change any more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use millstream_core::log::{Event, source_of};
use millstream_core::message::{Partition, Topic};
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use crate::locks::lock;
use crate::topics::Topics;

/// What a member is told, and the signal that there is something.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    /// Assignments and revocations in order. Bounded: each partition is told at most twice before
    /// the member acts.
    pub(crate) events: Mutex<VecDeque<Event>>,
    /// Also told of new messages.
    pub(crate) signal: Arc<Notify>,
}

/// Who asks the writer for something in a group's name.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// The group.
    pub(crate) group: Arc<str>,
    /// The member's number, unique in this process.
    pub(crate) id: u64,
}

#[derive(Debug)]
struct MemberState {
    topics: Vec<Topic>,
    mailbox: Arc<Mailbox>,
}

#[derive(Debug, Default)]
struct Group {
    members: BTreeMap<u64, MemberState>,
    owners: BTreeMap<Partition, Owned>,
    /// Something changed since partitions were handed out.
    changed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Owned {
    member: u64,
    revoked: bool,
}

/// All groups.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    groups: FxHashMap<Arc<str>, Group>,
    next_member: u64,
}

impl Groups {
    /// Adds a member. It is told what it owns when the writer hands out next.
    pub(crate) fn join(&self, group: &str, topics: Vec<Topic>, mailbox: Arc<Mailbox>) -> Member {
        let mut inner = lock(&self.inner);
        inner.next_member += 1;
        let id = inner.next_member;
        let name: Arc<str> = group.into();
        let group = inner.groups.entry(name.clone()).or_default();
        group.members.insert(id, MemberState { topics, mailbox });
        group.changed = true;
        Member { group: name, id }
    }

    /// Takes partitions back from a member. Those it does not own are left alone.
    pub(crate) fn release(&self, member: &Member, partitions: &[Partition]) {
        let mut inner = lock(&self.inner);
        if let Some(group) = inner.groups.get_mut(&member.group) {
            for partition in partitions {
                if group.owners.get(partition).is_some_and(|owned| owned.member == member.id) {
                    group.owners.remove(partition);
                    group.changed = true;
                }
            }
        }
    }

    /// Removes a member with all it owns.
    pub(crate) fn leave(&self, member: &Member) {
        let mut inner = lock(&self.inner);
        let Some(group) = inner.groups.get_mut(&member.group) else { return };
        if group.members.remove(&member.id).is_some() {
            group.owners.retain(|_, owned| owned.member != member.id);
            group.changed = true;
        }
        if group.members.is_empty() {
            inner.groups.remove(&member.group);
        }
    }

    /// Partitions were added to a topic.
    pub(crate) fn topics_changed(&self) {
        for group in lock(&self.inner).groups.values_mut() {
            group.changed = true;
        }
    }

    /// Wakes all members, so that they see that the log was closed.
    pub(crate) fn wake_all(&self) {
        for group in lock(&self.inner).groups.values() {
            for member in group.members.values() {
                member.mailbox.signal.notify_one();
            }
        }
    }

    /// Whether a member may read, commit and write for `partition`; else why not. A companion (of
    /// no subscribed topic) belongs to the partition of the same number of the source topic whose
    /// name stands in its own; if none does, to any source partition of that number.
    pub(crate) fn check(&self, member: &Member, partition: &Partition) -> Result<(), String> {
        let inner = lock(&self.inner);
        let group = inner.groups.get(&member.group);
        let Some((group, state)) =
            group.and_then(|group| Some((group, group.members.get(&member.id)?)))
        else {
            return Err(format!("this member has left the group {}", member.group));
        };
        let owns = |topic: &Topic| {
            let source = Partition { topic: topic.clone(), number: partition.number };
            group.owners.get(&source).is_some_and(|owned| owned.member == member.id)
        };
        let owned = match source_of(&partition.topic, &state.topics) {
            Some(source) => owns(source),
            None => state.topics.iter().any(owns),
        };
        if owned {
            return Ok(());
        }
        Err(format!(
            "{partition} is not (or no longer) assigned to this member of the group {}",
            member.group
        ))
    }

    /// Gives out what nobody owns and asks back what others should have. The writer thread's.
    pub(crate) fn hand_out(&self, topics: &Topics) {
        let mut inner = lock(&self.inner);
        for group in inner.groups.values_mut().filter(|group| group.changed) {
            group.changed = false;
            group.balance(topics);
        }
    }
}

impl Group {
    fn balance(&mut self, topics: &Topics) {
        let subscribed: BTreeSet<Topic> =
            self.members.values().flat_map(|member| member.topics.iter().cloned()).collect();
        let mut assigned: BTreeMap<u64, Vec<Partition>> = BTreeMap::new();
        let mut revoked: BTreeMap<u64, Vec<Partition>> = BTreeMap::new();
        for name in subscribed {
            let Some(topic) = topics.get(&name) else { continue };
            let partitions = topic.partitions.iter().map(|partition| partition.source.clone());
            self.balance_topic(&name, partitions.collect(), &mut assigned, &mut revoked);
        }
        let revoked = revoked.into_iter().map(|(member, list)| (member, Event::Revoked(list)));
        let assigned = assigned.into_iter().map(|(member, list)| (member, Event::Assigned(list)));
        for (member, event) in revoked.chain(assigned) {
            if let Some(state) = self.members.get(&member) {
                lock(&state.mailbox.events).push_back(event);
                state.mailbox.signal.notify_one();
            }
        }
    }

    fn balance_topic(
        &mut self,
        topic: &Topic,
        partitions: Vec<Partition>,
        assigned: &mut BTreeMap<u64, Vec<Partition>>,
        revoked: &mut BTreeMap<u64, Vec<Partition>>,
    ) {
        let mut kept: BTreeMap<u64, Vec<Partition>> = self
            .members
            .iter()
            .filter(|(_, member)| member.topics.contains(topic))
            .map(|(id, _)| (*id, Vec::new()))
            .collect();
        let mut free = VecDeque::new();
        let count = partitions.len();
        for partition in partitions {
            match self.owners.get(&partition) {
                None => free.push_back(partition),
                // It is on its way: whoever should have it gets it when it is released.
                Some(owned) if owned.revoked => {}
                Some(owned) => kept.entry(owned.member).or_default().push(partition),
            }
        }
        if kept.is_empty() {
            return;
        }
        // Who has most keeps the odd one, so that as little as possible moves.
        let mut shares: Vec<(u64, Vec<Partition>)> = kept.into_iter().collect();
        shares.sort_by_key(|(id, list)| (std::cmp::Reverse(list.len()), *id));
        let (share, odd) = (count / shares.len(), count % shares.len());
        for (index, (member, list)) in shares.into_iter().enumerate() {
            let quota = share + usize::from(index < odd);
            let have = list.len();
            for partition in list.into_iter().skip(quota) {
                if let Some(owned) = self.owners.get_mut(&partition) {
                    owned.revoked = true;
                }
                revoked.entry(member).or_default().push(partition);
            }
            for _ in have..quota {
                let Some(partition) = free.pop_front() else { break };
                self.owners.insert(partition.clone(), Owned { member, revoked: false });
                assigned.entry(member).or_default().push(partition);
            }
        }
    }
}

#[cfg(test)]
mod tests;
