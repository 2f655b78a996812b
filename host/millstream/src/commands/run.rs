//! `run`: the host.

use clap::Args;

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// End when nothing is due any more: the host as a batch job
    #[arg(long)]
    pub until_caught_up: bool,
}
