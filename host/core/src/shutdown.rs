//! Shutdown: asks a running pipeline to drain and end.

use tokio::sync::watch;

/// Asks for the end; dropping it asks as well, so that nothing runs on without an owner.
#[derive(Debug)]
pub struct Trigger(watch::Sender<bool>);

/// Hears of it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// A pair of both.
    pub fn new() -> (Trigger, Self) {
        let (sender, receiver) = watch::channel(false);
        (Trigger(sender), Self(receiver))
    }

    /// Waits until the end is asked for. Cancel-safe.
    pub async fn requested(&mut self) {
        // An error means that the trigger is gone.
        let _ = self.0.wait_for(|requested| *requested).await;
    }

    /// Whether the end was asked for.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }
}

impl Trigger {
    /// Asks for the end.
    pub fn request(&self) {
        self.0.send_replace(true);
    }
}
