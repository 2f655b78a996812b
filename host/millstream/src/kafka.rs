//! Kafka: the adapter, where this build has it.
//!
//! The wall of the cargo feature `kafka`: nothing else of the program asks for it. Without it the
//! configuration refuses `log.kind = "kafka"`, so that a [`Cluster`] is never asked for.

use std::sync::Arc;

use millstream_core::log::Log;
use millstream_core::pipeline_spec::PipelineSpec;
use millstream_core::shutdown::Shutdown;

use crate::commands::Context;
use crate::commands::scaler::ScalerArgs;
use crate::config::KafkaConfig;
use crate::exit::Failure;
use crate::finding::{Code, Finding};

/// Whether this build has Kafka.
pub const AVAILABLE: bool = cfg!(feature = "kafka");

/// That this build has no Kafka, and how one is made that has.
pub fn unavailable() -> Finding {
    let fix = "build it with `cargo build -p millstream` (the feature `kafka` is on by default and \
               needs a C compiler), or use `kind = \"embedded\"`";
    Finding::new(Code::Unsupported, "this build has no Kafka", fix)
        .because("it was made without the cargo feature `kafka`")
}

/// A cluster that was reached.
pub struct Cluster {
    /// It as a log.
    pub log: Arc<dyn Log>,
    #[cfg(feature = "kafka")]
    kafka: Arc<millstream_log_kafka::KafkaLog>,
}

#[cfg(feature = "kafka")]
pub use millstream_log_kafka::{is_secret, refused_property};

#[cfg(feature = "kafka")]
impl Cluster {
    /// Reaches the cluster as `host_id`.
    ///
    /// # Errors
    /// When no broker answers, or a person must mend something: authentication, a property.
    pub async fn connect(kafka: &KafkaConfig, host_id: String) -> Result<Self, Failure> {
        match millstream_log_kafka::KafkaLog::connect(options(kafka, host_id)).await {
            Ok(kafka) => Ok(Self { log: kafka.clone(), kafka }),
            Err(error) => Err(not_reached(&error).into()),
        }
    }

    /// Writes out what waits, and lets go.
    pub async fn close(&self) {
        self.kafka.close().await;
    }
}

#[cfg(feature = "kafka")]
fn options(kafka: &KafkaConfig, host_id: String) -> millstream_log_kafka::KafkaOptions {
    use crate::config::GroupProtocol;
    let value =
        |(name, setting): (&String, &crate::config::Setting)| (name.clone(), setting.value.clone());
    millstream_log_kafka::KafkaOptions {
        bootstrap_servers: kafka.bootstrap_servers.clone(),
        client: kafka.client.iter().map(value).collect(),
        host_id,
        group_protocol: match kafka.group_protocol {
            GroupProtocol::Classic => millstream_log_kafka::GroupProtocol::Classic,
            GroupProtocol::Consumer => millstream_log_kafka::GroupProtocol::Consumer,
        },
        static_membership: kafka.static_membership,
        oauth_token_file: kafka.oauth_token_file.clone(),
    }
}

/// Serves the scaler of these pipelines until `shutdown`.
///
/// # Errors
/// When an address cannot be listened on.
#[cfg(feature = "kafka")]
pub async fn scaler(
    context: &Context,
    kafka: &KafkaConfig,
    pipelines: Vec<PipelineSpec>,
    args: &ScalerArgs,
    shutdown: Shutdown,
) -> Result<(), Failure> {
    let options = millstream_scaler::ScalerOptions {
        kafka: options(kafka, format!("scaler-{}", std::process::id())),
        pipelines,
        listen: args.listen,
        metrics: args.metrics,
    };
    let scaler = millstream_scaler::Scaler::bind(options).await.map_err(|error| {
        let what = "the scaler cannot serve";
        let otherwise = "name another address";
        Finding::of_text(Code::AdminUnusable, what, &error.to_string(), otherwise)
    })?;
    let (grpc, metrics) = (scaler.grpc_address(), scaler.metrics_address());
    let servers = &kafka.bootstrap_servers;
    context.terminal.say(&format!(
        "scaler: gRPC at {grpc}, metrics at http://{metrics}/metrics, for the cluster at {servers}"
    ));
    scaler.serve(shutdown).await;
    Ok(())
}

#[cfg(feature = "kafka")]
fn not_reached(error: &millstream_core::log::LogError) -> Finding {
    let what = "the Kafka cluster cannot be reached";
    let otherwise = "remove the reason, then try again";
    Finding::of_text(Code::LogUnavailable, what, &error.to_string(), otherwise)
}

/// Nothing is known of a property without the adapter.
#[cfg(not(feature = "kafka"))]
pub fn refused_property(_: &str) -> Option<&'static str> {
    None
}

/// Without the adapter: whatever sounds like a secret, so that it is not shown.
#[cfg(not(feature = "kafka"))]
pub fn is_secret(name: &str) -> bool {
    ["passphrase", "password", "pem", "secret"].iter().any(|word| name.contains(word))
}

/// There is nothing to ask.
///
/// # Errors
/// Always.
#[cfg(not(feature = "kafka"))]
pub async fn scaler(
    _: &Context,
    _: &KafkaConfig,
    _: Vec<PipelineSpec>,
    _: &ScalerArgs,
    _: Shutdown,
) -> Result<(), Failure> {
    Err(unavailable().into())
}

#[cfg(not(feature = "kafka"))]
impl Cluster {
    /// There is no way to a cluster.
    ///
    /// # Errors
    /// Always.
    pub async fn connect(_: &KafkaConfig, _: String) -> Result<Self, Failure> {
        Err(unavailable().into())
    }

    /// Nothing to let go.
    pub async fn close(&self) {}
}
