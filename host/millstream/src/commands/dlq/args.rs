//! Which dead letters: arguments that all `dlq` commands share.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::{Args, ValueEnum};
use millstream_core::clock::{SystemClock, WallClock as _};
use millstream_core::dead_letter::{Filter, State, StatesFilter};
use millstream_core::message::{EpochMs, Offset, Partition};

use super::Whose;
use crate::config::{CompanionKind, Config, PipelineConfig, companions};
use crate::exit::Failure;
use crate::finding::{Code, Finding};

/// Which dead letters.
#[derive(Debug, Args)]
pub(super) struct FilterArgs {
    /// The pipeline, or one letter as `dlq list` names it: TOPIC/PARTITION/OFFSET; may be left out if there is only one pipeline
    #[arg(value_name = "PIPELINE|LETTER", conflicts_with = "topic")]
    pipeline: Option<String>,
    /// Those in this topic, whoever wrote them: Spring Kafka, Kafka Connect, Kafka Streams or a Millstream host
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// Those of this source topic
    #[arg(long, value_name = "TOPIC", conflicts_with = "topic")]
    source: Option<String>,
    /// Those of this partition
    #[arg(long, value_name = "NUMBER")]
    partition: Option<u32>,
    /// The one at this offset of its dead-letter partition
    #[arg(long, requires = "partition")]
    offset: Option<Offset>,
    /// Those that failed like this: retry, reject, trap, timeout, memory, oversize, decode, denied, host-crash; foreign;
    /// or the simple name of another program's exception
    #[arg(long)]
    kind: Option<String>,
    /// Those with this text in their reason
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Those that failed with this version of the plugin
    #[arg(long, value_name = "VERSION")]
    plugin_version: Option<String>,
    /// Those with exactly this key, a text or base64:…
    #[arg(long)]
    key: Option<String>,
    /// Those that became dead letters since: so long ago (2h), or a time (2026-11-29T02:14:00Z)
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<EpochMs>,
    /// Those that became dead letters before: as --since
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<EpochMs>,
}

/// Letters of which states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum StateArg {
    /// Nothing was done about them
    Open,
    /// A copy was sent
    Redriven,
    /// They were given up
    Purged,
    /// They were redriven too often
    Parked,
    /// Whatever became of them
    All,
}

impl StateArg {
    fn filter(self) -> StatesFilter {
        match self {
            Self::Open => StatesFilter::Open,
            Self::Redriven => StatesFilter::Only(State::Redriven),
            Self::Purged => StatesFilter::Only(State::Purged),
            Self::Parked => StatesFilter::Only(State::Parked),
            Self::All => StatesFilter::All,
        }
    }
}

impl FilterArgs {
    /// The filter these arguments make.
    ///
    /// # Errors
    /// When one of them cannot be.
    pub(super) fn filter(&self, state: StateArg) -> Result<Filter, Failure> {
        let (mut partition, mut offset) = (self.partition, self.offset);
        if let Some((place, at)) = self.letter()? {
            (partition, offset) = (Some(place.number), Some(at));
        }
        Ok(Filter {
            source: self.source.clone(),
            partition,
            offset,
            kind: self.kind.clone(),
            reason: self.reason.clone(),
            plugin_version: self.plugin_version.clone(),
            key: self.key.as_deref().map(key).transpose()?,
            since: self.since,
            until: self.until,
            state: state.filter(),
        })
    }

    fn letter(&self) -> Result<Option<(Partition, Offset)>, Failure> {
        // No pipeline's name has one of these.
        let is_letter = |text: &&String| text.contains(['/', '[']);
        self.pipeline.as_ref().filter(is_letter).map(|text| position(text)).transpose()
    }

    /// The pipelines or the topic meant.
    ///
    /// # Errors
    /// When there is no such pipeline.
    pub(super) fn whose<'a>(&self, config: Option<&'a Config>) -> Result<Vec<Whose<'a>>, Failure> {
        if let Some(topic) = &self.topic {
            return Ok(vec![of_topic(config, topic)]);
        }
        if let Some((place, _)) = self.letter()? {
            return Ok(vec![of_topic(config, &place.topic)]);
        }
        let Some(config) = config else {
            let fix = "name a configuration with `--config FILE`, or a topic with `--topic NAME`";
            return Err(Finding::new(Code::Usage, "whose dead letters is not said", fix).into());
        };
        let meant = |pipeline: &&PipelineConfig| {
            self.pipeline.as_ref().is_none_or(|name| pipeline.spec.name == *name)
        };
        let pipelines: Vec<_> = config.pipelines.iter().filter(meant).collect();
        if !pipelines.is_empty() {
            return Ok(pipelines.into_iter().map(Whose::Pipeline).collect());
        }
        let what = match &self.pipeline {
            Some(name) => format!("there is no pipeline {name:?}"),
            None => "the configuration has no pipelines".to_owned(),
        };
        let fix = "name a pipeline of the configuration, or a topic with `--topic NAME`";
        Err(Finding::new(Code::Usage, what, fix).at(config.file.display()).into())
    }

    /// The one pipeline or topic meant.
    ///
    /// # Errors
    /// When it could be several.
    pub(super) fn one<'a>(&self, config: Option<&'a Config>) -> Result<Whose<'a>, Failure> {
        let mut whose = self.whose(config)?;
        let names: Vec<_> = whose.iter().map(|whose| whose.name().to_owned()).collect();
        match (whose.pop(), whose.is_empty()) {
            (Some(one), true) => Ok(one),
            _ => {
                let what = "which pipeline's dead letters are meant is not said";
                let fix = format!("name one of {}", names.join(", "));
                Err(Finding::new(Code::Usage, what, fix).into())
            }
        }
    }
}

