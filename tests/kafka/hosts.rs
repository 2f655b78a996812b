//! Hosts that join, leave and are killed under load: nothing is lost, and what each delivery mode promises
//! about repetition holds.
//!
//! The long form (`make soak`) sends two million messages through three hosts.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_core::log::{Commit, Log as _};
use millstream_core::message::Partition;
use millstream_guest_builder::guest;
use millstream_log_kafka::GroupProtocol;
use millstream_tests::draw::Draw;
use millstream_tests::folder::Folder;
use millstream_tests::host::{END_WITHIN, Host};
use millstream_tests::kafka::{Cluster, shared, unique};
use millstream_tests::kafka_topic::{Writer, counts, read, until_no_transaction_is_open};
use millstream_tests::waiting;

use crate::conformance::connect;

const PARTITIONS: &str = "6";
const KEYS: usize = 500;
const HOSTS: usize = 3;
const SETTLED_WITHIN: Duration = Duration::from_secs(240);
/// Who leaves on a machine that is busy drains for long; a drain that is cut short repeats.
const DRAIN: Duration = Duration::from_secs(60);

/// A pipeline on a cluster, and the folders of its hosts.
pub(crate) struct Pipeline {
    pub(crate) cluster: &'static Cluster,
    pub(crate) source: String,
    pub(crate) output: String,
    pub(crate) folders: Vec<Folder>,
}

impl Pipeline {
    /// Topics and folders; `client` are properties of librdkafka, `more` is added to the pipeline's table.
    pub(crate) fn new(cluster: &'static Cluster, plugin: &str, client: &str, more: &str) -> Self {
        Self::with(cluster, plugin, &format!("client = {{ {client} }}"), more)
    }

    /// The same; `log` is added to the table of the log.
    pub(crate) fn with(cluster: &'static Cluster, plugin: &str, log: &str, more: &str) -> Self {
        Self::named(cluster, &unique("orders"), plugin, log, more)
    }

    /// The same with a source of this name.
    pub(crate) fn named(
        cluster: &'static Cluster,
        source: &str,
        plugin: &str,
        log: &str,
        more: &str,
    ) -> Self {
        let (source, output) = (source.to_owned(), unique("priced"));
        for topic in [&source, &output] {
            cluster.tool(&["topics", "--create", "--topic", topic, "--partitions", PARTITIONS]);
        }
        let config = format!(
            r#"
[host]
admin = "127.0.0.1:0"

[log]
kind = "kafka"
bootstrap_servers = "{}"
{log}

[pipelines.{source}]
source = {{ topics = ["{source}"] }}
plugin = "plugin.wasm"
outputs = {{ default = "{output}" }}
instances = 2
{more}
"#,
            cluster.bootstrap()
        );
        let folders = (0..HOSTS).map(|_| {
            let folder = Folder::new(&config);
            folder.plugin("plugin.wasm", &guest(plugin));
            folder
        });
        let folders = folders.collect();
        Self { cluster, source, output, folders }
    }

    /// Changes the configuration of all hosts.
    pub(crate) fn edit(&self, from: &str, to: &str) {
        for folder in &self.folders {
            let config = std::fs::read_to_string(folder.path().join("millstream.toml")).unwrap();
            assert!(config.contains(from), "{config}");
            folder.write("millstream.toml", &config.replace(from, to));
        }
    }

    /// Writes messages `from..to`, each value its number.
    pub(crate) fn write(&self, from: usize, to: usize) {
        let writer = Writer::new(self.cluster.bootstrap());
        for number in from..to {
            writer.write(&self.source, &format!("k{}", number % KEYS), &number.to_string());
        }
        writer.flush();
    }

    pub(crate) fn until_settled(&self) {
        self.folders[0].until_settled(SETTLED_WITHIN);
    }

    /// How many of the messages are missing, and how many are there again. If any, cargo shows which, and
    /// what the hosts said.
    #[expect(clippy::print_stdout, reason = "cargo shows it when the test fails, and soaks always")]
    pub(crate) fn sums(&self, sent: usize) -> (usize, usize) {
        until_no_transaction_is_open(self.cluster.bootstrap(), &self.output);
        let read = read(self.cluster.bootstrap(), &self.output);
        let counts = counts(&read);
        let lost: Vec<usize> =
            (0..sent).filter(|n| !counts.contains_key(n.to_string().as_str())).collect();
        let again: usize = counts.values().map(|count| count - 1).sum();
        if lost.is_empty() && again == 0 {
            return (0, 0);
        }
        println!(
            "lost, the first of {}: {:?}",
            lost.len(),
            lost.iter().take(20).collect::<Vec<_>>()
        );
        let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).take(20).collect();
        println!("again, the first of {again}: {twice:?}");
        for folder in &self.folders {
            let said = std::fs::read_to_string(folder.path().join("host.log")).unwrap_or_default();
            println!("a host said:\n{said}");
        }
        (lost.len(), again)
    }
}

