//! Changes of topics: creation, new partitions, removal of old messages and expired marks.

use std::sync::Arc;

use millstream_core::log::{LogError, TopicSpec};

use super::Writer;
use super::plan::{OpenPartition, Plan, Space};
use crate::entries::{TopicEntry, start_key, topic_key};
use crate::locks::{read, write};
use crate::queue::Trim;
use crate::topics::{TopicState, check};

impl Writer {
    pub(super) fn create_topic(&mut self, spec: TopicSpec) -> Result<(), LogError> {
        check(&spec).map_err(LogError::Fatal)?;
        let before = read(&self.shared.topics).get(&spec.name).cloned();
        let entry = match &before {
            Some(topic) if topic.entry.spec.partitions > spec.partitions => {
                return Err(LogError::Fatal(format!(
                    "topic {} has {} partitions and cannot be given {}: partitions cannot be \
                     taken away; use another topic",
                    spec.name, topic.entry.spec.partitions, spec.partitions
                )));
            }
            Some(topic) if topic.entry.spec.partitions == spec.partitions => return Ok(()),
            Some(topic) => {
                let partitions = spec.partitions;
                let spec = TopicSpec { partitions, ..topic.entry.spec.clone() };
                TopicEntry { id: topic.entry.id, spec }
            }
            None => {
                let ids = read(&self.shared.topics).values().map(|topic| topic.entry.id).max();
                TopicEntry { id: ids.map_or(1, |id| id + 1), spec }
            }
        };
        let key = topic_key(&entry.spec.name);
        let value = entry.encode(&key);
        let mut plan = Plan::new(self.shared.clock.now());
        plan.entries.push((Space::State, key, Some(value)));
        self.write(&mut plan)?;
        let slot = self.partitions.len();
        let topic = TopicState::open(&self.store, entry, before.as_deref(), slot)?;
        for partition in topic.partitions.iter().filter(|partition| partition.slot >= slot) {
            self.partitions.push(OpenPartition::new(partition.clone()));
        }
        write(&self.shared.topics).insert(topic.entry.spec.name.clone(), Arc::new(topic));
        self.shared.groups.topics_changed();
        Ok(())
    }

    pub(super) fn trim(&mut self, trim: &Trim) -> Result<(), LogError> {
        let partition = &trim.partition;
        let entry = partition.start_entry(trim.start, trim.bytes_before);
        if trim.start < partition.start() {
            return Ok(());
        }
        let mut plan = Plan::new(self.shared.clock.now());
        let key = start_key(partition.topic, partition.source.number);
        let value = entry.encode(&key);
        plan.entries.push((Space::State, key, Some(value)));
        let batches = trim.batches.iter().map(|key| (Space::Messages, key.to_vec(), None));
        plan.entries.extend(batches);
        plan.starts.push((partition.clone(), entry));
        self.write(&mut plan)?;
        // Who reads there sees the gap at once.
        partition.wake();
        Ok(())
    }

    pub(super) fn forget(&mut self, keys: Vec<Vec<u8>>) -> Result<(), LogError> {
        let mut plan = Plan::new(self.shared.clock.now());
        plan.entries.extend(keys.into_iter().map(|key| (Space::Marks, key, None)));
        self.write(&mut plan)
    }
}
