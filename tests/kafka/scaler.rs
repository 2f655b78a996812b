//! `millstream scaler` as KEDA and Prometheus see it, beside a real broker.

use std::collections::HashMap;
use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use millstream_core::clock::{SystemClock, WallClock as _};
use millstream_scaler::keda::external_scaler_client::ExternalScalerClient;
use millstream_scaler::keda::{GetMetricsRequest, IsActiveResponse, ScaledObjectRef};
use millstream_tests::folder::Folder;
use millstream_tests::host::{END_WITHIN, Host};
use millstream_tests::kafka::{Cluster, shared, unique};
use millstream_tests::kafka_topic::{Writer, write_transaction};
use millstream_tests::waiting;
use tokio::runtime::Runtime;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use crate::hosts::Pipeline;

const WITHIN: Duration = Duration::from_secs(60);
/// What is promised.
const ACTIVE_WITHIN: Duration = Duration::from_secs(2);

/// A running scaler, and KEDA that asks it. Killed when it is dropped; shown what it said if its test fails.
struct Scaler {
    child: Child,
    log: std::path::PathBuf,
    metrics: String,
    runtime: Runtime,
    keda: ExternalScalerClient<Channel>,
    pipeline: String,
}

impl Scaler {
    fn start(folder: &Folder, pipeline: &str) -> Self {
        let log = folder.path().join(unique("scaler.log"));
        let local = "127.0.0.1:0";
        let mut command = folder.command(&["scaler", "--listen", local, "--metrics", local]);
        let file = || File::options().create(true).append(true).open(&log).unwrap();
        command.stdin(Stdio::null()).stdout(file()).stderr(file());
        let child = command.spawn().unwrap();
        let (grpc, metrics) = waiting::until("the scaler serves", WITHIN, || {
            let said = std::fs::read_to_string(&log).ok()?;
            let (_, rest) = said.split_once("gRPC at ")?;
            let (grpc, rest) = rest.split_once(", metrics at ")?;
            Some((format!("http://{grpc}"), rest.split_once(',')?.0.to_owned()))
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let endpoint = Endpoint::from_shared(grpc).unwrap();
        let channel = runtime.block_on(endpoint.connect()).unwrap();
        let keda = ExternalScalerClient::new(channel);
        Self { child, log, metrics, runtime, keda, pipeline: pipeline.to_owned() }
    }

    fn object(&self, metadata: &[(&str, &str)]) -> ScaledObjectRef {
        let all = [("scalerAddress", "scaler:9465"), ("pipeline", &self.pipeline)];
        let all = all.iter().chain(metadata);
        let scaler_metadata: HashMap<String, String> =
            all.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        ScaledObjectRef { name: "orders".into(), namespace: "default".into(), scaler_metadata }
    }

    fn is_active(&self) -> Result<bool, Status> {
        let mut keda = self.keda.clone();
        let answer = self.runtime.block_on(keda.is_active(self.object(&[])));
        answer.map(|answer| answer.into_inner().result)
    }

    fn follow(&self) -> Followed<'_> {
        let mut keda = self.keda.clone();
        let stream = self.runtime.block_on(keda.stream_is_active(self.object(&[]))).unwrap();
        Followed { scaler: self, stream: stream.into_inner() }
    }

    /// The replicas that KEDA would come to, with these metadata.
    fn replicas(&self, metadata: &[(&str, &str)]) -> Result<u32, Status> {
        let mut keda = self.keda.clone();
        self.runtime.block_on(async {
            let spec = keda.get_metric_spec(self.object(metadata)).await?.into_inner();
            let [spec] = &spec.metric_specs[..] else { panic!("one metric: {spec:?}") };
            let request = GetMetricsRequest {
                scaled_object_ref: Some(self.object(metadata)),
                metric_name: spec.metric_name.clone(),
            };
            let answer = keda.get_metrics(request).await?.into_inner();
            let [value] = &answer.metric_values[..] else { panic!("one value: {answer:?}") };
            assert_eq!(value.metric_name, spec.metric_name);
            Ok((value.metric_value_float / spec.target_size_float).ceil() as u32)
        })
    }

    fn until_replicas(&self, metadata: &[(&str, &str)], wanted: u32) {
        let what = format!("{wanted} replicas with {metadata:?}");
        waiting::until(&what, WITHIN, || {
            (self.replicas(metadata).ok() == Some(wanted)).then_some(())
        });
    }

    fn scrape(&self) -> String {
        let mut answer = ureq::get(&self.metrics).call().unwrap();
        answer.body_mut().read_to_string().unwrap()
    }

    /// The sum of a metric's series that have all these labels; `None` if there is none.
    fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let text = self.scrape();
        let series = text.lines().filter_map(|line| line.strip_prefix(name));
        let series = series.filter(|rest| rest.starts_with('{'));
        let meant = series.filter(|rest| labels.iter().all(|label| rest.contains(label)));
        let values: Vec<f64> =
            meant.map(|rest| rest.rsplit(' ').next().unwrap().parse().unwrap()).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    fn until_metric(&self, name: &str, labels: &[&str], value: f64) {
        let what = format!("{name} {labels:?} is {value}");
        waiting::until(&what, WITHIN, || (self.metric(name, labels) == Some(value)).then_some(()));
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Scaler {
    #[expect(clippy::print_stdout, reason = "cargo shows it when the test fails")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the scaler said:\n{}", self.said());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A stream of activity.
struct Followed<'a> {
    scaler: &'a Scaler,
    stream: Streaming<IsActiveResponse>,
}

impl Followed<'_> {
    /// The next thing it tells; `None` if nothing comes in time.
    fn next(&mut self, within: Duration) -> Option<bool> {
        let message = self
            .scaler
            .runtime
            .block_on(async { tokio::time::timeout(within, self.stream.message()).await });
        let message = message.ok()?.unwrap();
        Some(message.unwrap_or_else(|| panic!("the stream has ended")).result)
    }
}

#[test]
fn the_first_message_makes_a_pipeline_active_within_two_seconds() {
    let pipeline = Pipeline::new(shared(), "echo", "", "");
    let scaler = Scaler::start(&pipeline.folders[0], &pipeline.source);
    let mut followed = scaler.follow();
    assert_eq!(followed.next(WITHIN), Some(false), "nothing is there");
    assert!(!scaler.is_active().unwrap());
    for round in 0..3 {
        pipeline.write(round, round + 1);
        let acknowledged = Instant::now();
        assert_eq!(followed.next(WITHIN), Some(true), "a message is there");
        let took = acknowledged.elapsed();
        assert!(took < ACTIVE_WITHIN, "it was told after {took:?}");
        assert!(scaler.is_active().unwrap());
        assert_eq!(scaler.replicas(&[]).unwrap(), 1);
        pipeline.folders[0].ok(&["run", "--until-caught-up"], "");
        assert_eq!(followed.next(WITHIN), Some(false), "all is handled");
        assert_eq!(scaler.replicas(&[]).unwrap(), 0);
    }
}

#[test]
fn replicas_follow_the_lag_and_never_pass_the_partitions() {
    let pipeline = Pipeline::new(shared(), "echo", "", "");
    pipeline.write(0, 2_500);
    let scaler = Scaler::start(&pipeline.folders[0], &pipeline.source);
    scaler.until_replicas(&[], 3);
    assert_eq!(scaler.replicas(&[("lagPerReplica", "625")]).unwrap(), 4);
    assert_eq!(scaler.replicas(&[("lagPerReplica", "1")]).unwrap(), 6, "there are 6 partitions");
    assert_eq!(scaler.replicas(&[("lagPerReplica", "1"), ("maxReplicas", "2")]).unwrap(), 2);
    for (metric, value) in [
        ("millstream_scaler_lag_messages", 2_500.0),
        ("millstream_scaler_due_lag_messages", 2_500.0),
        ("millstream_scaler_partitions", 6.0),
        ("millstream_scaler_wanted_replicas", 2.0),
        ("millstream_scaler_up", 1.0),
    ] {
        assert_eq!(scaler.metric(metric, &[]), Some(value), "{metric}:\n{}", scaler.scrape());
    }
    // What retention has removed is not behind, whatever was committed.
    for number in 0..6 {
        let json = format!(
            "{{\"partitions\":[{{\"topic\":\"{}\",\"partition\":{number},\"offset\":-1}}],\"version\":1}}",
            pipeline.source
        );
        let file = pipeline.folders[0].path().join("delete.json");
        std::fs::write(&file, json).unwrap();
        let file = file.to_string_lossy().into_owned();
        pipeline.cluster.tool(&["delete-records", "--offset-json-file", &file]);
    }
    scaler.until_replicas(&[], 0);
    assert_eq!(scaler.metric("millstream_scaler_lag_messages", &[]), Some(0.0));
}

#[test]
fn a_trigger_that_cannot_be_meant_is_told_what_to_write() {
    let pipeline = Pipeline::new(shared(), "echo", "", "");
    let scaler = Scaler::start(&pipeline.folders[0], &pipeline.source);
    let mistyped = pipeline.source.replace("orders", "order");
    for (metadata, said) in [
        (("pipeline", &*mistyped), format!("did you mean {:?}", pipeline.source)),
        (("drainWithin", "soon"), "write a time".to_owned()),
        (("maxReplica", "3"), "did you mean `maxReplicas`".to_owned()),
    ] {
        let refused = scaler.replicas(&[metadata]).expect_err("refused");
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(&said), "{refused}");
    }
}

#[test]
fn a_retry_counts_when_it_is_due_and_not_before() {
    let delay = Duration::from_secs(20);
    let more = "retry = { delays = [\"20s\"] }";
    let pipeline = Pipeline::new(shared(), "hostile", "", more);
    let folder = &pipeline.folders[0];
    let writer = Writer::new(pipeline.cluster.bootstrap());
    for number in 0..3 {
        writer.write(&pipeline.source, &format!("k{number}"), "retry later");
    }
    writer.flush();
    folder.ok(&["run", "--until-caught-up"], "");
    let scaler = Scaler::start(folder, &pipeline.source);
    let mut followed = scaler.follow();
    assert_eq!(followed.next(WITHIN), Some(false), "no retry is due");
    let tier = format!("topic=\"{}.retry.20s\"", pipeline.source);
    assert_eq!(scaler.metric("millstream_scaler_lag_messages", &[&tier]), Some(3.0));
    assert_eq!(scaler.metric("millstream_scaler_due_lag_messages", &[]), Some(0.0));
    assert_eq!(scaler.replicas(&[]).unwrap(), 0);
    assert_eq!(followed.next(WITHIN), Some(true), "a retry is due");
    let now = SystemClock.now();
    let retries = folder.consume(&format!("{}.retry.20s", pipeline.source));
    let first = retries.iter().map(|retry| retry.timestamp).min().expect("a retry");
    let waited = Duration::from_millis(u64::try_from(now - first).unwrap());
    assert!(waited >= delay, "it was told {waited:?} after it was put off");
    assert!(waited < delay + ACTIVE_WITHIN, "it was told {waited:?} after it was put off");
    scaler.until_metric("millstream_scaler_due_lag_messages", &[&tier], 3.0);
    assert_eq!(scaler.replicas(&[]).unwrap(), 1);
    // Handled, they are dead letters.
    folder.ok(&["run", "--until-caught-up"], "");
    assert_eq!(followed.next(WITHIN), Some(false), "all is handled");
}

/// Messages of open and aborted transactions, and the records that end transactions, are nothing to handle.
#[test]
fn transactions_leave_no_lag_behind_when_all_is_handled() {
    let more = "delivery = \"exactly_once\"\nretry = { delays = [\"100ms\"] }";
    let pipeline = Pipeline::new(shared(), "hostile", "", more);
    let scaler = Scaler::start(&pipeline.folders[0], &pipeline.source);
    let mut followed = scaler.follow();
    assert_eq!(followed.next(WITHIN), Some(false), "nothing is there");
    let bootstrap = pipeline.cluster.bootstrap();
    let keys: Vec<String> = (0..60).map(|number| format!("k{number}")).collect();
    let messages: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "after 1 x")).collect();
    write_transaction(bootstrap, &pipeline.source, &messages, true);
    assert_eq!(followed.next(WITHIN), Some(true), "messages are there");
    write_transaction(bootstrap, &pipeline.source, &messages, false);
    let mut host = Host::start(&pipeline.folders[0]);
    host.until_ready();
    assert_eq!(followed.next(WITHIN), Some(false), "all is handled");
    assert_eq!(pipeline.folders[0].consume(&pipeline.output).len(), 60);
    scaler.until_metric("millstream_scaler_lag_messages", &[], 0.0);
    assert_eq!(scaler.metric("millstream_scaler_due_lag_messages", &[]), Some(0.0));
    assert_eq!(scaler.replicas(&[]).unwrap(), 0);
    // Its tier was made meanwhile, and is known by now or soon.
    let tier = format!("topic=\"{}.retry.100ms\"", pipeline.source);
    scaler.until_metric("millstream_scaler_lag_messages", &[&tier], 0.0);
    assert!(!scaler.is_active().unwrap());
    host.stop(END_WITHIN);
}

