//! Happenings: what a simulated cluster tells those who check on it.
//!
//! Told at the moment a thing becomes true in the cluster, which may be long before the host that
//! asked for it is answered, if ever.

use std::fmt;
use std::time::Duration;

use millstream_core::idempotency::Mark;
use millstream_core::log::{Batch, Commit, RecordError};
use millstream_core::message::{Message, Offset, Partition, Record};

/// One life of one host: a restart is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub u64);

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "h{}", self.0)
    }
}

/// One assignment of one partition to one member.
pub type Epoch = u64;

/// How a call went, as the cluster decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is carried out and answered.
    Answered,
    /// It fails and nothing happened.
    Refused,
    /// It is carried out and fails.
    AnswerLost,
    /// The host dies before it is carried out.
    CrashBefore,
    /// The host dies after it was carried out, before the answer.
    CrashAfter,
}

/// What happened in the cluster.
#[derive(Debug)]
pub enum Happening<'a> {
    /// A host made a call.
    Called {
        /// Who.
        host: HostId,
        /// The port's function.
        call: &'static str,
        /// What becomes of it.
        fate: Fate,
    },
    /// A partition belongs to this host from now on. It does not know yet.
    Given {
        /// The owner.
        host: HostId,
        /// The source partition.
        partition: &'a Partition,
        /// The assignment.
        epoch: Epoch,
    },
    /// A partition belongs to nobody from now on; its last owner may not know yet.
    Taken {
        /// The last owner.
        host: HostId,
        /// The source partition.
        partition: &'a Partition,
        /// The assignment that ended.
        epoch: Epoch,
    },
    /// A host was told that a partition is its own.
    ToldAssigned {
        /// The host.
        host: HostId,
        /// The source partition.
        partition: &'a Partition,
        /// The assignment.
        epoch: Epoch,
    },
    /// A host was told to give a partition back.
    ToldRevoked {
        /// The host.
        host: HostId,
        /// The source partition.
        partition: &'a Partition,
    },
    /// A host was told that it lost a partition.
    ToldLost {
        /// The host.
        host: HostId,
        /// The source partition.
        partition: &'a Partition,
    },
    /// A host gave a partition back.
    Released {
        /// The host.
        host: HostId,
        /// The source partition.
        partition: &'a Partition,
    },
    /// A host began to read.
    Attached {
        /// The host.
        host: HostId,
        /// The partition.
        partition: &'a Partition,
        /// From where.
        from: Offset,
    },
    /// Messages were handed to a host.
    Delivered {
        /// The host.
        host: HostId,
        /// The messages.
        batch: &'a Batch,
    },
    /// Records became readable; in one moment with marks and commits if it was a transaction.
    Written {
        /// Who wrote them; `None` is the world outside.
        host: Option<HostId>,
        /// Whether who wrote them was gone by then.
        late: bool,
        /// Whether this was a transaction.
        transaction: bool,
        /// The records, as they stand in the log.
        messages: &'a [Message],
        /// The commits that came with them.
        commits: &'a [(Partition, Commit)],
        /// The marks that came with them.
        marks: &'a [Mark],
    },
    /// The log refused a record for good.
    Refused {
        /// Who wanted to write it.
        host: HostId,
        /// The record.
        record: &'a Record,
        /// Why.
        error: &'a RecordError,
    },
    /// Messages are gone from the log, by retention or compaction.
    Removed {
        /// From where.
        partition: &'a Partition,
        /// Which.
        offsets: &'a [Offset],
    },
    /// What was committed of a partition is forgotten.
    Forgotten {
        /// The partition.
        partition: &'a Partition,
    },
    /// A host died.
    Crashed {
        /// Which.
        host: HostId,
    },
    /// A dead host made a call: a task outlived the root it hangs on.
    CallOfTheDead {
        /// Which.
        host: HostId,
        /// The port's function.
        call: &'static str,
    },
}

/// Is told what happens, in order. Called while the cluster is locked: it must not call back.
pub trait Observer: Send + Sync + 'static {
    /// `at` is the virtual time since the cluster began.
    fn observe(&self, at: Duration, happening: &Happening<'_>);
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn observe(&self, _: Duration, _: &Happening<'_>) {}
}
