//! The one place that runs compiled code it did not compile itself.
#![expect(
    unsafe_code,
    reason = "wasmtime cannot verify compiled code; the caller has checked owner and checksum"
)]

use wasmtime::Engine;
use wasmtime::component::Component;

/// The component of compiled code that this host wrote and whose checksum held.
///
/// # Errors
/// When the code is of another engine or of other settings.
pub(crate) fn component(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `code` is what `Component::serialize` gave: `read_entry` has checked that the file is
    // this user's, that nobody else could write it, and that its checksum holds.
    unsafe { Component::deserialize(engine, code) }
}