/// Two instances that sleep a tenth of a second each handle 20 messages a second.
#[test]
fn a_host_that_works_shows_how_fast_it_is_and_replicas_drain_in_time() {
    let pipeline = Pipeline::new(shared(), "hostile", "", "ordering = \"none\"");
    let writer = Writer::new(pipeline.cluster.bootstrap());
    for number in 0..1_500 {
        writer.write(&pipeline.source, &format!("k{number}"), "sleep 100");
    }
    writer.flush();
    let scaler = Scaler::start(&pipeline.folders[0], &pipeline.source);
    scaler.until_replicas(&[], 2);
    assert_eq!(scaler.metric("millstream_scaler_host_messages_per_second", &[]), None);
    let mut host = Host::start(&pipeline.folders[0]);
    host.until_ready();
    let rate = waiting::until("a rate is measured", WITHIN, || {
        scaler.metric("millstream_scaler_host_messages_per_second", &[])
    });
    // How much a busy machine takes of it nobody knows; in another unit it would be far less, or more.
    assert!((1.0..=21.0).contains(&rate), "20 a second, less what a busy machine takes: {rate}");
    assert_eq!(scaler.metric("millstream_scaler_hosts", &[]), Some(1.0));
    let due = scaler.metric("millstream_scaler_due_lag_messages", &[]).unwrap();
    let expected = (due / (rate * 15.0)).ceil();
    let wanted = f64::from(scaler.replicas(&[("drainWithin", "15s")]).unwrap());
    // Another look may have come between.
    assert!((wanted - expected.min(6.0)).abs() <= 1.0, "{wanted}; due {due}, rate {rate}");
    assert_eq!(scaler.replicas(&[("drainWithin", "1s")]).unwrap(), 6, "as many as partitions");
    assert_eq!(scaler.replicas(&[("drainWithin", "1h")]).unwrap(), 1);
    host.kill();
}

