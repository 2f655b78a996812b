//! `completions`: a shell's completion script, from the command line's own definition.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::commands::Context;
use crate::exit::{Exit, Failure};

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// When stdout is closed or full.
pub fn run(context: &Context, args: CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "millstream", &mut script);
    context.terminal.print(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Done)
}
