//! `run`: the host.

use clap::Args;
use millstream_core::pipeline::Until;

use crate::commands::Context;
use crate::exit::{Exit, Failure};
use crate::host;

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// End when nothing is due any more: the host as a batch job. Retries whose time has not come stay
    /// for the next run
    #[arg(long)]
    pub until_caught_up: bool,
}

/// Runs the pipelines of the configuration.
///
/// # Errors
/// When anything is refused before the first message, or every pipeline has stopped.
pub async fn run(context: &Context, args: RunArgs) -> Result<Exit, Failure> {
    let config = context.config()?;
    let until = if args.until_caught_up { Until::CaughtUp } else { Until::Shutdown };
    host::run(context, config, until).await
}
