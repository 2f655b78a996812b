//! `plugin`: from a new folder to a tested `.wasm`.

mod build;
mod check;
mod new;
mod test;

use clap::Subcommand;

use crate::commands::Context;
use crate::exit::{Exit, Failure};

/// What to do with a plugin.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Make a folder with a Rust plugin that builds and passes its test
    New(new::NewArgs),
    /// Build a Rust plugin and say where its .wasm is
    Build(build::BuildArgs),
    /// Show what a .wasm imports, exports and needs
    Check(check::CheckArgs),
    /// Run a plugin's case folders against its .wasm in the sandbox
    Test(test::TestArgs),
}

/// Runs the command.
///
/// # Errors
/// When the plugin cannot be made, built, used, or does not pass.
pub async fn run(context: &Context, command: PluginCommand) -> Result<Exit, Failure> {
    match command {
        PluginCommand::New(args) => new::run(context, &args),
        PluginCommand::Build(args) => build::run(context, &args),
        PluginCommand::Check(args) => check::run(context, &args),
        PluginCommand::Test(args) => test::run(context, &args).await,
    }
}
