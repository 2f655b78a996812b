//! A headless Chromium, as a person has one: driven over WebDriver, a new profile each time.
//!
//! Chromium's own driver speaks WebDriver; what it does not know (dark, narrow, a screenshot of the whole page) it passes
//! on to Chromium. Both are Debian's packages, which `tests/prepare` installs.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::program::tree;
use crate::waiting;

/// How long anything on a page may take.
const WITHIN: Duration = Duration::from_secs(30);
/// How WebDriver names an element in an answer.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Escape, as WebDriver writes it.
pub const ESCAPE: &str = "\u{e00c}";
/// Enter.
pub const ENTER: &str = "\u{e007}";
/// Tab.
pub const TAB: &str = "\u{e004}";

/// See the module. Ended when it is dropped.
pub struct Browser {
    driver: Child,
    session: String,
    http: ureq::Agent,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts one.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start() -> Self {
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let spawned = command.spawn();
        let mut driver = spawned
            .unwrap_or_else(|error| panic!("chromedriver: {error}: `tests/prepare` installs it"));
        let mut said = BufReader::new(driver.stdout.take().unwrap());
        let port = loop {
            let mut line = String::new();
            assert!(said.read_line(&mut line).unwrap() > 0, "chromedriver ended");
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                break port.trim().trim_end_matches('.').parse::<u16>().unwrap();
            }
        };
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        let profile = tempfile::tempdir().unwrap();
        let http: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(WITHIN * 2))
            .http_status_as_error(false)
            .build()
            .into();
        let mut browser = Self {
            driver,
            session: format!("http://127.0.0.1:{port}/session"),
            http,
            _profile: profile,
        };
        let profile = format!("--user-data-dir={}", browser._profile.path().display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--force-color-profile=srgb",
            "--hide-scrollbars",
            "--window-size=1280,900",
            &profile,
        ];
        let wanted = json!({
            "browserName": "chrome",
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let begun = browser.call("", &json!({ "capabilities": { "alwaysMatch": wanted } }));
        let id = begun["sessionId"].as_str().expect("a session").to_owned();
        browser.session = format!("{}/{id}", browser.session);
        browser
    }

    fn call(&self, path: &str, body: &Value) -> Value {
        self.tried(path, body).unwrap_or_else(|error| panic!("{path} {body}: {error}"))
    }

    fn tried(&self, path: &str, body: &Value) -> Result<Value, String> {
        let url = format!("{}{path}", self.session);
        let sent = self.http.post(&url).header("content-type", "application/json");
        let mut answer = sent.send(body.to_string()).map_err(|error| error.to_string())?;
        let status = answer.status();
        let text = answer.body_mut().with_config().limit(64 << 20).read_to_string();
        let text = text.map_err(|error| error.to_string())?;
        let said: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        if status == 200 { Ok(said["value"].clone()) } else { Err(said["value"].to_string()) }
    }

    fn chromium(&self, command: &str, params: &Value) -> Value {
        self.call("/goog/cdp/execute", &json!({ "cmd": command, "params": params }))
    }

    /// Goes to an address.
    pub fn open(&self, url: &str) {
        self.call("/url", &json!({ "url": url }));
    }

    /// Runs a script in the page: the body of a function that returns something.
    pub fn script(&self, body: &str) -> Value {
        self.call("/execute/sync", &json!({ "script": body, "args": [] }))
    }

    /// Waits until a script's expression is true.
    ///
    /// # Panics
    /// When it stays false, with what the page shows.
    pub fn until(&self, expression: &str) {
        let deadline = tokio::time::Instant::now() + WITHIN;
        while self.script(&format!("return !!({expression})")) != json!(true) {
            if tokio::time::Instant::now() > deadline {
                let shown = self.script("return document.body.innerText");
                panic!(
                    "the page never had this: {expression}\nit shows: {shown}\n{:?}",
                    self.errors()
                );
            }
            waiting::pause();
        }
    }

    /// Waits until the page shows a text.
    pub fn until_shown(&self, text: &str) {
        self.until(&format!("document.body.innerText.includes({})", json!(text)));
    }

    /// What the first element of this selector shows; `None` if there is none.
    pub fn text(&self, selector: &str) -> Option<String> {
        let text = format!("return document.querySelector({})?.innerText ?? null", json!(selector));
        self.script(&text).as_str().map(str::to_owned)
    }

    /// Clicks the first element of this selector, as a mouse does, once it is there and can be clicked.
    ///
    /// # Panics
    /// When it cannot.
    pub fn click(&self, selector: &str) {
        self.at(selector, |element| self.tried(&format!("/element/{element}/click"), &json!({})));
    }

    /// Types into the first element of this selector.
    ///
    /// # Panics
    /// When it cannot.
    pub fn fill(&self, selector: &str, text: &str) {
        let body = json!({ "text": text });
        self.at(selector, |element| self.tried(&format!("/element/{element}/value"), &body));
    }

    /// The page draws itself anew all the time: what went away meanwhile is looked for again.
    fn at(&self, selector: &str, act: impl Fn(&str) -> Result<Value, String>) {
        let deadline = tokio::time::Instant::now() + WITHIN;
        loop {
            let by = json!({ "using": "css selector", "value": selector });
            let acted = self.tried("/element", &by).and_then(|found| {
                act(found[ELEMENT].as_str().ok_or_else(|| format!("no element: {found}"))?)
            });
            match acted {
                Ok(_) => return,
                Err(error) if tokio::time::Instant::now() > deadline => {
                    let shown = self.script("return document.body.innerText");
                    panic!("{selector}: {error}\nthe page shows: {shown}");
                }
                Err(_) => waiting::pause(),
            }
        }
    }

    /// Presses keys, one after the other, wherever the focus is.
    pub fn keys(&self, keys: &[&str]) {
        let press = |key: &&str| {
            let event = |kind: &str| json!({ "type": kind, "value": key });
            [event("keyDown"), event("keyUp")]
        };
        let actions: Vec<Value> = keys.iter().flat_map(press).collect();
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": actions });
        self.call("/actions", &json!({ "actions": [keyboard] }));
    }

    /// Makes the page so wide and high.
    pub fn size(&self, width: u32, height: u32) {
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false,
        });
        self.chromium("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Says what the system prefers.
    pub fn prefers(&self, features: &[(&str, &str)]) {
        let feature = |(name, value): &(&str, &str)| json!({ "name": name, "value": value });
        let features: Vec<_> = features.iter().map(feature).collect();
        self.chromium("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// Keeps what the page looks like in `tests/artifacts`.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn screenshot(&self, name: &str) -> PathBuf {
        let shot = self.chromium("Page.captureScreenshot", &json!({ "format": "png" }));
        let png = STANDARD.decode(shot["data"].as_str().expect("an image")).unwrap();
        let folder = tree().join("tests/artifacts/console");
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join(format!("{name}.png"));
        std::fs::write(&file, png).unwrap();
        file
    }

    /// What went wrong in the page since this was asked last: exceptions, refused files, broken policies. Requests that were
    /// not answered are none: the page says so itself.
    pub fn errors(&self) -> Vec<String> {
        let log = self.tried("/se/log", &json!({ "type": "browser" })).unwrap_or_default();
        let entries = log.as_array().cloned().unwrap_or_default();
        let severe = entries
            .iter()
            .filter(|entry| entry["level"] == "SEVERE" && entry["source"] != "network");
        severe.map(|entry| entry["message"].to_string()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends Chromium with it; killed alone the driver would leave it behind.
        let _ = self.http.delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
