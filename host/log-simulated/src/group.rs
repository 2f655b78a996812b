//! Consumer groups: who owns which partition, and what each member was told of it.
//!
//! An owner changes in the cluster first; the member learns of it later, by an event. Invariant: a
//! commit or transaction counts only if the assignment its caller was told of is the one that
//! holds now. A companion belongs to the source partition of the same number whose topic's name
//! stands in the companion's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use millstream_core::log::{Commit, Event, LogError, Transaction, source_of};
use millstream_core::message::{Offset, Partition, Topic};
use tokio::time::Instant;

use crate::cluster::{Due, State};
use crate::happening::{Epoch, Happening, HostId};
use crate::store::Writer;

pub(crate) type MemberId = u64;

#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) member: MemberId,
    pub(crate) epoch: Epoch,
    /// Revoked, and waited for to be released.
    pub(crate) leaving: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    Assigned,
    Revoked,
    Lost,
}

/// Where a member reads in an attached partition.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    /// The source partition whose assignment this reading hangs on.
    pub(crate) source: Partition,
    pub(crate) next: Offset,
    /// Where it was attached: a redelivery goes not further back.
    pub(crate) floor: Offset,
    pub(crate) paused: bool,
    pub(crate) ready_at: Instant,
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) host: HostId,
    pub(crate) topics: Vec<Topic>,
    pub(crate) alive: bool,
    pub(crate) notices: VecDeque<(Instant, Notice, Partition, Epoch)>,
    /// The assignments this member knows of.
    pub(crate) told: BTreeMap<Partition, Epoch>,
    pub(crate) readers: BTreeMap<Partition, Reader>,
    /// Given up by the member without being asked: never given to it again.
    pub(crate) refuses: BTreeSet<Partition>,
    /// Thrown out of the group, and to be told so.
    pub(crate) expelled: bool,
    /// Transactions that were carried out without an answer; a repetition is recognised.
    pub(crate) unanswered: Vec<(Transaction, u64, Vec<Writer>)>,
}

impl Member {
    /// The source partition that `partition` is, or is a companion of.
    pub(crate) fn source_of(&self, partition: &Partition) -> Option<Partition> {
        let topic = source_of(&partition.topic, &self.topics)?;
        Some(Partition { topic: topic.clone(), number: partition.number })
    }

    /// Reads nothing more of a source partition nor of its companions.
    fn detach(&mut self, source: &Partition) {
        self.readers.retain(|_, reader| reader.source != *source);
    }
}

#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) members: BTreeMap<MemberId, Member>,
    pub(crate) owners: BTreeMap<Partition, Owner>,
    pub(crate) commits: BTreeMap<Partition, Commit>,
    /// When each was written last.
    pub(crate) committed_at: BTreeMap<Partition, Instant>,
    epoch: Epoch,
}

impl Group {
    /// The assignment of `partition` (or of the source it accompanies) that the member knows of.
    pub(crate) fn told(&self, member: MemberId, partition: &Partition) -> Option<Epoch> {
        let member = self.members.get(&member)?;
        member.told.get(&member.source_of(partition)?).copied()
    }

    /// Whether that assignment still holds.
    pub(crate) fn holds(&self, member: MemberId, partition: &Partition, epoch: Epoch) -> bool {
        let source = self.members.get(&member).and_then(|m| m.source_of(partition));
        source
            .and_then(|source| self.owners.get(&source))
            .is_some_and(|owner| owner.member == member && owner.epoch == epoch)
    }

    pub(crate) fn fenced(partition: &Partition) -> LogError {
        LogError::Fenced(format!("partition {partition} belongs to another member of the group"))
    }

    fn load(&self, member: MemberId) -> usize {
        self.owners.values().filter(|o| o.member == member).count()
    }
}

impl State {
    pub(crate) fn join(
        &mut self,
        group: &str,
        host: HostId,
        topics: Vec<Topic>,
    ) -> Result<MemberId, LogError> {
        if let Some(missing) = topics.iter().find(|t| self.topics.partitions_of(t).is_none()) {
            return Err(LogError::Fatal(format!("topic {missing} does not exist")));
        }
        let members = &mut self.groups.entry(group.to_owned()).or_default().members;
        let member = members.keys().next_back().map_or(1, |last| last + 1);
        members.insert(
            member,
            Member {
                host,
                topics,
                alive: true,
                notices: VecDeque::new(),
                told: BTreeMap::new(),
                readers: BTreeMap::new(),
                refuses: BTreeSet::new(),
                expelled: false,
                unanswered: Vec::new(),
            },
        );
        if self.eager {
            self.revoke_all(group);
        } else {
            self.balance(group);
        }
        self.place(group);
        Ok(member)
    }

    /// Gives partitions without owner to members.
    pub(crate) fn place(&mut self, name: &str) {
        let Some(group) = self.groups.get(name) else { return };
        if self.eager && group.owners.values().any(|owner| owner.leaving) {
            // Nothing is given before all is given back.
            return;
        }
        let topics: BTreeSet<Topic> =
            group.members.values().flat_map(|m| m.topics.iter().cloned()).collect();
        for topic in topics {
            for number in 0..self.topics.partitions_of(&topic).unwrap_or(0) {
                self.place_one(name, Partition { topic: topic.clone(), number });
            }
        }
    }

