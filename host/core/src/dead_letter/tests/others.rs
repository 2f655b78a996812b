//! Letters of other programs and of nobody, and where copies may go.

use super::*;

fn letter(topic: &str, headers: &[(&str, &[u8])]) -> Record {
    Record {
        topic: topic.into(),
        partition: Some(0),
        timestamp: None,
        key: Some(Bytes::from_static(b"k")),
        value: Some(Bytes::from_static(b"v")),
        headers: headers
            .iter()
            .map(|(name, value)| Header::new(*name, Bytes::copy_from_slice(value)))
            .collect(),
    }
}

const SPRING: &[(&str, &[u8])] = &[
    ("mine", b"1"),
    ("kafka_dlt-original-topic", b"payments"),
    ("kafka_dlt-original-partition", &[0, 0, 0, 1]),
    ("kafka_dlt-original-offset", &[0, 0, 0, 0, 0, 0, 1, 2]),
    ("kafka_dlt-original-timestamp", &[0, 0, 1, 0x8b, 0xcf, 0xe5, 0x68, 0]),
    ("kafka_dlt-original-timestamp-type", b"CreateTime"),
    ("kafka_dlt-original-consumer-group", b"billing"),
    (
        "kafka_dlt-exception-fqcn",
        b"org.springframework.kafka.listener.ListenerExecutionFailedException",
    ),
    ("kafka_dlt-exception-cause-fqcn", b"java.lang.IllegalStateException"),
    ("kafka_dlt-exception-message", b"no account"),
    ("kafka_dlt-exception-stacktrace", b"at Billing.java:7"),
    ("retry_topic-attempts", &[0, 0, 0, 4]),
];

const CONNECT: &[(&str, &[u8])] = &[
    ("mine", b"1"),
    ("__connect.errors.topic", b"payments"),
    ("__connect.errors.partition", b"1"),
    ("__connect.errors.offset", b"258"),
    ("__connect.errors.connector.name", b"sink"),
    ("__connect.errors.task.id", b"0"),
    ("__connect.errors.stage", b"VALUE_CONVERTER"),
    ("__connect.errors.class.name", b"org.apache.kafka.connect.json.JsonConverter"),
    ("__connect.errors.exception.class.name", b"org.apache.kafka.connect.errors.DataException"),
    ("__connect.errors.exception.message", b"no JSON: "),
    (
        "__connect.errors.exception.stacktrace",
        b"DataException: no JSON: \n\tat JsonConverter.java:7\nCaused by: ParseException: an x\n\t... 9 more",
    ),
];

const STREAMS: &[(&str, &[u8])] = &[
    ("mine", b"1"),
    ("__streams.errors.exception", b"java.lang.NumberFormatException"),
    ("__streams.errors.message", b"for input string: x"),
    ("__streams.errors.stacktrace", b"at Total.java:7"),
    ("__streams.errors.topic", b"payments"),
    ("__streams.errors.partition", b"1"),
    ("__streams.errors.offset", b"258"),
];

fn of_topic(shelf: &Shelf) -> DeadLetters<'_> {
    DeadLetters::of_topic(shelf, "payments.DLT", Some(3))
}

