use proptest::prelude::*;

use super::*;

fn payload() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from),
        any::<String>().prop_map(Bytes::from),
        Just(Bytes::from_static(br#"{"base64":"AAA="}"#)),
        Just(Bytes::from_static(b"null")),
    ]
}

fn messages() -> impl Strategy<Value = Message> {
    let place = ("[a-z.]{1,20}", any::<u32>(), any::<u64>(), any::<i64>());
    let headers = proptest::collection::vec((any::<String>(), payload()), 0..5);
    (place, proptest::option::of(payload()), proptest::option::of(payload()), headers).prop_map(
        |((topic, partition, offset, timestamp), key, value, headers)| Message {
            topic: topic.into(),
            partition,
            offset,
            timestamp,
            key,
            value,
            headers: headers.into_iter().map(|(name, value)| Header::new(name, value)).collect(),
        },
    )
}

proptest! {
    #[test]
    fn what_consume_prints_produce_takes(message in messages()) {
        let line = write_line(&message);
        prop_assert!(!line.contains('\n'));
        let record = parse_line(line.as_bytes(), 1, None).expect("its own line");
        let expected = Record {
            topic: message.topic,
            partition: Some(message.partition),
            timestamp: Some(message.timestamp),
            key: message.key,
            value: message.value,
            headers: message.headers,
        };
        prop_assert_eq!(record, expected);
    }

    #[test]
    fn a_damaged_line_never_panics(
        message in messages(),
        at in any::<prop::sample::Index>(),
        bytes in proptest::collection::vec(any::<u8>(), 0..4),
    ) {
        let mut line = write_line(&message).into_bytes();
        let at = at.index(line.len());
        line.splice(at..(at + 1).min(line.len()), bytes);
        let _ = parse_line(&line, 1, Some("t"));
    }

    #[test]
    fn any_bytes_never_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_line(&line, 1, Some("t"));
    }

    #[test]
    fn any_json_value_is_taken_as_its_compact_text(text in "[ -~é]{0,30}", number in any::<f64>()) {
        prop_assume!(number.is_finite());
        let json = serde_json::json!({ "a": [text, number, null, { "b\"\\": true }] });
        let line = format!("{{ \"value\" : {} }}", serde_json::to_string_pretty(&json).expect("json"));
        let record = parse_line(line.replace('\n', " ").as_bytes(), 1, Some("t")).expect("a value");
        prop_assert_eq!(record.value, Some(Bytes::from(json.to_string())));
    }
}

fn value(line: &str) -> Option<String> {
    let record = parse_line(line.as_bytes(), 1, Some("t")).expect(line);
    record.value.map(|value| String::from_utf8(value.to_vec()).expect("text"))
}

#[test]
fn the_line_looks_as_it_is_promised() {
    let message = Message {
        topic: "orders".into(),
        partition: 3,
        offset: 42,
        timestamp: 1_700_000_000_000,
        key: Some(Bytes::from_static(b"k")),
        value: Some(Bytes::from_static(&[0xff, 0x00])),
        headers: vec![Header::new("h", "1"), Header::new("h", Bytes::new())],
    };
    assert_eq!(
        write_line(&message),
        r#"{"topic":"orders","partition":3,"offset":42,"timestamp":1700000000000,"key":"k","value":{"base64":"/wA="},"headers":[["h","1"],["h",""]]}"#
    );
}

#[test]
fn a_json_value_keeps_its_digits_and_the_order_of_its_fields() {
    assert_eq!(
        value(r#"{"value": {"z": 123456789012345678901234567890, "a": 1.50, "s": " \" x "} }"#),
        Some(r#"{"z":123456789012345678901234567890,"a":1.50,"s":" \" x "}"#.to_owned())
    );
    assert_eq!(value(r#"{"value":[1, 2]}"#), Some("[1,2]".to_owned()));
    assert_eq!(value(r#"{"value": false}"#), Some("false".to_owned()));
    assert_eq!(value(r#"{"value":{"base64":5}}"#), Some(r#"{"base64":5}"#.to_owned()));
    assert_eq!(value(r#"{"value":null}"#), None);
}

#[test]
fn the_line_names_its_topic_or_takes_the_one_given() {
    let own = parse_line(br#"{"topic":"own","value":""}"#, 1, Some("given")).expect("a line");
    assert_eq!(&*own.topic, "own");
    let given = parse_line(br#"{"topic":null,"value":""}"#, 1, Some("given")).expect("a line");
    assert_eq!(&*given.topic, "given");
    assert!(parse_line(br#"{"value":""}"#, 1, None).is_err());
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    for (line, reason) in [
        (r#"{"valeu":"x"}"#, "line 7: unknown field `valeu`: did you mean `value`?"),
        (r#"{"partitions":1,"value":""}"#, "did you mean `partition`?"),
        (r#"{"key":"k"}"#, "`value` is missing: write `null`"),
        (r#"{"value":"a","value":"b"}"#, "`value` stands in it twice"),
        (r#"{"value":{"base64":"%"}}"#, "not base64"),
        (r#"{"key":5,"value":""}"#, "`key` cannot be taken: neither a text nor"),
        (r#"{"key":{"a":1},"value":""}"#, "neither a text nor"),
        (r#"{"value":"","partition":-1}"#, "`partition` cannot be taken"),
        (r#"{"value":"","offset":"x"}"#, "`offset` cannot be taken"),
        (r#"{"value":"","headers":[["a"]]}"#, "`headers` cannot be taken"),
        (r#"{"value":"","timestamp":1e3}"#, "`timestamp` cannot be taken"),
        (r#"{"value":"\ud800"}"#, "`value` cannot be taken"),
        (r#"{"value":"" "key":""}"#, "there is no `,` or `}` after `value`"),
        (r#"{"value":""} {"value":""}"#, "something follows"),
        (r#"{"value":"#, "it ends where value should be"),
        (r#"{"value":[1,}"#, "value is not JSON"),
        ("[1]", "it is not an object"),
        ("", "it is not an object"),
    ] {
        let error = parse_line(line.as_bytes(), 7, Some("t")).expect_err(line).to_string();
        assert!(error.starts_with("line 7: ") && error.contains(reason), "{line} gave: {error}");
    }
    let error = parse_line(b"{\"value\":\"\xff\"}", 1, Some("t")).expect_err("no UTF-8");
    assert!(error.reason.contains("byte 10 is not UTF-8"), "{error}");
}

#[test]
fn deep_nesting_is_no_way_to_break_the_reader() {
    let deep = format!("{{\"value\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
    let _ = parse_line(deep.as_bytes(), 1, Some("t"));
    let open = format!("{{\"headers\":{}", "[".repeat(200_000));
    assert!(parse_line(open.as_bytes(), 1, Some("t")).is_err());
}

#[test]
fn lines_are_read_one_by_one_up_to_their_bound() {
    let mut input = std::io::Cursor::new(b"a\r\n\nb".to_vec());
    let (mut line, mut lines) = (Vec::new(), Vec::new());
    while read_line(&mut input, &mut line, 1).expect("lines") {
        lines.push(String::from_utf8(line.clone()).expect("text"));
    }
    assert_eq!(lines, ["a", "", "b"]);
    let mut endless = std::io::BufReader::new(std::io::repeat(b'x'));
    let error = read_line(&mut endless, &mut line, 3).expect_err("endless");
    assert!(error.to_string().starts_with("line 3: it has"), "{error}");
    assert!(parse_line(&vec![b' '; LINE_BYTES_MAX + 1], 1, Some("t")).is_err());
}
