//! A topic's messages as `consume` prints them, read without the program's own code.

use serde::Deserialize;
use serde_json::Value;

/// One message.
#[derive(Clone, Debug, Deserialize)]
pub struct Line {
    /// The partition's number.
    pub partition: u32,
    /// The offset there.
    pub offset: u64,
    /// The log's time of the message, in epoch milliseconds.
    pub timestamp: i64,
    /// The key, if it is text.
    pub key: Option<Value>,
    /// The value: a string if it is text.
    pub value: Option<Value>,
    /// The headers.
    pub headers: Vec<(String, Value)>,
}

impl Line {
    /// The value as text.
    ///
    /// # Panics
    /// When it is none.
    pub fn text(&self) -> &str {
        let text = self.value.as_ref().and_then(Value::as_str);
        text.unwrap_or_else(|| panic!("the value is no text: {self:?}"))
    }

    /// The value, which is JSON itself.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(self.text()).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A header that is there once.
    ///
    /// # Panics
    /// When it is not.
    pub fn header(&self, name: &str) -> &str {
        let mut named = self.headers.iter().filter(|(header, _)| header == name);
        match (named.next(), named.next()) {
            (Some((_, value)), None) => value.as_str().unwrap(),
            (found, _) => panic!(
                "header {name} is there {} times: {self:?}",
                found.map_or("no", |_| "several")
            ),
        }
    }

    /// A header that is a number.
    ///
    /// # Panics
    /// When it is none.
    pub fn number(&self, name: &str) -> u64 {
        self.header(name).parse().unwrap_or_else(|error| panic!("{name}: {error}: {self:?}"))
    }
}

/// Messages from the lines that `consume` printed.
///
/// # Panics
/// When a line is no message.
pub fn parse(lines: &str) -> Vec<Line> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    lines.lines().map(parse).collect()
}