#[test]
fn a_broker_that_is_away_holds_the_answer_and_says_so() {
    let cluster = Box::leak(Box::new(Cluster::start(&["--quick", "--nodes", "1"])));
    let pipeline = Pipeline::new(cluster, "echo", "", "");
    pipeline.write(0, 1_500);
    let scaler = Scaler::start(&pipeline.folders[0], &pipeline.source);
    scaler.until_replicas(&[], 2);
    let hold = |wanted: u32| {
        scaler.until_metric("millstream_scaler_up", &[], 0.0);
        assert_eq!(scaler.replicas(&[]).unwrap(), wanted, "the answer is held");
        assert!(scaler.is_active().unwrap());
        let age = || scaler.metric("millstream_scaler_answer_age_seconds", &[]).unwrap();
        let before = age();
        waiting::until("the answer gets older", WITHIN, || (age() > before + 2.0).then_some(()));
        assert_eq!(scaler.replicas(&[]).unwrap(), wanted, "the answer is held");
        assert_eq!(scaler.metric("millstream_scaler_up", &[]), Some(0.0));
    };
    // It does not answer: a stalled disk, a network that drops everything.
    cluster.pause(1);
    hold(2);
    cluster.resume(1);
    scaler.until_metric("millstream_scaler_up", &[], 1.0);
    pipeline.write(1_500, 3_500);
    scaler.until_replicas(&[], 4);
    // It is gone.
    cluster.kill_all();
    hold(4);
    cluster.start_all();
    scaler.until_metric("millstream_scaler_up", &[], 1.0);
    pipeline.folders[0].ok(&["run", "--until-caught-up"], "");
    scaler.until_replicas(&[], 0);
    let said = scaler.said();
    let [lost, found] = ["the lag cannot be told", "the cluster answers again"];
    let told: Vec<bool> = said
        .lines()
        .filter(|line| line.contains(lost) || line.contains(found))
        .map(|line| line.contains(lost))
        .collect();
    // A broker that comes back on a busy machine may be away once more for a moment.
    assert!(told.len() >= 4 && told.len().is_multiple_of(2), "each outage has its end: {said}");
    let by_turns = told.chunks(2).all(|pair| pair == [true, false]);
    assert!(by_turns, "once for each outage: {said}");
}