#[tokio::test]
async fn letters_of_other_programs_are_listed_with_their_reasons_and_redriven_to_where_they_came_from()
 {
    let shelf = Shelf::with(&["payments", "payments.DLT"]);
    for headers in [SPRING, CONNECT, STREAMS] {
        shelf.put(letter("payments.DLT", headers));
    }
    let listing = of_topic(&shelf).list(&Filter::default(), 10).await.expect("list");
    let said: Vec<_> = listing
        .letters
        .iter()
        .map(|l| (l.written_by.as_str(), l.kind.as_str(), l.reason.as_str()))
        .collect();
    let expected = [
        ("spring-kafka", "IllegalStateException", "no account"),
        ("kafka-connect", "DataException", "value converter: no JSON: ParseException: an x"),
        ("kafka-streams", "NumberFormatException", "for input string: x"),
    ];
    assert_eq!(said, expected);
    for letter in &listing.letters {
        let origin = letter.origin.as_ref().expect("they say");
        assert_eq!(
            (&*origin.topic, origin.partition, origin.offset),
            ("payments", Some(1), Some(258))
        );
    }
    let spring = listing.letters[0].origin.as_ref().expect("it says");
    assert_eq!(
        (spring.timestamp, spring.group.as_deref()),
        (Some(1_700_000_000_000), Some("billing"))
    );
    let shown = of_topic(&shelf).show(&Partition::new("payments.DLT", 0), 1).await.expect("shown");
    assert!(shown.backtrace.is_some_and(|stack| stack.contains("at JsonConverter.java:7")));

    let report = of_topic(&shelf)
        .redrive(&request("run-1", Filter::default()), &mut |_| {})
        .await
        .expect("redrive");
    assert_eq!((report.redriven, report.targets.get("payments")), (3, Some(&3)));
    for copy in shelf.all("payments", 1) {
        assert_eq!(
            (copy.key.as_deref(), copy.value.as_deref()),
            (Some(&b"k"[..]), Some(&b"v"[..]))
        );
        let names: Vec<&str> = copy.headers.iter().map(|header| &*header.name).collect();
        let expected = [
            "mine",
            "millstream-redrive-count",
            "millstream-redrive-id",
            "millstream-redrive-at",
            "millstream-redrive-letter",
        ];
        assert_eq!(names, expected);
        assert_eq!(headers::redrive(&copy.headers).expect("it says").count, 1);
    }
    let again = of_topic(&shelf).redrive(&request("run-2", Filter::default()), &mut |_| {}).await;
    assert_eq!(again.expect("redrive").redriven, 0);
}

#[tokio::test]
async fn the_count_comes_back_with_a_letter_that_another_program_writes_again() {
    let shelf = Shelf::with(&["payments", "payments.DLT"]);
    shelf.put(letter("payments.DLT", CONNECT));
    for round in 1..=3 {
        let id = format!("run-{round}");
        let report = of_topic(&shelf).redrive(&request(&id, Filter::default()), &mut |_| {}).await;
        assert_eq!(report.expect("redrive").redriven, 1, "{id}");
        let copy = shelf.all("payments", 1).pop().expect("it was sent");
        // Connect keeps the headers that it finds and adds its own.
        let mut again = letter("payments.DLT", &CONNECT[1..]);
        again.headers.extend(copy.headers);
        shelf.put(again);
    }
    let listing = of_topic(&shelf).list(&Filter::default(), 10).await.expect("list");
    assert_eq!((listing.total, listing.states.parked), (0, 1));
}

#[tokio::test]
async fn foreign_letters_are_listed_with_a_reason_and_stay_where_they_are() {
    let shelf = Shelf::with(&["orders", "orders.dlq", "orders.retry.0s", "elsewhere"]);
    shelf.put(letter("orders.dlq", &[]));
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
    let listed = list(&shelf, &Filter::default()).await;
    let reasons: Vec<_> = listed.letters.into_iter().map(|l| l.reason).collect();
    for (reason, part) in reasons.iter().zip([
        "no headers of a dead letter",
        "group other's",
        "comes from payments",
        "comes from refunds",
        "comes from partition 1",
        "trap went wrong",
    ]) {
        assert!(reason.contains(part), "{reason} should say: {part}");
    }
    for to in [None, Some(Target::Source)] {
        let report =
            redrive(&shelf, &RedriveRequest { to, ..request("run-1", Filter::default()) }).await;
        assert_eq!(report.foreign, 5);
    }
    assert_eq!(shelf.values("orders.retry.0s", 0), ["mine"]);
    assert_eq!(list(&shelf, &Filter::default()).await.total, 5);
    // To a topic that somebody names they go like any other.
    let to = Some(Target::Topic("elsewhere".to_owned()));
    let report = redrive(&shelf, &RedriveRequest { to, ..request("run-2", kind(FOREIGN)) }).await;
    assert_eq!(report.redriven, 5);
    assert_eq!(shelf.values("elsewhere", 0).len(), 5);
}

