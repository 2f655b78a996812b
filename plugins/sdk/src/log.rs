//! Lines for the plugin's log: `log::info!("priced {item}")`. Always granted; the host adds pipeline
//! and position and limits how many lines one message may write.
//!
//! On other targets than Wasm the lines go to standard error, where a failing test shows them.

use std::fmt;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What the code does, step by step.
    Trace,
    /// What helps to find a bug.
    Debug,
    /// What is worth knowing in passing.
    Info,
    /// What should be looked at.
    Warn,
    /// What went wrong.
    Error,
    /// What nothing can go on after.
    Critical,
}

/// Writes a line; `context` says which part of the plugin speaks. The macros call this.
pub fn write(level: Level, context: &str, line: fmt::Arguments<'_>) {
    match line.as_str() {
        Some(line) => sink::write(level, context, line),
        None => sink::write(level, context, &line.to_string()),
    }
}

#[cfg(target_arch = "wasm32")]
mod sink {
    use super::Level;
    use crate::bindings::wasi::logging::logging;

    pub(super) fn write(level: Level, context: &str, line: &str) {
        let level = match level {
            Level::Trace => logging::Level::Trace,
            Level::Debug => logging::Level::Debug,
            Level::Info => logging::Level::Info,
            Level::Warn => logging::Level::Warn,
            Level::Error => logging::Level::Error,
            Level::Critical => logging::Level::Critical,
        };
        logging::log(level, context, line);
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod sink {
    use super::Level;

    #[expect(clippy::print_stderr, reason = "the log of a test is its standard error")]
    pub(super) fn write(level: Level, context: &str, line: &str) {
        eprintln!("{level:?} {context}: {line}");
    }
}

macro_rules! level_macros {
    ($($name:ident $hidden:ident $level:ident $doc:literal, $d:tt;)*) => {
        $(
            #[doc(hidden)]
            #[macro_export]
            macro_rules! $hidden {
                ($d($d line:tt)*) => {
                    $crate::log::write(
                        $crate::log::Level::$level,
                        ::core::module_path!(),
                        ::core::format_args!($d($d line)*),
                    )
                };
            }
            #[doc = $doc]
            pub use $hidden as $name;
        )*
    };
}

level_macros! {
    trace __log_trace Trace "Writes a line at level trace; takes what `format!` takes.", $;
    debug __log_debug Debug "Writes a line at level debug; takes what `format!` takes.", $;
    info __log_info Info "Writes a line at level info; takes what `format!` takes.", $;
    warn __log_warn Warn "Writes a line at level warn; takes what `format!` takes.", $;
    error __log_error Error "Writes a line at level error; takes what `format!` takes.", $;
    critical __log_critical Critical "Writes a line at level critical; takes what `format!` takes.", $;
}
