//! Never finishes starting: its initialiser loops for ever.

wit_bindgen::generate!({ path: "../../../wit/plugin-0.1.0", world: "handler", generate_all });

use exports::millstream::plugin::handle::{Failure, Guest, Message, Output};

struct SlowStart;

/// Called by the host when it makes an instance.
#[unsafe(no_mangle)]
extern "C" fn _initialize() {
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

impl Guest for SlowStart {
    fn handle(_: Message) -> Result<Vec<Output>, Failure> {
        Ok(vec![])
    }
}

export!(SlowStart);
