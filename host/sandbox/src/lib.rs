//! The sandbox of Millstream: plugins as WebAssembly components, held within limits.
//!
//! Station `attempt` of the core hands a message to an [`millstream_core::plugin::Instance`] of a
//! [`LoadedPlugin`]; whatever the guest does comes back as an outcome.
//!
//! ```text
//! load:     component ──▶ compiled_cache ──▶ report ──▶ capabilities ──▶ room ──▶ plugin
//! message:  plugin ──▶ instance ──▶ pacing ──▶ contract ──▶ outcome, or fault
//!                                     ╰─▶ conduct
//! ```
//!
//! A hostile plugin can fail its own message, never the host: memory, tables, stack, time, outputs,
//! headers, log lines and the bytes the host copies are all bounded, and an instance that did
//! anything unclean is replaced. Its neighbours keep their share of the CPU: a plugin that runs more in
//! calls that fault than in others is held back ([`Rests`]).

mod bounded_text;
mod capabilities;
mod compiled_cache;
mod component;
mod component_type;
mod conduct;
mod contract;
mod fault;
mod instance;
mod limits;
mod pacing;
mod plugin;
mod plugin_log;
mod report;
mod room;
mod sandbox;
mod ticker;

pub use capabilities::clock::Clock;
pub use capabilities::{Access, Grants};
pub use compiled_cache::CacheError;
pub use component::{Form, PLUGIN_BYTES_MAX, PluginSource};
pub use limits::Limits;
pub use pacing::Rests;
pub use plugin::{LoadedPlugin, PluginOptions};
pub use plugin_log::{LogLevel, LogLine, PluginLog, Position, TracingLog};
pub use report::{Compiled, Import, Needs, PluginReport};
pub use sandbox::{LoadError, Sandbox, SandboxError, SandboxOptions};
