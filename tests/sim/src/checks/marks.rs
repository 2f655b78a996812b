//! Marks: only messages that are done, and of one key one message.

use millstream_core::idempotency::Mark;
use millstream_core::pipeline_spec::Delivery;

use crate::book::Book;

impl Book {
    /// A mark was written, after the records of the same transaction.
    pub(crate) fn check_mark(&mut self, mark: &Mark) {
        let partition = &mark.scope.partition;
        let uid = self.at.get(partition).and_then(|messages| messages.get(&mark.turn)).copied();
        let Some(uid) = uid else {
            let what = format!("{partition}@{} has no message", mark.turn);
            return self.violate("a mark belongs to a message", what);
        };
        let name = self.name(uid);
        let key = self.messages.get(&uid).and_then(|m| m.facts.idempotency.clone());
        if key.as_ref() != Some(&mark.key) {
            let what = format!("{name}: expected {key:?}, saw {:?}", mark.key);
            self.violate("a mark has its message's key", what);
        }
        if mark.scope.group != self.scenario.spec.group.as_str() {
            self.violate("a mark counts in its group", format!("{:?}", mark.scope));
        }
        if !self.is_done(uid) {
            let what = format!("{name} is marked before all it sent is there");
            self.violate("only done marks a key, after its outputs", what);
        }
        let turns = self.marked.entry((partition.clone(), mark.key.clone())).or_default();
        turns.insert(mark.turn);
        if turns.len() < 2 {
            return;
        }
        let turns = format!("{partition} {:?}: turns {turns:?}", mark.key);
        if self.delivery() == Delivery::ExactlyOnce {
            self.violate("exactly once: of one key one message is done", turns);
        } else if !self.scenario.repeats_excused {
            self.violate("without trouble, of one key one message is done", turns);
        }
    }
}
