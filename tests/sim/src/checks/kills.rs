//! Kills: a message that kills its host does so a bounded number of times, and no other dies for it.

use crate::book::Book;
use crate::facts::Uid;

impl Book {
    /// A message has killed its host.
    pub(crate) fn check_kill(&mut self, uid: Uid) {
        let name = self.name(uid);
        let Some(message) = self.messages.get_mut(&uid) else { return };
        message.killed += 1;
        let killed = message.killed;
        let Some(most) = self.scenario.spec.dead_letter.after_host_crashes else { return };
        if self.scenario.only_messages_kill && killed > most {
            let what = format!("{name} has killed {killed} hosts, and {most} are the limit");
            self.violate("a message that kills its host is found", what);
        }
    }

    /// Whether this message may be taken for one that kills its host: it does, or hosts die here of other things too.
    pub(crate) fn may_be_named(&self, uid: Uid) -> bool {
        let kills = self.messages.get(&uid).is_some_and(|m| m.facts.script.kills());
        let looks = self.scenario.spec.dead_letter.after_host_crashes.is_some();
        looks && (kills || !self.scenario.only_messages_kill)
    }
}