/// Whether this is the long form (`make soak`).
pub(crate) fn is_soak() -> bool {
    std::env::var_os("MILLSTREAM_SOAK").is_some()
}

struct Sizes {
    messages: usize,
    rounds: usize,
}

fn sizes() -> Sizes {
    match is_soak() {
        true => Sizes { messages: 2_000_000, rounds: 40 },
        false => Sizes { messages: 60_000, rounds: 6 },
    }
}

/// What the group had committed when a host was killed, and where the source ended.
type AtDeath = BTreeMap<i32, (Commit, u64)>;

/// Sends messages while hosts come and go; answers what is lost and how many are there again. They leave by
/// being killed where something is to be done after that.
#[expect(clippy::print_stdout, reason = "cargo shows it when the test fails, and soaks always")]
fn come_and_go(
    pipeline: &Pipeline,
    mut killed: Option<&mut dyn FnMut()>,
    seed: &str,
) -> (usize, usize) {
    let Sizes { messages, rounds } = sizes();
    let mut draw = Draw::seeded(seed);
    let mut hosts: Vec<Option<Host>> = (0..HOSTS).map(|_| None).collect();
    hosts[0] = Some(Host::start(&pipeline.folders[0]));
    let step = messages / rounds;
    let mut kills = 0;
    for round in 0..rounds {
        pipeline.write(round * step, (round + 1) * step);
        let index = usize::try_from(draw.within(0..HOSTS as u64)).unwrap();
        match hosts[index].take() {
            None => hosts[index] = Some(Host::start(&pipeline.folders[index])),
            Some(host) => match &mut killed {
                Some(then) => {
                    host.kill();
                    kills += 1;
                    then();
                }
                None => host.stop(DRAIN + END_WITHIN),
            },
        }
        if hosts.iter().all(Option::is_none) {
            hosts[index] = Some(Host::start(&pipeline.folders[index]));
        }
        // Any moment is a good one for the next change.
        std::thread::sleep(Duration::from_millis(draw.within(300..2500)));
    }
    pipeline.until_settled();
    for host in hosts.into_iter().flatten() {
        host.stop(DRAIN + END_WITHIN);
    }
    let sent = step * rounds;
    let (lost, again) = pipeline.sums(sent);
    println!("{seed}: sent {sent}, lost {lost}, handled again {again}, kills {kills}");
    (lost, again)
}

/// Partitions of whoever died move to another owner after the session timeout only, so what is read now is
/// what that one begins with.
fn committed(pipeline: &Pipeline) -> AtDeath {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let log = connect(pipeline.cluster, GroupProtocol::Classic).await;
        let partitions: Vec<Partition> =
            (0..6).map(|number| Partition::new(pipeline.source.as_str(), number)).collect();
        let commits = log.committed(&pipeline.source, &partitions).await.unwrap();
        let ends = log.ends(&partitions).await.unwrap().into_iter().map(|ends| ends.end);
        let found = partitions.iter().zip(commits.into_iter().zip(ends));
        found.map(|(at, (c, end))| (at.number as i32, (c.unwrap_or_default(), end))).collect()
    })
}

/// How many handlings there are again that no death explains: at each, a message may be handled once more
/// if it was not committed as settled then.
fn unexplained(pipeline: &Pipeline, deaths: &[AtDeath]) -> usize {
    let bootstrap = pipeline.cluster.bootstrap();
    let open = |(commit, end): &(Commit, u64), offset: u64| {
        let above = commit.settled_above.iter().any(|range| range.contains(&offset));
        (commit.next..*end).contains(&offset) && !above
    };
    let outputs = read(bootstrap, &pipeline.output);
    let handled = counts(&outputs);
    let sources = read(bootstrap, &pipeline.source);
    let too_often = sources.iter().filter_map(|message| {
        let again = handled.get(message.value.as_str())?.checked_sub(1).filter(|n| *n > 0)?;
        let offset = u64::try_from(message.offset).unwrap();
        let unsettled = |death: &&AtDeath| open(&death[&message.partition], offset);
        Some(again.saturating_sub(deaths.iter().filter(unsettled).count()))
    });
    too_often.sum()
}

