//! `scaler`: tells KEDA and Prometheus how many hosts each pipeline needs, from the broker alone.

use std::net::SocketAddr;

use clap::Args;
use millstream_core::shutdown::Shutdown;

use crate::commands::Context;
use crate::config::LogKind;
use crate::exit::{Exit, Failure};
use crate::finding::{Code, Finding};
use crate::{host, kafka};

/// Arguments of `scaler`.
#[derive(Debug, Args)]
#[command(
    after_help = "It needs no host, no plugin and no data folder: what it tells is computed from \
the brokers. Neither address asks who calls: let only KEDA and Prometheus reach them. docs/scaling.md says how \
replicas are computed, what a trigger's metadata may say, and what an outage does."
)]
pub struct ScalerArgs {
    /// Where KEDA's external scaler is served (gRPC without TLS)
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9465")]
    pub listen: SocketAddr,
    /// Where Prometheus metrics and health are served (HTTP)
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9466")]
    pub metrics: SocketAddr,
}

/// Serves until it is asked to end.
///
/// # Errors
/// When the log is not a cluster, there are no pipelines, or an address cannot be listened on.
pub async fn run(context: &Context, args: ScalerArgs) -> Result<Exit, Failure> {
    let config = context.config()?;
    for warning in &config.warnings {
        context.terminal.show(warning);
    }
    let file = config.file.display();
    let LogKind::Kafka(kafka) = &config.log.kind else {
        let what = "there is nothing to scale: the log is embedded";
        let why = "an embedded log belongs to one host; hosts that share their work need a cluster";
        let fix = "set `log.kind = \"kafka\"` and `log.bootstrap_servers`, or run one host without a scaler";
        return Err(Finding::new(Code::Unsupported, what, fix).because(why).at(file).into());
    };
    if config.pipelines.is_empty() {
        let fix = "add a table `[pipelines.NAME]`, the same as the hosts have";
        let finding = Finding::new(Code::BadValue, "there is nothing to scale", fix);
        return Err(finding.because("the configuration has no pipelines").at(file).into());
    }
    let pipelines = config.pipelines.iter().map(|pipeline| pipeline.spec.clone()).collect();
    let (trigger, shutdown) = Shutdown::new();
    tokio::spawn(async move {
        host::signal().await;
        trigger.request();
    });
    kafka::scaler(context, kafka, pipelines, &args, shutdown).await?;
    // A question to a broker that does not answer stands on a thread of its own for up to 15 s. Nobody waits for the
    // answer any more, and there is nothing to write down.
    std::process::exit(0)
}
