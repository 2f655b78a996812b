use proptest::prelude::*;

use super::*;

fn found() -> impl Strategy<Value = CompanionHeaders> {
    let origin = ("[a-z.]{1,40}", any::<u32>(), any::<u64>(), any::<i64>(), "[a-z]{1,20}");
    let error = proptest::option::of((".{0,3000}", proptest::option::of(".{0,5000}")));
    let key = proptest::option::of(proptest::collection::vec(any::<u8>(), 1..512));
    let redrive = proptest::option::of((any::<u32>(), "[a-z0-9]{1,16}", any::<i64>()));
    (origin, any::<u64>(), any::<u32>(), error, key, redrive).prop_map(
        |(origin, turn, attempt, error, key, redrive)| CompanionHeaders {
            origin_topic: origin.0.into(),
            origin_partition: origin.1,
            origin_offset: origin.2,
            origin_timestamp: origin.3,
            origin_group: origin.4.into(),
            turn,
            attempt,
            waits: 3,
            tier: Some("5s".into()),
            first_failed: Some(1),
            last_failed: None,
            error: error.map(|(reason, backtrace)| ErrorHeaders {
                kind: "trap".into(),
                reason,
                backtrace,
            }),
            plugin: None,
            idempotency_key: key.map(Bytes::from),
            redrive: redrive.map(|(count, id, at)| Redrive { count, id, at }),
            trace: SpanContext::parse(b"00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"),
        },
    )
}

fn originals() -> impl Strategy<Value = Vec<Header>> {
    let name = prop_oneof!["[a-z-]{0,20}", Just("traceparent".to_owned())];
    let value = proptest::collection::vec(any::<u8>(), 0..40);
    let header = (name, value).prop_map(|(name, value)| Header::new(name, value));
    proptest::collection::vec(header, 0..8)
}

fn our_bytes(headers: &[Header]) -> usize {
    headers.iter().filter(|h| is_ours(&h.name)).map(|h| h.name.len() + h.value.len()).sum()
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_and_the_originals_stay(
        found in found(),
        original in originals(),
    ) {
        let headers = encode(&found, &original);
        prop_assert_eq!(strip(&headers), strip(&original));
        prop_assert!(our_bytes(&headers) <= TOTAL_BYTES_MAX);
        let read = decode(&headers).expect("we wrote it");
        let texts = |f: &CompanionHeaders| (f.error.clone(), f.idempotency_key.clone());
        let fits = found.error.as_ref().is_none_or(|e| {
            e.reason.len() + e.backtrace.as_ref().map_or(0, String::len) <= 1000
        });
        if fits {
            prop_assert_eq!(texts(&read), texts(&found));
        }
        let numbers = |f: CompanionHeaders| CompanionHeaders { error: None, idempotency_key: None, ..f };
        prop_assert_eq!(numbers(read), numbers(found));
    }

    #[test]
    fn hops_do_not_make_a_message_grow(first in found(), second in found(), original in originals()) {
        let once = encode(&second, &original);
        let twice = encode(&second, &dead_letter_headers(&first, &original));
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn strangers_headers_never_panic(headers in originals(), value in proptest::collection::vec(any::<u8>(), 0..64)) {
        let mut headers = headers;
        for name in ["attempt", "turn", "origin-offset", "idempotency-key", "redrive-count"] {
            headers.push(Header::new(format!("{PREFIX}{name}"), value.clone()));
        }
        let _ = decode(&headers);
    }
}

fn example() -> CompanionHeaders {
    let message = Message {
        topic: "orders".into(),
        partition: 3,
        offset: 17,
        timestamp: 1_000,
        key: None,
        value: None,
        headers: vec![],
    };
    CompanionHeaders {
        attempt: 2,
        error: Some(ErrorHeaders {
            kind: "trap".into(),
            reason: "x".repeat(5_000),
            backtrace: Some("é".repeat(5_000)),
        }),
        ..CompanionHeaders::of_source(&message, "g")
    }
}

#[test]
fn a_missing_or_wrong_header_is_named() {
    let headers = encode(&example(), &[]);
    let without: Vec<_> = headers.iter().filter(|h| h.name != "millstream-turn").cloned().collect();
    assert_eq!(decode(&without), Err(HeaderError::Missing("turn")));
    let mut wrong = headers;
    wrong.push(Header::new("millstream-attempt", "-1"));
    let error = decode(&wrong).expect_err("no attempt is -1").to_string();
    assert_eq!(error, "header millstream-attempt is not a decimal number in its range");
}

#[test]
fn long_texts_are_cut_with_a_mark() {
    let read = decode(&encode(&example(), &[])).expect("ours");
    let error = read.error.expect("it has one");
    assert!(error.reason.len() <= REASON_BYTES_MAX && error.reason.ends_with("… [cut]"));
    let backtrace = error.backtrace.expect("it has one");
    assert!(backtrace.len() <= BACKTRACE_BYTES_MAX && backtrace.ends_with("… [cut]"));
}

#[test]
fn a_dead_letter_has_the_broker_native_set_and_can_be_made_minimal() {
    let original = [Header::new("traceparent", "00-abc")];
    let headers = dead_letter_headers(&example(), &original);
    let native = |name: &str| {
        let name = format!("__dlq.errors.{name}");
        headers.iter().find(|h| h.name == name.as_str()).map(|h| h.value.clone())
    };
    assert_eq!(native("topic").as_deref(), Some(b"orders".as_slice()));
    assert_eq!(native("partition").as_deref(), Some(b"3".as_slice()));
    assert_eq!(native("offset").as_deref(), Some(b"17".as_slice()));
    assert_eq!(native("delivery.count").as_deref(), Some(b"2".as_slice()));
    let minimal = minimal(&headers);
    assert!(is_minimal(&minimal) && !is_minimal(&headers));
    assert_eq!(strip(&minimal), original);
    assert_eq!(decode(&minimal).expect("still a dead letter").origin_offset, 17);
}