#[tokio::test]
async fn copies_never_go_where_they_would_come_round_or_do_harm() {
    let shelf = four();
    shelf.create_topic(shelf::topic_spec("__consumer_offsets")).await.expect("made");
    shelf.create_topic(shelf::topic_spec("orders.dlq.states")).await.expect("made");
    let to = |topic: &str| Some(Target::Topic(topic.to_owned()));
    let targets = [
        (to("orders.dlq"), "come round for ever"),
        (to("refunds.dlq"), "come round for ever"),
        (to("orders.dlq.states"), "what became of dead letters"),
        (to("__consumer_offsets"), "not for messages"),
        (to("millstream.audit"), "not for messages"),
        (to("orders.retry.5s"), "a retry tier"),
        (to("nowhere"), "there is no topic nowhere"),
        (Some(Target::Tier(Duration::from_secs(7))), "no tier of 7s: choose one of 0s, 5s"),
    ];
    for (to, part) in targets {
        let asked = RedriveRequest { to: to.clone(), ..request("run-1", Filter::default()) };
        let error = try_redrive(&shelf, &asked).await.expect_err("it must not go there");
        assert!(error.to_string().contains(part), "{to:?}: {error}");
    }
    assert_eq!(list(&shelf, &Filter::default()).await.total, 4);
}

#[tokio::test]
async fn a_letter_that_says_it_came_from_its_own_topic_is_left() {
    let shelf = Shelf::with(&["payments.DLT", "__secret"]);
    for topic in ["payments.DLT", "payments.DLT.states", "__secret", "nowhere", "../etc"] {
        shelf.put(letter(
            "payments.DLT",
            &[("__streams.errors.topic", topic.as_bytes()), ("__streams.errors.partition", b"0")],
        ));
    }
    let report = of_topic(&shelf).redrive(&request("run-1", Filter::default()), &mut |_| {}).await;
    let report = report.expect("redrive");
    assert_eq!((report.redriven, report.foreign), (0, 5), "{report:?}");
    let reasons: Vec<_> = report.refused_letters.iter().map(|r| r.reason.as_str()).collect();
    for (reason, part) in reasons.iter().zip([
        "come round for ever",
        "what became of dead letters",
        "not for messages",
        "which is not there",
        "does not say where it came from",
    ]) {
        assert!(reason.contains(part), "{reason} should say: {part}");
    }
}

#[tokio::test]
async fn to_the_source_a_message_goes_as_it_was_to_where_it_was() {
    let shelf = four();
    let to = Some(Target::Source);
    let report =
        redrive(&shelf, &RedriveRequest { to, ..request("run-1", Filter::default()) }).await;
    assert_eq!((report.redriven, report.targets.get("orders")), (4, Some(&3)));
    assert_eq!(shelf.values("orders", 1), ["a", "b", "c"]);
    let copy = &shelf.all("orders", 1)[0];
    assert_eq!(headers::strip(&copy.headers), original_headers());
    // When it fails again, the host finds its count.
    let again = CompanionHeaders::of_source(copy, "g");
    assert_eq!(again.redrive.expect("it says").count, 1);
}

#[tokio::test]
async fn templates_that_would_bring_letters_round_in_a_circle_are_refused() {
    let (shelf, mut spec) = (four(), spec());
    spec.topics.push("orders.retry.0s".into());
    let error = DeadLetters::new(&*shelf, &spec)
        .redrive(&request("run-1", Filter::default()), &mut |_| {})
        .await
        .expect_err("a source topic");
    assert!(error.to_string().contains("orders.retry.0s, which is a source topic"), "{error}");
    assert_eq!(shelf.values("orders.dlq", 1).len(), 3);
}

#[tokio::test]
async fn what_strangers_write_among_the_states_changes_nothing() {
    let shelf = four();
    redrive(&shelf, &request("run-1", kind("trap"))).await;
    type Strange = (Option<&'static [u8]>, Option<&'static [u8]>);
    let strange: [Strange; 5] = [
        (None, Some(b"{}")),
        (Some(b"letters/x"), Some(b"no json")),
        (Some(b"letters/x"), Some(b"{\"version\":1,\"letters\":[[5,1]],\"change\":{}}")),
        (Some(b"run"), Some(b"{\"version\":99}")),
        (Some(b"something"), None),
    ];
    for (key, value) in strange {
        shelf.put(Record {
            topic: "orders.dlq.states".into(),
            partition: Some(1),
            timestamp: None,
            key: key.map(Bytes::from_static),
            value: value.map(Bytes::from_static),
            headers: Vec::new(),
        });
    }
    let listed = list(&shelf, &Filter::default()).await;
    assert_eq!((listed.states.open, listed.states.redriven), (2, 2));
}
