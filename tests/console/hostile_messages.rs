//! What messages bring along is shown and never run.

use millstream_tests::browser::Browser;
use serde_json::json;

use super::{Mill, no_errors, unlock};

#[test]
fn markup_in_key_value_header_and_reason_is_text() {
    let mill = Mill::start("retry = { delays = [] }\n");
    let image = "<img src=x onerror=\"window.hurt=1\">";
    let script = "<script>window.hurt=1</script>";
    // A letter that turns the line's direction, and one that clears a terminal.
    let odd = "\u{202e}gnp.exe \u{1b}[2J";
    let records = json!([
        { "topic": "orders.created", "key": image, "value": format!("reject {image}{script}{odd}"),
          "headers": [[image, script], ["bytes", { "base64": "//79" }]] },
        { "topic": "orders.created", "key": { "base64": "/wD+" }, "value": format!("reject {}", "long ".repeat(3_000)) },
    ]);
    let (status, said) = mill.post("/api/v1/append", &json!({ "records": records }));
    assert_eq!(status, 200, "{said}");
    let browser = Browser::start();
    browser.prefers(&[("prefers-reduced-motion", "reduce")]);
    mill.open(&browser, "#/failures");
    browser.until_shown("<img src=x onerror");
    browser.screenshot("hostile-failures");
    unlock(&browser);
    for view in ["overview", "partitions", "letters"] {
        browser.script(&format!("location.hash = '#/{view}'"));
        browser.until(&format!("document.querySelector('main.view-{view}')"));
    }
    browser.until("document.querySelectorAll('.rows.letters tbody tr').length === 2");
    for letter in 0..2 {
        browser.click(&format!(".rows.letters tbody tr:nth-child({})", letter + 1));
        browser.until("document.querySelector('dialog pre.value')");
        browser.screenshot(&format!("hostile-letter-{letter}"));
        let shown = browser.text("dialog").expect("a drawer");
        assert!(!shown.contains(['\u{202e}', '\u{1b}']), "control characters are made visible");
        browser.click("dialog header button:last-child");
        browser.until("!document.querySelector('dialog')");
    }
    assert!(browser.script("return window.hurt ?? null").is_null());
    let made = browser.script("return document.querySelectorAll('img, script:not([src])').length");
    assert_eq!(made, json!(0), "no element was made of a message");
    no_errors(&browser);

    // The policy holds also if the page had a fault.
    browser.script(
        "try { document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hurt=1\">') } catch { window.kept = 1 }",
    );
    browser.until("window.kept === 1 && window.hurt === undefined");
}
