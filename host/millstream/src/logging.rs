//! Structured logs on stderr: text on a terminal, JSON otherwise.
//!
//! What is logged: `--log`, else `MILLSTREAM_LOG`, else warnings.

use tracing_subscriber::EnvFilter;

use crate::exit::Failure;
use crate::finding::{Code, Finding};
use crate::terminal::Terminal;

/// The environment's variable.
pub const VARIABLE: &str = "MILLSTREAM_LOG";
/// What is logged if nothing is said.
const FILTER_DEFAULT: &str = "warn";

/// The client library of Kafka calls it an error that a consumer which was closed is dropped; what its
/// clients have to say comes through the log adapter.
const CLIENTS: &str = "rdkafka=off";

/// Starts logging, once for the process.
///
/// # Errors
/// When the filter cannot be understood.
pub fn start(filter: Option<&str>, terminal: &Terminal) -> Result<(), Failure> {
    let variable = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
    let (text, from) = match (filter, &variable) {
        (Some(text), _) => (text, "--log"),
        (None, Some(text)) => (text.as_str(), VARIABLE),
        (None, None) => (FILTER_DEFAULT, "--log"),
    };
    let filter = EnvFilter::try_new(format!("{CLIENTS},{text}")).map_err(|error| {
        let fix = "write a level (`error`, `warn`, `info`, `debug`, `trace`), or \
                   `TARGET=LEVEL` parts with commas between them";
        let what = format!("{from} cannot be {text:?}");
        Failure::from(Finding::new(Code::Usage, what, fix).because(error))
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start in one process (tests of the library) keeps the first.
    let _ = if terminal.stderr {
        builder.with_ansi(terminal.colour()).try_init()
    } else {
        builder.json().flatten_event(true).try_init()
    };
    Ok(())
}
