use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::*;
use crate::audit::Outcome;
use crate::headers::{self, CompanionHeaders, ErrorHeaders};
use crate::log::{
    Appended, Batch, Commit, Consumer, Ends, RecordError, Room, Subscription, TransactError, Writer,
};
use crate::message::{Header, Record};
use crate::names::Template;
use crate::pipeline_spec::*;
use crate::plugin::PluginIdentity;
use crate::trace::SpanContext;

mod others;
mod shelf;
mod twice;

use shelf::Shelf;

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
            park_after: Some(3),
            mask: Mask::default(),
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
fn four() -> Arc<Shelf> {
    let shelf = Shelf::with(&["orders", "orders.dlq", "orders.retry.0s", "refunds", "refunds.dlq"]);
    bury(&shelf, "orders", 1, "a", &found("orders", 1, 10, "trap"));
    bury(&shelf, "orders", 1, "b", &found("orders", 1, 11, "reject"));
    bury(&shelf, "orders", 1, "c", &found("orders", 1, 12, "trap"));
    bury(&shelf, "refunds", 0, "d", &found("refunds", 0, 20, "reject"));
    shelf
}

fn owner(name: &str) -> Owner {
    Owner { name: name.to_owned(), machine: "here".to_owned(), process: 1 }
}

fn request(id: &str, filter: Filter) -> RedriveRequest {
    RedriveRequest {
        filter,
        to: None,
        limit: None,
        per_second: None,
        id: id.to_owned(),
        at: 9_000,
        owner: owner("ada"),
        dry_run: false,
    }
}

fn kind(kind: &str) -> Filter {
    Filter { kind: Some(kind.to_owned()), ..Filter::default() }
}

fn only(state: State) -> Filter {
    Filter { state: StatesFilter::Only(state), ..Filter::default() }
}

async fn try_redrive(
    shelf: &Shelf,
    request: &RedriveRequest,
) -> Result<RedriveReport, DeadLetterError> {
    let spec = spec();
    DeadLetters::new(shelf, &spec).redrive(request, &mut |_| {}).await
}

async fn redrive(shelf: &Shelf, request: &RedriveRequest) -> RedriveReport {
    try_redrive(shelf, request).await.expect("redrive")
}

async fn list(shelf: &Shelf, filter: &Filter) -> Listing {
    let spec = spec();
    DeadLetters::new(shelf, &spec).list(filter, 100).await.expect("list")
}

async fn purge(shelf: &Shelf, filter: Filter) -> PurgeReport {
    let spec = spec();
    let request = PurgeRequest {
        filter,
        limit: None,
        id: "purge-1".to_owned(),
        at: 9_500,
        owner: owner("eve"),
        dry_run: false,
    };
    DeadLetters::new(shelf, &spec).purge(&request, &mut |_| {}).await.expect("purge")
}

fn positions(listing: &Listing) -> Vec<(String, Offset)> {
    listing.letters.iter().map(|letter| (letter.topic.clone(), letter.offset)).collect()
}

#[tokio::test]
async fn a_list_has_lines_up_to_its_limit_and_counts_all_in_groups() {
    let (shelf, spec) = (four(), spec());
    let letters = DeadLetters::new(&*shelf, &spec);
    let listing = letters.list(&Filter::default(), 2).await.expect("list");
    assert_eq!((listing.letters.len(), listing.total, listing.ungrouped), (2, 4, 0));
    let groups: Vec<_> = listing.groups.iter().map(|g| (g.kind.as_str(), g.count)).collect();
    assert_eq!(groups, [("reject", 2), ("trap", 2)]);
    let traps = &listing.groups[1];
    assert_eq!((traps.first, traps.last), (50_000, 50_002));
    let first = &listing.letters[0];
    assert_eq!((first.topic.as_str(), first.partition, first.offset), ("orders.dlq", 1, 0));
    let origin = first.origin.as_ref().expect("it has one");
    assert_eq!(
        (origin.topic.as_str(), origin.partition, origin.offset),
        ("orders", Some(1), Some(10))
    );
    assert_eq!((first.reason.as_str(), first.attempts, first.redrives), ("trap went wrong", 3, 0));
    assert_eq!((first.state, first.written_by.as_str()), (State::Open, "millstream"));
}

