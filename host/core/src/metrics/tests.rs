use std::fmt::Write as _;

use prometheus::proto::MetricType;

use super::*;

/// Every metric with a child, so that the registry shows all of them.
fn everything() -> Registry {
    let registry = Registry::new();
    let metrics = Metrics::new(&registry).expect("a fresh registry");
    let partition = metrics.partition("orders", &Partition::new("orders.created", 0));
    partition.dead_letter("trap");
    partition.retry(Duration::from_secs(5));
    partition.outputs("orders.priced", 1);
    partition.skipped(0);
    partition.retry_depth("orders.created.retry.5s", 0);
    partition.dead_letter_depth("orders.created.dlq", 0);
    metrics.worker("orders");
    metrics.in_flight_messages.with_label_values(&["orders"]).set(0);
    metrics.in_flight_bytes.with_label_values(&["orders"]).set(0);
    metrics.log_errors.with_label_values(&["orders", "append"]).inc();
    metrics.up.with_label_values(&["orders"]).set(1);
    metrics.plugin_info.with_label_values(&["orders", "pricing", "1.0.0", "sha256:0"]).set(1);
    registry
}

fn page() -> String {
    let mut page = String::from(
        "# Metrics\n\nWhat `/metrics` shows. Written from the code: `BLESS=1 cargo test -p millstream-core metrics`.\n\
         Labels are bounded: never a key, an offset or a message's content.\n\n\
         | metric | type | labels | what |\n|---|---|---|---|\n",
    );
    for family in everything().gather() {
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
    for family in everything().gather() {
        let (name, counter) = (family.name(), family.get_field_type() == MetricType::COUNTER);
        assert!(name.starts_with("millstream_"), "{name}");
        assert_eq!(name.ends_with("_total"), counter, "{name}");
        assert!(family.help().ends_with('.'), "{name}: {}", family.help());
    }
}
