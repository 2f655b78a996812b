//! What an author is told when a value is not the JSON that the handler expects.
#![cfg(feature = "json")]

use std::collections::BTreeMap;

use millstream_plugin::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    order_id: String,
    lines: Vec<Line>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Line {
    item: String,
    quantity: u32,
}

#[track_caller]
#[expect(clippy::unwrap_used, reason = "a test calls it")]
fn assert_reason(document: impl Into<Vec<u8>>, reason: &str) {
    let failure = Message::new(document).json::<Order>().unwrap_err();
    assert!(failure.is_reject(), "{failure}");
    assert_eq!(failure.reason(), reason);
}

#[test]
fn what_is_written_is_read_again() {
    let line = Line { item: "bolt".to_owned(), quantity: 3 };
    let order = Order { order_id: "o-17".to_owned(), lines: vec![line] };
    let output = Output::json(&order).unwrap();
    let message = Message::new(output.value.unwrap());
    assert_eq!(message.json::<Order>().unwrap(), order);
}

#[test]
fn a_wrong_type_names_its_field_line_and_column() {
    assert_reason(
        r#"{"order_id":"a","lines":[{"item":"x","quantity":1},{"item":"y","quantity":"two"}]}"#,
        "the value is not the expected JSON: /lines/1/quantity (line 1 column 79): \
         invalid type: string \"two\", expected u32",
    );
    assert_reason(
        "{\n  \"lines\": [],\n  \"order_id\": 5\n}",
        "the value is not the expected JSON: /order_id (line 3 column 15): \
         invalid type: integer `5`, expected a string",
    );
}

#[test]
fn a_missing_field_names_the_object_it_is_missing_in() {
    assert_reason(
        r#"{"order_id":"a","lines":[{"item":"x"}]}"#,
        "the value is not the expected JSON: /lines/0 (line 1 column 37): missing field `quantity`",
    );
    assert_reason(
        "{}",
        "the value is not the expected JSON: the document (line 1 column 2): \
         missing field `order_id`",
    );
}

#[test]
fn what_is_no_json_names_where_it_ends_to_be() {
    assert_reason(
        r#"{"a~/b\"":{"c":tru}}"#,
        "the value is not the expected JSON: /a~0~1b\\\"/c (line 1 column 19): expected ident",
    );
    assert_reason(
        "",
        "the value is not the expected JSON: the document (line 1 column 0): \
         EOF while parsing a value",
    );
    assert!(Message::tombstone().json::<Order>().unwrap_err().is_reject());
}

#[test]
fn a_hostile_document_does_not_make_a_hostile_reason() {
    let deep = format!("{{\"x\":{}", "[".repeat(100_000));
    let failure = Message::new(deep).json::<Order>().unwrap_err();
    assert!(failure.reason().len() < 300, "{failure}");

    let long = format!(r#"{{"order_id":"a","lines":"{}"}}"#, "ö".repeat(100_000));
    let failure = Message::new(long).json::<Order>().unwrap_err();
    assert!(failure.reason().len() < 600, "{failure}");
    assert!(failure.reason().ends_with("expected a sequence"), "{failure}");

    let binary: Vec<u8> = (0..=255).collect();
    assert!(Message::new(binary).json::<Order>().unwrap_err().is_reject());
}

#[test]
fn serde_jsons_own_errors_are_rejects_too() {
    fn parse(text: &str) -> Result<Order, Failure> {
        Ok(serde_json::from_str(text)?)
    }
    assert!(parse("[]").unwrap_err().is_reject());
}

#[test]
fn a_value_without_json_form_is_rejected() {
    let odd = BTreeMap::from([(vec![1], 2)]);
    let failure = Output::json(&odd).unwrap_err();
    assert_eq!(failure.reason(), "no JSON for the output: key must be a string");
}
