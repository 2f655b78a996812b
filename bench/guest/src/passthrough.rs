//! The handler that is measured. The benchmark compiles this very file twice: for Wasm as part of
//! the plugin, and natively as part of itself, so that a difference between both is the sandbox's.

use millstream_plugin::{Failure, Message, Output};

/// Sends each message on as it is.
pub(crate) fn handle(message: Message) -> Result<Output, Failure> {
    Ok(message.into())
}
