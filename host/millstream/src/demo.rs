//! Demo: the main job as a user would do it, by the commands a user would type.
//!
//! Orders go into the embedded log, through the example plugin, into outputs, retries and dead
//! letters; the host is killed on the way, the plugin is "fixed", the dead letters are redriven. Then
//! every message is accounted for, by reading the log's topics and nothing else. Host and tools are
//! child processes of the same binary, so nothing here knows more than a user does.

mod accounts;
mod child;
mod orders;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::exit::{Exit, Failure};
use crate::finding::{Code, Finding};
use crate::terminal::Terminal;

use accounts::Accounts;
use child::{Host, Tools};
use orders::Orders;

/// What is to be done.
pub struct Plan {
    /// How many orders are made.
    pub orders: u64,
    /// The example plugin's source.
    pub plugin: PathBuf,
    /// Whether the folder is kept.
    pub keep: bool,
    /// Whether the sums are printed as JSON.
    pub json: bool,
}

/// How long everything may take to settle; far more than it does.
const SETTLED_WITHIN: Duration = Duration::from_secs(180);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Into how many parts the orders are sent. The host is killed during one of them.
const PARTS: u64 = 5;
const KILLED_IN_PART: u64 = 2;
/// How long after the beginning of that part.
const KILLED_AFTER: Duration = Duration::from_millis(80);

const CONFIG: &str = r#"# Written by `millstream demo`.
[host]
data_dir = "data"
admin = "127.0.0.1:0"

[log]
kind = "embedded"
durability = "100ms"

[pipelines.orders]
source = { topics = ["orders.created"], group = "orders" }
plugin = "orders.wasm"
outputs = { default = "orders.priced" }
delivery = "exactly_once"
ordering = "key"
retry = { delays = ["500ms", "1s"] }
idempotency = { key = "json:/order_id", ttl = "1h" }
"#;

/// Runs the demo.
///
/// # Errors
/// When a step fails; the folder is kept then.
pub async fn run(terminal: &Terminal, plan: &Plan) -> Result<Exit, Failure> {
    let folder = Folder::new()?;
    let outcome = steps(terminal, plan, &folder.0).await;
    if plan.keep || !matches!(outcome, Ok(Exit::Done)) {
        terminal.say(&format!("configuration, data and host.log are in {}", folder.0.display()));
        std::mem::forget(folder);
    }
    outcome
}

async fn steps(terminal: &Terminal, plan: &Plan, folder: &Path) -> Result<Exit, Failure> {
    let step = |number: u8, text: &str| terminal.say(&format!("[{number}/7] {text}"));

    step(1, "building the example plugin from source, in two versions: with a bug, and fixed");
    let manifest = plan.plugin.join("Cargo.toml");
    if !manifest.exists() {
        let fix = "run it in Millstream's source tree, or name the plugin's source with `--plugin`";
        let what = "the demo has no plugin to run";
        let why = format!("{} is not there", manifest.display());
        return Err(Finding::new(Code::Usage, what, fix).because(why).into());
    }
    let tools = Tools::new(folder)?;
    let buggy = tools.build(&plan.plugin, "buggy.wasm", &[]).await?;
    let fixed = tools.build(&plan.plugin, "fixed.wasm", &["--features", "fixed"]).await?;
    let in_use = folder.join("orders.wasm");
    copy(&buggy, &in_use)?;
    write(&folder.join("millstream.toml"), CONFIG)?;

    let orders = Orders::new(plan.orders);
    step(2, "starting the host");
    let mut host = Host::start(folder, &tools).await?;

    step(
        3,
        &format!(
            "sending {} orders, {} of them flaky, {} poison, {} sent twice; the host is killed (SIGKILL) on the way",
            orders.unique(),
            orders.flaky(),
            orders.poison(),
            orders.twice()
        ),
    );
    let bar = terminal.progress("orders sent", Some(orders.sent()));
    for part in 0..PARTS {
        let lines = orders.lines(part, PARTS);
        if part == KILLED_IN_PART {
            // Whoever sends does not know what arrived before the kill, and sends all of it again.
            let sending = tools.produce_and_expect_trouble("orders.created", &lines);
            let kill = async {
                tokio::time::sleep(KILLED_AFTER).await;
                host.kill().await
            };
            let (_, killed) = tokio::join!(sending, kill);
            killed?;
            let priced = tools.count("orders.priced").await?;
            bar.suspend(|| {
                step(
                    4,
                    &format!("host killed, {priced} orders were priced by then; starting it again"),
                );
            });
            host = Host::start(folder, &tools).await?;
        }
        tools.produce("orders.created", &lines).await?;
        bar.inc(orders.part_messages(part, PARTS));
    }
    bar.finish_and_clear();

    step(5, "waiting until every order is priced or a dead letter");
    settled(terminal, &tools).await?;
    // By order: of a poison order that was sent twice both messages die.
    let dead_before = accounts::orders_in(&tools.consume("orders.created.dlq").await?)?;
    step(
        6,
        &format!(
            "{dead_before} orders are dead letters; deploying the fixed plugin and redriving them"
        ),
    );
    host.stop().await?;
    copy(&fixed, &in_use)?;
    let host = Host::start(folder, &tools).await?;
    tools.redrive("orders").await?;
    settled(terminal, &tools).await?;
    host.stop().await?;

    step(7, "counting, from the log's topics alone");
    let accounts = Accounts::take(&tools, &orders, dead_before).await?;
    if plan.json {
        terminal.print(&accounts.json()?)?;
    } else {
        terminal.print(&accounts.table())?;
    }
    Ok(if accounts.hold() { Exit::Done } else { Exit::Failed })
}

async fn settled(terminal: &Terminal, tools: &Tools) -> Result<(), Failure> {
    let deadline = Instant::now() + SETTLED_WITHIN;
    let bar = terminal.progress("messages to go", None);
    loop {
        let left = tools.unsettled("orders").await?;
        bar.set_position(left);
        if left == 0 {
            bar.finish_and_clear();
            return Ok(());
        }
        if Instant::now() > deadline {
            let what = format!("{left} messages are not settled after {SETTLED_WITHIN:?}");
            let fix = "look into host.log in the demo's folder";
            return Err(Finding::new(Code::LogUnavailable, what, fix).into());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    let copied = std::fs::copy(from, to);
    copied.map(drop).map_err(|error| {
        Failure::io(format!("cannot copy {} to {}", from.display(), to.display()), &error)
    })
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text)
        .map_err(|error| Failure::io(format!("cannot write {}", path.display()), &error))
}

/// The demo's own folder, removed when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, Failure> {
        let folder = std::env::temp_dir().join(format!("millstream-demo-{}", std::process::id()));
        std::fs::create_dir_all(&folder)
            .map_err(|error| Failure::io(format!("cannot make {}", folder.display()), &error))?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What can't be removed is in the system's folder for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