#[tokio::test]
async fn every_part_of_a_filter_chooses() {
    let shelf = four();
    bury(
        &shelf,
        "orders",
        0,
        "e",
        &CompanionHeaders { plugin: None, ..found("orders", 0, 1, "trap") },
    );
    let filters = [
        (Filter { partition: Some(1), ..kind("reject") }, 1),
        (Filter { source: Some("refunds".to_owned()), ..Filter::default() }, 1),
        (Filter { reason: Some("trap went".to_owned()), ..Filter::default() }, 3),
        (Filter { plugin_version: Some("1.0.0".to_owned()), ..Filter::default() }, 4),
        (Filter { plugin_version: Some("2.0.0".to_owned()), ..Filter::default() }, 0),
        (Filter { key: Some(Bytes::from_static(b"key")), ..Filter::default() }, 5),
        (Filter { key: Some(Bytes::from_static(b"ke")), ..Filter::default() }, 0),
        (Filter { since: Some(50_001), ..Filter::default() }, 2),
        (Filter { until: Some(50_001), ..Filter::default() }, 3),
        (Filter { since: Some(50_001), until: Some(50_002), ..Filter::default() }, 1),
        (only(State::Redriven), 0),
    ];
    for (filter, count) in filters {
        assert_eq!(list(&shelf, &filter).await.total, count, "{filter:?}");
    }
}

#[tokio::test]
async fn one_letter_is_shown_whole_and_a_wrong_position_is_named() {
    let (shelf, spec) = (four(), spec());
    let letters = DeadLetters::new(&*shelf, &spec);
    let shown = letters.show(&Partition::new("orders.dlq", 1), 2).await.expect("it is there");
    assert_eq!(
        (shown.summary.kind.as_str(), shown.backtrace.as_deref()),
        ("trap", Some("at main"))
    );
    assert_eq!(shown.message.value.as_deref(), Some(b"c".as_slice()));
    let AsItWas { message, context, plugin } = shown.as_it_was;
    assert_eq!((&*message.topic, message.partition, message.offset), ("orders", 1, 12));
    assert_eq!((message.timestamp, message.headers), (1_000, original_headers()));
    assert_eq!((context.attempt, context.turn, context.timestamp), (3, 12, 1_000));
    assert_eq!(plugin.expect("it is known").digest, "sha256:00");
    let beyond = letters.show(&Partition::new("orders.dlq", 1), 3).await.expect_err("none there");
    assert!(beyond.to_string().contains("orders.dlq[1]@3"), "{beyond}");
    let source = letters.show(&Partition::new("orders", 1), 0).await.expect_err("no letters");
    assert!(source.to_string().contains("orders.dlq[0]"), "{source}");
}

