//! The epoch ticker: a thread that lets running guests yield, so that none holds a worker for ever.

use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::EngineWeak;

/// How long a guest runs at most before it yields to the other tasks of its worker.
pub(crate) const TICK: Duration = Duration::from_millis(5);

/// The thread; ends when this is dropped.
pub(crate) struct Ticker {
    /// Dropped to wake and end the thread.
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Starts ticking.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(crate) fn start(engine: EngineWeak) -> std::io::Result<Self> {
        let (stop, stopped) = sync_channel(0);
        let thread = std::thread::Builder::new().name("epoch-ticker".into()).spawn(move || {
            while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                // Without an engine nothing runs; the sandbox is about to drop this thread.
                let Some(engine) = engine.upgrade() else { break };
                engine.increment_epoch();
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported; there is nothing to save here.
            let _ = thread.join();
        }
    }
}
