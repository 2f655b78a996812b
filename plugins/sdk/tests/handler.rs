//! A handler as its author tests it: natively, as a function.

use std::time::Duration;

use millstream_plugin::prelude::*;
use millstream_plugin::{Destination, Header, IntoOutputs as _, Pause, Reject, Retry};

handler!(handle);

/// The smallest of plugins, here to see that the macro leaves nothing unused on this target.
fn handle(message: Message) -> Result<Option<Output>, BadLine> {
    match message.text() {
        Ok("") => Ok(None),
        Ok(text) => Ok(Some(Output::new(text.to_uppercase()))),
        Err(_) => Err(BadLine),
    }
}

#[derive(Debug, PartialEq)]
struct BadLine;

impl IntoFailure for BadLine {
    fn into_failure(self) -> Failure {
        Failure::retry_after("bad line", Duration::from_secs(2))
    }
}

#[test]
fn a_handler_is_an_ordinary_function() {
    assert_eq!(handle(Message::new("bolt")), Ok(Some(Output::new("BOLT"))));
    assert_eq!(handle(Message::new("")), Ok(None));
    assert_eq!(handle(Message::tombstone()), Err(BadLine));
}

#[test]
fn everything_a_handler_may_return_becomes_outputs_in_order() {
    let (one, two) = (Output::new("1"), Output::new("2"));
    assert_eq!(().into_outputs(), []);
    assert_eq!(one.clone().into_outputs(), vec![one.clone()]);
    assert_eq!(Some(one.clone()).into_outputs(), vec![one.clone()]);
    assert_eq!(None::<Output>.into_outputs(), []);
    assert_eq!([one.clone(), two.clone()].into_outputs(), [one.clone(), two.clone()]);
    assert_eq!(vec![one.clone(), two.clone()].into_outputs(), [one, two]);
}

#[test]
fn an_authors_error_becomes_the_failure_it_says() {
    fn inner() -> Result<(), Failure> {
        Err(BadLine)?;
        Ok(())
    }
    let failure = Failure::Retry(Retry { reason: "bad line".to_owned(), after: Some(2_000) });
    assert_eq!(inner(), Err(failure.clone()));
    assert_eq!(millstream_plugin::guest::answer(Err::<(), _>(BadLine)), Err(failure));
}

#[test]
fn what_cannot_be_parsed_is_rejected_by_a_question_mark() {
    fn number(text: &str) -> Result<u32, Failure> {
        Ok(text.parse::<u32>()?)
    }
    let reject = Reject { reason: "invalid digit found in string".to_owned() };
    assert_eq!(number("x"), Err(Failure::Reject(reject)));
}

#[test]
fn the_call_decides_what_an_error_or_a_missing_value_means() {
    let error = || "x".parse::<u32>();
    let failure = error().or_retry("no number").unwrap_err();
    assert_eq!(failure.to_string(), "retry: no number: invalid digit found in string");
    assert!(error().or_reject("no number").unwrap_err().is_reject());
    let pause = error().or_pause("store", Duration::from_millis(1500)).unwrap_err();
    let expected = "store: invalid digit found in string".to_owned();
    assert_eq!(pause, Failure::Pause(Pause { reason: expected, duration: 1_500 }));
    assert_eq!(None::<u32>.or_reject("no price"), Err(Failure::reject("no price")));
    assert_eq!(Some(1).or_reject("no price"), Ok(1));
}

#[test]
fn a_duration_beyond_all_milliseconds_is_the_longest_one() {
    let Failure::Pause(pause) = Failure::pause("for ever", Duration::MAX) else {
        panic!("a pause is a pause");
    };
    assert_eq!(pause.duration, u64::MAX);
}

#[test]
fn text_that_is_not_utf8_is_rejected_with_the_place() {
    let failure = Message::new(b"ab\xffcd".as_slice()).text().map(str::len).unwrap_err();
    assert_eq!(failure, Failure::reject("the value is not text: no UTF-8 from byte 2 on"));
    assert!(Message::tombstone().text().unwrap_err().reason().contains("tombstone"));
}

#[test]
fn of_a_repeated_header_the_last_one_counts() {
    let message = Message::new("")
        .with_header("a", "1")
        .with_header("b", b"\xff".as_slice())
        .with_header("a", "2");
    assert_eq!(message.header_text("a"), Some("2"));
    assert_eq!(message.header("b"), Some(b"\xff".as_slice()));
    assert_eq!(message.header_text("b"), None);
    assert_eq!(message.header("c"), None);
}

#[test]
fn an_output_is_built_field_by_field() {
    let built = Output::new("v").to("audit").key("k").header("n", "1").partition(3).timestamp(-1);
    let header = Header { name: "n".to_owned(), value: b"1".to_vec() };
    let expected = Output {
        to: Destination::Named("audit".to_owned()),
        key: Some(b"k".to_vec()),
        value: Some(b"v".to_vec()),
        headers: vec![header],
        partition: Some(3),
        timestamp: Some(-1),
    };
    assert_eq!(built, expected);
    assert_eq!(Output::new("v").to("default").to, Destination::Default);
    assert_eq!(Output::new("v").reply(), Output::new("v").to("reply"));
    assert_eq!(Output::tombstone("k").value, None);
}

#[test]
fn a_message_is_passed_on_whole() {
    let message = Message::new("v").with_key("k").with_header("n", "1").with_attempt(3);
    assert_eq!(Output::from(message), Output::new("v").key("k").header("n", "1"));
}

#[test]
fn settings_are_those_the_test_gave() {
    assert_eq!(config::get("currency"), Ok(None));
    config::set("currency", "EUR");
    assert_eq!(config::get("currency"), Ok(Some("EUR".to_owned())));
    assert_eq!(config::all(), Ok(vec![("currency".to_owned(), "EUR".to_owned())]));
    log::info!("currency is {}", "EUR");
    log::warn!("done");
}
