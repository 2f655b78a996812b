//! Sends: appends that are on the wire. They land whatever becomes of who sent them, as a producer's
//! requests do: a host that is dead, or has lost the partition meanwhile, is a zombie whose records come.
//!
//! Invariant: as long as its caller waits an append lands before it is answered; once the caller is gone it
//! lands later, once, or not at all if it was to fail.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::log::{Appended, LogError, RecordError};
use millstream_core::message::Record;

use crate::cluster::{Due, Shared, State};
use crate::happening::{Fate, HostId};
use crate::log::{Plan, SimLog, answer_lost, pass, refused};
use crate::topics::append_all;

type Answers = Vec<Result<Appended, RecordError>>;

#[derive(Debug)]
struct Send {
    host: HostId,
    records: Vec<Record>,
    fate: Fate,
    /// Nobody waits for it.
    orphan: bool,
}

/// How often what is sent is held up on its way, per mille, and for how long at most: so long that its caller may be
/// gone when it lands.
const HELD_UP: u32 = 150;
const HELD_UP_MS_MAX: u64 = 2_500;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Sends {
    last: u64,
    under_way: BTreeMap<u64, Send>,
    landed: BTreeMap<u64, Answers>,
}

impl State {
    fn send(&mut self, host: HostId, records: Vec<Record>, fate: Fate, after: Duration) -> u64 {
        let held_up = self.draw.chance(HELD_UP);
        let more = self.draw.between(1, HELD_UP_MS_MAX);
        let after = after + Duration::from_millis(if held_up { more } else { 0 });
        self.sends.last += 1;
        let send = self.sends.last;
        self.sends.under_way.insert(send, Send { host, records, fate, orphan: false });
        self.later(after, Due::Land { send });
        send
    }

    /// It comes to its time; if its caller has gone it may be under way for longer.
    pub(crate) fn land(&mut self, number: u64) {
        let Some(mut send) = self.sends.under_way.remove(&number) else { return };
        if send.fate != Fate::Answered && self.draw.chance(500) {
            let kept = self.draw.count(0, send.records.len());
            send.records.truncate(kept);
        }
        let answers = append_all(self, Some(send.host), send.orphan, send.records);
        if !send.orphan {
            self.sends.landed.insert(number, answers);
        }
    }

    pub(crate) fn land_all(&mut self) {
        let under_way: Vec<u64> = self.sends.under_way.keys().copied().collect();
        under_way.into_iter().for_each(|send| self.land(send));
    }

    /// Nobody waits for its answer any more.
    fn orphan(&mut self, number: u64) {
        self.sends.landed.remove(&number);
        let late = Duration::from_millis(self.draw.between(0, self.faults.late_ms_max));
        let Some(send) = self.sends.under_way.get_mut(&number) else { return };
        send.orphan = true;
        self.agenda.retain(|(_, due)| *due != Due::Land { send: number });
        self.later(late, Due::Land { send: number });
    }
}

/// The caller's end of an append; dropped, the append is an orphan.
pub(crate) struct OnTheWire {
    shared: Arc<Shared>,
    send: u64,
}

impl OnTheWire {
    /// Sends records and waits for the answer.
    pub(crate) async fn append(log: &SimLog, records: Vec<Record>) -> Result<Answers, LogError> {
        let plan = log.shared().change(|state| state.plan(log.host(), "append", false));
        let Some(Plan { fate, before, after }) = plan else { return log.die().await };
        if fate == Fate::Refused {
            pass(before + after).await;
            return Err(refused("append"));
        }
        if fate == Fate::CrashBefore {
            return log.die().await;
        }
        let send = log.shared().change(|state| state.send(log.host(), records, fate, before));
        let sent = Self { shared: Arc::clone(log.shared()), send };
        if fate == Fate::CrashAfter {
            return log.die().await;
        }
        let landed = |state: &mut State| state.sends.landed.remove(&send);
        let answers = log.shared().wait_for(landed).await;
        drop(sent);
        pass(after).await;
        match fate {
            Fate::AnswerLost => Err(answer_lost("append")),
            _ => Ok(answers),
        }
    }
}

impl Drop for OnTheWire {
    fn drop(&mut self) {
        self.shared.change(|state| state.orphan(self.send));
    }
}