/// The pipeline that keeps its dead letters in this topic, or the topic by itself.
pub(super) fn of_topic<'a>(config: Option<&'a Config>, topic: &str) -> Whose<'a> {
    let holds = |pipeline: &&PipelineConfig| {
        companions(&pipeline.spec).iter().any(|companion| {
            companion.kind == CompanionKind::DeadLetters && *companion.topic == *topic
        })
    };
    let pipeline = config.and_then(|config| config.pipelines.iter().find(holds));
    pipeline.map_or_else(|| Whose::Topic(topic.to_owned()), Whose::Pipeline)
}

/// `TOPIC/PARTITION/OFFSET`, or `TOPIC[PARTITION]@OFFSET` as logs have it.
pub(super) fn position(text: &str) -> Result<(Partition, Offset), Failure> {
    let plain = text.replace("]@", "/").replace('[', "/");
    let mut parts = plain.rsplitn(3, '/');
    let (offset, number, topic) = (parts.next(), parts.next(), parts.next());
    let offset = offset.and_then(|offset| offset.parse().ok());
    let number = number.and_then(|number| number.parse().ok());
    match (topic, number, offset) {
        (Some(topic), Some(number), Some(offset)) => Ok((Partition::new(topic, number), offset)),
        _ => {
            let fix = "write TOPIC/PARTITION/OFFSET, as `millstream dlq list` shows it";
            let what = format!("{text:?} is no position");
            Err(Finding::new(Code::Usage, what, fix).into())
        }
    }
}

/// So long ago, or a point in time.
fn time(text: &str) -> Result<EpochMs, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        let ago = EpochMs::try_from(ago.as_millis()).unwrap_or(EpochMs::MAX);
        return Ok(SystemClock.now().saturating_sub(ago));
    }
    let at = humantime::parse_rfc3339_weak(text).map_err(|_| {
        "neither a duration as `2h` nor a time as `2026-11-29T02:14:00Z`".to_owned()
    })?;
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Ok(EpochMs::try_from(since.as_millis()).unwrap_or(EpochMs::MAX))
}

fn key(text: &str) -> Result<Bytes, Failure> {
    let Some(coded) = text.strip_prefix("base64:") else {
        return Ok(Bytes::copy_from_slice(text.as_bytes()));
    };
    STANDARD.decode(coded).map(Bytes::from).map_err(|error| {
        let what = format!("--key {text:?} is no base64");
        Finding::new(Code::Usage, what, "correct it, or give the key as text").because(error).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_in_both_ways_it_is_written() {
        for text in ["orders.dlq/3/42", "orders.dlq[3]@42"] {
            let (partition, offset) = position(text).expect(text);
            assert_eq!((partition.to_string().as_str(), offset), ("orders.dlq[3]", 42));
        }
        for text in ["", "orders.dlq", "orders.dlq/3", "orders.dlq/x/1", "orders.dlq/1/-1"] {
            assert!(position(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn times_are_durations_ago_or_points_in_time() {
        let now = SystemClock.now();
        let ago = time("2h").expect("a duration");
        assert!((now - 7_200_000 - ago).abs() < 60_000, "{ago} at {now}");
        assert_eq!(time("2023-11-14T22:13:20Z"), Ok(1_700_000_000_000));
        assert_eq!(time("2023-11-14 22:13:20"), Ok(1_700_000_000_000));
        assert!(time("yesterday").is_err() && time("").is_err());
    }

    #[test]
    fn a_key_that_is_no_text_is_given_as_base64() {
        assert_eq!(key("k1").expect("text"), Bytes::from_static(b"k1"));
        assert_eq!(key("base64:/w==").expect("bytes"), Bytes::from_static(&[0xff]));
        assert!(key("base64:!").is_err());
    }
}
