//! Metrics: what is known, as Prometheus reads it. Written anew for each scrape, so that nothing stands there that is not
//! known any more, and ages are those of the moment. `docs/scaling.md` lists them.

use millstream_core::pipeline_spec::PipelineSpec;
use prometheus::{GaugeVec, Opts, Registry, TextEncoder};

use crate::known::{Answer, Pipelines, Watched};

/// Name, labels, and what it tells.
type Described = (&'static str, &'static [&'static str], &'static str);

const OF_PIPELINE: &[&str] = &["pipeline"];
const OF_TOPIC: &[&str] = &["pipeline", "topic"];

const UP: Described = (
    "millstream_scaler_up",
    OF_PIPELINE,
    "1 if the cluster answered the last time it was asked, else 0.",
);
const ANSWER_AGE: Described = (
    "millstream_scaler_answer_age_seconds",
    OF_PIPELINE,
    "How old the answer is that is given now; not there before the first.",
);
const LAG: Described = (
    "millstream_scaler_lag_messages",
    OF_TOPIC,
    "Messages of a source topic or retry tier that are not settled.",
);
const DUE_LAG: Described =
    ("millstream_scaler_due_lag_messages", OF_TOPIC, "Those of them that could be handled now.");
const WANTED: Described = (
    "millstream_scaler_wanted_replicas",
    OF_PIPELINE,
    "Hosts that are wanted, with the settings of the trigger that asked last.",
);
const PARTITIONS: Described = (
    "millstream_scaler_partitions",
    OF_PIPELINE,
    "Partitions of the source topics: more hosts are never wanted.",
);
const HOSTS: Described = (
    "millstream_scaler_hosts",
    OF_PIPELINE,
    "Hosts that own partitions; there only while something is due and the cluster tells.",
);
const RATE: Described = (
    "millstream_scaler_host_messages_per_second",
    OF_PIPELINE,
    "Messages a host settles in a second when it has enough to do, as measured last.",
);
const ALL: &[Described] = &[UP, ANSWER_AGE, LAG, DUE_LAG, WANTED, PARTITIONS, HOSTS, RATE];

/// The text of a scrape.
///
/// # Errors
/// When two metrics have one name, which a test would have shown.
pub(crate) fn text(pipelines: &Pipelines) -> prometheus::Result<String> {
    let page = Page::new()?;
    for watched in pipelines.iter() {
        page.write(watched)?;
    }
    TextEncoder::new().encode_to_string(&page.registry.gather())
}

struct Page {
    registry: Registry,
    gauges: Vec<(&'static str, GaugeVec)>,
}

impl Page {
    fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let mut gauges = Vec::with_capacity(ALL.len());
        for (name, labels, help) in ALL {
            let gauge = GaugeVec::new(Opts::new(*name, *help), labels)?;
            registry.register(Box::new(gauge.clone()))?;
            gauges.push((*name, gauge));
        }
        Ok(Self { registry, gauges })
    }

    fn set(&self, (name, ..): Described, labels: &[&str], value: f64) -> prometheus::Result<()> {
        for (_, gauge) in self.gauges.iter().filter(|(of, _)| *of == name) {
            gauge.get_metric_with_label_values(labels)?.set(value);
        }
        Ok(())
    }

    fn write(&self, watched: &Watched) -> prometheus::Result<()> {
        let known = watched.now();
        let PipelineSpec { name, .. } = &watched.spec;
        let of = [name.as_str()];
        self.set(UP, &of, f64::from(u8::from(known.is_up())))?;
        let Some(answer) = &known.answer else { return Ok(()) };
        let Answer { at, topics, partitions, hosts, rate } = &**answer;
        self.set(ANSWER_AGE, &of, at.elapsed().as_secs_f64())?;
        self.set(WANTED, &of, f64::from(answer.wanted(&watched.settings())))?;
        self.set(PARTITIONS, &of, f64::from(*partitions))?;
        if let Some(hosts) = hosts {
            self.set(HOSTS, &of, f64::from(*hosts))?;
        }
        if let Some(rate) = rate {
            self.set(RATE, &of, *rate)?;
        }
        for (topic, found) in topics {
            self.set(LAG, &[name, topic], found.lag as f64)?;
            self.set(DUE_LAG, &[name, topic], found.due as f64)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::Instant;

    use super::*;
    use crate::known::{Known, TopicLag};
    use crate::server::tests::spec;

    #[test]
    fn the_page_of_scaling_lists_them_all() {
        let page = include_str!("../../../docs/scaling.md");
        for (name, labels, what) in ALL {
            let row = format!("| `{name}` | {} | {what} |", labels.join(", "));
            assert!(page.contains(&row), "docs/scaling.md lacks this line:\n{row}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_there_and_never_zero() {
        let pipelines = Pipelines::new(vec![spec("orders")]);
        let text = text(&pipelines).expect("a text");
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines, ["millstream_scaler_up{pipeline=\"orders\"} 0"]);
    }

    #[test]
    fn an_answer_that_is_held_says_that_it_is() {
        let pipelines = Pipelines::new(vec![spec("orders")]);
        let topics = [("orders".into(), TopicLag { lag: 2_500, due: 2_500 })].into();
        let (at, partitions) = (Instant::now(), 6);
        let answer = Answer { at, topics, partitions, hosts: None, rate: None };
        let trouble = Some("away".into());
        let watched = pipelines.get("orders").expect("there");
        watched.known.send_replace(Known { answer: Some(Arc::new(answer)), trouble });
        let text = text(&pipelines).expect("a text");
        for line in [
            "millstream_scaler_up{pipeline=\"orders\"} 0",
            "millstream_scaler_lag_messages{pipeline=\"orders\",topic=\"orders\"} 2500",
            "millstream_scaler_wanted_replicas{pipeline=\"orders\"} 3",
            "millstream_scaler_partitions{pipeline=\"orders\"} 6",
        ] {
            assert!(text.lines().any(|there| there == line), "{line} is not in:\n{text}");
        }
        assert!(text.contains("\nmillstream_scaler_answer_age_seconds{"), "{text}");
        assert!(!text.contains("\nmillstream_scaler_hosts{"), "nobody told: {text}");
    }
}
