use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::*;
use crate::headers::ErrorHeaders;
use crate::log::{
    Appended, Batch, Commit, Consumer, Ends, RecordError, Room, Subscription, TopicSpec,
};
use crate::message::{Header, Record};
use crate::names::Template;
use crate::pipeline_spec::*;
use crate::plugin::PluginIdentity;
use crate::trace::SpanContext;

/// A log in memory that can refuse what the next calls ask for.
#[derive(Default)]
struct Shelf {
    topics: Mutex<Vec<TopicSpec>>,
    partitions: Mutex<BTreeMap<Partition, (Offset, Vec<Message>)>>,
    delete_fails: Mutex<bool>,
    refused_value: Mutex<Option<Bytes>>,
}

impl Shelf {
    fn with(topics: &[&str]) -> Self {
        let shelf = Self::default();
        for name in topics {
            shelf.topics.lock().unwrap().push(topic_spec(name));
        }
        shelf
    }

    fn put(&self, record: Record) -> Appended {
        let number = record.partition.unwrap_or(0);
        let partition = Partition::new(record.topic, number);
        let mut partitions = self.partitions.lock().unwrap();
        let (start, messages) = partitions.entry(partition.clone()).or_default();
        let offset = messages.last().map_or(*start, |m| m.offset + 1);
        messages.push(Message {
            topic: partition.topic,
            partition: number,
            offset,
            timestamp: 50_000 + offset as i64,
            key: record.key,
            value: record.value,
            headers: record.headers,
        });
        Appended { partition: number, offset }
    }

    fn all(&self, topic: &str, number: u32) -> Vec<Message> {
        let partitions = self.partitions.lock().unwrap();
        partitions.get(&Partition::new(topic, number)).map(|p| p.1.clone()).unwrap_or_default()
    }

    fn values(&self, topic: &str, number: u32) -> Vec<String> {
        let text = |m: Message| m.value.map(|v| String::from_utf8_lossy(&v).into_owned());
        self.all(topic, number).into_iter().filter_map(text).collect()
    }
}

fn topic_spec(name: &str) -> TopicSpec {
    TopicSpec {
        name: name.into(),
        partitions: 2,
        retention: None,
        retention_bytes: None,
        message_bytes_max: 1 << 20,
        append_time: true,
        compacted: false,
        replication: None,
    }
}

#[async_trait]
impl Log for Shelf {
    fn cluster_id(&self) -> &str {
        "shelf"
    }
    fn commit_metadata_bytes_max(&self) -> usize {
        4096
    }
    async fn topics(&self) -> Result<Vec<TopicSpec>, LogError> {
        Ok(self.topics.lock().unwrap().clone())
    }
    async fn create_topic(&self, spec: TopicSpec) -> Result<(), LogError> {
        self.topics.lock().unwrap().push(spec);
        Ok(())
    }
    async fn append(
        &self,
        records: &[&Record],
    ) -> Result<Vec<Result<Appended, RecordError>>, LogError> {
        let refused = self.refused_value.lock().unwrap().clone();
        let one = |record: Record| {
            if refused.is_some() && record.value == refused {
                let reason = "not today".to_owned();
                return Err(RecordError::Denied { topic: record.topic, reason });
            }
            Ok(self.put(record))
        };
        Ok(records.iter().copied().cloned().map(one).collect())
    }
    async fn fetch(
        &self,
        partition: &Partition,
        from: Offset,
        room: Room,
    ) -> Result<Batch, LogError> {
        let partitions = self.partitions.lock().unwrap();
        let messages = partitions.get(partition).map(|p| p.1.clone()).unwrap_or_default();
        let end = messages.last().map_or(0, |m| m.offset + 1);
        let some: Vec<_> =
            messages.into_iter().filter(|m| m.offset >= from).take(room.messages).collect();
        let next = some.last().map_or(from, |m| m.offset + 1);
        Ok(Batch { partition: partition.clone(), messages: some, next, end })
    }
    async fn ends(&self, wanted: &[Partition]) -> Result<Vec<Ends>, LogError> {
        let partitions = self.partitions.lock().unwrap();
        let ends = |partition: &Partition| {
            let (start, messages) = partitions.get(partition).cloned().unwrap_or_default();
            let end = messages.last().map_or(start, |m| m.offset + 1);
            Ends { start, end, high: end }
        };
        Ok(wanted.iter().map(ends).collect())
    }
    async fn committed(&self, _: &str, _: &[Partition]) -> Result<Vec<Option<Commit>>, LogError> {
        Ok(Vec::new())
    }
    async fn delete_before(&self, partition: &Partition, before: Offset) -> Result<(), LogError> {
        if *self.delete_fails.lock().unwrap() {
            return Err(LogError::Unavailable("disk full".to_owned()));
        }
        let mut partitions = self.partitions.lock().unwrap();
        let (start, messages) = partitions.entry(partition.clone()).or_default();
        *start = before.max(*start);
        messages.retain(|m| m.offset >= before);
        Ok(())
    }
    async fn consumer(&self, _: Subscription) -> Result<Arc<dyn Consumer>, LogError> {
        Err(LogError::Fatal("no consumers here".to_owned()))
    }
}

