//! A host that goes away: the page says so and since when, and goes on by itself.

use millstream_tests::browser::Browser;
use millstream_tests::host::{END_WITHIN, Host};
use serde_json::json;

use super::{Mill, unlock};

#[test]
fn the_page_says_that_nobody_answers_and_goes_on_with_the_next_host() {
    let mut mill = Mill::start("");
    mill.keep_address();
    let browser = Browser::start();
    mill.open(&browser, "");
    browser.until_shown("All is well");
    unlock(&browser);
    mill.host.take().expect("it runs").stop(END_WITHIN);
    browser.until_shown("The host does not answer since");
    browser.until("document.title.startsWith('No answer')");
    browser.screenshot("going-away");

    let mut host = Host::start(&mill.folder);
    host.until_ready();
    mill.host = Some(host);
    browser
        .until("document.querySelector('.link-state.live') && !document.querySelector('.banner')");
    // It has the same token, so the page may still write.
    browser.until("document.querySelector('.access.write')");
    mill.produce("orders.created", [("k".to_owned(), json!("echo"))]);

    // One with another token is read, and the old token forgotten.
    mill.host.take().expect("it runs").stop(END_WITHIN);
    let config = std::fs::read_to_string(mill.folder.path().join("millstream.toml"));
    let other = config.expect("there").replace(super::TOKEN, "another-token-of-this-host");
    mill.folder.write("millstream.toml", &other);
    let mut host = Host::start(&mill.folder);
    host.until_ready();
    mill.host = Some(host);
    browser.until_shown("The token is not this host's");
    browser.until(
        "document.querySelector('.link-state.live') && !document.querySelector('.access.write')",
    );
}
