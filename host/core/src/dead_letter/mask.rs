//! Mask: what those do not see who may look at dead letters and not at what is in them.
//!
//! A value is replaced by its size and digest, so that equal ones can still be told; of a header the same. Keys and
//! reasons stay: a plugin that writes values into its reasons shows them to everybody.

use std::fmt::Write as _;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::message::Message;

/// How much of a digest is shown: enough to tell values apart.
const DIGEST_BYTES: usize = 8;

/// What is masked; nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mask {
    /// Whether values are.
    pub values: bool,
    /// Headers whose values are, by name, whatever their case.
    pub headers: Vec<String>,
}

impl Mask {
    /// Everything but names, positions, keys and reasons.
    pub fn values() -> Self {
        Self { values: true, headers: Vec::new() }
    }

    /// Whether it masks anything.
    pub fn is_empty(&self) -> bool {
        !self.values && self.headers.is_empty()
    }

    /// The message as it may be seen.
    #[must_use]
    pub fn apply(&self, mut message: Message) -> Message {
        if self.values {
            message.value = message.value.as_ref().map(masked);
        }
        for header in &mut message.headers {
            if self.headers.iter().any(|name| name.eq_ignore_ascii_case(&header.name)) {
                header.value = masked(&header.value);
            }
        }
        message
    }
}

fn masked(value: &Bytes) -> Bytes {
    let mut text = format!("masked: {} bytes, sha256 ", value.len());
    for byte in Sha256::digest(value).iter().take(DIGEST_BYTES) {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.push('…');
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Header;

    #[test]
    fn values_and_named_headers_are_replaced_by_size_and_digest_and_the_rest_stays() {
        let message = Message {
            topic: "orders.dlq".into(),
            partition: 0,
            offset: 1,
            timestamp: 2,
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static(b"secret")),
            headers: vec![Header::new("Authorization", "Bearer x"), Header::new("n", "v")],
        };
        let mask = Mask { values: true, headers: vec!["authorization".to_owned()] };
        let seen = mask.apply(message.clone());
        let text =
            String::from_utf8_lossy(seen.value.as_deref().expect("there is one")).into_owned();
        assert_eq!(text, "masked: 6 bytes, sha256 2bb80d537b1da3e3…");
        assert!(seen.headers[0].value.starts_with(b"masked: 8 bytes"));
        assert_eq!((&seen.key, &seen.headers[1]), (&message.key, &message.headers[1]));
        assert_eq!(Mask::default().apply(message.clone()), message);
    }
}
