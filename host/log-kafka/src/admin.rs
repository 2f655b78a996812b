//! Admin: the client that makes, lists and trims topics, with a thread that serves its main queue.
//!
//! rdkafka polls an admin client's own queue alone. Without this nobody would hand it a token
//! (OAUTHBEARER), and nobody would hear why it cannot connect.

use std::ffi::{CStr, CString};
use std::ops::Deref;
use std::ptr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;

use millstream_core::log::LogError;
use rdkafka::ClientContext as _;
use rdkafka::admin::AdminClient;
use rdkafka::bindings;
use rdkafka::client::OAuthToken;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafka;

use crate::client::{self, Context};
use crate::errors;
use crate::options::KafkaOptions;

const SERVE_EVERY_MS: i32 = 100;

/// See the module. The thread ends with the value.
pub(crate) struct Admin {
    client: Arc<AdminClient<Context>>,
    /// Dropped to end the thread.
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    pub(crate) fn new(options: &Arc<KafkaOptions>) -> Result<Self, LogError> {
        let context = Context::new(Arc::clone(options), "admin");
        let client: AdminClient<Context> = client::admin(options)
            .create_with_context(context)
            .map_err(|error| errors::log_error("creating the admin client", &error))?;
        let client = Arc::new(client);
        let served = Arc::clone(&client);
        let (stop, stopped) = sync_channel(0);
        let thread = std::thread::Builder::new()
            .name("kafka-admin".to_owned())
            .spawn(move || {
                while stopped.try_recv() == Err(TryRecvError::Empty) {
                    serve(&served);
                }
            })
            .map_err(|error| LogError::Unavailable(format!("no thread for Kafka: {error}")))?;
        Ok(Self { client, stop: Some(stop), thread: Some(thread) })
    }
}

impl Deref for Admin {
    type Target = AdminClient<Context>;

    fn deref(&self) -> &Self::Target {
        &self.client
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported; there is nothing to save here.
            let _ = thread.join();
        }
    }
}

/// Takes one event of the main queue, if one comes in time.
#[expect(unsafe_code, reason = "rdkafka does not poll the main queue of an admin client")]
fn serve(client: &AdminClient<Context>) {
    let native = client.inner().native_ptr();
    let context = client.inner().context();
    // SAFETY: the client lives through the call; queue and event are given back before it ends.
    unsafe {
        let queue = bindings::rd_kafka_queue_get_main(native);
        let event = bindings::rd_kafka_queue_poll(queue, SERVE_EVERY_MS);
        if !event.is_null() {
            match bindings::rd_kafka_event_type(event) {
                bindings::RD_KAFKA_EVENT_ERROR => {
                    let reason = CStr::from_ptr(bindings::rd_kafka_event_error_string(event));
                    let error = KafkaError::Global(bindings::rd_kafka_event_error(event).into());
                    context.error(error, &reason.to_string_lossy());
                }
                bindings::RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH => {
                    if let Err(reason) = refresh(native, context) {
                        tracing::warn!(%reason, "the admin client has no new token");
                        let reason = CString::new(reason).unwrap_or_default();
                        bindings::rd_kafka_oauthbearer_set_token_failure(native, reason.as_ptr());
                    }
                }
                _ => {}
            }
            bindings::rd_kafka_event_destroy(event);
        }
        bindings::rd_kafka_queue_destroy(queue);
    }
}

/// Hands the client the token that the file has now.
#[expect(unsafe_code, reason = "rdkafka does this only for queues that it polls")]
fn refresh(native: *mut RDKafka, context: &Context) -> Result<(), String> {
    let OAuthToken { token, principal_name, lifetime_ms } =
        context.generate_oauth_token(None).map_err(|error| error.to_string())?;
    let text = |text: String| CString::new(text).map_err(|error| error.to_string());
    let (token, principal) = (text(token)?, text(principal_name)?);
    let mut reason = [0; 512];
    // SAFETY: the client lives through the call; texts and buffer, too, and their sizes are right.
    let code = unsafe {
        bindings::rd_kafka_oauthbearer_set_token(
            native,
            token.as_ptr(),
            lifetime_ms,
            principal.as_ptr(),
            ptr::null_mut(),
            0,
            reason.as_mut_ptr(),
            reason.len(),
        )
    };
    if code == bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    // SAFETY: librdkafka ends it with a zero byte.
    Err(unsafe { CStr::from_ptr(reason.as_ptr()) }.to_string_lossy().into_owned())
}
