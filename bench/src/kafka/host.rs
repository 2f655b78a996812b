//! Host: the folder that `millstream run` runs in.

use std::fmt::Write as _;
use std::path::PathBuf;

use millstream_tests::folder::Folder;

use crate::contender::{Delivery, Task};

/// What differs between hosts.
pub(crate) struct HostSetup<'a> {
    pub(crate) delivery: Delivery,
    pub(crate) plugin: PathBuf,
    /// As it stands in the configuration.
    pub(crate) retry_delays: &'a str,
    /// How often a transaction is committed; `None` leaves the default.
    pub(crate) transaction_every: Option<&'a str>,
}

/// A folder with the configuration and the plugin.
pub(crate) fn folder(setup: &HostSetup<'_>, task: &Task<'_>) -> Folder {
    let folder = Folder::new(&config(setup, task));
    folder.plugin("plugin.wasm", &setup.plugin);
    folder
}

fn config(setup: &HostSetup<'_>, task: &Task<'_>) -> String {
    let Task { bootstrap, group, source, output, .. } = task;
    let HostSetup { retry_delays, .. } = setup;
    let delivery = match setup.delivery {
        Delivery::AtLeastOnce => "at_least_once",
        Delivery::ExactlyOnce => "exactly_once",
    };
    // As much in flight as a fast contender needs for seconds that it spends waiting for the broker.
    let mut config = format!(
        r#"
[host]
admin = "127.0.0.1:0"

[log]
kind = "kafka"
bootstrap_servers = "{bootstrap}"

[pipelines.bench]
source = {{ topics = ["{source}"], group = "{group}" }}
plugin = "plugin.wasm"
outputs = {{ default = "{output}" }}
delivery = "{delivery}"
ordering = "key"
in_flight = {{ messages = 50000, bytes = "64MiB" }}
instances = 2
retry = {{ delays = {retry_delays} }}
"#
    );
    if let Some(interval) = setup.transaction_every {
        // A `String` takes everything.
        let _ = writeln!(config, "commit = {{ interval = \"{interval}\" }}");
    }
    config
}
