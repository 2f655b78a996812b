//! Texts in headers: cut to a bound, and keys that may be any bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

/// What stands at the end of a text that was cut.
pub const CUT_MARK: &str = "… [cut]";
/// What stands before a key that is not text.
const BASE64_PREFIX: &str = "base64:";

/// The text, cut to `bytes_max` with a mark; never within a character.
pub(crate) fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let mut end = bytes_max.saturating_sub(CUT_MARK.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let kept = text.get(..end).unwrap_or_default();
    if bytes_max < CUT_MARK.len() { String::new() } else { format!("{kept}{CUT_MARK}") }
}

/// A key as text: itself if it is UTF-8 and can't be taken for the other form, else base64.
pub(super) fn key_text(key: &Bytes) -> String {
    match std::str::from_utf8(key) {
        Ok(text) if !text.starts_with(BASE64_PREFIX) => text.to_owned(),
        _ => format!("{BASE64_PREFIX}{}", STANDARD.encode(key)),
    }
}

/// The key again; `None` if the text is no key.
pub(super) fn key_from_text(text: &str) -> Option<Bytes> {
    match text.strip_prefix(BASE64_PREFIX) {
        Some(encoded) => STANDARD.decode(encoded).ok().map(Bytes::from),
        None => Some(Bytes::copy_from_slice(text.as_bytes())),
    }
}
