//! Store loop: the least a stream processor could be. One loop over the storage library itself:
//! read the items of a source keyspace in order, write each to an output keyspace together with the
//! position, in batches. It decodes nothing, chooses no partition, checks nothing.
//!
//! One item of the library a message. The source keyspace has the messages' partitions one behind
//! the other, so that the loop reads and writes in the order of the keys, which suits the library.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};

use anyhow::{Context as _, ensure};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Slice};
use millstream_log_embedded::EmbeddedOptions;

use crate::figures::{Stopwatch, Took};
use crate::filled_log::{PARTITIONS, SYNC_EVERY};
use crate::messages::{Keys, VALUE_BYTES, header, key, value};

/// Outputs that are written together with one position.
const BATCH_MESSAGES: usize = 256;

/// A key begins with its partition and ends with its offset.
const PARTITION_BYTES: usize = 8;

struct Store {
    db: Database,
    source: Keyspace,
    output: Keyspace,
    positions: Keyspace,
}

impl Store {
    /// With the memory the embedded log gives the library.
    fn open(dir: &Path) -> anyhow::Result<Self> {
        let options = EmbeddedOptions::default();
        let db = Database::builder(dir)
            .cache_size(options.cache_bytes)
            .journal_compression(CompressionType::None)
            .open()?;
        let keyspace = |name| {
            let create =
                || KeyspaceCreateOptions::default().max_memtable_size(options.write_buffer_bytes);
            db.keyspace(name, create)
        };
        let (source, output, positions) =
            (keyspace("source")?, keyspace("output")?, keyspace("positions")?);
        Ok(Self { db, source, output, positions })
    }
}

/// Runs the loop over `messages` in a fresh store in `dir`; answers what it took.
///
/// # Errors
/// When the library fails, or not every message came out.
pub(crate) fn run(dir: &Path, messages: u64) -> anyhow::Result<Took> {
    fill(&Store::open(dir)?, messages)?;
    // Opened again, as a host finds its data when it starts.
    let store = Store::open(dir)?;
    let (stop, stopped) = sync_channel::<()>(0);
    let took = std::thread::scope(|scope| {
        let db = &store.db;
        let syncing = scope.spawn(move || -> fjall::Result<()> {
            while stopped.recv_timeout(SYNC_EVERY) == Err(RecvTimeoutError::Timeout) {
                db.persist(PersistMode::SyncData)?;
            }
            Ok(())
        });
        let watch = Stopwatch::start();
        let copied = copy(&store);
        let took = watch.took();
        drop(stop);
        let synced = syncing.join().ok().context("the thread that syncs panicked")?;
        synced?;
        let copied = copied?;
        ensure!(copied == messages, "{copied} of {messages} messages came out of the store loop");
        Ok(took)
    })?;
    Ok(took)
}

fn fill(store: &Store, messages: u64) -> anyhow::Result<()> {
    let partitions = u64::from(PARTITIONS);
    for partition in 0..partitions {
        let mut batch = store.db.batch();
        for number in (partition..messages).step_by(usize::try_from(partitions)?) {
            let offset = number / partitions;
            batch.insert(&store.source, item_key(partition, offset), item(number));
            if batch.len() >= BATCH_MESSAGES {
                std::mem::replace(&mut batch, store.db.batch()).commit()?;
            }
        }
        batch.commit()?;
    }
    store.db.persist(PersistMode::SyncAll)?;
    Ok(())
}

fn copy(store: &Store) -> anyhow::Result<u64> {
    let mut copied = 0;
    let mut batch = store.db.batch();
    // The partition that is copied, and the offset of its last item in the batch.
    let mut position: Option<(Slice, Slice)> = None;
    for item in store.source.iter() {
        let (key, value) = item.into_inner()?;
        let (partition, offset) = (key.slice(..PARTITION_BYTES), key.slice(PARTITION_BYTES..));
        let next_partition = position.as_ref().is_some_and(|(before, _)| *before != partition);
        if next_partition && let Some((before, last)) = position.take() {
            batch.insert(&store.positions, before, last);
        }
        position = Some((partition, offset));
        batch.insert(&store.output, key, value);
        copied += 1;
        if batch.len() >= BATCH_MESSAGES
            && let Some((partition, last)) = position.take()
        {
            batch.insert(&store.positions, partition, last);
            std::mem::replace(&mut batch, store.db.batch()).commit()?;
        }
    }
    if let Some((partition, last)) = position {
        batch.insert(&store.positions, partition, last);
    }
    batch.commit()?;
    Ok(copied)
}

fn item_key(partition: u64, offset: u64) -> Vec<u8> {
    [partition.to_be_bytes(), offset.to_be_bytes()].concat()
}

/// A message's parts, one behind the other: as many bytes as a real encoding would have.
fn item(number: u64) -> Vec<u8> {
    let header = header(number, Keys::default());
    let parts = [
        &number.to_be_bytes()[..],
        &key(number),
        &value(number, VALUE_BYTES),
        header.name.as_bytes(),
        &header.value,
    ];
    parts.concat()
}
