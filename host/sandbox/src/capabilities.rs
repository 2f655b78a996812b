//! Capabilities: what a plugin may import, and what the host gives for it.
//!
//! `wasi:logging` is always there; `wasi:config/store` where the pipeline grants a table. The WASI
//! 0.2 interfaces that a language's runtime imports by itself are satisfied closed: no files, no
//! environment, standard streams to the plugin log, clocks and random derived from the message.
//! Sockets may be imported (an interpreter does) and are denied when they are used. Anything else is
//! refused at load.

pub(crate) mod clock;
pub(crate) mod config;
pub(crate) mod logging;
pub(crate) mod random;
pub(crate) mod sockets;
pub(crate) mod wasi;

use std::collections::BTreeMap;

use millstream_core::outcome::FaultKind;

use crate::contract::{CONTRACT_VERSION, TYPES_INTERFACE};

/// What a pipeline grants its plugin beyond what every plugin has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// `wasi:config/store`: the settings of the pipeline's `capabilities.config` table.
    pub config: Option<BTreeMap<String, String>>,
}

/// A host function did not do what the guest asked: the call ends with this fault.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct Refused {
    pub(crate) kind: FaultKind,
    pub(crate) reason: String,
}

/// What the host has for an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Every plugin has it.
    Always,
    /// The pipeline grants it.
    Granted,
    /// It is there and empty: no files, no environment, derived clocks and random.
    Closed,
    /// It may be imported; using it is a fault of kind `denied`.
    DeniedInUse,
    /// It is not there: the plugin cannot be loaded.
    Refused,
}

/// The WASI 0.2 interfaces given closed.
const CLOSED: [&str; 20] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];

/// The access to the import of this name.
///
/// # Errors
/// What is wrong with the import and what to do, in one line.
pub(crate) fn access(import: &str, grants: &Grants) -> Result<Access, String> {
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    let exactly = |wanted: &str, access: Access| {
        if version == wanted {
            Ok(access)
        } else {
            Err(format!(
                "it imports {import}, this host provides {interface}@{wanted}: build it against \
                 that version"
            ))
        }
    };
    match interface {
        TYPES_INTERFACE => exactly(CONTRACT_VERSION, Access::Always),
        logging::INTERFACE => exactly(logging::VERSION, Access::Always),
        config::INTERFACE if grants.config.is_some() => exactly(config::VERSION, Access::Granted),
        config::INTERFACE => {
            exactly(config::VERSION, Access::Refused)?;
            Err(format!(
                "it imports {import}, which its pipeline does not grant: add a \
                 `capabilities.config` table to the pipeline, or build the plugin without it"
            ))
        }
        _ if CLOSED.contains(&interface) || sockets::provides(interface) => {
            // Within 0.2 a later patch only adds; what is missing shows when it is linked.
            if !version.starts_with("0.2.") {
                return Err(format!(
                    "it imports {import}, this host provides {interface}@0.2: build it for \
                     wasm32-wasip2"
                ));
            }
            let socket = sockets::provides(interface);
            Ok(if socket { Access::DeniedInUse } else { Access::Closed })
        }
        _ => Err(format!(
            "it imports {import}, which this host does not provide: build the plugin without it"
        )),
    }
}