fn spec() -> PipelineSpec {
    PipelineSpec {
        name: "orders".to_owned(),
        group: "g".to_owned(),
        topics: vec!["orders".into(), "refunds".into()],
        start: Start::Earliest,
        outputs: BTreeMap::new(),
        delivery: Delivery::AtLeastOnce,
        ordering: Ordering::Key,
        in_flight_messages: 10,
        in_flight_bytes: 1 << 20,
        waiting_messages: 1000,
        waiting_bytes: 1 << 20,
        instances: 1,
        retry: RetrySpec {
            delays: vec![Duration::from_secs(5)],
            keep_order: KeepOrder::No,
            topic: Template::new("{topic}.retry.{delay}", true).unwrap(),
            pause_min: Duration::from_secs(1),
            pause_max: Duration::from_secs(1),
        },
        dead_letter: DeadLetterSpec {
            topic: Template::new("{topic}.dlq", false).unwrap(),
            retention: None,
            after_host_crashes: None,
        },
        idempotency: None,
        commit_interval: Duration::from_secs(1),
        commit_refresh: Duration::from_secs(86_400),
        held_up_after: Duration::from_secs(60),
        transaction_interval: Duration::ZERO,
        drain: Duration::from_secs(1),
    }
}

fn original_headers() -> Vec<Header> {
    vec![Header::new("traceparent", "00-a"), Header::new("x", Bytes::from_static(&[0xff]))]
}

fn found(topic: &str, partition: u32, offset: Offset, kind: &str) -> CompanionHeaders {
    let message = Message {
        topic: topic.into(),
        partition,
        offset,
        timestamp: 1_000,
        key: None,
        value: None,
        headers: Vec::new(),
    };
    CompanionHeaders {
        attempt: 3,
        first_failed: Some(2_000),
        last_failed: Some(3_000),
        error: Some(ErrorHeaders {
            kind: kind.to_owned(),
            reason: format!("{kind} went wrong"),
            backtrace: Some("at main".to_owned()),
        }),
        plugin: Some(PluginIdentity {
            name: "pricing".to_owned(),
            version: "1.0.0".to_owned(),
            digest: "sha256:00".to_owned(),
        }),
        idempotency_key: Some(Bytes::from_static(b"k1")),
        trace: SpanContext::parse(b"00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"),
        ..CompanionHeaders::of_source(&message, "g")
    }
}

fn bury(shelf: &Shelf, topic: &str, number: u32, value: &str, found: &CompanionHeaders) -> Offset {
    shelf
        .put(Record {
            topic: format!("{topic}.dlq").into(),
            partition: Some(number),
            timestamp: None,
            key: Some(Bytes::from_static(b"key")),
            value: Some(value.to_owned().into()),
            headers: headers::dead_letter_headers(found, &original_headers()),
        })
        .offset
}

/// `orders.dlq[1]` holds a trap, a reject, a trap; `refunds.dlq[0]` a reject.
fn four() -> Shelf {
    let shelf = Shelf::with(&["orders", "orders.dlq", "orders.retry.0s", "refunds", "refunds.dlq"]);
    bury(&shelf, "orders", 1, "a", &found("orders", 1, 10, "trap"));
    bury(&shelf, "orders", 1, "b", &found("orders", 1, 11, "reject"));
    bury(&shelf, "orders", 1, "c", &found("orders", 1, 12, "trap"));
    bury(&shelf, "refunds", 0, "d", &found("refunds", 0, 20, "reject"));
    shelf
}

