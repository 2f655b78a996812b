//! Samples: what was seen of a run from outside, and what it came to between its beginning and its end.

use std::time::Duration;

use tokio::time::Instant;

/// The part of a run that is measured: without the start, in which clients meet and a Java process
/// compiles itself, and without the end, in which partitions run out one after the other.
const FROM: f64 = 0.2;
const TO: f64 = 0.9;

/// Seen at one time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// When.
    pub(crate) at: Instant,
    /// Offsets of the output that could be read.
    pub(crate) readable: u64,
    /// What the process had used of all cores.
    pub(crate) cpu: Option<Duration>,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Speed {
    /// Messages a second.
    pub(crate) per_second: f64,
    /// Microseconds of all cores a message.
    pub(crate) cpu_us: Option<f64>,
}

/// Of a run that made `messages`; `None` if there is too little to say. Offsets that are no messages
/// (markers of transactions) are taken to be spread evenly.
pub(crate) fn speed(samples: &[Sample], messages: u64) -> Option<Speed> {
    let (first, last) = (samples.first()?, samples.last()?);
    let total = last.readable as f64;
    let begin = crossing(samples, FROM * total, first.at)?;
    let end = crossing(samples, TO * total, first.at)?;
    let measured = (TO - FROM) * messages as f64;
    let seconds = end.seconds - begin.seconds;
    let cpu = end.cpu_seconds.zip(begin.cpu_seconds).map(|(end, begin)| end - begin);
    (seconds > 0.0).then(|| Speed {
        per_second: measured / seconds,
        cpu_us: cpu.map(|cpu| cpu * 1e6 / measured),
    })
}

struct Crossing {
    seconds: f64,
    cpu_seconds: Option<f64>,
}

/// When the output came to `wanted`, on a straight line between the samples before and after.
fn crossing(samples: &[Sample], wanted: f64, origin: Instant) -> Option<Crossing> {
    let (before, after) = samples
        .windows(2)
        .filter_map(|pair| Some((pair.first()?, pair.last()?)))
        .find(|(_, after)| after.readable as f64 >= wanted)?;
    let step = after.readable.saturating_sub(before.readable) as f64;
    let part = ((wanted - before.readable as f64) / step).clamp(0.0, 1.0);
    let between = |from: Duration, to: Duration| {
        from.as_secs_f64() + part * (to.as_secs_f64() - from.as_secs_f64())
    };
    let since = |at: Instant| at.duration_since(origin);
    Some(Crossing {
        seconds: between(since(before.at), since(after.at)),
        cpu_seconds: before.cpu.zip(after.cpu).map(|(from, to)| between(from, to)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_and_end_do_not_count_and_neither_do_markers() {
        let origin = Instant::now();
        let sample = |ms, readable, cpu_ms| Sample {
            at: origin + Duration::from_millis(ms),
            readable,
            cpu: Some(Duration::from_millis(cpu_ms)),
        };
        // 1,000 messages and 10 markers: 100 ms of nothing, then a second, then a slow end.
        let samples = [
            sample(0, 0, 0),
            sample(100, 0, 500),
            sample(1_100, 1_000, 1_500),
            sample(9_000, 1_010, 1_500),
        ];
        let speed = speed(&samples, 1_000).unwrap();
        assert!((speed.per_second - 990.1).abs() < 0.1, "{speed:?}");
        assert!((speed.cpu_us.unwrap() - 1_010.0).abs() < 0.1, "{speed:?}");
    }

    #[test]
    fn a_run_without_outputs_says_nothing() {
        let sample = Sample { at: Instant::now(), readable: 0, cpu: None };
        assert_eq!(speed(&[sample, sample], 1_000), None);
    }
}
