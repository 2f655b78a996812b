//! Well-behaved without WASI. A value `panic` panics: its message reaches the host by `wasi:logging`,
//! as this target has no standard error.

wit_bindgen::generate!({ path: "../../../wit/plugin-0.1.0", world: "handler", generate_all });

use std::sync::Once;

use exports::millstream::plugin::handle::{Failure, Guest, Message, Output};
use millstream::plugin::types::Destination;
use wasi::logging::logging::{Level, log};

struct CoreEcho;

/// What the host takes for the plugin's version.
#[used]
#[unsafe(link_section = "version")]
static VERSION: [u8; 5] = *b"7.8.9";

static HOOK: Once = Once::new();

impl Guest for CoreEcho {
    fn handle(message: Message) -> Result<Vec<Output>, Failure> {
        HOOK.call_once(|| {
            std::panic::set_hook(Box::new(|info| log(Level::Critical, "panic", &info.to_string())));
        });
        if message.value.as_deref() == Some(b"panic") {
            panic!("no price for offset {}", message.offset);
        }
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

export!(CoreEcho);
