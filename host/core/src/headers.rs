//! Headers: what the host writes into retries and dead letters, and reads back from them.
//!
//! Written by `settle`, read by `tiers` and by redrive. Prefix `millstream-`, UTF-8 text, decimal
//! integers, epoch milliseconds. Believed only on a pipeline's own companion topics; from anywhere
//! else they are data.
//!
//! Invariants:
//! - single-valued: replaced at each hop, never appended, so hops don't make a message grow;
//! - together at most [`TOTAL_BYTES_MAX`]: error text is cut at [`REASON_BYTES_MAX`], a backtrace at
//!   [`BACKTRACE_BYTES_MAX`], further if that is still too much, with a mark that it was cut;
//! - the original headers stay as they were, in their order;
//! - `origin` is what it was at first, through every retry and redrive.

use bytes::Bytes;
use bytestring::ByteString;

use crate::message::{EpochMs, Header, Message, Offset};
use crate::plugin::PluginIdentity;
use crate::trace::SpanContext;

mod text;

pub use text::CUT_MARK;
pub(crate) use text::cut;
use text::{key_from_text, key_text};

/// The prefix of every header of ours.
pub const PREFIX: &str = "millstream-";
/// The prefix of the broker-native set that dead letters also get (KIP-1191).
pub const DEAD_LETTER_PREFIX: &str = "__dlq.errors.";
/// Names and values of our headers together.
pub const TOTAL_BYTES_MAX: usize = 4096;
/// The error's reason.
pub const REASON_BYTES_MAX: usize = 1024;
/// The error's backtrace.
pub const BACKTRACE_BYTES_MAX: usize = 2048;
/// Any other text of ours; topic and group names are shorter.
const TEXT_BYTES_MAX: usize = 256;

/// Why headers of a companion topic can't be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// A header that every companion message has is not there.
    #[error("header {PREFIX}{0} is missing")]
    Missing(&'static str),
    /// A header has a value that it can't have.
    #[error("header {PREFIX}{name} is not {expected}")]
    Invalid {
        /// Which, without the prefix.
        name: &'static str,
        /// What it should be.
        expected: &'static str,
    },
}

/// The last error of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorHeaders {
    /// The class, as [`crate::outcome::Outcome::kind`].
    pub kind: String,
    /// Why, in words.
    pub reason: String,
    /// The guest's stack.
    pub backtrace: Option<String>,
}

/// How a dead letter was put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redrive {
    /// How often so far.
    pub count: u32,
    /// Names the redrive that did it last.
    pub id: String,
    /// When.
    pub at: EpochMs,
}

/// Everything a companion message says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompanionHeaders {
    /// The source topic.
    pub origin_topic: ByteString,
    /// The source partition's number.
    pub origin_partition: u32,
    /// The source offset.
    pub origin_offset: Offset,
    /// The source message's own time.
    pub origin_timestamp: EpochMs,
    /// The group whose handling failed.
    pub origin_group: ByteString,
    /// The place in the order.
    pub turn: Offset,
    /// Attempts made so far; 0 = never tried (redriven).
    pub attempt: u32,
    /// How often it was put behind an earlier message of its key since the last attempt.
    pub waits: u32,
    /// The delay of the tier it was put into.
    pub tier: Option<ByteString>,
    /// When an attempt first failed.
    pub first_failed: Option<EpochMs>,
    /// When one failed last.
    pub last_failed: Option<EpochMs>,
    /// The last error.
    pub error: Option<ErrorHeaders>,
    /// The plugin of the last attempt.
    pub plugin: Option<PluginIdentity>,
    /// The message's idempotency key.
    pub idempotency_key: Option<Bytes>,
    /// Whether it was redriven.
    pub redrive: Option<Redrive>,
    /// The last attempt that was traced: the next one continues it.
    pub trace: Option<SpanContext>,
}

impl CompanionHeaders {
    /// What is known of a message of the source that was never put off.
    pub fn of_source(message: &Message, group: &str) -> Self {
        Self {
            origin_topic: (&*message.topic).into(),
            origin_partition: message.partition,
            origin_offset: message.offset,
            origin_timestamp: message.timestamp,
            origin_group: group.into(),
            turn: message.offset,
            attempt: 0,
            waits: 0,
            tier: None,
            first_failed: None,
            last_failed: None,
            error: None,
            plugin: None,
            idempotency_key: None,
            // Of one that was redriven into the source: how often is not forgotten when it fails again.
            redrive: redrive(&message.headers),
            trace: None,
        }
    }

    /// How often it was redriven.
    pub fn redrive_count(&self) -> u32 {
        self.redrive.as_ref().map_or(0, |redrive| redrive.count)
    }
}

