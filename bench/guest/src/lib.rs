//! The handler of `passthrough.rs` as a plugin.

use millstream_plugin::handler;

mod passthrough;

handler!(passthrough::handle);
