//! Names of companion topics: `{topic}.retry.{delay}` and `{topic}.dlq`, as templates.
//!
//! Tiers are discovered by name, so that a delay that left the configuration is still drained.

use std::time::Duration;

use crate::message::Topic;

/// The tier redriven dead letters go to: due at once, read by this group only.
pub const REDRIVE_DELAY: Duration = Duration::ZERO;

/// The topic that says what became of each dead letter of `dead_letters`.
pub fn states_topic(dead_letters: &str) -> Topic {
    format!("{dead_letters}{STATES_SUFFIX}").into()
}

/// What the name of a topic of states ends in.
pub const STATES_SUFFIX: &str = ".states";

/// A topic name with `{topic}`, `{group}` and, for retry tiers, `{delay}` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(String);

impl Template {
    /// A template of a dead-letter topic, or of a retry tier.
    ///
    /// # Errors
    /// A sentence that says what is wrong: `{topic}` is missing, `{delay}` is missing (`tier`) or
    /// does not belong there, or another name stands in braces.
    pub fn new(text: &str, tier: bool) -> Result<Self, String> {
        let mut rest = text.to_owned();
        for known in ["{topic}", "{group}", "{delay}"] {
            if text.matches(known).count() > 1 {
                return Err(format!("{known} stands in it more than once"));
            }
            rest = rest.replace(known, "");
        }
        if rest.contains(['{', '}']) {
            return Err("only {topic}, {group} and {delay} may stand in braces".to_owned());
        }
        if !text.contains("{topic}") {
            return Err("{topic} must stand in it: each source topic has its own".to_owned());
        }
        if tier && !text.ends_with("{delay}") {
            return Err("it must end in {delay}: each delay has its own topic".to_owned());
        }
        if !tier && text.contains("{delay}") {
            return Err("{delay} belongs to retry tiers only".to_owned());
        }
        if rest.is_empty() && !tier {
            return Err("it would be the source topic itself".to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    /// The topic's name for a source topic and group (and delay, for a tier).
    pub fn topic(&self, source: &str, group: &str, delay: Option<Duration>) -> Topic {
        let name = self.0.replace("{topic}", source).replace("{group}", group);
        name.replace("{delay}", &delay.map(delay_text).unwrap_or_default()).into()
    }

    /// The delay of the tier `name`, if it is one of this source topic and group.
    pub fn delay_of(&self, name: &str, source: &str, group: &str) -> Option<Duration> {
        let prefix = self.topic(source, group, None);
        delay_from_text(name.strip_prefix(&*prefix)?)
    }
}

/// `5s`, `30s`, `5m`, `2h`, `250ms`: the largest unit that divides the delay.
pub fn delay_text(delay: Duration) -> String {
    let millis = delay.as_millis();
    match millis {
        0 => "0s".to_owned(),
        _ if millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
        _ if millis.is_multiple_of(60_000) => format!("{}m", millis / 60_000),
        _ if millis.is_multiple_of(1_000) => format!("{}s", millis / 1_000),
        _ => format!("{millis}ms"),
    }
}

fn delay_from_text(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let unit_millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let delay = Duration::from_millis(number.checked_mul(unit_millis)?);
    // `60s` and `1m` are one delay and must be one topic: only the text we write is a tier.
    (delay_text(delay) == text).then_some(delay)
}

#[cfg(test)]
mod tests;