/// Whether a header of this name is the host's.
pub fn is_ours(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// The original headers: what a plugin sees, and what redrive puts back.
pub fn strip(headers: &[Header]) -> Vec<Header> {
    headers
        .iter()
        .filter(|header| !is_ours(&header.name) && !header.name.starts_with(DEAD_LETTER_PREFIX))
        .cloned()
        .collect()
}

/// The headers of a retry: the originals, then ours.
pub fn encode(found: &CompanionHeaders, original: &[Header]) -> Vec<Header> {
    let mut headers = strip(original);
    headers.extend(ours(found));
    headers
}

/// The headers of a dead letter: the originals, ours, then the broker-native set.
pub fn dead_letter_headers(found: &CompanionHeaders, original: &[Header]) -> Vec<Header> {
    let mut headers = encode(found, original);
    let reason = found.error.as_ref().map_or("", |error| error.reason.as_str());
    let native = [
        ("topic", found.origin_topic.to_string()),
        ("partition", found.origin_partition.to_string()),
        ("offset", found.origin_offset.to_string()),
        ("group", cut(&found.origin_group, TEXT_BYTES_MAX)),
        ("delivery.count", found.attempt.to_string()),
        ("message", cut(reason, REASON_BYTES_MAX)),
    ];
    headers.extend(
        native.map(|(name, value)| Header::new(format!("{DEAD_LETTER_PREFIX}{name}"), value)),
    );
    headers
}

/// The same dead letter without texts that can be done without, for a topic that refuses it as too
/// large. The originals stay: without them it could not be redriven as it was.
pub fn minimal(headers: &[Header]) -> Vec<Header> {
    let spare = |name: &str| {
        name.starts_with(DEAD_LETTER_PREFIX)
            || ["error-reason", "error-backtrace", "plugin-name", "plugin-version", "trace"]
                .iter()
                .any(|spare| name.strip_prefix(PREFIX) == Some(spare))
    };
    headers.iter().filter(|header| !spare(&header.name)).cloned().collect()
}

/// Whether nothing is left that [`minimal`] would take out.
pub fn is_minimal(headers: &[Header]) -> bool {
    minimal(headers).len() == headers.len()
}

fn ours(found: &CompanionHeaders) -> Vec<Header> {
    let mut reason_max = REASON_BYTES_MAX;
    let mut backtrace_max = BACKTRACE_BYTES_MAX;
    let mut with_key = true;
    loop {
        let headers = ours_within(found, reason_max, backtrace_max, with_key);
        let total: usize = headers.iter().map(|h| h.name.len() + h.value.len()).sum();
        let Some(excess) = total.checked_sub(TOTAL_BYTES_MAX).filter(|excess| *excess > 0) else {
            return headers;
        };
        // In this order: a stack is worth less than the reason, and the key can be found again in
        // the message itself.
        if backtrace_max > 0 {
            backtrace_max = backtrace_max.saturating_sub(excess);
        } else if reason_max > 0 {
            reason_max = reason_max.saturating_sub(excess);
        } else if with_key {
            with_key = false;
        } else {
            return headers;
        }
    }
}

fn ours_within(
    found: &CompanionHeaders,
    reason_max: usize,
    backtrace_max: usize,
    with_key: bool,
) -> Vec<Header> {
    let mut headers = Vec::with_capacity(24);
    let mut add = |name: &str, value: String| {
        headers.push(Header::new(format!("{PREFIX}{name}"), value));
    };
    let text = |text: &str| cut(text, TEXT_BYTES_MAX);
    add("origin-topic", text(&found.origin_topic));
    add("origin-partition", found.origin_partition.to_string());
    add("origin-offset", found.origin_offset.to_string());
    add("origin-timestamp", found.origin_timestamp.to_string());
    add("origin-group", text(&found.origin_group));
    add("turn", found.turn.to_string());
    add("attempt", found.attempt.to_string());
    if found.waits > 0 {
        add("waits", found.waits.to_string());
    }
    if let Some(tier) = &found.tier {
        add("tier", text(tier));
    }
    if let Some(at) = found.first_failed {
        add("first-failed", at.to_string());
    }
    if let Some(at) = found.last_failed {
        add("last-failed", at.to_string());
    }
    if let Some(error) = &found.error {
        add("error-kind", text(&error.kind));
        add("error-reason", cut(&error.reason, reason_max));
        if let Some(backtrace) = error.backtrace.as_ref().filter(|_| backtrace_max > 0) {
            add("error-backtrace", cut(backtrace, backtrace_max));
        }
    }
    if let Some(plugin) = &found.plugin {
        add("plugin-name", text(&plugin.name));
        add("plugin-version", text(&plugin.version));
        add("plugin-digest", text(&plugin.digest));
    }
    if let Some(key) = found.idempotency_key.as_ref().filter(|_| with_key) {
        add("idempotency-key", key_text(key));
    }
    if let Some(redrive) = &found.redrive {
        add("redrive-count", redrive.count.to_string());
        add("redrive-id", text(&redrive.id));
        add("redrive-at", redrive.at.to_string());
    }
    if let Some(trace) = &found.trace {
        add("trace", trace.to_string());
    }
    headers
}

/// Reads our headers. They come from a topic others may write to: nothing is taken on trust.
///
/// # Errors
/// When one that every companion message has is missing, or one can't be what it says.
pub fn decode(headers: &[Header]) -> Result<CompanionHeaders, HeaderError> {
    let read = Reader(headers);
    let error = match read.text("error-kind")? {
        Some(kind) => Some(ErrorHeaders {
            kind: kind.to_string(),
            reason: read.text("error-reason")?.unwrap_or_default().to_string(),
            backtrace: read.text("error-backtrace")?.map(|text| text.to_string()),
        }),
        None => None,
    };
    let plugin = match read.text("plugin-digest")? {
        Some(digest) => Some(PluginIdentity {
            name: read.text("plugin-name")?.unwrap_or_default().to_string(),
            version: read.text("plugin-version")?.unwrap_or_default().to_string(),
            digest: digest.to_string(),
        }),
        None => None,
    };
    let redrive = read.redrive()?;
    Ok(CompanionHeaders {
        origin_topic: read.needed("origin-topic", Reader::text)?,
        origin_partition: read.needed("origin-partition", Reader::number)?,
        origin_offset: read.needed("origin-offset", Reader::number)?,
        origin_timestamp: read.needed("origin-timestamp", Reader::number)?,
        origin_group: read.needed("origin-group", Reader::text)?,
        turn: read.needed("turn", Reader::number)?,
        attempt: read.needed("attempt", Reader::number)?,
        waits: read.number("waits")?.unwrap_or_default(),
        tier: read.text("tier")?,
        first_failed: read.number("first-failed")?,
        last_failed: read.number("last-failed")?,
        error,
        plugin,
        idempotency_key: read.text("idempotency-key")?.and_then(|text| key_from_text(&text)),
        redrive,
        // Only a trace goes to pieces without it, so it is no reason to refuse the message.
        trace: read.value("trace").and_then(|text| SpanContext::parse(text)),
    })
}

/// What a message says of a redrive that sent it, also outside of companion topics, where anyone may say so; `None` if
/// it says nothing that can be.
pub fn redrive(headers: &[Header]) -> Option<Redrive> {
    Reader(headers).redrive().ok().flatten()
}

/// The headers of a copy that goes where it is a message of its own: by what it was redriven, and from which letter.
pub fn redrive_headers(redrive: &Redrive, letter: &str) -> Vec<Header> {
    let all = [
        ("redrive-count", redrive.count.to_string()),
        ("redrive-id", cut(&redrive.id, TEXT_BYTES_MAX)),
        ("redrive-at", redrive.at.to_string()),
        ("redrive-letter", cut(letter, TEXT_BYTES_MAX * 2)),
    ];
    all.map(|(name, value)| Header::new(format!("{PREFIX}{name}"), value)).into()
}

struct Reader<'a>(&'a [Header]);

