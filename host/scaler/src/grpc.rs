//! gRPC: KEDA's external scaler.
//!
//! KEDA computes replicas = value / target, rounded up. The target is one and the value the number of hosts wanted, so the
//! cap by partitions and the time to drain stay ours.
//!
//! Before the cluster has answered for the first time, and while it does not answer and nothing was due at last, calls end in UNAVAILABLE, upon which KEDA leaves the replicas as they
//! are. A stream is kept open and silent instead: KEDA opens a stream that failed only after a wait that doubles up to a
//! minute, and the first message would wait as long.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use millstream_core::shutdown::Shutdown;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::{Request, Response, Status};

use crate::keda::external_scaler_server::ExternalScaler;
use crate::keda::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec,
    MetricValue, ScaledObjectRef,
};
use crate::known::{Answer, Follower, Known, Pipelines, Watched};
use crate::settings::{self, Settings};

/// The one metric there is.
const METRIC: &str = "replicas";
/// Open streams of all clients together.
const STREAMS_MAX: usize = 256;

/// See the module.
pub(crate) struct Grpc {
    pipelines: Pipelines,
    shutdown: Shutdown,
    streams: Arc<Semaphore>,
}

impl Grpc {
    pub(crate) fn new(pipelines: Pipelines, shutdown: Shutdown) -> Self {
        Self { pipelines, shutdown, streams: Arc::new(Semaphore::new(STREAMS_MAX)) }
    }

    fn resolve(&self, object: &ScaledObjectRef) -> Result<(&Arc<Watched>, Settings), Status> {
        let (name, settings) =
            settings::parse(&object.scaler_metadata).map_err(Status::invalid_argument)?;
        let watched = self.pipelines.get(name).map_err(Status::invalid_argument)?;
        Ok((watched, settings))
    }

    fn answer(&self, object: &ScaledObjectRef) -> Result<(Arc<Answer>, Settings), Status> {
        let (watched, settings) = self.resolve(object)?;
        watched.asked(settings);
        let known = watched.now();
        let answer = known.given().cloned().ok_or_else(|| {
            let why = known.trouble.as_deref().unwrap_or("it has not been asked yet");
            let name = &watched.spec.name;
            Status::unavailable(format!("the lag of pipeline {name} is not known: {why}"))
        })?;
        Ok((answer, settings))
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ExternalScaler for Grpc {
    async fn is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<IsActiveResponse>, Status> {
        let (answer, _) = self.answer(request.get_ref())?;
        Ok(Response::new(IsActiveResponse { result: answer.due() > 0 }))
    }

    type StreamIsActiveStream = Answers<IsActiveResponse>;

    async fn stream_is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        let (watched, settings) = self.resolve(request.get_ref())?;
        let permit = Arc::clone(&self.streams).try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!(
                "{STREAMS_MAX} streams are open, which is the most this scaler keeps: run another one"
            ))
        })?;
        let following = Following {
            known: watched.known.subscribe(),
            told: None,
            shutdown: self.shutdown.clone(),
            _follower: watched.follow(settings),
            _permit: permit,
        };
        let changes = futures::stream::unfold(following, |mut following| async {
            let active = following.change().await?;
            Some((Ok(IsActiveResponse { result: active }), following))
        });
        Ok(Response::new(Box::pin(changes)))
    }

    async fn get_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        let (watched, settings) = self.resolve(request.get_ref())?;
        watched.asked(settings);
        let spec =
            MetricSpec { metric_name: METRIC.to_owned(), target_size: 1, target_size_float: 1.0 };
        Ok(Response::new(GetMetricSpecResponse { metric_specs: vec![spec] }))
    }

    async fn get_metrics(
        &self,
        request: Request<GetMetricsRequest>,
    ) -> Result<Response<GetMetricsResponse>, Status> {
        let GetMetricsRequest { scaled_object_ref, metric_name } = request.into_inner();
        if metric_name != METRIC {
            return Err(Status::invalid_argument(format!(
                "there is no metric {metric_name:?}: this scaler has {METRIC:?} only"
            )));
        }
        let (answer, settings) = self.answer(&scaled_object_ref.unwrap_or_default())?;
        let wanted = answer.wanted(&settings);
        let value = MetricValue {
            metric_name,
            metric_value: i64::from(wanted),
            metric_value_float: f64::from(wanted),
        };
        Ok(Response::new(GetMetricsResponse { metric_values: vec![value] }))
    }

    type StreamMetricSpecStream = Answers<GetMetricSpecResponse>;

    /// The target never changes. KEDA goes on with [`ExternalScaler::get_metric_spec`] when it hears this.
    async fn stream_metric_spec(
        &self,
        _: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamMetricSpecStream>, Status> {
        Err(Status::unimplemented("the target is always 1: ask GetMetricSpec"))
    }
}

/// A stream of activity.
struct Following {
    known: watch::Receiver<Known>,
    /// What was told last.
    told: Option<bool>,
    shutdown: Shutdown,
    _follower: Follower,
    _permit: OwnedSemaphorePermit,
}

impl Following {
    /// Whether there is something to do, when that is known and not told yet. `None`: the scaler ends.
    async fn change(&mut self) -> Option<bool> {
        loop {
            let active = {
                let known = self.known.borrow_and_update();
                known.given().map(|answer| answer.due() > 0)
            };
            if active.is_some() && active != self.told {
                self.told = active;
                return active;
            }
            tokio::select! {
                changed = self.known.changed() => changed.ok()?,
                () = self.shutdown.requested() => return None,
            }
        }
    }
}
