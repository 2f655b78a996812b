//! What an operator sees and does, with the real program.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test ends where it fails")]

use millstream_guest_builder::guest;
use millstream_tests::folder::Folder;

mod deploy;
mod hot_keys;
mod instances;
mod metrics_page;
mod traces;

const CONFIG: &str = r#"
[host]
admin = "127.0.0.1:0"

[log]
durability = "100ms"

[pipelines.work]
source = { topics = ["work"] }
plugin = "hostile.wasm"
outputs = { default = "done" }
"#;

/// A folder with one pipeline of the hostile plugin, its topics there; `more` goes into its table.
fn folder(more: &str) -> Folder {
    let folder = Folder::new(&format!("{CONFIG}{more}"));
    folder.plugin("hostile.wasm", &guest("hostile"));
    folder.ok(&["topics", "create", "--pipelines"], "");
    folder
}
