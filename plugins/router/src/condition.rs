//! Conditions: what `filter` and `when` ask of a message.

use std::cmp::Ordering;
use std::str;

use millstream_plugin::Message;
use serde_json::Value;

use crate::number;
use crate::pointer::Pointer;

/// A question that a message answers by yes or no.
pub(crate) enum Condition {
    /// About one value.
    Test(Subject, Test),
    /// At least one of them holds.
    Any(Vec<Condition>),
    /// None of them holds.
    None(Vec<Condition>),
}

/// What a test looks at.
pub(crate) enum Subject {
    /// A value of the document.
    At(Pointer),
    /// The last header of this name, as text.
    Header(String),
    /// The message key, as text.
    Key,
}

/// What a test asks. Whatever is not there is unequal to everything and passes no other test.
pub(crate) enum Test {
    Exists(bool),
    Equal(Value),
    Unequal(Value),
    /// `<`, `<=`, `>`, `>=`: the orders that pass. Numbers by value, text by its bytes; values of
    /// different kinds have no order.
    Ordered(&'static [Ordering], Value),
    In(Vec<Value>),
    /// A part of a text, or an item of a list.
    Contains(Value),
    StartsWith(String),
}

impl Condition {
    /// Whether the condition holds.
    pub(crate) fn holds(&self, document: &Value, message: &Message) -> bool {
        match self {
            Self::Any(conditions) => conditions.iter().any(|one| one.holds(document, message)),
            Self::None(conditions) => !conditions.iter().any(|one| one.holds(document, message)),
            Self::Test(Subject::At(pointer), test) => test.passes(pointer.get(document)),
            Self::Test(Subject::Header(name), test) => test.passes_bytes(message.header(name)),
            Self::Test(Subject::Key, test) => test.passes_bytes(message.key.as_deref()),
        }
    }
}

impl Test {
    /// Keys and header values are text to a test; bytes that are none are there, but equal nothing.
    fn passes_bytes(&self, bytes: Option<&[u8]>) -> bool {
        let text = bytes.map(|bytes| str::from_utf8(bytes).map_or(Value::Null, Value::from));
        self.passes(text.as_ref())
    }

    fn passes(&self, value: Option<&Value>) -> bool {
        let Some(value) = value else {
            return matches!(self, Self::Exists(false) | Self::Unequal(_));
        };
        match self {
            Self::Exists(wanted) => *wanted,
            Self::Equal(constant) => equal(value, constant),
            Self::Unequal(constant) => !equal(value, constant),
            Self::Ordered(passing, constant) => {
                order(value, constant).is_some_and(|order| passing.contains(&order))
            }
            Self::In(constants) => constants.iter().any(|constant| equal(value, constant)),
            Self::Contains(part) => match (value, part) {
                (Value::String(text), Value::String(part)) => text.contains(part),
                (Value::Array(items), part) => items.iter().any(|item| equal(item, part)),
                _ => false,
            },
            Self::StartsWith(prefix) => value.as_str().is_some_and(|text| text.starts_with(prefix)),
        }
    }
}

fn order(one: &Value, other: &Value) -> Option<Ordering> {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => Some(number::compare(one, other)),
        (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
        _ => None,
    }
}

/// As JSON: numbers by value, objects whatever the order of their fields.
fn equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => number::compare(one, other).is_eq(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| equal(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let same = |(name, value)| other.get(name).is_some_and(|other| equal(value, other));
            one.len() == other.len() && one.iter().all(same)
        }
        _ => one == other,
    }
}
