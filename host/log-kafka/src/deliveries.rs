//! Deliveries: which records of which batch librdkafka has told of.
//!
//! A record carries its batch's slot and its place in it as a number through librdkafka, so nothing is
//! allocated for it. The last report of a batch wakes who waits for it.
//!
//! Limit: [`BATCH_RECORDS_MAX`] records in a batch.

use std::sync::{Mutex, PoisonError};

use millstream_core::log::Appended;
use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::ProducerContext;
use slab::Slab;
use tokio::sync::oneshot;

use crate::client::Context;
use crate::records;

const PLACE_BITS: u32 = 24;

/// See the module.
pub(crate) const BATCH_RECORDS_MAX: usize = 1 << PLACE_BITS;

/// What became of a record.
pub(crate) type Delivered = Result<Appended, Code>;

struct Batch {
    delivered: Vec<Delivered>,
    left: usize,
    done: oneshot::Sender<Vec<Delivered>>,
}

/// A producer's context: counts what was delivered.
pub(crate) struct Deliveries {
    client: Context,
    batches: Mutex<Slab<Batch>>,
}

/// A batch that records are added to.
#[derive(Clone, Copy)]
pub(crate) struct Slot(usize);

impl Slot {
    /// What the record at `place` carries.
    pub(crate) fn opaque(self, place: usize) -> usize {
        (self.0 << PLACE_BITS) | place
    }
}

impl Deliveries {
    pub(crate) fn new(client: Context) -> Self {
        Self { client, batches: Mutex::default() }
    }

    /// Expects so many reports, at least one; all of them come when all are there.
    pub(crate) fn expect(&self, records: usize) -> (Slot, oneshot::Receiver<Vec<Delivered>>) {
        let (done, all) = oneshot::channel();
        let batch = Batch { delivered: vec![Err(Code::Unknown); records], left: records, done };
        let slot = self.lock().insert(batch);
        (Slot(slot), all)
    }

    /// A record was delivered or refused.
    pub(crate) fn report(&self, opaque: usize, delivered: Delivered) {
        let (slot, place) = (opaque >> PLACE_BITS, opaque & (BATCH_RECORDS_MAX - 1));
        let mut batches = self.lock();
        let Some(batch) = batches.get_mut(slot) else { return };
        if let Some(stands) = batch.delivered.get_mut(place) {
            *stands = delivered;
        }
        batch.left = batch.left.saturating_sub(1);
        if batch.left == 0 {
            let batch = batches.remove(slot);
            drop(batches);
            // Nobody waits any more if the receiver is gone.
            let _ = batch.done.send(batch.delivered);
        }
    }

    /// Expects nothing more: what was open is answered as it stands.
    pub(crate) fn clear(&self) {
        let open = std::mem::take(&mut *self.lock());
        for (_, batch) in open {
            let _ = batch.done.send(batch.delivered);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Slab<Batch>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Deliveries {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.client.log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.client.error(error, reason);
    }

    fn generate_oauth_token(
        &self,
        config: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.client.generate_oauth_token(config)
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let delivered = match result {
            Ok(message) => Ok(Appended {
                partition: u32::try_from(message.partition()).unwrap_or(0),
                offset: records::offset(message.offset()),
            }),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(Code::Unknown)),
        };
        self.report(opaque, delivered);
    }
}
