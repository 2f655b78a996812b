use millstream_core::log::TopicSpec;

use super::*;
use crate::entries::TopicEntry;
use crate::topics::TopicState;

fn topics(counts: &[(&str, u32)]) -> Topics {
    let mut topics = Topics::default();
    for (id, (name, partitions)) in counts.iter().enumerate() {
        let spec = TopicSpec {
            name: (*name).into(),
            partitions: *partitions,
            retention: None,
            retention_bytes: None,
            message_bytes_max: 1,
            append_time: false,
            compacted: false,
            replication: None,
        };
        let entry = TopicEntry { id: id as u32, spec };
        topics.insert((*name).into(), Arc::new(TopicState::empty(entry)));
    }
    topics
}

struct Joined {
    member: Member,
    mailbox: Arc<Mailbox>,
}

impl Joined {
    fn new(groups: &Groups, topics: &[&str]) -> Self {
        let mailbox = Arc::new(Mailbox::default());
        let topics = topics.iter().map(|topic| Topic::from(*topic)).collect();
        Self { member: groups.join("g", topics, mailbox.clone()), mailbox }
    }

    fn told(&self) -> Vec<String> {
        let text = |event: Event| match event {
            Event::Assigned(list) => format!("+{}", numbers(&list)),
            Event::Revoked(list) => format!("-{}", numbers(&list)),
            other => format!("{other:?}"),
        };
        lock(&self.mailbox.events).drain(..).map(text).collect()
    }

    fn owns(&self, groups: &Groups, topic: &str, number: u32) -> bool {
        groups.check(&self.member, &Partition::new(topic, number)).is_ok()
    }
}

fn numbers(list: &[Partition]) -> String {
    list.iter().map(|p| p.number.to_string()).collect::<Vec<_>>().join(",")
}

#[test]
fn only_what_moves_is_revoked_and_given_on_after_its_release() {
    let groups = Groups::default();
    let topics = topics(&[("t", 4)]);
    let a = Joined::new(&groups, &["t"]);
    groups.hand_out(&topics);
    assert_eq!(a.told(), ["+0,1,2,3"]);

    let b = Joined::new(&groups, &["t"]);
    groups.hand_out(&topics);
    assert_eq!(a.told(), ["-2,3"]);
    assert!(b.told().is_empty(), "nothing is free yet");
    assert!(a.owns(&groups, "t", 2), "until it is released");
    assert!(!b.owns(&groups, "t", 2));

    groups.release(&a.member, &[Partition::new("t", 3)]);
    groups.hand_out(&topics);
    assert_eq!(b.told(), ["+3"]);
    groups.release(&a.member, &[Partition::new("t", 2)]);
    assert!(!a.owns(&groups, "t", 2), "released is released");
    groups.hand_out(&topics);
    assert_eq!(b.told(), ["+2"]);
    assert!(a.told().is_empty());

    groups.leave(&b.member);
    groups.hand_out(&topics);
    assert_eq!(a.told(), ["+2,3"]);
}

#[test]
fn whoever_has_most_keeps_the_odd_partition() {
    let groups = Groups::default();
    let topics = topics(&[("t", 5)]);
    let a = Joined::new(&groups, &["t"]);
    groups.hand_out(&topics);
    a.told();
    let b = Joined::new(&groups, &["t"]);
    let c = Joined::new(&groups, &["t"]);
    groups.hand_out(&topics);
    assert_eq!(a.told(), ["-2,3,4"]);
    let released: Vec<_> = (2..5).map(|number| Partition::new("t", number)).collect();
    groups.release(&a.member, &released);
    groups.hand_out(&topics);
    assert_eq!((b.told(), c.told()), (vec!["+2,3".to_owned()], vec!["+4".to_owned()]));
    groups.hand_out(&topics);
    assert!(a.told().is_empty() && b.told().is_empty() && c.told().is_empty(), "it has settled");
}

#[test]
fn partitions_added_later_are_assigned() {
    let groups = Groups::default();
    let a = Joined::new(&groups, &["t"]);
    groups.hand_out(&topics(&[("t", 1)]));
    assert_eq!(a.told(), ["+0"]);
    groups.topics_changed();
    groups.hand_out(&topics(&[("t", 3)]));
    assert_eq!(a.told(), ["+1,2"]);
}

#[test]
fn a_member_that_leaves_with_a_revocation_pending_frees_it_for_the_others() {
    let groups = Groups::default();
    let topics = topics(&[("t", 2)]);
    let a = Joined::new(&groups, &["t"]);
    groups.hand_out(&topics);
    let b = Joined::new(&groups, &["t"]);
    groups.hand_out(&topics);
    groups.leave(&a.member);
    groups.hand_out(&topics);
    assert_eq!(b.told(), ["+0,1"]);
    assert!(!a.owns(&groups, "t", 0), "who left owns nothing");
}

#[test]
fn a_companion_belongs_to_the_source_partition_of_its_number() {
    let groups = Groups::default();
    let topics = topics(&[("orders", 2), ("orders.eu", 2)]);
    let a = Joined::new(&groups, &["orders", "orders.eu"]);
    let b = Joined::new(&groups, &["orders", "orders.eu"]);
    groups.hand_out(&topics);
    // Each has one partition of each topic: a number 0, b number 1.
    for (topic, number) in [("orders.retry.5s", 0), ("orders.eu.dlq", 0), ("marks", 0)] {
        assert!(a.owns(&groups, topic, number), "{topic}");
        assert!(!b.owns(&groups, topic, number), "{topic}");
    }
    groups.release(&a.member, &[Partition::new("orders.eu", 0)]);
    assert!(!a.owns(&groups, "orders.eu.dlq", 0), "the longer name is the source");
    assert!(a.owns(&groups, "orders.dlq", 0));
    assert!(a.owns(&groups, "marks", 0), "it names no source: one of its number is left");
}

#[test]
fn a_member_reads_no_topic_it_did_not_subscribe() {
    let groups = Groups::default();
    let topics = topics(&[("t", 1), ("u", 1)]);
    let a = Joined::new(&groups, &["t"]);
    let b = Joined::new(&groups, &["u"]);
    groups.hand_out(&topics);
    assert!(a.owns(&groups, "t", 0));
    assert!(b.owns(&groups, "u", 0));
    let other_group = Groups::default();
    assert!(other_group.check(&a.member, &Partition::new("t", 0)).is_err());
}
