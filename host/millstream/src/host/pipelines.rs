//! The pipelines of a host: one run after the other, as long as there is a version of the plugin to run.
//!
//! A pipeline begins when its slot has a version. Where the slot is emptied (the deployed version cannot be loaded here)
//! it drains and leaves its group, so that hosts which can load it take its partitions; it begins again when there is one.

use std::sync::Arc;

use millstream_core::pipeline::{Pipeline, PipelineError, Ports, Until};
use millstream_core::pipeline_spec::PipelineSpec;
use millstream_core::shutdown::Shutdown;
use millstream_core::status::PipelineStatus;

/// Runs a pipeline until shutdown or, if asked for, until caught up.
///
/// # Errors
/// When the pipeline must stop; of a run that is to end by itself, also when there is no version.
pub(super) async fn run(
    spec: PipelineSpec,
    ports: Ports,
    status: Arc<PipelineStatus>,
    mut shutdown: Shutdown,
    until: Until,
) -> Result<(), PipelineError> {
    loop {
        let slot = &ports.plugin;
        tokio::select! {
            biased;
            () = shutdown.requested() => return Ok(()),
            Err(reason) = slot.decided(), if until == Until::CaughtUp => {
                return Err(PipelineError::Stopped(reason.to_string()));
            }
            () = slot.filled() => {}
        }
        let (stop, stopped) = Shutdown::new();
        let pipeline = Pipeline::with_status(spec.clone(), ports.clone(), Arc::clone(&status));
        let running = pipeline.run(stopped, until);
        tokio::pin!(running);
        tokio::select! {
            biased;
            ended = &mut running => return ended,
            () = shutdown.requested() => {}
            () = slot.emptied() => {
                tracing::warn!(pipeline = %spec.name, "there is no version to handle messages with: leaving the group");
            }
        }
        stop.request();
        running.await?;
        if shutdown.is_requested() {
            return Ok(());
        }
        ports.metrics.up.with_label_values(&[&spec.name]).set(0);
    }
}