impl Reader<'_> {
    fn redrive(&self) -> Result<Option<Redrive>, HeaderError> {
        let Some(count) = self.number("redrive-count")? else { return Ok(None) };
        Ok(Some(Redrive {
            count,
            id: self.text("redrive-id")?.unwrap_or_default().to_string(),
            at: self.number("redrive-at")?.unwrap_or_default(),
        }))
    }

    /// Single-valued: of repeated ones the last counts.
    fn value(&self, name: &str) -> Option<&Bytes> {
        let named = |header: &&Header| header.name.strip_prefix(PREFIX) == Some(name);
        self.0.iter().rev().find(named).map(|header| &header.value)
    }

    fn text(&self, name: &'static str) -> Result<Option<ByteString>, HeaderError> {
        let invalid = HeaderError::Invalid { name, expected: "UTF-8 text of at most 4 KiB" };
        match self.value(name) {
            None => Ok(None),
            Some(value) if value.len() > TOTAL_BYTES_MAX => Err(invalid),
            Some(value) => ByteString::try_from(value.clone()).map(Some).map_err(|_| invalid),
        }
    }

    fn number<T: std::str::FromStr>(&self, name: &'static str) -> Result<Option<T>, HeaderError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        let expected = "a decimal number in its range";
        number.map(Some).ok_or(HeaderError::Invalid { name, expected })
    }

    fn needed<T>(
        &self,
        name: &'static str,
        read: impl Fn(&Self, &'static str) -> Result<Option<T>, HeaderError>,
    ) -> Result<T, HeaderError> {
        read(self, name)?.ok_or(HeaderError::Missing(name))
    }
}

#[cfg(test)]
mod tests;