    fn place_one(&mut self, name: &str, partition: Partition) {
        let Some(group) = self.groups.get_mut(name) else { return };
        if group.owners.contains_key(&partition) {
            return;
        }
        let takes = |member: &&MemberId| {
            group.members.get(*member).is_some_and(|m| {
                m.alive && m.topics.contains(&partition.topic) && !m.refuses.contains(&partition)
            })
        };
        let candidates: Vec<MemberId> = group.members.keys().filter(takes).copied().collect();
        let least = candidates.iter().copied().min_by_key(|m| group.load(*m));
        let chosen = match self.draw.chance(self.faults.uneven) {
            true => self.draw.pick(&candidates).copied(),
            false => least,
        };
        let Some(member) = chosen else { return };
        group.epoch += 1;
        let epoch = group.epoch;
        group.owners.insert(partition.clone(), Owner { member, epoch, leaving: false });
        if let Some(host) = group.members.get(&member).map(|m| m.host) {
            self.tell(&Happening::Given { host, partition: &partition, epoch });
        }
        self.notify(name, member, Notice::Assigned, partition, epoch);
    }

    /// Asks members that have more than their share for some of it.
    fn balance(&mut self, name: &str) {
        let Some(group) = self.groups.get(name) else { return };
        let alive = group.members.values().filter(|m| m.alive).count().max(1);
        let share = group.owners.len().div_ceil(alive);
        let mut kept: BTreeMap<MemberId, usize> = BTreeMap::new();
        let mut asked = Vec::new();
        for (partition, owner) in &group.owners {
            let kept = kept.entry(owner.member).or_default();
            if *kept == share {
                asked.push(partition.clone());
            } else {
                *kept += 1;
            }
        }
        for partition in asked {
            self.revoke(name, &partition);
        }
    }

    fn notify(
        &mut self,
        name: &str,
        member: MemberId,
        notice: Notice,
        partition: Partition,
        epoch: Epoch,
    ) {
        let delay = Duration::from_millis(self.draw.between(0, self.faults.event_ms_max));
        let Some(group) = self.groups.get_mut(name) else { return };
        let Some(member) = group.members.get_mut(&member) else { return };
        // Not before what was said earlier.
        let earliest = member.notices.back().map_or_else(Instant::now, |(at, ..)| *at);
        let at = earliest.max(Instant::now() + delay);
        member.notices.push_back((at, notice, partition, epoch));
    }

    fn revoke(&mut self, name: &str, partition: &Partition) {
        let Some(owner) = self.groups.get_mut(name).and_then(|g| g.owners.get_mut(partition))
        else {
            return;
        };
        if owner.leaving {
            return;
        }
        owner.leaving = true;
        let (member, epoch) = (owner.member, owner.epoch);
        self.notify(name, member, Notice::Revoked, partition.clone(), epoch);
        let due = Due::Release { group: name.to_owned(), partition: partition.clone(), epoch };
        self.later(self.patience.release, due);
    }

    /// The partition is nobody's from now on; its owner is told later.
    fn lose(&mut self, name: &str, partition: &Partition) {
        let Some(group) = self.groups.get_mut(name) else { return };
        let Some(Owner { member, epoch, .. }) = group.owners.remove(partition) else { return };
        if let Some(host) = group.members.get(&member).map(|m| m.host) {
            self.tell(&Happening::Taken { host, partition, epoch });
        }
        self.notify(name, member, Notice::Lost, partition.clone(), epoch);
    }

    pub(crate) fn take_unreleased(&mut self, name: &str, partition: &Partition, epoch: Epoch) {
        let owner = self.groups.get(name).and_then(|g| g.owners.get(partition));
        if owner.is_some_and(|o| o.epoch == epoch && o.leaving) {
            self.lose(name, partition);
            self.place(name);
        }
    }

    pub(crate) fn shake(&mut self, name: &str, per_mille: u32, at_once: bool) {
        let Some(group) = self.groups.get(name) else { return };
        if self.eager && !at_once {
            return self.revoke_all(name);
        }
        let owned: Vec<Partition> = group.owners.keys().cloned().collect();
        for partition in owned {
            if !self.draw.chance(per_mille) {
                continue;
            }
            if at_once {
                self.lose(name, &partition);
            } else {
                self.revoke(name, &partition);
            }
        }
        self.place(name);
    }

    fn revoke_all(&mut self, name: &str) {
        let Some(group) = self.groups.get(name) else { return };
        let owned: Vec<Partition> = group.owners.keys().cloned().collect();
        owned.iter().for_each(|partition| self.revoke(name, partition));
    }

    /// Throws a member out, whatever it is doing.
    pub(crate) fn expel(&mut self, name: &str) {
        let Some(group) = self.groups.get(name) else { return };
        let alive = group.members.iter().filter(|(_, member)| member.alive);
        let alive: Vec<MemberId> = alive.map(|(id, _)| *id).collect();
        let Some(member) = self.draw.pick(&alive).copied() else { return };
        if let Some(m) = self.groups.get_mut(name).and_then(|g| g.members.get_mut(&member)) {
            m.expelled = true;
        }
        self.leave(name, member);
    }

