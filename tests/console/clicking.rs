//! Clicked through by mouse, then by keyboard alone.

use millstream_tests::browser::{Browser, ENTER, ESCAPE};
use serde_json::json;

use super::{Mill, TOKEN, no_errors, unlock};

const RETRIES: &str = "retry = { delays = [] }\n";

fn poison(n: usize) -> (String, serde_json::Value) {
    let value = json!({ "way": format!("reject order {n} has no price"), "order_id": n });
    (format!("customer-{n}"), value)
}

#[test]
fn a_dead_letter_is_found_shown_and_put_back() {
    let mill = Mill::start(RETRIES);
    mill.produce("orders.created", (0..12).map(poison));
    mill.produce("orders.created", [("k".to_owned(), json!("echo"))]);
    let browser = Browser::start();
    browser.prefers(&[("prefers-reduced-motion", "reduce")]);
    mill.open(&browser, "");
    browser.until_shown("dead letters in the last minute");
    browser.screenshot("clicked-overview");

    browser.click(".ways a[href^='#/partitions']");
    browser.until_shown("orders.created[0]");
    browser.click(".ways a[href^='#/failures']");
    browser.until_shown("has no price");
    let count = browser.text(".failure .counts b").expect("a count");
    assert_eq!(count, "12", "reasons that differ in a number are one");

    browser.click(".failure .see");
    browser.until_shown("12 dead letters");
    browser.click(".rows.letters tbody tr");
    browser.until_shown("not shown without the admin token");
    let shown = browser.text("dialog").expect("a drawer");
    assert!(!shown.contains("customer-"), "without the token no message is shown: {shown}");
    browser.keys(&[ESCAPE]);
    browser.until("!document.querySelector('dialog')");

    unlock(&browser);
    browser.click(".rows.letters tbody tr");
    browser.until_shown("\"order_id\": ");
    browser.until("document.querySelector('dialog').innerText.includes('customer-')");
    browser.click("dialog .tabs button:last-child");
    browser
        .until("document.querySelector('dialog pre.value').innerText.startsWith('000000  7b 22')");
    browser.screenshot("clicked-letter");
    browser.keys(&["j"]);
    browser.until_shown("2 of 12");

    // Again in the plugin that runs: as it failed then, and nothing is written.
    browser.click("dialog footer button:first-child");
    browser.click("dialog footer .primary");
    browser.until_shown("It fails as it did then");
    browser.screenshot("clicked-replay");
    browser.click("dialog footer button:first-child");
    browser.until_shown("2 of 12");

    // One: a button that says what happens is enough.
    browser.click("dialog footer .primary");
    browser.until_shown("1 dead letter goes back to be handled");
    browser.click("dialog button.danger");
    browser.until("!document.querySelector('dialog')");
    browser.until_shown("1 letter put back");
    // It is refused again: gone from where it lay, and there anew with one more redrive.
    browser.until_shown("1 ×");

    // All: only with their number typed.
    browser.click(".reasons .primary");
    browser.until_shown("12 dead letters go back to be handled");
    browser.screenshot("clicked-redrive");
    let blocked = "document.querySelector('dialog button.danger').disabled";
    browser.until(blocked);
    browser.fill("dialog input[name=typed]", "1");
    browser.until(blocked);
    browser.fill("dialog input[name=typed]", "2");
    browser.click("dialog button.danger");
    browser.until_shown("12 letters put back");

    browser.click(".ways a[href^='#/audit']");
    browser.until_shown("Ada (write token)");
    browser.until_shown("redrive of dead letters of orders.created.dlq to tier:0s: 12");
    browser.screenshot("clicked-audit");
    no_errors(&browser);

    let letters = mill.get("/api/v1/pipelines/orders/dead-letters");
    assert_eq!(letters["total"], 12, "and all were refused again: {letters}");
    let twice = |letter: &&serde_json::Value| letter["redrives"] == 2;
    assert_eq!(letters["letters"].as_array().expect("a list").iter().filter(twice).count(), 1);
}

#[test]
fn letters_are_given_up_only_with_their_number_typed() {
    let mill = Mill::start(RETRIES);
    mill.produce("orders.created", (0..3).map(poison));
    let browser = Browser::start();
    mill.open(&browser, "#/letters");
    browser.until_shown("3 dead letters");
    unlock(&browser);
    browser.click(".reasons .give-up");
    browser.until_shown("3 dead letters are given up");
    browser.until("document.querySelector('dialog button.danger').disabled");
    browser.fill("dialog input[name=typed]", "3");
    browser.screenshot("clicked-purge");
    browser.click("dialog button.danger");
    browser.until_shown("orders has no open dead letters");
    let letters = mill.get("/api/v1/pipelines/orders/dead-letters");
    assert_eq!(letters["total"], 0, "{letters}");
    no_errors(&browser);
}

