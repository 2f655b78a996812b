//! docs/metrics.md and what a running host shows: each metric of the page is there, with its type, its labels and its
//! words, and nothing else is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_tests::host::{END_WITHIN, Host};
use millstream_tests::program::tree;
use millstream_tests::span_receiver::SpanReceiver;
use millstream_tests::waiting;

use crate::folder;

const WITHIN: Duration = Duration::from_secs(60);

/// What this host rightly does not show, and why.
const LATER: [(&str, &str); 2] = [
    (
        "millstream_held_up_seconds",
        "only while a commit stands still for longer than `held_up_after`",
    ),
    ("millstream_log_errors_total", "from the first failed call to the log on"),
];

/// Type, labels and words of a metric.
#[derive(Debug, Default, PartialEq, Eq)]
struct Metric {
    kind: String,
    labels: BTreeSet<String>,
    what: String,
}

fn on_the_page() -> BTreeMap<String, Metric> {
    let page = std::fs::read_to_string(tree().join("docs/metrics.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `millstream_"));
    let metrics = rows.map(|row| {
        let [name, kind, labels, what] =
            row.trim_end_matches(" |").splitn(4, " | ").collect::<Vec<_>>().try_into().unwrap();
        let labels = labels.split(", ").map(|label| label.trim().to_owned());
        let metric = Metric {
            kind: kind.to_owned(),
            labels: labels.filter(|label| !label.is_empty()).collect(),
            what: what.to_owned(),
        };
        (format!("millstream_{}", name.trim_end_matches('`')), metric)
    });
    metrics.collect()
}

/// What a scrape shows; no value may be NaN.
fn shown(scrape: &str) -> BTreeMap<String, Metric> {
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    let mut name = String::new();
    for line in scrape.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (of, what) = help.split_once(' ').unwrap();
            name = of.to_owned();
            metrics.entry(name.clone()).or_default().what = what.to_owned();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            kind.split_once(' ').unwrap().1.clone_into(&mut metrics.get_mut(&name).unwrap().kind);
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(!value.parse::<f64>().unwrap().is_nan(), "{line}");
            let labels = series.split_once('{').map_or("", |(_, labels)| labels);
            let labels =
                labels.split("\",").filter_map(|label| label.split_once('=')).map(|it| it.0);
            let of = &mut metrics.get_mut(&name).unwrap().labels;
            of.extend(labels.filter(|label| *label != "le").map(str::to_owned));
        }
    }
    metrics
}

#[test]
fn a_running_host_shows_every_metric_of_the_page_and_no_other() {
    let receiver = SpanReceiver::start();
    let traces = format!("[traces]\nendpoint = \"{}\"\nsample = 1.0\n", receiver.endpoint());
    let folder = folder(&format!("retry = {{ delays = [\"20ms\"] }}\n{traces}"));
    let mut host = Host::start(&folder);
    host.until_ready();
    for value in ["echo", "after 1 x", "trap", "reject no"] {
        folder
            .ok(&["produce", "work"], &format!("{{\"key\":\"{value}\",\"value\":\"{value}\"}}\n"));
    }
    folder.until_settled(WITHIN);
    let page = on_the_page();
    assert!(page.len() > 30, "the page was not understood: {page:?}");
    let expected: BTreeSet<&str> = page
        .keys()
        .map(String::as_str)
        .filter(|name| LATER.iter().all(|(later, _)| later != name))
        .collect();
    // Lag is looked at each second, and spans go once a second.
    let shown = waiting::until("every metric is there", WITHIN, || {
        let (_, scrape) = host.get("/metrics")?;
        let shown = shown(&scrape);
        expected.iter().all(|name| shown.contains_key(*name)).then_some(shown)
    });
    for (name, metric) in &shown {
        assert_eq!(
            page.get(name),
            Some(metric),
            "{name}: the page on the left, a host on the right"
        );
    }

    // Caught up means nothing, and never "no number".
    for zero in ["lag_messages", "due_lag_messages", "oldest_unsettled_age_seconds"] {
        let name = format!("millstream_{zero}");
        waiting::until(&format!("{name} is 0"), WITHIN, || {
            (host.metric(&name, &[])? == 0.0).then_some(())
        });
    }
    assert_eq!(host.metric("millstream_dead_letters_total", &[]), Some(2.0));
    assert_eq!(host.metric("millstream_retries_total", &[]), Some(2.0));
    host.stop(END_WITHIN);
}
