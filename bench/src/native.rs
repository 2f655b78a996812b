//! The handler of the guest called natively: the same file, the same types in and out, behind the
//! same port. What it costs less is what the sandbox costs.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use millstream_core::message::{Header, Message};
use millstream_core::outcome::{Destination, Outcome, Output};
use millstream_core::plugin::{AttemptContext, Instance, Plugin, PluginError, PluginIdentity};
use millstream_plugin as sdk;

use crate::passthrough;

/// The handler as a plugin without a sandbox.
pub(crate) fn plugin() -> Arc<dyn Plugin> {
    let identity = PluginIdentity {
        name: "native".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        digest: "none".to_owned(),
    };
    Arc::new(Native(identity))
}

struct Native(PluginIdentity);

#[async_trait]
impl Plugin for Native {
    fn identity(&self) -> &PluginIdentity {
        &self.0
    }

    async fn instance(&self) -> Result<Box<dyn Instance>, PluginError> {
        Ok(Box::new(NativeInstance))
    }
}

struct NativeInstance;

#[async_trait]
impl Instance for NativeInstance {
    async fn handle(&mut self, message: &Message, context: AttemptContext) -> Outcome {
        match sdk::guest::answer(passthrough::handle(own(message, context))) {
            Ok(outputs) => Outcome::Done(outputs.into_iter().map(output).collect()),
            Err(sdk::Failure::Retry(retry)) => Outcome::Retry {
                reason: retry.reason,
                after: retry.after.map(Duration::from_millis),
            },
            Err(sdk::Failure::Reject(reject)) => Outcome::Reject { reason: reject.reason },
            Err(sdk::Failure::Pause(pause)) => Outcome::Pause {
                reason: pause.reason,
                pause: Duration::from_millis(pause.duration),
            },
        }
    }
}

/// The message as the handler wants it: owned, so copied once, as into a guest's memory.
fn own(message: &Message, context: AttemptContext) -> sdk::Message {
    let header = |h: &Header| sdk::Header { name: h.name.to_string(), value: h.value.to_vec() };
    sdk::Message {
        topic: message.topic.to_string(),
        partition: message.partition,
        offset: message.offset,
        timestamp: context.timestamp,
        key: message.key.as_ref().map(|key| key.to_vec()),
        value: message.value.as_ref().map(|value| value.to_vec()),
        headers: message.headers.iter().map(header).collect(),
        attempt: context.attempt,
    }
}

fn output(output: sdk::Output) -> Output {
    Output {
        to: match output.to {
            sdk::Destination::Default => Destination::Default,
            sdk::Destination::Named(name) => Destination::Named(name),
            sdk::Destination::Reply => Destination::Reply,
        },
        key: output.key.map(Bytes::from),
        value: output.value.map(Bytes::from),
        headers: output.headers.into_iter().map(|h| Header::new(h.name, h.value)).collect(),
        partition: output.partition,
        timestamp: output.timestamp,
    }
}