#[test]
fn a_version_is_rolled_back_from_the_page() {
    let mill = Mill::start("");
    mill.folder.ok(&["deploy", "orders", "hostile.wasm", "--version", "two"], "");
    let browser = Browser::start();
    mill.open(&browser, "#/deployments");
    browser.until_shown("Roll back to the file of the configuration");
    unlock(&browser);
    browser.screenshot("clicked-versions");
    browser.click(".deployment header .primary");
    browser.until("document.querySelector('dialog button.danger').disabled");
    browser.fill("dialog input[name=typed]", "orders");
    browser.screenshot("clicked-rollback");
    browser.click("dialog button.danger");
    browser.until_shown("Rolled back");
    let versions = mill.get("/api/v1/pipelines/orders/versions");
    assert!(versions["in_use"].is_null(), "{versions}");
    assert_eq!(versions["changes"][0]["rollback"], true);
    no_errors(&browser);
}

#[test]
fn everything_goes_by_keyboard_and_looks_as_the_system_wants_it() {
    let mill = Mill::start(RETRIES);
    mill.produce("orders.created", (0..3).map(poison));
    let browser = Browser::start();
    browser.prefers(&[("prefers-color-scheme", "dark"), ("prefers-reduced-motion", "reduce")]);
    mill.open(&browser, "");
    let ground = "getComputedStyle(document.documentElement).backgroundColor";
    browser.until(&format!("{ground} === 'rgb(14, 17, 20)'"));
    browser.keys(&["t"]);
    browser.until(&format!("{ground} === 'rgb(244, 245, 246)'"));
    browser.keys(&["t", "t"]);

    for (key, title) in [
        ("p", "Partitions"),
        ("f", "Failures"),
        ("v", "Versions"),
        ("a", "Audit trail"),
        ("d", "Dead letters"),
    ] {
        browser.keys(&["g", key]);
        browser.until(&format!("document.getElementById('title')?.innerText === '{title}'"));
    }
    browser.keys(&["?"]);
    browser.until_shown("Everything can be reached with Tab");
    browser.keys(&[ESCAPE]);

    browser.keys(&["u"]);
    browser.until("document.activeElement?.name === 'token'");
    browser.keys(&TOKEN.split("").filter(|key| !key.is_empty()).collect::<Vec<_>>());
    browser.keys(&[ENTER]);
    browser.until("document.querySelector('.access.write')");
    let address = browser.script("return location.href + document.cookie");
    assert!(!address.to_string().contains(TOKEN), "the token is in no address and no cookie");

    browser.until("document.querySelector('.rows.letters tbody tr')");
    browser.keys(&["/"]);
    browser.until("document.activeElement?.id === 'filter'");
    browser.keys(&["n", "o", "n", "e"]);
    browser.until_shown("No letter passes the filter");
    browser.keys(&[ESCAPE]);
    browser.until("document.querySelector('.rows.letters tbody tr')");

    let tab_until = |focused: &str| {
        // More than the page has places to stop at.
        for _ in 0..60 {
            browser.keys(&[millstream_tests::browser::TAB]);
            if browser.script(&format!("return {focused}")) == json!(true) {
                return;
            }
        }
        panic!("Tab never reaches {focused}");
    };
    tab_until("document.activeElement.matches('.rows.letters tbody button')");
    let ring = "getComputedStyle(document.activeElement).outlineStyle === 'solid'";
    browser.until(ring);
    browser.keys(&[ENTER]);
    browser.until_shown("1 of 3");
    tab_until("document.activeElement.matches('dialog footer .primary')");
    browser.keys(&[ENTER]);
    browser.until_shown("goes back to be handled");
    tab_until("document.activeElement.matches('dialog button.danger')");
    browser.screenshot("keyboard-redrive");
    browser.keys(&[ENTER]);
    browser.until_shown("1 letter put back");
    no_errors(&browser);

    browser.size(390, 844);
    for view in ["overview", "partitions", "failures", "letters", "audit"] {
        browser.script(&format!("location.hash = '#/{view}'"));
        browser.until(&format!("document.querySelector('main.view-{view}')"));
        let wide = browser.script("return document.documentElement.scrollWidth");
        assert!(wide.as_u64().is_some_and(|wide| wide <= 390), "{view} is {wide} wide at 390");
        browser.screenshot(&format!("narrow-{view}"));
    }
}
