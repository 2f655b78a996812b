//! Text from a guest on its way to a person: one line, bounded, without control characters.
//!
//! Reasons end in headers (1 KiB each) and logs; a newline or an escape sequence in one would forge
//! log lines or paint a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The longest reason of an outcome, in bytes, the mark included.
pub(crate) const REASON_BYTES_MAX: usize = 1024;

/// The longest backtrace of a fault, in bytes, the mark included.
pub(crate) const BACKTRACE_BYTES_MAX: usize = 2048;

/// Says that text was cut.
pub(crate) const CUT_MARK: &str = "… [cut]";

/// Cuts `text` to `bytes_max` with a mark at its end, never inside a character.
pub(crate) fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max.saturating_sub(CUT_MARK.len())));
        text.push_str(CUT_MARK);
    }
    text
}

/// The text without control characters: each becomes its escape (`\n`, `\u{1b}`). A tab stays.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    let harmless = |c: char| c == '\t' || !c.is_control();
    if text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if harmless(c) {
            line.push(c);
        } else {
            // Writing to a String cannot fail.
            let _ = write!(line, "{}", c.escape_default());
        }
    }
    Cow::Owned(line)
}

/// A reason as outcomes carry it: one line of at most [`REASON_BYTES_MAX`].
pub(crate) fn reason(text: &str) -> String {
    let text = text.trim_end();
    // Cut before escaping, which only grows it: a guest's megabytes must not be copied whole. One
    // character more than fits (4 bytes at most), so that what is longer is still seen to be.
    let head = text.get(..text.floor_char_boundary(REASON_BYTES_MAX + 4)).unwrap_or(text);
    cut(one_line(head).into_owned(), REASON_BYTES_MAX)
}

/// `64 MiB`, `1.5 MiB`, `300 bytes`: as a person reads it.
pub(crate) fn bytes_text(bytes: usize) -> String {
    const UNITS: [(usize, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    for (unit, name) in UNITS {
        if bytes >= unit {
            let whole = bytes / unit;
            let tenth = bytes % unit * 10 / unit;
            return if tenth == 0 {
                format!("{whole} {name}")
            } else {
                format!("{whole}.{tenth} {name}")
            };
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_within_its_bound_and_says_that_it_was_cut() {
        assert_eq!(reason("over\x1b[31m\nthere"), "over\\u{1b}[31m\\nthere");
        let long = reason(&"ä".repeat(5_000));
        assert!(long.len() <= REASON_BYTES_MAX && long.ends_with(CUT_MARK), "{}", long.len());
        let escapes = reason(&"\x00".repeat(5_000));
        assert!(escapes.len() <= REASON_BYTES_MAX && escapes.ends_with(CUT_MARK));
        let exact = "a".repeat(REASON_BYTES_MAX);
        assert_eq!(reason(&exact), exact, "what fits stays whole");
    }

    #[test]
    fn sizes_read_like_the_configuration_writes_them() {
        assert_eq!(bytes_text(64 << 20), "64 MiB");
        assert_eq!(bytes_text((1 << 20) + (1 << 19)), "1.5 MiB");
        assert_eq!(bytes_text(300), "300 bytes");
    }
}
