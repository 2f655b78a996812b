use std::time::Duration;

use bytes::Bytes;
use millstream_core::message::Header;
use millstream_core::outcome::{Destination, Fault};

use super::*;

fn priced() -> Outcome {
    Outcome::Done(vec![Output {
        to: Destination::Named("audit".to_owned()),
        key: Some(Bytes::from_static(b"o-1")),
        value: Some(Bytes::from_static(br#"{"b":[1,2],"total":750}"#)),
        headers: vec![Header::new("h", Bytes::from_static(b"1"))],
        partition: None,
        timestamp: None,
    }])
}

fn parts(expected: &str, outcome: &Outcome) -> Vec<String> {
    let expected: Value = serde_json::from_str(expected).expect("JSON");
    assert_eq!(check(&expected), Ok(()), "{expected}");
    differences(&expected, outcome)
}

#[test]
fn what_is_left_out_is_not_compared() {
    for expected in [
        r#"{"done":[{}]}"#,
        r#"{"done":[{"to":"audit"}]}"#,
        r#"{"done":[{"key":"o-1","headers":[["h","1"]]}]}"#,
        r#"{"done":[{"value":{"total": 750, "b": [1, 2]}}]}"#,
        r#"{"done":[{"value":"{\"b\":[1,2],\"total\":750}"}]}"#,
    ] {
        assert_eq!(parts(expected, &priced()), Vec::<String>::new(), "{expected}");
    }
}

#[test]
fn each_part_that_differs_is_named() {
    for (expected, difference) in [
        (r#"{"retry":{}}"#, "expected retry, came done"),
        (r#"{"done":[]}"#, "expected 0 outputs, came 1"),
        (r#"{"done":[{"to":"default"}]}"#, r#"done[0].to: expected "default", came "audit""#),
        (r#"{"done":[{"key":null}]}"#, r#"done[0].key: expected null, came "o-1""#),
        (r#"{"done":[{"headers":[]}]}"#, r#"done[0].headers: expected [], came [["h","1"]]"#),
        (r#"{"done":[{"value":null}]}"#, "done[0].value: expected null, came "),
        (
            r#"{"done":[{"value":{"b":[1,3],"total":750}}]}"#,
            "done[0].value.b[1]: expected 3, came 2",
        ),
        (r#"{"done":[{"value":{"b":[1,2]}}]}"#, "done[0].value.total: not expected, came 750"),
        (r#"{"done":[{"value":{"b":[1,2],"total":750,"x":1}}]}"#, "x: expected 1, is missing"),
        (r#"{"done":[{"value":{"b":[1,2],"total":750.0}}]}"#, "expected 750.0, came 750"),
    ] {
        let found = parts(expected, &priced());
        let [found] = found.as_slice() else { panic!("{expected} gave {found:?}") };
        assert!(found.contains(difference), "{expected} gave: {found}");
    }
}

#[test]
fn a_reason_need_only_contain_what_is_expected() {
    let fault = Outcome::Fault(Fault {
        kind: FaultKind::Trap,
        reason: "the plugin trapped: integer divide by zero".to_owned(),
        backtrace: None,
    });
    assert!(parts(r#"{"fault":{"kind":"trap","reason":"divide by zero"}}"#, &fault).is_empty());
    assert_eq!(parts(r#"{"fault":{"reason":"memory"}}"#, &fault).len(), 1);
    assert_eq!(parts(r#"{"fault":{"kind":"timeout"}}"#, &fault).len(), 1);
    let retry = Outcome::Retry { reason: "busy".to_owned(), after: Some(Duration::from_secs(5)) };
    assert!(parts(r#"{"retry":{"reason":"busy","after_ms":5000}}"#, &retry).is_empty());
    assert_eq!(parts(r#"{"retry":{"after_ms":null}}"#, &retry).len(), 1);
}

#[test]
fn what_is_shown_can_be_expected() {
    let outcomes = [
        priced(),
        Outcome::Done(Vec::new()),
        Outcome::Retry { reason: "r".to_owned(), after: None },
        Outcome::Reject { reason: "r".to_owned() },
        Outcome::Pause { reason: "r".to_owned(), pause: Duration::from_secs(1) },
    ];
    for outcome in outcomes {
        assert_eq!(parts(&shown(&outcome).to_string(), &outcome), Vec::<String>::new());
    }
}

#[test]
fn an_expectation_that_can_never_be_met_is_refused() {
    for expected in [
        "5",
        "{}",
        r#"{"done":[],"retry":{}}"#,
        r#"{"don":[]}"#,
        r#"{"done":{}}"#,
        r#"{"done":[1]}"#,
        r#"{"done":[{"topic":"x"}]}"#,
        r#"{"retry":[]}"#,
        r#"{"retry":{"after":"5s"}}"#,
        r#"{"fault":{"kind":"panic"}}"#,
        r#"{"done":[{"headers":[["h"]]}]}"#,
    ] {
        let value: Value = serde_json::from_str(expected).expect("JSON");
        assert!(check(&value).is_err(), "{expected} was taken");
    }
}
