//! Speaks a contract that does not exist yet and imports what nobody provides, and settings.

wit_bindgen::generate!({
    inline: r#"
        package millstream:plugin@0.2.0;

        interface handle {
            handle: func(message: list<u8>) -> list<u8>;
        }

        world handler {
            import acme:telepathy/minds@1.0.0;
            import wasi:config/store@0.2.0-rc.1;
            import wasi:logging/logging@0.2.0;
            export handle;
        }

        package acme:telepathy@1.0.0 {
            interface minds {
                read: func() -> string;
            }
        }

        package wasi:config@0.2.0-rc.1 {
            interface store {
                variant error { upstream(string), io(string) }
                get: func(key: string) -> result<option<string>, error>;
            }
        }

        package wasi:logging@0.2.0 {
            interface logging {
                log: func(message: string);
            }
        }
    "#,
    world: "millstream:plugin/handler@0.2.0",
    generate_all,
});

use exports::millstream::plugin::handle::Guest;

struct FutureContract;

impl Guest for FutureContract {
    fn handle(message: Vec<u8>) -> Vec<u8> {
        wasi::logging::logging::log(&acme::telepathy::minds::read());
        match wasi::config::store::get("answer") {
            Ok(Some(answer)) => answer.into_bytes(),
            _ => message,
        }
    }
}

export!(FutureContract);