fn request(filter: Filter) -> RedriveRequest {
    RedriveRequest { filter, limit: None, id: "run-1".to_owned(), at: 9_000, dry_run: false }
}

fn kind(kind: &str) -> Filter {
    Filter { kind: Some(kind.to_owned()), ..Filter::default() }
}

async fn redrive(shelf: &Shelf, request: &RedriveRequest) -> RedriveReport {
    let spec = spec();
    DeadLetters::new(shelf, &spec).redrive(request, &mut |_| {}).await.expect("redrive")
}

async fn list(shelf: &Shelf) -> Listing {
    let spec = spec();
    DeadLetters::new(shelf, &spec).list(&Filter::default(), 100).await.expect("list")
}

#[tokio::test]
async fn a_list_has_lines_up_to_its_limit_and_counts_all_in_groups() {
    let (shelf, spec) = (four(), spec());
    let letters = DeadLetters::new(&shelf, &spec);
    let listing = letters.list(&Filter::default(), 2).await.expect("list");
    assert_eq!((listing.letters.len(), listing.total, listing.ungrouped), (2, 4, 0));
    let groups: Vec<_> = listing.groups.iter().map(|g| (g.kind.as_str(), g.count)).collect();
    assert_eq!(groups, [("reject", 2), ("trap", 2)]);
    let first = &listing.letters[0];
    assert_eq!((first.topic.as_str(), first.partition, first.offset), ("orders.dlq", 1, 0));
    let origin = first.origin.as_ref().expect("it has one");
    assert_eq!((origin.topic.as_str(), origin.partition, origin.offset), ("orders", 1, 10));
    assert_eq!((first.reason.as_str(), first.attempts, first.redrives), ("trap went wrong", 3, 0));
    assert_eq!((first.first_failed, first.last_failed), (Some(2_000), Some(3_000)));

    let one = Filter { partition: Some(1), kind: Some("reject".to_owned()), ..Filter::default() };
    let listing = letters.list(&one, 10).await.expect("list");
    assert_eq!(listing.letters.iter().map(|l| l.offset).collect::<Vec<_>>(), [1]);
    let refunds = Filter { source: Some("refunds".to_owned()), ..Filter::default() };
    assert_eq!(letters.list(&refunds, 10).await.expect("list").total, 1);
}

#[tokio::test]
async fn one_letter_is_shown_whole_and_a_wrong_position_is_named() {
    let (shelf, spec) = (four(), spec());
    let letters = DeadLetters::new(&shelf, &spec);
    let shown = letters.show(&Partition::new("orders.dlq", 1), 2).await.expect("it is there");
    assert_eq!(
        (shown.summary.kind.as_str(), shown.backtrace.as_deref()),
        ("trap", Some("at main"))
    );
    assert_eq!(shown.message.value.as_deref(), Some(b"c".as_slice()));
    let beyond = letters.show(&Partition::new("orders.dlq", 1), 3).await.expect_err("none there");
    assert!(beyond.to_string().contains("orders.dlq[1]@3"), "{beyond}");
    let source = letters.show(&Partition::new("orders", 1), 0).await.expect_err("no letters");
    assert!(source.to_string().contains("orders.dlq[0]"), "{source}");
}

#[tokio::test]
async fn redrive_puts_everything_back_as_it_was_and_empties_the_topic() {
    let shelf = four();
    let report = redrive(&shelf, &request(Filter::default())).await;
    assert_eq!((report.redriven, report.left, report.foreign, report.refused), (4, 0, 0, 0));
    assert_eq!(report.tiers.get("orders.retry.0s"), Some(&3));
    assert_eq!(shelf.values("orders.retry.0s", 1), ["a", "b", "c"]);
    assert_eq!(shelf.values("refunds.retry.0s", 0), ["d"], "its tier was made on the way");
    assert_eq!(shelf.all("orders.dlq", 1), []);
    assert_eq!(shelf.all("refunds.dlq", 0), []);

    let copy = &shelf.all("orders.retry.0s", 1)[1];
    assert_eq!(copy.key.as_deref(), Some(b"key".as_slice()));
    assert_eq!(headers::strip(&copy.headers), original_headers());
    assert!(!copy.headers.iter().any(|h| h.name.starts_with(headers::DEAD_LETTER_PREFIX)));
    let now = headers::decode(&copy.headers).expect("ours");
    let was = found("orders", 1, 11, "reject");
    let expected = CompanionHeaders {
        attempt: 0,
        tier: Some("0s".into()),
        first_failed: None,
        last_failed: None,
        error: None,
        plugin: None,
        redrive: Some(headers::Redrive { count: 1, id: "run-1".to_owned(), at: 9_000 }),
        ..was
    };
    assert_eq!(now, expected);
}

