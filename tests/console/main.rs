//! The console in a real browser, of a real host with a real plugin: clicked through, by keyboard alone, with hostile messages,
//! with a host that goes away, and in an incident. Screenshots are kept in `tests/artifacts/console`.
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a test ends where it fails")]

use millstream_guest_builder::guest;
use millstream_tests::browser::Browser;
use millstream_tests::folder::Folder;
use millstream_tests::host::Host;
use serde_json::{Value, json};

mod clicking;
mod going_away;
mod hostile_messages;
mod incident;

/// The token that opens everything.
const TOKEN: &str = "a-token-of-the-console-tests";

const CONFIG: &str = r#"
[host]
admin = "127.0.0.1:0"
admin_token = "${TOKEN_OF_TESTS}"

[log]
durability = "100ms"

[pipelines.orders]
source = { topics = ["orders.created"] }
plugin = "hostile.wasm"
outputs = { default = "orders.priced" }
instances = 2
"#;

/// A host with a pipeline `orders` of the hostile plugin, ready; `more` goes into its table.
struct Mill {
    folder: Folder,
    host: Option<Host>,
    address: String,
    http: ureq::Agent,
}

impl Mill {
    fn start(more: &str) -> Self {
        let config = format!("{CONFIG}{more}").replace("${TOKEN_OF_TESTS}", TOKEN);
        let folder = Folder::new(&config);
        folder.plugin("hostile.wasm", &guest("hostile"));
        let mut host = Host::start(&folder);
        host.until_ready();
        let address = host.address().expect("it answers");
        let http = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        Self { folder, host: Some(host), address, http }
    }

    /// The same port for the host that comes after this one.
    fn keep_address(&self) {
        let file = self.folder.path().join("millstream.toml");
        let config = std::fs::read_to_string(file).expect("there");
        let fixed = config.replace("127.0.0.1:0", &self.address);
        self.folder.write("millstream.toml", &fixed);
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let sent = self.http.post(self.url(path)).header("content-type", "application/json");
        let sent = sent.header("authorization", format!("Bearer {TOKEN}"));
        let mut answer = sent.send(body.to_string()).expect("an answer");
        let text = answer.body_mut().read_to_string().expect("text");
        (answer.status().as_u16(), serde_json::from_str(&text).expect("JSON"))
    }

    fn get(&self, path: &str) -> Value {
        let mut answer = self.http.get(self.url(path)).call().expect("an answer");
        serde_json::from_str(&answer.body_mut().read_to_string().expect("text")).expect("JSON")
    }

    /// Appends messages of these keys and values.
    fn produce(&self, topic: &str, messages: impl IntoIterator<Item = (String, Value)>) {
        let record = |(key, value): (String, Value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            json!({ "topic": topic, "key": key, "value": value })
        };
        let records: Vec<_> = messages.into_iter().map(record).collect();
        let (status, said) = self.post("/api/v1/append", &json!({ "records": records }));
        assert_eq!(status, 200, "{said}");
    }

    fn open(&self, browser: &Browser, hash: &str) {
        browser.open(&self.url(&format!("/console/{hash}")));
        browser.until("document.querySelector('.link-state.live')");
    }
}

/// Gives the page the token, as its user does.
fn unlock(browser: &Browser) {
    browser.click("button.access");
    browser.fill("dialog input[name=token]", TOKEN);
    browser.fill("dialog input[name=by]", "Ada");
    browser.click("dialog button[type=submit]");
    browser.until("document.querySelector('.access.write') && !document.querySelector('dialog')");
}

/// Nothing went wrong in the page that its user would not see.
fn no_errors(browser: &Browser) {
    assert_eq!(browser.errors(), Vec::<String>::new());
}
