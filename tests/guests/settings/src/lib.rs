//! Answers with the setting its message's value names; without a value, with all of them.

wit_bindgen::generate!({ path: "../../../wit/plugin-0.1.0", world: "handler", generate_all });

use exports::millstream::plugin::handle::{Failure, Guest, Message, Output};
use millstream::plugin::types::{Destination, Reject};
use wasi::config::store;

struct Settings;

impl Guest for Settings {
    fn handle(message: Message) -> Result<Vec<Output>, Failure> {
        let unreadable = |error| Failure::Reject(Reject { reason: format!("{error:?}") });
        let value = match message.value {
            Some(name) => {
                let name = String::from_utf8_lossy(&name);
                store::get(&name).map_err(unreadable)?.map(String::into_bytes)
            }
            None => Some(format!("{:?}", store::get_all().map_err(unreadable)?).into_bytes()),
        };
        Ok(vec![Output {
            to: Destination::Default,
            key: None,
            value,
            headers: vec![],
            partition: None,
            timestamp: None,
        }])
    }
}

export!(Settings);
