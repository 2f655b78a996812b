//! A stream of messages into a host that will fail, until nobody takes them any more; and what of it was
//! acknowledged.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use millstream_tests::folder::{Ended, Folder};

const STEP: usize = 20;
const STEP_EVERY: Duration = Duration::from_millis(5);
/// No number that the stream comes to.
pub(crate) const FIRST_AFTER: usize = 1_000_000;

/// Messages that are sent until nobody takes them any more.
pub(crate) struct Stream {
    command: std::thread::JoinHandle<Ended>,
    enough: Arc<AtomicBool>,
    tried: Arc<AtomicUsize>,
}

impl Stream {
    pub(crate) fn begin(folder: &Arc<Folder>) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let tried = Arc::new(AtomicUsize::new(0));
        let (folder, stop, count) = (Arc::clone(folder), Arc::clone(&enough), Arc::clone(&tried));
        let feed = move |input: &mut std::process::ChildStdin| {
            let mut numbers = 0..FIRST_AFTER;
            while !stop.load(Ordering::Relaxed) {
                let text: String = numbers.by_ref().take(STEP).map(message).collect();
                count.fetch_add(STEP, Ordering::Relaxed);
                if input.write_all(text.as_bytes()).is_err() {
                    return;
                }
                std::thread::sleep(STEP_EVERY);
            }
        };
        let command = std::thread::spawn(move || folder.run_fed(&["produce", "work"], feed));
        Self { command, enough, tried }
    }

    /// What was sent, for the independent reader.
    pub(crate) fn end(self) -> String {
        self.enough.store(true, Ordering::Relaxed);
        let ended = self.command.join().unwrap();
        assert_eq!(ended.code, Some(1), "nobody took what was sent last: {ended:?}");
        let acknowledged = ended.appended();
        assert!(acknowledged > 0, "{ended:?}");
        let tried = self.tried.load(Ordering::Relaxed);
        let line = |number| match number < acknowledged {
            true => format!("n{number}\n"),
            false => format!("n{number} maybe\n"),
        };
        (0..tried).map(line).collect()
    }
}

/// A message as a line for `produce`; its output is its number.
pub(crate) fn message(number: usize) -> String {
    format!("{{\"key\":\"n{number}\",\"value\":\"after 0 {number}\"}}\n")
}
