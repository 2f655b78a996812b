//! Faults: what the simulated log does to its callers, each with the reason it must be survived.
//!
//! All of it is within the promises of the log's port. Chances are per mille and per call.

use std::collections::BTreeMap;

use millstream_core::message::Topic;

/// Which faults are injected, and how often. The default injects none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The longest ordinary answer, in milliseconds: answers overtake one another.
    pub latency_ms_max: u64,
    /// Chance of an answer that takes up to `slow_ms_max`: a broker that elects a leader.
    pub slow: u32,
    /// The longest slow answer, in milliseconds.
    pub slow_ms_max: u64,
    /// Chance that a call fails before anything happened: a broker that is away.
    pub refused: u32,
    /// Chance that a call fails after it happened: the answer was lost on the way back. An append
    /// may also have happened in part.
    pub answer_lost: u32,
    /// Chance that the idempotency store fails, beside the two above: it may be another server.
    pub store_refused: u32,
    /// Chance that a commit that names a lost partition beside owned ones is carried out for these.
    pub commit_in_part: u32,
    /// Chance that a reader goes back and hands over messages again: a fetch after a truncated
    /// answer, a queue's redelivery.
    pub redelivered: u32,
    /// Chance of a gap before an appended message: markers, aborted records, compaction.
    pub gap: u32,
    /// Chance that a transaction stays open for a while: its records hide those behind them.
    pub open_transaction: u32,
    /// The longest time a transaction stays open, in milliseconds.
    pub open_ms_max: u64,
    /// Chance that a partition is given to any member, not to the one that has least: no assignor
    /// owes an even share, and a partition may come back to the member it was taken from.
    pub uneven: u32,
    /// The longest time before a member is told of an assignment or a loss, in milliseconds: until
    /// then it is a zombie.
    pub event_ms_max: u64,
    /// Chance that an append lands though its caller is gone meanwhile (dead, or its future dropped because
    /// the partition was lost): what a producer has on the wire is not called back.
    pub late_send: u32,
    /// The longest time after its caller has gone that such an append lands, in milliseconds.
    pub late_ms_max: u64,
    /// Chance for each record of a host to these topics that it is refused for good, for any of the reasons
    /// that there are.
    pub refused_records: BTreeMap<Topic, u32>,
}

impl Faults {
    /// Whether a call may happen without its caller knowing that it did.
    pub fn ambiguous(&self) -> bool {
        self.answer_lost > 0
    }
}
