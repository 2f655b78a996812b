//! A consumer whose main queue is served by a thread: log lines, errors and OAUTHBEARER tokens of a
//! client come through that queue, and nobody else reads it for clients that belong to no group.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use millstream_core::log::LogError;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};

use crate::client::Context;
use crate::errors;

impl ConsumerContext for Context {}

const SERVE_EVERY: Duration = Duration::from_millis(100);

/// See the module. The thread ends with the value.
pub(crate) struct Polled {
    consumer: Arc<BaseConsumer<Context>>,
    /// Dropped to end the thread.
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Polled {
    pub(crate) fn new(config: &ClientConfig, context: Context) -> Result<Self, LogError> {
        let created = config.create_with_context(context);
        let consumer: BaseConsumer<Context> =
            created.map_err(|error| errors::log_error("creating a Kafka client", &error))?;
        let consumer = Arc::new(consumer);
        let served = Arc::clone(&consumer);
        let (stop, stopped) = sync_channel(0);
        let serve = move || {
            while stopped.recv_timeout(SERVE_EVERY) == Err(RecvTimeoutError::Timeout) {
                while served.poll(Duration::ZERO).is_some() {}
            }
        };
        let thread = std::thread::Builder::new()
            .name("kafka-client".to_owned())
            .spawn(serve)
            .map_err(|error| LogError::Unavailable(format!("no thread for Kafka: {error}")))?;
        Ok(Self { consumer, stop: Some(stop), thread: Some(thread) })
    }

    /// Why a call failed: what the client said before, if that does not pass by itself.
    pub(crate) fn error(&self, operation: &str, error: &rdkafka::error::KafkaError) -> LogError {
        use rdkafka::consumer::Consumer as _;
        let said = self.consumer.context().lasting_error(operation);
        match errors::log_error(operation, error) {
            LogError::Unavailable(text) => said.unwrap_or(LogError::Unavailable(text)),
            error => error,
        }
    }

    /// See [`Context::last_said`].
    pub(crate) fn last_said(&self) -> String {
        use rdkafka::consumer::Consumer as _;
        self.consumer.context().last_said()
    }

    pub(crate) fn shared(&self) -> Arc<BaseConsumer<Context>> {
        Arc::clone(&self.consumer)
    }
}

impl Deref for Polled {
    type Target = BaseConsumer<Context>;

    fn deref(&self) -> &Self::Target {
        &self.consumer
    }
}

impl Drop for Polled {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported; there is nothing to save here.
            let _ = thread.join();
        }
    }
}
