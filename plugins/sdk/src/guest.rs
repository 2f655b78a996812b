//! Between the exported function and the author's handler: what a handler may return, and
//! [`handler!`](crate::handler), which exports it.

use crate::failure::Failure;
use crate::output::Output;

/// What a handler may return inside `Ok`.
pub trait IntoOutputs {
    /// The outputs, in their order.
    fn into_outputs(self) -> Vec<Output>;
}

impl IntoOutputs for Vec<Output> {
    fn into_outputs(self) -> Vec<Output> {
        self
    }
}

impl<const N: usize> IntoOutputs for [Output; N] {
    fn into_outputs(self) -> Vec<Output> {
        self.into()
    }
}

impl IntoOutputs for Output {
    fn into_outputs(self) -> Vec<Output> {
        vec![self]
    }
}

impl IntoOutputs for Option<Output> {
    fn into_outputs(self) -> Vec<Output> {
        self.into_iter().collect()
    }
}

/// Handled, and nothing to send.
impl IntoOutputs for () {
    fn into_outputs(self) -> Vec<Output> {
        Vec::new()
    }
}

/// A handler's result as the contract has it.
///
/// # Errors
/// The handler's own.
pub fn answer<T: IntoOutputs, E: Into<Failure>>(
    result: Result<T, E>,
) -> Result<Vec<Output>, Failure> {
    match result {
        Ok(outputs) => Ok(outputs.into_outputs()),
        Err(error) => Err(error.into()),
    }
}

/// Without WASI a panic message has nowhere to go: it becomes a log line, which the host puts in the
/// reason of the trap. With WASI it goes to standard error, with the same effect.
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
pub fn report_panics() {
    use std::sync::Once;

    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            crate::log::write(crate::log::Level::Critical, "panic", format_args!("{info}"));
        }));
    });
}

/// With WASI a panic message goes to standard error, which the host reads.
#[cfg(all(target_arch = "wasm32", not(target_os = "unknown")))]
pub fn report_panics() {}

/// Exports a function as the plugin's handler: `handler!(handle);`, once, at the top of the crate.
///
/// The function takes a [`Message`](crate::Message) and returns `Result<T, E>`, with `T:`
/// [`IntoOutputs`](crate::IntoOutputs) and `E:` [`Into<Failure>`](crate::Failure). On other targets
/// than Wasm its type is checked and nothing is exported.
#[macro_export]
macro_rules! handler {
    ($handle:path) => {
        const _: fn(
            $crate::Message,
        ) -> ::core::result::Result<::std::vec::Vec<$crate::Output>, $crate::Failure> =
            |message| $crate::guest::answer($handle(message));

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Plugin;

            impl $crate::bindings::exports::millstream::plugin::handle::Guest for Plugin {
                fn handle(
                    message: $crate::Message,
                ) -> ::core::result::Result<::std::vec::Vec<$crate::Output>, $crate::Failure>
                {
                    $crate::guest::report_panics();
                    $crate::guest::answer($handle(message))
                }
            }

            $crate::bindings::__export!(Plugin);

            // The plugin's version, for the host to name it in dead letters and metrics. The section
            // is data that no code reads, so nothing can go wrong at run time.
            const VERSION: &str = env!("CARGO_PKG_VERSION");
            #[used]
            #[unsafe(link_section = "version")]
            static VERSION_BYTES: [u8; VERSION.len()] = {
                let mut bytes = [0; VERSION.len()];
                bytes.copy_from_slice(VERSION.as_bytes());
                bytes
            };
        };
    };
}