#[tokio::test]
async fn redrive_puts_everything_back_as_it_was_once_and_says_so() {
    let shelf = four();
    let report = redrive(&shelf, &request("run-1", Filter::default())).await;
    assert_eq!((report.redriven, report.left, report.foreign, report.refused), (4, 0, 0, 0));
    assert_eq!(report.targets.get("orders.retry.0s"), Some(&3));
    assert_eq!(shelf.values("orders.retry.0s", 1), ["a", "b", "c"]);
    assert_eq!(shelf.values("refunds.retry.0s", 0), ["d"], "its tier was made on the way");
    assert_eq!(list(&shelf, &Filter::default()).await.total, 0);
    let redriven = list(&shelf, &only(State::Redriven)).await;
    assert_eq!((redriven.total, redriven.states.redriven), (4, 4));
    let changed = redriven.letters[0].changed.as_ref().expect("it says by what");
    assert_eq!((changed.id.as_str(), changed.by.as_str()), ("run-1", "ada"));
    assert_eq!(changed.to.as_deref(), Some("tier:0s"));

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
    assert_eq!(redrive(&shelf, &request("run-2", Filter::default())).await.redriven, 0);
    assert_eq!(shelf.values("orders.retry.0s", 1), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_redrive_and_a_purge_are_in_the_audit_trail_before_and_after() {
    let shelf = four();
    redrive(&shelf, &request("run-1", kind("trap"))).await;
    purge(&shelf, Filter::default()).await;
    let mut lines = audit::last(&*shelf, 10).await.expect("a trail");
    lines.reverse();
    let said: Vec<_> = lines
        .into_iter()
        .map(|line| match line.content {
            audit::Content::Entry(entry) => (entry.id, entry.by, entry.outcome, entry.text),
            audit::Content::Unreadable { unreadable } => panic!("{unreadable}"),
        })
        .collect();
    let what = "redrive of dead letters of orders.dlq, refunds.dlq to tier:0s";
    let given = "purge of dead letters of orders.dlq, refunds.dlq";
    let expected = [
        ("run-1", "ada", Outcome::Begun, what.to_owned()),
        ("run-1", "ada", Outcome::Done, format!("{what}: 2")),
        ("purge-1", "eve", Outcome::Begun, given.to_owned()),
        ("purge-1", "eve", Outcome::Done, format!("{given}: 2")),
    ]
    .map(|(id, by, outcome, text)| (id.to_owned(), by.to_owned(), outcome, text));
    assert_eq!(said, expected);
}

#[tokio::test]
async fn a_filter_redrives_some_and_leaves_the_others_open() {
    let shelf = four();
    let report = redrive(&shelf, &request("run-1", kind("trap"))).await;
    assert_eq!((report.redriven, report.left), (2, 2));
    let open = list(&shelf, &Filter::default()).await;
    let expected = [("orders.dlq".to_owned(), 1), ("refunds.dlq".to_owned(), 0)];
    assert_eq!(positions(&open), expected);
    assert_eq!((open.states.open, open.states.redriven), (2, 2));
    assert_eq!(redrive(&shelf, &request("run-2", kind("trap"))).await.redriven, 0);
    assert_eq!(redrive(&shelf, &request("run-3", Filter::default())).await.redriven, 2);
    assert_eq!(shelf.values("orders.retry.0s", 1), ["a", "c", "b"]);
}

#[tokio::test]
async fn a_dry_run_and_a_limit_do_what_they_say() {
    let shelf = four();
    let before = shelf.everything();
    let dry = RedriveRequest { dry_run: true, ..request("run-1", Filter::default()) };
    let report = redrive(&shelf, &dry).await;
    assert_eq!((report.redriven, report.dry_run), (4, true));
    assert_eq!(shelf.everything(), before, "nothing was written, and no topic made");

    let limited = RedriveRequest { limit: Some(2), ..request("run-1", Filter::default()) };
    assert_eq!(redrive(&shelf, &limited).await.redriven, 2);
    assert_eq!(list(&shelf, &Filter::default()).await.total, 2);
}

#[tokio::test]
async fn a_letter_whose_copy_is_refused_stays_and_is_named() {
    let shelf = four();
    *shelf.refused_value.lock().unwrap() = Some(Bytes::from_static(b"b"));
    let report = redrive(&shelf, &request("run-1", Filter::default())).await;
    assert_eq!((report.redriven, report.refused), (3, 1));
    assert_eq!(report.refused_letters[0].position, "orders.dlq[1]@1");
    assert!(report.refused_letters[0].reason.contains("not today"));
    *shelf.refused_value.lock().unwrap() = None;
    assert_eq!(redrive(&shelf, &request("run-2", Filter::default())).await.redriven, 1);
    assert_eq!(shelf.values("orders.retry.0s", 1), ["a", "c", "b"]);
}

#[tokio::test]
async fn many_letters_go_in_batches_with_progress_up_to_all_of_them() {
    let shelf = Shelf::with(&["orders", "orders.dlq", "orders.retry.0s"]);
    let count = BATCH_MESSAGES_MAX as u64 * 2 + 7;
    for offset in 0..count {
        let kind = if offset % 3 == 0 { "reject" } else { "trap" };
        bury(&shelf, "orders", 0, &offset.to_string(), &found("orders", 0, offset, kind));
    }
    let spec = spec();
    let mut told = Vec::new();
    let report = DeadLetters::new(&*shelf, &spec)
        .redrive(&request("run-1", kind("trap")), &mut |progress| told.push(progress))
        .await
        .expect("redrive");
    let rejects = count.div_ceil(3);
    assert_eq!((report.redriven, report.left), (count - rejects, rejects));
    assert_eq!(told.len(), 3);
    assert_eq!(told.last().map(|p| (p.read, p.total)), Some((count, count)));
    assert_eq!(list(&shelf, &Filter::default()).await.total, rejects);
    assert_eq!(redrive(&shelf, &request("run-2", Filter::default())).await.redriven, rejects);
    assert_eq!(shelf.all("orders.retry.0s", 0).len() as u64, count);
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_kept_over_batches() {
    let shelf = Shelf::with(&["orders", "orders.dlq", "orders.retry.0s"]);
    for offset in 0..50 {
        bury(&shelf, "orders", 0, &offset.to_string(), &found("orders", 0, offset, "trap"));
    }
    let begin = tokio::time::Instant::now();
    let rated =
        RedriveRequest { per_second: "10".parse().ok(), ..request("run-1", Filter::default()) };
    assert_eq!(redrive(&shelf, &rated).await.redriven, 50);
    let took = begin.elapsed();
    assert!(took >= Duration::from_secs(4) && took <= Duration::from_secs(6), "{took:?}");
}

#[tokio::test]
async fn a_letter_that_was_redriven_too_often_is_parked_and_goes_only_if_asked_for() {
    let shelf = Shelf::with(&["orders", "orders.dlq", "orders.retry.0s"]);
    bury(&shelf, "orders", 0, "again", &found("orders", 0, 1, "trap"));
    for round in 1..=3 {
        let id = format!("run-{round}");
        assert_eq!(redrive(&shelf, &request(&id, Filter::default())).await.redriven, 1, "{id}");
        // It fails again: the host writes a new letter with what the copy says of itself.
        let copy = shelf.all("orders.retry.0s", 0).pop().expect("it was sent");
        let again = headers::decode(&copy.headers).expect("ours");
        let again = CompanionHeaders { error: found("orders", 0, 1, "trap").error, ..again };
        bury(&shelf, "orders", 0, "again", &again);
    }
    let listed = list(&shelf, &Filter::default()).await;
    assert_eq!((listed.total, listed.states.parked), (0, 1), "{listed:?}");
    let report = redrive(&shelf, &request("run-4", Filter::default())).await;
    assert_eq!((report.redriven, report.parked), (0, 1));
    let parked = list(&shelf, &only(State::Parked)).await;
    assert_eq!(parked.letters[0].redrives, 3);
    let report = redrive(&shelf, &request("run-5", only(State::Parked))).await;
    assert_eq!(report.redriven, 1);
    assert_eq!(list(&shelf, &only(State::Parked)).await.total, 0);
}

#[tokio::test]
async fn a_stranger_cannot_park_a_letter_by_a_count_in_its_headers() {
    let shelf = Shelf::with(&["orders", "orders.dlq", "orders.retry.0s"]);
    let redrive = Some(headers::Redrive { count: u32::MAX, id: "mine".to_owned(), at: 0 });
    let claims = CompanionHeaders { redrive, ..found("orders", 0, 1, "trap") };
    bury(&shelf, "orders", 0, "a", &claims);
    let listed = list(&shelf, &Filter::default()).await;
    assert_eq!((listed.total, listed.letters[0].redrives), (1, 0));
    assert_eq!(self::redrive(&shelf, &request("run-1", Filter::default())).await.redriven, 1);
    let copy = shelf.all("orders.retry.0s", 0).pop().expect("it was sent");
    assert_eq!(headers::decode(&copy.headers).expect("ours").redrive_count(), 1);
}

#[tokio::test]
async fn a_purge_marks_and_removes_what_has_nothing_to_be_done_below_it() {
    let shelf = four();
    redrive(&shelf, &request("run-1", Filter { partition: Some(1), ..kind("trap") })).await;
    // a and c are redriven, b is open: with d purged, only refunds is empty.
    let report =
        purge(&shelf, Filter { source: Some("refunds".to_owned()), ..Filter::default() }).await;
    assert_eq!((report.purged, report.removed), (1, 1));
    assert_eq!(shelf.all("refunds.dlq", 0), []);
    let report = purge(&shelf, only(State::Redriven)).await;
    assert_eq!(
        (report.purged, report.removed),
        (2, 1),
        "a is removed; c lies behind b, which is open"
    );
    assert_eq!(shelf.values("orders.dlq", 1), ["b", "c"]);
    let report = purge(&shelf, Filter::default()).await;
    assert_eq!((report.purged, report.removed), (1, 2));
    assert_eq!(shelf.all("orders.dlq", 1), []);
    assert_eq!(
        list(&shelf, &Filter { state: StatesFilter::All, ..Filter::default() }).await.total,
        0
    );

    // States of letters that are gone go with the next change.
    bury(&shelf, "orders", 1, "e", &found("orders", 1, 13, "trap"));
    redrive(&shelf, &request("run-2", Filter::default())).await;
    let states = shelf.all("orders.dlq.states", 1);
    let removed = states.iter().filter(|message| message.value.is_none()).count();
    assert_eq!(removed, 3, "those of run-1 and of both purges");
    assert_eq!(shelf.values("orders.retry.0s", 1), ["a", "c", "e"]);
}

#[tokio::test]
async fn only_open_and_parked_letters_are_redriven() {
    let shelf = four();
    purge(&shelf, kind("trap")).await;
    assert_eq!(redrive(&shelf, &request("run-1", Filter::default())).await.redriven, 2);
    for state in [State::Redriven, State::Purged] {
        let error = try_redrive(&shelf, &request("run-2", only(state))).await.expect_err("done");
        assert!(error.to_string().contains("only open or parked"), "{error}");
    }
}
