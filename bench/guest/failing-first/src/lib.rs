//! Fails each message's first attempt and sends it on at the next: what the Kafka benchmark measures
//! retries with.

use millstream_plugin::prelude::*;

handler!(handle);

fn handle(message: Message) -> Result<Output, Failure> {
    if message.attempt == 1 {
        return Err(Failure::retry("every first attempt fails"));
    }
    Ok(message.into())
}
