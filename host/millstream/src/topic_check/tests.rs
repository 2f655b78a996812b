use std::collections::BTreeMap;
use std::time::Duration;

use millstream_core::log::TopicSpec;

use super::*;
use crate::config::{self, Config, GroupProtocol};
use crate::finding::Severity;
use crate::topic_plan;

/// `refunds` handles the dead letters of `sales`; by its name it comes first.
const CONFIG: &str = r#"
[log]
new_topics = { partitions = 2, message_max = "1MiB" }

[pipelines.refunds]
source = { topics = ["orders.dlq"] }
plugin = "p.wasm"
retry = { delays = [] }

[pipelines.sales]
source = { topics = ["orders"] }
plugin = "p.wasm"
outputs = { default = "priced" }
retry = { delays = ["5s"] }
"#;

fn config() -> Config {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("millstream.toml");
    std::fs::write(&file, CONFIG).expect("written");
    config::load_with(&file, &|_| None).expect("a good configuration")
}

fn kafka() -> KafkaConfig {
    KafkaConfig {
        bootstrap_servers: "a:1,b:2".to_owned(),
        client: BTreeMap::new(),
        group_protocol: GroupProtocol::Classic,
        static_membership: false,
        oauth_token_file: None,
        poll_interval_max: Duration::from_secs(300),
    }
}

/// The findings beside these topics.
fn found(there: &[TopicSpec]) -> Vec<Finding> {
    let config = config();
    let plan = topic_plan::plan_beside(there, &config.pipelines, &config.log.new_topics);
    findings(&plan, &kafka())
}

/// Everything the configuration needs, as it is made.
fn all() -> Vec<TopicSpec> {
    let config = config();
    let plan = topic_plan::plan_beside(&[], &config.pipelines, &config.log.new_topics);
    plan.into_iter().map(|planned| planned.spec).collect()
}

/// The same, with one topic changed.
fn with(name: &str, change: impl Fn(&mut TopicSpec)) -> Vec<TopicSpec> {
    let mut topics = all();
    let topic = topics.iter_mut().find(|topic| &*topic.name == name);
    change(topic.unwrap_or_else(|| panic!("{name} is not planned")));
    topics
}

#[test]
fn what_was_created_as_planned_stands_against_nothing() {
    assert_eq!(found(&all()), Vec::new());
}

#[test]
fn dead_letters_that_are_a_source_are_made_as_dead_letters() {
    let letters = all().into_iter().find(|topic| &*topic.name == "orders.dlq").expect("planned");
    assert!(letters.append_time, "{letters:?}");
    assert_eq!(letters.message_bytes_max, (1 << 20) + (64 << 10), "room for headers: {letters:?}");
    let next = all().into_iter().find(|topic| &*topic.name == "orders.dlq.dlq").expect("planned");
    assert_eq!(next.message_bytes_max, (1 << 20) + (128 << 10), "and again: {next:?}");
}

#[test]
fn every_missing_source_and_output_is_named_at_once_with_what_makes_it() {
    let found = found(&[]);
    let missing: Vec<&str> = found
        .iter()
        .map(|finding| {
            assert!(finding.fix.contains("millstream topics create --pipelines"), "{finding}");
            assert_eq!((finding.severity, finding.code), (Severity::Error, Code::Topic));
            finding.what.as_str()
        })
        .collect();
    // Tiers and dead letters are made by the run itself, but for those that another pipeline reads.
    let expected =
        ["orders", "priced", "orders.dlq"].map(|name| format!("topic {name} does not exist"));
    assert_eq!(missing, expected);
}

#[test]
fn a_companion_with_fewer_partitions_is_an_error_and_one_with_more_a_warning() {
    let few = found(&with("orders.retry.5s", |topic| topic.partitions = 1));
    assert_eq!(few.len(), 1, "{few:?}");
    assert!(few[0].what.contains("has 1 partitions, its source 2"), "{}", few[0]);
    assert!(few[0].fix.contains("millstream topics create --pipelines"), "{}", few[0]);
    let many = found(&with("orders.retry.5s", |topic| topic.partitions = 3));
    assert_eq!(many.len(), 1, "{many:?}");
    assert_eq!(many[0].severity, Severity::Warning);
}

#[test]
fn every_setting_that_would_lose_a_retry_is_mended_by_one_command() {
    let found = found(&with("orders.retry.5s", |topic| {
        topic.append_time = false;
        topic.retention = Some(Duration::from_secs(7 * 86_400));
        topic.retention_bytes = Some(1 << 30);
        topic.message_bytes_max = 1 << 20;
    }));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        found[0].fix,
        "`kafka-configs.sh --bootstrap-server a:1,b:2 --alter --entity-type topics --entity-name \
         orders.retry.5s --add-config message.timestamp.type=LogAppendTime,retention.ms=-1,\
         retention.bytes=-1,max.message.bytes=1115136`"
    );
    assert!(found[0].why.contains("it keeps records 7d"), "{}", found[0]);
}

#[test]
fn each_setting_alone_is_found() {
    type Change = fn(&mut TopicSpec);
    let changes: [(Change, &str); 4] = [
        (|topic| topic.append_time = false, "message.timestamp.type="),
        (|topic| topic.retention = Some(Duration::from_secs(60)), "retention.ms="),
        (|topic| topic.retention_bytes = Some(1), "retention.bytes="),
        (|topic| topic.message_bytes_max -= 1, "max.message.bytes="),
    ];
    for (change, setting) in changes {
        let found = found(&with("orders.retry.5s", change));
        assert_eq!(found.len(), 1, "{setting}: {found:?}");
        assert!(found[0].fix.contains(setting), "{}", found[0]);
    }
}

#[test]
fn dead_letters_may_be_removed_in_time_but_need_the_logs_own_time() {
    let short = |topic: &mut TopicSpec| topic.retention = Some(Duration::from_secs(60));
    assert_eq!(found(&with("orders.dlq", short)), Vec::new());
    let own_time = found(&with("orders.dlq", |topic| topic.append_time = false));
    assert_eq!(own_time.len(), 1, "{own_time:?}");
}

#[test]
fn sources_and_outputs_are_as_their_owners_want_them() {
    for name in ["orders", "priced"] {
        let changed = with(name, |topic| {
            topic.retention = Some(Duration::from_secs(60));
            topic.append_time = !topic.append_time;
        });
        assert_eq!(found(&changed), Vec::new(), "{name}");
    }
}
