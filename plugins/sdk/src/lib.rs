//! Write a Millstream plugin in Rust: one pure function from a [`Message`] to [`Output`]s.
//!
//! ```
//! use millstream_plugin::prelude::*;
//!
//! handler!(handle);
//!
//! fn handle(message: Message) -> Result<Output, Failure> {
//!     Ok(Output::new(message.text()?.to_uppercase()))
//! }
//! # fn main() {}
//! ```
//!
//! That is a whole plugin. Built as a `cdylib` for `wasm32-wasip2` it is a component; built for
//! `wasm32-unknown-unknown` it is a smaller core module, which the host makes a component of. On any
//! other target it is ordinary Rust, so `cargo test` calls the handler as the function it is:
//!
//! ```
//! # use millstream_plugin::prelude::*;
//! # fn handle(message: Message) -> Result<Output, Failure> {
//! #     Ok(Output::new(message.text()?.to_uppercase()))
//! # }
//! let output = handle(Message::new("bolt").with_key("o-17")).unwrap();
//! assert_eq!(output, Output::new("BOLT"));
//! ```
//!
//! # What a handler returns
//!
//! `Result<T, E>`, where `T` is `Output`, `Vec<Output>`, an array of outputs, `Option<Output>` or
//! `()` (handled, nothing to send), and `E` is [`Failure`] or any error that says what it means by
//! [`IntoFailure`]. All outputs are sent, or none: a panic leaves nothing half-done.
//!
//! - [`Failure::retry`]: something passing is wrong; this message comes again after a delay.
//! - [`Failure::reject`]: the message itself is wrong; it becomes a dead letter.
//! - [`Failure::pause`]: something that every message needs is down; the lane stops.
//!
//! `?` turns the errors of parsing text, numbers and (feature `json`) JSON into a reject;
//! [`OrFailure`] decides for all others at the call:
//!
//! ```
//! # use millstream_plugin::prelude::*;
//! fn handle(message: Message) -> Result<Output, Failure> {
//!     let (item, count) = message.text()?.split_once('=').or_reject("no `=` in the line")?;
//!     let count: u32 = count.parse()?;
//!     Ok(Output::new(format!("{} of {item}", count * 2)).to("audit"))
//! }
//! assert!(handle(Message::new("bolt=x")).unwrap_err().is_reject());
//! ```
//!
//! # Capabilities
//!
//! [`log`] is always granted, [`config`] by the pipeline's `capabilities.config`. A plugin imports
//! what it uses: without either there is nothing to grant.

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::restriction,
    reason = "generated from wit/ by wit-bindgen; `millstream-plugin-checks` keeps it in step"
)]
pub mod bindings;
pub mod config;
mod failure;
#[doc(hidden)]
pub mod guest;
#[cfg(feature = "json")]
mod json;
pub mod log;
mod message;
mod output;

pub use failure::{Failure, IntoFailure, OrFailure, Pause, Reject, Retry};
pub use guest::IntoOutputs;
pub use message::{Header, Message};
pub use output::{Destination, Output};

/// Everything a plugin usually needs: `use millstream_plugin::prelude::*;`.
pub mod prelude {
    pub use crate::{Failure, IntoFailure, Message, OrFailure, Output, config, handler, log};
}

/// The types of `wit/plugin.wit`, where the generated bindings look for them. They are the ones that
/// authors use, so nothing is converted at the boundary.
#[cfg(target_arch = "wasm32")]
mod contract {
    pub(crate) use crate::{Destination, Failure, Header, Message, Output, Pause, Reject, Retry};
}
