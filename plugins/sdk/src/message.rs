//! The message: what a handler is given. The fields are those of `record message` in `wit/`.

use crate::failure::Failure;

/// A header. Names may repeat within a message; values are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The name.
    pub name: String,
    /// The value.
    pub value: Vec<u8>,
}

/// A message and where it stands in its log.
///
/// In a retry everything is as it was at first: the position, time and headers are those of the
/// source, only [`attempt`](Self::attempt) has grown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The source topic.
    pub topic: String,
    /// The partition's number, from 0.
    pub partition: u32,
    /// The offset in the partition. Together with topic and partition it identifies the message.
    pub offset: u64,
    /// When the message was written, in milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// The key, if it has one.
    pub key: Option<Vec<u8>>,
    /// The value; absent in a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers in their order.
    pub headers: Vec<Header>,
    /// Which attempt at this message this is, from 1, counted across restarts.
    pub attempt: u32,
}

impl Message {
    /// The value's bytes.
    ///
    /// # Errors
    /// A reject, if the message is a tombstone.
    pub fn bytes(&self) -> Result<&[u8], Failure> {
        match &self.value {
            Some(value) => Ok(value),
            None => Err(Failure::reject("the message has no value (it is a tombstone)")),
        }
    }

    /// The value as text.
    ///
    /// # Errors
    /// A reject, if the message is a tombstone or its value is not UTF-8.
    pub fn text(&self) -> Result<&str, Failure> {
        std::str::from_utf8(self.bytes()?).map_err(|error| {
            let at = error.valid_up_to();
            Failure::reject(format!("the value is not text: no UTF-8 from byte {at} on"))
        })
    }

    /// The key as text; `None` if there is none or it is not UTF-8.
    pub fn key_text(&self) -> Option<&str> {
        std::str::from_utf8(self.key.as_deref()?).ok()
    }

    /// The value of the header of this name: the last one, if the name repeats.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().rev().find(|header| header.name == name).map(|header| &*header.value)
    }

    /// The same as text; `None` if there is no such header or it is not UTF-8.
    pub fn header_text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.header(name)?).ok()
    }
}

/// Messages for tests: the host makes the real ones.
impl Message {
    /// A first attempt at a message with this value, at `test[0]@0`, without key and headers.
    pub fn new(value: impl Into<Vec<u8>>) -> Self {
        Self { value: Some(value.into()), ..Self::tombstone() }
    }

    /// The same without a value.
    pub fn tombstone() -> Self {
        Self {
            topic: "test".to_owned(),
            partition: 0,
            offset: 0,
            timestamp: 0,
            key: None,
            value: None,
            headers: Vec::new(),
            attempt: 1,
        }
    }

    /// With this key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// With this header behind those it has.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push(Header { name: name.into(), value: value.into() });
        self
    }

    /// As the n-th attempt, from 1.
    #[must_use]
    pub fn with_attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }
}
