//! A redrive that gets SIGKILL again and again: every dead letter is sent once.

use millstream_tests::dead_letters::{each_once, redrive_and_kill, write};
use millstream_tests::draw::Draw;
use millstream_tests::folder::Folder;

const LETTERS: usize = 4_000;
const LETTERS_SOAK: usize = 100_000;
const KILLS: usize = 5;
const KILLS_SOAK: usize = 20;
const PARTITIONS: usize = 2;

#[test]
#[expect(clippy::print_stdout, reason = "cargo shows it when the test fails, and soaks always")]
fn a_redrive_on_the_embedded_log_that_is_killed_sends_each_letter_once() {
    let soak = std::env::var_os("MILLSTREAM_SOAK").is_some();
    let (letters, kills) = if soak { (LETTERS_SOAK, KILLS_SOAK) } else { (LETTERS, KILLS) };
    let mut draw = Draw::seeded("redrive");
    let folder = Folder::new(
        r#"
[host]
admin = "127.0.0.1:0"

[log]
durability = "always"
new_topics = { partitions = 2 }

[pipelines.orders]
source = { topics = ["orders"], group = "g" }
plugin = "orders.wasm"
"#,
    );
    folder.ok(&["topics", "create", "--pipelines"], "");
    write(&folder, "orders", "g", PARTITIONS, letters);
    let found = redrive_and_kill(
        &folder,
        &["dlq", "redrive", "orders", "--yes"],
        letters,
        kills,
        &mut draw,
    );
    println!("{letters} letters, {found:?}");
    assert!(found.in_the_middle > 0, "no kill fell into a redrive: {found:?}");
    let copies = folder.consume("orders.retry.0s");
    each_once(copies.iter().map(|copy| copy.text().to_owned()), letters);
    // All of them by one redrive, whatever killed it in between.
    let ids: std::collections::BTreeSet<&str> =
        copies.iter().map(|copy| copy.header("millstream-redrive-id")).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let listed = folder.json(&["dlq", "list", "orders", "--json"]);
    assert_eq!(listed[0]["states"]["open"], 0);
    let trail = folder.json(&["audit", "--json"]);
    let done = trail.as_array().unwrap().iter().filter(|entry| entry["outcome"] == "done").count();
    assert!(done >= 1, "{trail}");
}
