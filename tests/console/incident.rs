//! The incident the console is made for: a poison burst during a slow dependency.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use millstream_tests::browser::Browser;
use millstream_tests::waiting;
use serde_json::{Value, json};

use super::{Mill, no_errors, unlock};

/// What an order costs the slow dependency: near the limit, and now and then beyond.
const MORE: &str = r#"
retry = { delays = ["2s", "15s", "2m"] }
limits = { time = "400ms" }
held_up_after = "5s"

[pipelines.refunds]
source = { topics = ["refunds.requested"] }
plugin = "hostile.wasm"
outputs = { default = "refunds.paid" }
instances = 1
"#;

/// How many points of history there are before it begins, and when it is looked at; in the short form as few as are
/// needed to see it.
const BEFORE: [usize; 2] = [1, 18];
const LOOKED_AT: [usize; 2] = [2, 27];
const WITHIN: Duration = Duration::from_secs(400);

fn until_points(mill: &Mill, points: usize) {
    let known = || {
        let said = mill.get("/api/v1/overview");
        let done = &said["overview"]["pipelines"][0]["history"]["done"];
        (done.as_array().expect("history").len() >= points).then_some(())
    };
    waiting::until("the history is long enough", WITHIN, known);
}

fn order(n: usize, way: &str) -> (String, Value) {
    let customer = if n.is_multiple_of(3) { 17 } else { n % 40 };
    let value = json!({
        "way": way, "order_id": 480_000 + n, "customer": format!("c-{customer:04}"),
        "items": [{ "sku": format!("A-{:03}", n % 97), "quantity": n % 5 + 1, "unit_price": "19.90" }],
        "currency": "EUR",
    });
    (format!("c-{customer:04}"), value)
}

#[test]
fn a_poison_burst_during_a_slow_dependency_is_told_with_what_to_do() {
    let long = usize::from(std::env::var_os("MILLSTREAM_SOAK").is_some());
    let mill = Mill::start(MORE);
    let (stop, slow, sent) = (AtomicBool::new(false), AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let begin = sent.fetch_add(6, Ordering::Relaxed);
                let orders = (begin..begin + 6).map(|n| match n % 12 {
                    _ if !slow.load(Ordering::Relaxed) => order(n, "sleep 2"),
                    0 => order(n, "sleep 900"),
                    1 => order(n, "panic shipping zone EU-7"),
                    2 | 3 => order(n, &format!("reject order {} has no price", 480_000 + n)),
                    4 => order(n, "retry the price service answered 503"),
                    _ => order(n, "sleep 120"),
                });
                mill.produce("orders.created", orders);
                mill.produce("refunds.requested", [order(begin, "echo")]);
                std::thread::park_timeout(Duration::from_millis(200));
            }
        });
        let ended = End(&stop);
        let browser = Browser::start();
        mill.open(&browser, "");
        browser.until_shown("All is well");
        let shots = |name: &str| {
            for (mode, theme) in [("light", "light"), ("dark", "dark")] {
                browser.prefers(&[
                    ("prefers-color-scheme", theme),
                    ("prefers-reduced-motion", "reduce"),
                ]);
                browser.size(1280, 900);
                browser.screenshot(&format!("incident-{name}-{mode}"));
            }
            browser.size(390, 844);
            browser.screenshot(&format!("incident-{name}-narrow"));
            browser.prefers(&[]);
            browser.size(1280, 900);
        };
        until_points(&mill, BEFORE[long]);
        shots("before");
        slow.store(true, Ordering::Relaxed);
        browser.until_shown("of attempts fail");
        browser.until_shown("dead letters in the last minute");
        browser.until_shown("Attempts take long");
        until_points(&mill, LOOKED_AT[long]);
        shots("overview");
        browser.script("window.scrollTo(0, 620)");
        browser.size(1280, 900);
        browser.screenshot("incident-flow-light");

        browser.script("window.scrollTo(0, 0)");
        browser.click(".problem .see");
        browser.until("document.querySelector('.failure, .rows.letters tbody tr')");
        for view in ["partitions", "failures", "letters"] {
            browser.script(&format!("location.hash = '#/{view}?pipeline=orders'"));
            let there = ["table.partitions", ".failure.now", ".rows.letters tbody tr"];
            browser.until(&format!(
                "document.querySelector('main.view-{view}') && document.querySelector('{}')",
                there.join(", ")
            ));
            shots(view);
        }
        unlock(&browser);
        // What crashes is out of attempts only after minutes.
        browser.click([".rows.letters tbody tr", ".rows.letters tbody tr .kind.trap"][long]);
        browser.until("document.querySelector('dialog pre.value')");
        shots("letter");
        browser.keys(&[millstream_tests::browser::ESCAPE]);
        browser.until("!document.querySelector('dialog')");
        browser.script("location.hash = '#/letters?pipeline=orders&kind=reject'");
        browser.until("document.querySelector('.reasons .pill')");
        browser.click(".reasons .primary");
        browser.until_shown("go back to be handled");
        shots("redrive");
        browser.keys(&[millstream_tests::browser::ESCAPE]);
        no_errors(&browser);
        drop(ended);
    });
}

/// Stops the feeder also when the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
