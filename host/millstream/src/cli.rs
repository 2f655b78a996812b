//! The command line: parsed here, dispatched to `commands`, ended in one place.
//!
//! Data goes to stdout, everything for a person to stderr; exit codes are those of `exit`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::commands::{self, Context};
use crate::exit::{Exit, Failure};
use crate::logging;
use crate::terminal::Terminal;

/// A stream processor whose handlers are WebAssembly components.
#[derive(Debug, Parser)]
#[command(name = "millstream", version, arg_required_else_help = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.")]
pub struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct GlobalArgs {
    /// The configuration [default: millstream.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder of the host's data; goes before `host.data_dir`
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// What is logged, as `info` or `warn,millstream_core=debug` [env: MILLSTREAM_LOG]
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    /// Say more about what is being done
    #[arg(short, long, global = true)]
    verbose: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
enum Command {
    /// Watch everything at work: retries, dead letters, a kill -9 and a redrive
    Demo(commands::demo::DemoArgs),
    /// Run the pipelines
    Run(commands::run::RunArgs),
    /// Check configuration, plugins, topics and grants before anything runs
    Check(commands::check::CheckArgs),
    /// Append messages from stdin, one JSON object a line
    Produce(commands::produce::ProduceArgs),
    /// Print messages of a topic, one JSON object a line
    Consume(commands::consume::ConsumeArgs),
    /// List, create or describe topics
    #[command(subcommand)]
    Topics(commands::topics::TopicsCommand),
    /// How far each pipeline is behind
    Lag(commands::lag::LagArgs),
    /// Tell KEDA and Prometheus how many hosts each pipeline needs, from Kafka alone
    Scaler(commands::scaler::ScalerArgs),
    /// What the running host says of its pipelines
    Status(commands::status::StatusArgs),
    /// Deploy a version of a plugin, checked on every host before it takes effect
    Deploy(commands::deploy::DeployArgs),
    /// Go back to the version that was in use before, at once
    Rollback(commands::rollback::RollbackArgs),
    /// What was deployed to a pipeline, by whom, and what is in use
    Versions(commands::versions::VersionsArgs),
    /// List, show, redrive, purge, replay or export dead letters
    #[command(subcommand)]
    Dlq(commands::dlq::DlqCommand),
    /// Who changed what, and when
    Audit(commands::audit::AuditArgs),
    /// Make, build, check or test a plugin
    #[command(subcommand)]
    Plugin(commands::plugin::PluginCommand),
    /// Print a shell's completion script
    Completions(commands::completions::CompletionsArgs),
}

/// Runs the process's command line.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // `--help` and `--version` are no mistakes; a closed stdout is nobody to tell.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            drop(error.print());
            return exit.into();
        }
    };
    let terminal = Terminal::detect(cli.global.verbose);
    let context =
        Context { terminal, config_file: cli.global.config, data_dir: cli.global.data_dir };
    let exit = logging::start(cli.global.log.as_deref(), &terminal)
        .and_then(|()| runtime())
        .and_then(|runtime| runtime.block_on(dispatch(&context, cli.command)));
    match exit {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if let Failure::Findings(findings) = &failure {
                for finding in findings {
                    terminal.show(finding);
                }
            }
            failure.exit().into()
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("cannot start the runtime", &error))
}

async fn dispatch(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Demo(args) => commands::demo::run(context, args).await,
        Command::Run(args) => commands::run::run(context, args).await,
        Command::Check(args) => commands::check::run(context, args).await,
        Command::Produce(args) => commands::produce::run(context, args).await,
        Command::Consume(args) => commands::consume::run(context, args).await,
        Command::Topics(command) => commands::topics::run(context, command).await,
        Command::Lag(args) => commands::lag::run(context, args).await,
        Command::Scaler(args) => commands::scaler::run(context, args).await,
        Command::Status(args) => commands::status::run(context, args).await,
        Command::Deploy(args) => commands::deploy::run(context, args).await,
        Command::Rollback(args) => commands::rollback::run(context, args).await,
        Command::Versions(args) => commands::versions::run(context, args).await,
        Command::Dlq(command) => commands::dlq::run(context, command).await,
        Command::Audit(args) => commands::audit::run(context, args).await,
        Command::Plugin(command) => commands::plugin::run(context, command).await,
        Command::Completions(args) => commands::completions::run(context, args),
    }
}
