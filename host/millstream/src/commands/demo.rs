//! `demo`: the main job on the embedded log, with everything that can go wrong on the way.

use std::path::PathBuf;

use clap::Args;

use crate::commands::Context;
use crate::demo::{self, Plan};
use crate::exit::{Exit, Failure};

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// How many orders are made; some are flaky, some poison, some sent twice
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(100..=5_000_000))]
    orders: u64,
    /// The example plugin's source, which is built
    #[arg(long, value_name = "DIR", default_value = "examples/orders")]
    plugin: PathBuf,
    /// Keep the folder with configuration, data and the host's log
    #[arg(long)]
    keep: bool,
    /// The sums as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the demo.
///
/// # Errors
/// When a step fails. That the sums do not hold is exit code 1.
pub async fn run(context: &Context, args: DemoArgs) -> Result<Exit, Failure> {
    let plan = Plan { orders: args.orders, plugin: args.plugin, keep: args.keep, json: args.json };
    demo::run(&context.terminal, &plan).await
}