#[tokio::test]
async fn what_a_filter_redrove_above_a_letter_that_stays_is_not_redriven_again() {
    let shelf = four();
    let report = redrive(&shelf, &request(kind("trap"))).await;
    assert_eq!((report.redriven, report.left), (2, 2));
    assert_eq!(shelf.values("orders.dlq", 1), ["b", "c"], "a was removed; c lies above b");
    let seen: Vec<_> = list(&shelf).await.letters.into_iter().map(|l| l.offset).collect();
    assert_eq!(seen, [1, 0], "b of orders, d of refunds; c is gone for every command");
    let spec = spec();
    let letters = DeadLetters::new(&shelf, &spec);
    assert!(letters.show(&Partition::new("orders.dlq", 1), 2).await.is_err());

    assert_eq!(redrive(&shelf, &request(kind("trap"))).await.redriven, 0);
    assert_eq!(redrive(&shelf, &request(Filter::default())).await.redriven, 2);
    assert_eq!(shelf.values("orders.retry.0s", 1), ["a", "c", "b"]);
    assert_eq!(shelf.all("orders.dlq", 1), [], "the marker goes with what it named");
}

#[tokio::test]
async fn a_letter_that_cannot_be_removed_stays_and_its_second_copy_has_the_same_turn_and_count() {
    let (shelf, spec) = (four(), spec());
    *shelf.delete_fails.lock().unwrap() = true;
    let error = DeadLetters::new(&shelf, &spec)
        .redrive(&request(Filter::default()), &mut |_| {})
        .await
        .expect_err("the disk is full");
    assert!(error.to_string().contains("orders.dlq[1]"), "{error}");
    *shelf.delete_fails.lock().unwrap() = false;
    redrive(&shelf, &request(Filter::default())).await;
    let copies: Vec<_> = shelf
        .all("orders.retry.0s", 1)
        .iter()
        .map(|m| headers::decode(&m.headers).expect("ours"))
        .map(|f| (f.turn, f.redrive_count(), f.attempt))
        .collect();
    assert_eq!(copies, [(10, 1, 0), (11, 1, 0), (12, 1, 0), (10, 1, 0), (11, 1, 0), (12, 1, 0)]);
}

#[tokio::test]
async fn foreign_letters_are_listed_with_a_reason_and_stay_where_they_are() {
    let shelf = Shelf::with(&["orders.dlq", "orders.retry.0s"]);
    let stranger = Record {
        topic: "orders.dlq".into(),
        partition: Some(0),
        timestamp: None,
        key: None,
        value: Some(Bytes::from_static(b"stranger")),
        headers: Vec::new(),
    };
    shelf.put(stranger);
    bury(
        &shelf,
        "orders",
        0,
        "group",
        &CompanionHeaders { origin_group: "other".into(), ..found("orders", 0, 1, "trap") },
    );
    bury(&shelf, "orders", 0, "topic", &found("payments", 0, 1, "trap"));
    bury(&shelf, "orders", 0, "shelf", &found("refunds", 0, 1, "trap"));
    bury(&shelf, "orders", 0, "number", &found("orders", 1, 1, "trap"));
    bury(&shelf, "orders", 0, "mine", &found("orders", 0, 1, "trap"));
    let reasons: Vec<_> = list(&shelf).await.letters.into_iter().map(|l| l.reason).collect();
    for (reason, part) in reasons.iter().zip([
        "no `millstream-` headers",
        "group other's",
        "comes from payments",
        "comes from refunds",
        "comes from partition 1",
        "trap went wrong",
    ]) {
        assert!(reason.contains(part), "{reason} should say: {part}");
    }
    let report = redrive(&shelf, &request(Filter::default())).await;
    assert_eq!((report.redriven, report.foreign), (1, 5));
    assert_eq!(shelf.values("orders.retry.0s", 0), ["mine"]);
    assert_eq!(list(&shelf).await.total, 5);
    assert_eq!(redrive(&shelf, &request(kind(FOREIGN))).await.redriven, 0);
}

