use std::fmt::Write as _;
use std::time::Duration;

use prometheus::proto::MetricType;

use super::*;
use crate::message::Partition;
use crate::status::{HeldUp, HeldUpBy};

/// Every metric with a child, so that the registry shows all of them as long as the partition is there.
fn everything() -> (Registry, PartitionMetrics) {
    let registry = Registry::new();
    let metrics = Metrics::new(&registry).expect("a fresh registry");
    let mut partition = metrics.partition("orders", &Partition::new("orders.created", 0));
    partition.dead_letter("trap");
    partition.retry(Duration::from_secs(5));
    partition.outputs("orders.priced", 1);
    partition.skipped(0);
    partition.held_up(Some(&HeldUp { offset: None, by: HeldUpBy::Plugin, seconds: 1 }));
    partition.retry_depth("orders.created.retry.5s", 0);
    partition.dead_letter_depth("orders.created.dlq", 0);
    metrics.worker("orders");
    metrics.paused_by_in_flight("orders", &Partition::new("orders.created", 0));
    metrics.in_flight_messages.with_label_values(&["orders"]).set(0);
    metrics.in_flight_bytes.with_label_values(&["orders"]).set(0);
    metrics.plugin_load.with_label_values(&["orders"]).set(0.1);
    metrics.rebalances.with_label_values(&["orders", "assigned"]).inc();
    metrics.log_errors.with_label_values(&["orders", "append"]).inc();
    metrics.spans_exported.with_label_values::<&str>(&[]).inc();
    metrics.spans_dropped.with_label_values(&["queue_full"]).inc();
    metrics.up.with_label_values(&["orders"]).set(1);
    metrics.plugin_info.with_label_values(&["orders", "pricing", "1.0.0", "sha256:0"]).set(1);
    (registry, partition)
}

fn page() -> String {
    let mut page = String::from(
        "# Metrics\n\nWhat `/metrics` shows. Written from the code: `BLESS=1 cargo test -p millstream-core metrics`.\n\
         Labels are bounded: never a key, an offset or a message's content. The scaler has its own: scaling.md.\n\n\
         | metric | type | labels | what |\n|---|---|---|---|\n",
    );
    let (registry, _partition) = everything();
    for family in registry.gather() {
        let kind = match family.get_field_type() {
            MetricType::COUNTER => "counter",
            MetricType::GAUGE => "gauge",
            MetricType::HISTOGRAM => "histogram",
            other => panic!("{other:?} is not used"),
        };
        let metric = family.get_metric().first().expect("it has a child");
        let labels: Vec<&str> = metric.get_label().iter().map(|label| label.name()).collect();
        writeln!(
            page,
            "| `{}` | {kind} | {} | {} |",
            family.name(),
            labels.join(", "),
            family.help()
        )
        .expect("a String takes everything");
    }
    page
}

#[test]
fn the_page_of_metrics_is_what_the_code_has() {
    // Where it runs, not where it was built: checkouts share their target folder.
    let core = std::path::PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap());
    let file = core.join("../../docs/metrics.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, page()).expect("docs/ can be written");
    }
    let there = std::fs::read_to_string(&file).expect("docs/metrics.md");
    assert_eq!(there, page(), "run BLESS=1 cargo test -p millstream-core metrics");
}

#[test]
fn metric_names_follow_the_conventions() {
    for family in everything().0.gather() {
        let (name, counter) = (family.name(), family.get_field_type() == MetricType::COUNTER);
        assert!(name.starts_with("millstream_"), "{name}");
        assert_eq!(name.ends_with("_total"), counter, "{name}");
        assert!(family.help().ends_with('.'), "{name}: {}", family.help());
    }
}

#[test]
fn a_partition_that_is_given_up_leaves_no_lag_behind() {
    let (registry, partition) = everything();
    drop(partition);
    let left: Vec<String> = registry
        .gather()
        .iter()
        .filter(|family| family.get_field_type() == MetricType::GAUGE)
        .flat_map(|family| {
            let of_partition = family.get_metric().iter().filter(|metric| {
                metric.get_label().iter().any(|label| label.name() == "partition")
            });
            of_partition.map(|_| family.name().to_owned()).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(left, Vec::<String>::new());
    let counters = registry.gather();
    let attempts = counters.iter().find(|family| family.name() == "millstream_attempts_total");
    assert!(attempts.is_some_and(|family| !family.get_metric().is_empty()), "counters stay");
}