#[test]
fn a_scaler_that_never_reached_a_broker_says_that_it_does_not_know() {
    let cluster = Box::leak(Box::new(Cluster::start(&["--quick", "--nodes", "1"])));
    let pipeline = Pipeline::new(cluster, "echo", "", "");
    pipeline.write(0, 1);
    cluster.kill_all();
    let scaler = Scaler::start(&pipeline.folders[0], &pipeline.source);
    let mut followed = scaler.follow();
    // From the first call on, and when the attempt to connect has ended.
    for _ in 0..2 {
        for refused in [scaler.is_active().map(u32::from), scaler.replicas(&[])] {
            let refused = refused.expect_err("nothing is known");
            assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        }
        waiting::until("it has tried", WITHIN, || {
            scaler.said().contains("the lag cannot be told").then_some(())
        });
    }
    let refused = scaler.is_active().expect_err("nothing is known");
    assert!(refused.message().contains("no Kafka broker answers"), "{refused}");
    assert_eq!(scaler.metric("millstream_scaler_up", &[]), Some(0.0));
    for unknown in ["lag_messages", "wanted_replicas", "answer_age_seconds"] {
        assert_eq!(scaler.metric(&format!("millstream_scaler_{unknown}"), &[]), None);
    }
    assert_eq!(followed.next(Duration::from_millis(100)), None, "nothing is told");
    cluster.start_all();
    assert_eq!(followed.next(WITHIN), Some(true), "the stream goes on when the cluster answers");
    assert_eq!(scaler.replicas(&[]).unwrap(), 1);
}