#[test]
fn hosts_that_leave_as_asked_lose_nothing_and_repeat_nothing() {
    let more = "delivery = \"at_least_once\"\ndrain = \"60s\"";
    let pipeline = Pipeline::new(shared(), "echo", "", more);
    assert_eq!(come_and_go(&pipeline, None, "at_least_once, asked"), (0, 0));
}

/// Before it is in its group nobody hears that a member leaves; the others would wait for it, and commit
/// nothing, until its session has timed out.
#[test]
fn a_host_that_is_stopped_while_it_joins_is_not_waited_for() {
    // Who joins waits for the other one's next heartbeat: longer than librdkafka tries to leave.
    let pipeline = Pipeline::new(shared(), "echo", "\"heartbeat.interval.ms\" = 8000", "");
    let mut stays = Host::start(&pipeline.folders[0]);
    stays.until_ready();
    // Far less than a session, which is 45 seconds.
    let is_alone = || {
        waiting::until("one member is left", Duration::from_secs(30), || {
            (group(&pipeline)? == ("Stable".to_owned(), 1)).then_some(())
        });
    };
    is_alone();
    let mut caught = false;
    for _ in 0..5 {
        let mut goes = Host::start(&pipeline.folders[1]);
        let state = waiting::until("it joins", SETTLED_WITHIN, || {
            // One that has ended by itself is told at once.
            stays.address();
            goes.address();
            group(&pipeline).filter(|(_, members)| *members == 2).map(|(state, _)| state)
        });
        goes.stop(END_WITHIN);
        is_alone();
        caught |= state == "PreparingRebalance";
    }
    assert!(caught, "it was in its group each time before it was stopped");
    stays.stop(END_WITHIN);
}

/// State and number of members of a pipeline's group.
fn group(pipeline: &Pipeline) -> Option<(String, u32)> {
    let group = pipeline.source.as_str();
    let state = ["consumer-groups", "--describe", "--state", "--group", group];
    let said = pipeline.cluster.tool(&state);
    let row = said.lines().find(|row| row.starts_with(group))?;
    let mut from_behind = row.split_whitespace().rev();
    let members = from_behind.next()?.parse().ok()?;
    Some((from_behind.next()?.to_owned(), members))
}

#[test]
fn hosts_that_are_killed_lose_nothing_exactly_once() {
    let client = "\"session.timeout.ms\" = 6000";
    let pipeline = Pipeline::new(shared(), "echo", client, "delivery = \"exactly_once\"");
    assert_eq!(come_and_go(&pipeline, Some(&mut || ()), "exactly_once, killed"), (0, 0));
}

#[test]
fn hosts_that_are_killed_lose_nothing_and_repeat_only_what_was_uncommitted() {
    // Not so short that a host which is busy loses its session: that would be no death.
    let client = "\"session.timeout.ms\" = 15000, \"partition.assignment.strategy\" = \"range\"";
    let more = "delivery = \"at_least_once\"\nin_flight = { messages = 300 }\ncommit = { interval = \"20ms\" }";
    let pipeline = Pipeline::new(shared(), "echo", client, more);
    let mut deaths = Vec::new();
    let mut look = || deaths.push(committed(&pipeline));
    let (lost, again) = come_and_go(&pipeline, Some(&mut look), "at_least_once, killed");
    assert_eq!(lost, 0);
    assert_eq!(unexplained(&pipeline, &deaths), 0, "of {again} handlings again");
}

#[test]
fn a_caught_up_exactly_once_pipeline_ends_and_has_no_lag() {
    let pipeline = Pipeline::new(shared(), "echo", "", "delivery = \"exactly_once\"");
    pipeline.write(0, 1_000);
    let folder = &pipeline.folders[0];
    folder.ok(&["run", "--until-caught-up"], "");
    assert_eq!(pipeline.sums(1_000), (0, 0));
    assert_eq!(folder.unsettled(), 0, "lag of a pipeline that is caught up");
    let group = pipeline.source.as_str();
    let described = waiting::until("Kafka's own tool shows no lag", SETTLED_WITHIN, || {
        let described = pipeline.cluster.tool(&["consumer-groups", "--describe", "--group", group]);
        let rows = described.lines().filter(|line| line.contains(&pipeline.source));
        let lags: Vec<&str> = rows
            .filter(|row| row.split_whitespace().nth(1) == Some(group))
            .filter_map(|row| row.split_whitespace().nth(5))
            .collect();
        (!lags.is_empty() && lags.iter().all(|lag| *lag == "0")).then_some(described)
    });
    assert!(described.contains(group), "{described}");
}
