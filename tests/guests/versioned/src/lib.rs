//! Says in each output which version made it. A test makes versions of it by writing into [`NAME`] in its bytes.
//!
//! A version `half…` rejects messages whose value is an odd number. A value that begins with `sleep` takes so many
//! milliseconds.

wit_bindgen::generate!({ path: "../../../wit/plugin-0.1.0", world: "handler", generate_all });

use std::hint::black_box;
use std::time::Duration;

use exports::millstream::plugin::handle::{Failure, Guest, Message, Output};
use millstream::plugin::types::{Destination, Reject};

/// What a test looks for, and what it writes behind it.
static NAME: [u8; 64] = *b"the name of this version stands here: one                       ";

struct Versioned;

impl Guest for Versioned {
    fn handle(message: Message) -> Result<Vec<Output>, Failure> {
        let name = String::from_utf8_lossy(black_box(&NAME)).into_owned();
        let version = name.rsplit(": ").next().unwrap_or_default().trim_end();
        let value = String::from_utf8(message.value.unwrap_or_default()).unwrap();
        if let Some(time) = value.strip_prefix("sleep ") {
            std::thread::sleep(Duration::from_millis(time.parse().unwrap()));
        }
        let odd = value.parse::<u64>().is_ok_and(|number| number % 2 == 1);
        if version.starts_with("half") && odd {
            return Err(Failure::Reject(Reject { reason: format!("{version} takes no {value}") }));
        }
        Ok(vec![Output {
            to: Destination::Default,
            key: message.key,
            value: Some(format!("{value} {version}").into_bytes()),
            headers: message.headers,
            partition: None,
            timestamp: None,
        }])
    }
}

export!(Versioned);