    /// Forgets commits, given for how long each has stood.
    pub(crate) fn forget_commits(
        &mut self,
        name: &str,
        forgets: impl Fn(&Partition, Duration) -> bool,
    ) {
        let Some(group) = self.groups.get_mut(name) else { return };
        let Group { commits, committed_at, .. } = group;
        let mut forgotten = Vec::new();
        committed_at.retain(|partition, at| {
            let forgets = forgets(partition, at.elapsed());
            if forgets {
                commits.remove(partition);
                forgotten.push(partition.clone());
            }
            !forgets
        });
        for partition in &forgotten {
            self.tell(&Happening::Forgotten { partition });
        }
    }

    /// A member gives partitions up, asked or not.
    pub(crate) fn release(&mut self, name: &str, member: MemberId, partitions: &[Partition]) {
        for partition in partitions {
            let Some(group) = self.groups.get_mut(name) else { return };
            let told = group.told(member, partition);
            let held = told.is_some_and(|epoch| group.holds(member, partition, epoch));
            let asked = group.owners.get(partition).is_some_and(|o| o.leaving);
            let Some(m) = group.members.get_mut(&member) else { return };
            m.detach(partition);
            m.told.remove(partition);
            // What was still to be said about this assignment is settled by it.
            m.notices.retain(|(_, _, p, epoch)| p != partition || Some(*epoch) != told);
            let host = m.host;
            if !held {
                continue;
            }
            if !asked {
                m.refuses.insert(partition.clone());
            }
            let owner = group.owners.remove(partition);
            self.tell(&Happening::Released { host, partition });
            if let Some(Owner { epoch, .. }) = owner {
                self.tell(&Happening::Taken { host, partition, epoch });
            }
        }
        self.place(name);
    }

    /// A member leaves; what it still has goes to others.
    pub(crate) fn leave(&mut self, name: &str, member: MemberId) {
        let Some(group) = self.groups.get_mut(name) else { return };
        if let Some(m) = group.members.get_mut(&member) {
            m.alive = false;
        }
        let mut owned = group.owners.iter().filter(|(_, o)| o.member == member);
        let owned: Vec<Partition> = owned.by_ref().map(|(p, _)| p.clone()).collect();
        for partition in owned {
            self.lose(name, &partition);
        }
        if self.eager {
            self.revoke_all(name);
        }
        self.place(name);
    }

    pub(crate) fn crash(&mut self, host: HostId) {
        let Some(h) = self.hosts.get_mut(&host).filter(|h| h.alive) else { return };
        h.alive = false;
        self.tell(&Happening::Crashed { host });
        let mut sessions = Vec::new();
        for (name, group) in &mut self.groups {
            for (id, member) in &mut group.members {
                if member.host == host && member.alive {
                    member.alive = false;
                    sessions.push(Due::Session { group: name.clone(), member: *id });
                }
            }
        }
        for session in sessions {
            self.later(self.patience.session, session);
        }
    }

    pub(crate) fn expire_session(&mut self, name: &str, member: MemberId) {
        self.leave(name, member);
    }

    /// The member's next notice that may be told by now, as an event.
    pub(crate) fn next_notice(&mut self, name: &str, member: MemberId) -> Option<Event> {
        let m = self.groups.get_mut(name)?.members.get_mut(&member)?;
        let now = Instant::now();
        let (_, notice, ..) = *m.notices.front().filter(|(at, ..)| *at <= now)?;
        let host = m.host;
        let mut partitions: Vec<(Partition, Epoch)> = Vec::new();
        // What became due together is told together, as long as it is of one kind.
        while let Some((_, _, partition, epoch)) =
            m.notices.pop_front_if(|(at, n, ..)| *at <= now && *n == notice)
        {
            partitions.push((partition, epoch));
        }
        for (partition, epoch) in &partitions {
            match notice {
                Notice::Assigned => {
                    m.told.insert(partition.clone(), *epoch);
                }
                Notice::Revoked => {}
                Notice::Lost => {
                    m.told.remove(partition);
                    m.detach(partition);
                    let its_own = |t: &Transaction| t.commits.iter().any(|(p, _)| p == partition);
                    m.unanswered.retain(|(transaction, ..)| !its_own(transaction));
                }
            }
        }
        for (partition, epoch) in &partitions {
            self.tell(&match notice {
                Notice::Assigned => Happening::ToldAssigned { host, partition, epoch: *epoch },
                Notice::Revoked => Happening::ToldRevoked { host, partition },
                Notice::Lost => Happening::ToldLost { host, partition },
            });
        }
        let partitions = partitions.into_iter().map(|(partition, _)| partition).collect();
        Some(match notice {
            Notice::Assigned => Event::Assigned(partitions),
            Notice::Revoked => Event::Revoked(partitions),
            Notice::Lost => Event::Lost(partitions),
        })
    }
}
