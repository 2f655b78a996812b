//! Well-behaved: each message goes on as it is, to the default output.

wit_bindgen::generate!({ path: "../../../wit/plugin-0.1.0", world: "handler", generate_all });

use exports::millstream::plugin::handle::{Failure, Guest, Message, Output};
use millstream::plugin::types::Destination;

struct Echo;

impl Guest for Echo {
    fn handle(message: Message) -> Result<Vec<Output>, Failure> {
        Ok(vec![Output {
            to: Destination::Default,
            key: message.key,
            value: message.value,
            headers: message.headers,
            partition: None,
            timestamp: None,
        }])
    }
}

export!(Echo);
