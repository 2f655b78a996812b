//! Losses that are none of the core's: what the log refuses, removes and forgets. Noted, so that the other checks know
//! of it; what is forgotten though the core was to keep it in mind is its fault.

use millstream_core::log::RecordError;
use millstream_core::message::{Offset, Partition, Record};

use crate::book::{Book, Kind};
use crate::facts::{UID, number};

impl Book {
    /// The log refused a record for good.
    pub(crate) fn on_refused(&mut self, record: &Record, error: &RecordError) {
        let dead = matches!(self.kind(&record.topic), Kind::DeadLetters(_));
        // One that is too large is tried again with less, and may be refused again.
        self.needs_a_person |= dead;
        let uid = number(&record.headers, UID);
        match uid.and_then(|uid| self.messages.get_mut(&uid)) {
            Some(message) => message.refused = true,
            None => self.violate("only outcomes of messages are written", error.to_string()),
        }
    }

    /// The log has removed messages.
    pub(crate) fn on_removed(&mut self, partition: &Partition, offsets: &[Offset]) {
        for offset in offsets {
            let uid = self.at.get(partition).and_then(|standing| standing.get(offset)).copied();
            let Some(uid) = uid else { continue };
            let settled = self.is_settled_at_source(uid);
            let Some(message) = self.messages.get_mut(&uid) else { continue };
            message.removed |= !settled;
            let here =
                |c: &&mut crate::book::Carrier| c.partition == *partition && c.offset == *offset;
            message.carriers.iter_mut().filter(here).for_each(|carrier| carrier.removed = true);
        }
    }

    /// The log has forgotten what was committed of a partition.
    pub(crate) fn on_forgotten(&mut self, partition: &Partition) {
        self.commits.remove(partition);
        self.forgot = true;
        if self.calm {
            let what = format!("{partition}, though hosts run and nothing fails");
            self.violate("what is committed is committed again before it is forgotten", what);
        }
    }
}