#[test]
fn a_scaler_that_is_asked_to_end_waits_for_no_broker() {
    let bootstrap = format!("bootstrap_servers = \"{}\"", shared().bootstrap());
    let pipeline = Pipeline::new(shared(), "echo", "", "");
    pipeline.edit(&bootstrap, "bootstrap_servers = \"127.0.0.1:1\"");
    let mut scaler = Scaler::start(&pipeline.folders[0], &pipeline.source);
    let mut keda = scaler.keda.clone();
    let following = keda.stream_is_active(scaler.object(&[]));
    let mut stream = scaler.runtime.block_on(following).unwrap().into_inner();
    let pid = scaler.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    // Less than the 15 s that the first answer of a cluster is waited for.
    let ended = waiting::until_ended("the scaler", Duration::from_secs(8), &mut scaler.child);
    assert_eq!(ended.code(), Some(0));
    let told = scaler.runtime.block_on(stream.message());
    assert!(matches!(told, Ok(None)), "a stream ends in order: {told:?}");
}

#[test]
fn a_source_that_is_not_there_is_not_known_to_be_empty() {
    let pipeline = Pipeline::new(shared(), "echo", "", "");
    let missing = unique("missing");
    let topics = format!("topics = [\"{}\"]", pipeline.source);
    pipeline.edit(&topics, &format!("topics = [\"{}\", \"{missing}\"]", pipeline.source));
    let scaler = Scaler::start(&pipeline.folders[0], &pipeline.source);
    let refused = waiting::until("it has looked", WITHIN, || {
        scaler.is_active().err().filter(|refused| refused.message().contains(&missing))
    });
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(refused.message().contains("topics create"), "{refused}");
    pipeline.cluster.tool(&["topics", "--create", "--topic", &missing, "--partitions", "2"]);
    scaler.until_metric("millstream_scaler_partitions", &[], 8.0);
    assert!(!scaler.is_active().unwrap());
}

/// With `latest` the end of each look would be where the group begins: it would never be behind.
#[test]
fn a_new_group_that_starts_at_the_latest_is_started_by_what_comes() {
    let pipeline = Pipeline::new(shared(), "echo", "", "");
    let topics = format!("topics = [\"{}\"]", pipeline.source);
    pipeline.edit(&topics, &format!("{topics}, start = \"latest\""));
    pipeline.write(0, 100);
    let scaler = Scaler::start(&pipeline.folders[0], &pipeline.source);
    let mut followed = scaler.follow();
    assert_eq!(followed.next(WITHIN), Some(false), "what was there before does not count");
    pipeline.write(100, 103);
    assert_eq!(followed.next(WITHIN), Some(true), "what came since does");
    pipeline.folders[0].ok(&["run", "--until-caught-up"], "");
    assert_eq!(followed.next(WITHIN), Some(false), "the group has begun, and committed where");
}
