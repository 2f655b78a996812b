//! Exports the contract's interface by name, with another message in it.

wit_bindgen::generate!({
    inline: r#"
        package millstream:plugin@0.1.0;

        interface handle {
            record message { topic: string, value: list<u8> }
            handle: func(message: message) -> result<_, string>;
        }

        world handler {
            export handle;
        }
    "#,
});

use exports::millstream::plugin::handle::{Guest, Message};

struct WrongShape;

impl Guest for WrongShape {
    fn handle(_: Message) -> Result<(), String> {
        Ok(())
    }
}

export!(WrongShape);
