//! `rollback`: back to what was in use before, at once.

use clap::Args;
use millstream_core::deploy::{self, RollbackRequest};

use crate::commands::Context;
use crate::commands::deploy::{Asked, Said, find, open, show};
use crate::deploying;
use crate::exit::{Exit, Failure};

/// Arguments of `rollback`.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// The pipeline
    pipeline: String,
    /// A version, or at least 8 digits of a digest; `file` is the file of the configuration [default: what was
    /// in use before]
    #[arg(long, value_name = "VERSION")]
    to: Option<String>,
    #[command(flatten)]
    asked: Asked,
}

/// Rolls back.
///
/// # Errors
/// When there is nothing to go back to, or a host refuses a version that it does not hold ready.
pub async fn run(context: &Context, args: RollbackArgs) -> Result<Exit, Failure> {
    let config = context.config()?;
    let pipeline = find(&config, &args.pipeline)?;
    let access = open(context, &context.place()?, pipeline).await?;
    let request = RollbackRequest {
        pipeline: &pipeline.spec.name,
        group: &pipeline.spec.group,
        to: args.to.as_deref(),
        who: deploying::who(args.asked.by.as_deref()),
        timeout: args.asked.timeout,
        hosts: access.may_have_hosts(),
    };
    let mut said = Said::new(context.terminal, 0);
    let changed =
        deploy::roll_back(&*access.log, &request, &mut |progress| said.tell(&progress)).await;
    said.done();
    access.close().await;
    let what = format!("pipeline {} is not rolled back", args.pipeline);
    let changed = changed.map_err(|error| deploying::finding(&what, &error))?;
    show(context, &pipeline.spec.name, &changed, args.asked.json)
}
