//! `wasi:logging`: lines for the plugin log. Always granted.

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use crate::contract::LevelOut;
use crate::instance::State;
use crate::plugin_log::LogLevel;

/// The interface, without its version.
pub(crate) const INTERFACE: &str = "wasi:logging/logging";

/// Its version: a proposal's, so it is matched exactly.
pub(crate) const VERSION: &str = "0.1.0-draft";

/// Adds the interface.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut logging = linker.instance("wasi:logging/logging@0.1.0-draft")?;
    logging.func_wrap(
        "log",
        |store: StoreContextMut<'_, State>,
         (level, context, message): (LevelOut, String, String)| {
            store.data().log.lock().line(log_level(level), &context, &message);
            Ok(())
        },
    )
}

fn log_level(level: LevelOut) -> LogLevel {
    match level {
        LevelOut::Trace => LogLevel::Trace,
        LevelOut::Debug => LogLevel::Debug,
        LevelOut::Info => LogLevel::Info,
        LevelOut::Warn => LogLevel::Warn,
        LevelOut::Error => LogLevel::Error,
        LevelOut::Critical => LogLevel::Critical,
    }
}
