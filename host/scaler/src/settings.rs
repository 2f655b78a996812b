//! Settings: what the metadata of a trigger say about scaling, refused with a sentence if they cannot be meant.

use std::collections::HashMap;
use std::time::Duration;

use millstream_core::nearest::nearest;

/// The keys that are ours. All others are KEDA's (`scalerAddress`, `enableTLS`, …), which hands us its own too.
const KEYS: [&str; 4] = [PIPELINE, DRAIN_WITHIN, LAG_PER_REPLICA, MAX_REPLICAS];
const PIPELINE: &str = "pipeline";
const DRAIN_WITHIN: &str = "drainWithin";
const LAG_PER_REPLICA: &str = "lagPerReplica";
const MAX_REPLICAS: &str = "maxReplicas";

/// Below it nothing is measured in time; above it nobody waits.
const DRAIN_WITHIN_BOUNDS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(86_400);

/// How a pipeline is scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// In this time everything that is due shall be handled.
    pub(crate) drain_within: Duration,
    /// Due messages that one host is there for, while it is not known how fast a host is. Above zero.
    pub(crate) lag_per_replica: u64,
    /// More hosts are never asked for. Above zero.
    pub(crate) max_replicas: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { drain_within: Duration::from_secs(120), lag_per_replica: 1000, max_replicas: None }
    }
}

/// The pipeline's name and the settings.
///
/// # Errors
/// A sentence that says what is wrong and what to write instead.
pub(crate) fn parse(metadata: &HashMap<String, String>) -> Result<(&str, Settings), String> {
    let known: Vec<String> = KEYS.iter().map(|key| (*key).to_owned()).collect();
    for key in metadata.keys().filter(|key| !KEYS.contains(&key.as_str())) {
        // A key of KEDA's is like none of ours; one that is like it is ours with a mistake in it.
        if let Some(meant) = nearest(key, &known) {
            return Err(format!(
                "the trigger's metadata have an unknown key `{key}`: did you mean `{meant}`?"
            ));
        }
    }
    let Some(pipeline) = metadata.get(PIPELINE) else {
        return Err(format!(
            "the trigger's metadata do not say which pipeline is meant: add `{PIPELINE}: NAME`"
        ));
    };
    let mut settings = Settings::default();
    if let Some(text) = metadata.get(DRAIN_WITHIN) {
        let time = humantime::parse_duration(text.trim()).ok();
        let time = time.filter(|time| DRAIN_WITHIN_BOUNDS.contains(time));
        settings.drain_within = time.ok_or_else(|| {
            format!(
                "`{DRAIN_WITHIN}` cannot be {text:?}: write a time from \"1s\" to \"1d\", as \"2m\""
            )
        })?;
    }
    if let Some(text) = metadata.get(LAG_PER_REPLICA) {
        settings.lag_per_replica = above_zero(LAG_PER_REPLICA, text)?;
    }
    if let Some(text) = metadata.get(MAX_REPLICAS) {
        let replicas: u64 = above_zero(MAX_REPLICAS, text)?;
        settings.max_replicas = Some(u32::try_from(replicas).unwrap_or(u32::MAX));
    }
    Ok((pipeline, settings))
}

fn above_zero(key: &str, text: &str) -> Result<u64, String> {
    let number = text.trim().parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("`{key}` cannot be {text:?}: write a whole number from 1 on"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(pairs: &[(&str, &str)]) -> Result<(String, Settings), String> {
        let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let metadata = pairs.collect::<HashMap<_, _>>();
        parse(&metadata).map(|(pipeline, settings)| (pipeline.to_owned(), settings))
    }

    #[test]
    fn what_is_not_said_has_a_default_and_kedas_own_keys_are_left_alone() {
        let keda = [("scalerAddress", "scaler:9465"), ("enableTLS", "true"), ("unsafeSsl", "x")];
        let said = [&keda[..], &[("pipeline", "orders")]].concat();
        assert_eq!(parsed(&said), Ok(("orders".to_owned(), Settings::default())));
        let more = [("drainWithin", "30s"), ("lagPerReplica", "50"), ("maxReplicas", "3")];
        let (_, settings) = parsed(&[&said[..], &more].concat()).expect("understood");
        let drain_within = Duration::from_secs(30);
        assert_eq!(settings, Settings { drain_within, lag_per_replica: 50, max_replicas: Some(3) });
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_to_write() {
        let of = |key: &str, value: &str| parsed(&[("pipeline", "orders"), (key, value)]);
        for (key, values) in [
            ("drainWithin", &["", "0s", "soon", "2d", "-1s", "NaN"][..]),
            ("lagPerReplica", &["0", "-5", "1.5", "many", "99999999999999999999999"]),
            ("maxReplicas", &["0", "-1", "inf"]),
        ] {
            for value in values {
                let refused = of(key, value).expect_err(value);
                assert!(refused.contains(key) && refused.contains("write"), "{refused}");
            }
        }
        assert!(parsed(&[]).expect_err("none").contains("pipeline: NAME"));
        let mistyped = of("drainwithin", "2m").expect_err("mistyped");
        assert!(mistyped.contains("did you mean `drainWithin`"), "{mistyped}");
    }
}
