//! Never finishes starting: its initialiser loops for ever.

wit_bindgen::generate!({ path: "../../../wit/plugin-0.1.0", world: "handler", generate_all });

use exports::millstream::plugin::handle::{Failure, Guest, Message, Output};

struct SlowStart;

#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

extern "C" fn start() {
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