#[tokio::test]
async fn a_marker_of_another_group_or_about_what_lies_above_it_hides_nothing() {
    let shelf = four();
    let partition = Partition::new("orders.dlq", 1);
    for record in redriven_marker::records(&partition, "other", &[0, 1]) {
        shelf.put(record);
    }
    for record in redriven_marker::records(&partition, "g", &[0, 500]) {
        shelf.put(record);
    }
    bury(&shelf, "orders", 1, "e", &found("orders", 1, 13, "trap"));
    let ours = list(&shelf).await.letters.into_iter().filter(|l| l.kind != FOREIGN).count();
    assert_eq!(ours, 5);
}

#[tokio::test]
async fn a_dry_run_and_a_limit_do_what_they_say() {
    let shelf = four();
    let before = shelf.partitions.lock().unwrap().clone();
    let dry = RedriveRequest { dry_run: true, ..request(Filter::default()) };
    let report = redrive(&shelf, &dry).await;
    assert_eq!((report.redriven, report.dry_run), (4, true));
    assert_eq!(*shelf.partitions.lock().unwrap(), before);
    assert!(!shelf.topics.lock().unwrap().iter().any(|t| &*t.name == "refunds.retry.0s"));

    let report =
        redrive(&shelf, &RedriveRequest { limit: Some(2), ..request(Filter::default()) }).await;
    assert_eq!(report.redriven, 2);
    assert_eq!(shelf.values("orders.dlq", 1), ["c"]);
}

#[tokio::test]
async fn a_letter_whose_copy_is_refused_stays_and_is_named() {
    let shelf = four();
    *shelf.refused_value.lock().unwrap() = Some(Bytes::from_static(b"b"));
    let report = redrive(&shelf, &request(Filter::default())).await;
    assert_eq!((report.redriven, report.refused), (3, 1));
    assert_eq!(report.refused_letters[0].position, "orders.dlq[1]@1");
    assert!(report.refused_letters[0].reason.contains("not today"));
    *shelf.refused_value.lock().unwrap() = None;
    assert_eq!(redrive(&shelf, &request(Filter::default())).await.redriven, 1);
    assert_eq!(shelf.values("orders.retry.0s", 1), ["a", "c", "b"]);
}

#[tokio::test]
async fn many_letters_go_in_batches_with_progress_up_to_all_of_them() {
    let shelf = Shelf::with(&["orders.dlq", "orders.retry.0s"]);
    let count = BATCH_MESSAGES_MAX as u64 * 2 + 7;
    for offset in 0..count {
        let kind = if offset % 3 == 0 { "reject" } else { "trap" };
        bury(&shelf, "orders", 0, &offset.to_string(), &found("orders", 0, offset, kind));
    }
    let spec = spec();
    let mut told = Vec::new();
    let report = DeadLetters::new(&shelf, &spec)
        .redrive(&request(kind("trap")), &mut |progress| told.push(progress))
        .await
        .expect("redrive");
    let rejects = count.div_ceil(3);
    assert_eq!((report.redriven, report.left), (count - rejects, rejects));
    assert_eq!(told.len(), 3);
    assert_eq!(told.last().map(|p| (p.read, p.total)), Some((count, count)));
    assert_eq!(list(&shelf).await.total, rejects, "many ranges, over several markers");
    assert_eq!(redrive(&shelf, &request(Filter::default())).await.redriven, rejects);
    assert_eq!(shelf.all("orders.dlq", 0), []);
    assert_eq!(shelf.all("orders.retry.0s", 0).len() as u64, count);
}

#[tokio::test]
async fn templates_that_would_bring_letters_round_in_a_circle_are_refused() {
    let (shelf, mut spec) = (four(), spec());
    spec.topics.push("orders.retry.0s".into());
    let error = DeadLetters::new(&shelf, &spec)
        .redrive(&request(Filter::default()), &mut |_| {})
        .await
        .expect_err("a source topic");
    assert!(error.to_string().contains("orders.retry.0s, which is a source topic"), "{error}");
    assert_eq!(shelf.values("orders.dlq", 1).len(), 3);
}
