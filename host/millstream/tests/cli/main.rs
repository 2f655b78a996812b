//! The command line as a user has it: the real binary in a fresh folder. Output in
//! `tests/golden/<name>.txt`, configurations in `tests/config/<case>/`; with `BLESS=1 cargo test -p
//! millstream --test cli` both are written as they come, to be read before they are kept.
#![expect(clippy::expect_used, reason = "a test whose helper cannot go on has failed")]

mod config_cases;
mod dead_letters;
mod error_pages;
mod folder;
mod kafka;
mod lag_and_dlq;
mod messages;
mod plugins;
mod running_host;
mod topics;
mod words;

/// A configuration with one pipeline.
pub(crate) const ORDERS: &str = r#"
[log]
new_topics = { partitions = 2 }

[pipelines.orders]
source = { topics = ["orders"] }
plugin = "orders.wasm"
outputs = { default = "priced" }
instances = 1
retry = { delays = ["5s", "1m"] }
"#;
