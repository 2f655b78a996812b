//! Watch: a task for each pipeline that asks the broker, and writes down what it found.
//!
//! Every half second while somebody waits for the first message, else every five: a look is at most five requests to each
//! broker that leads a partition, and two for the members of a group that has something to do. A look that fails changes nothing but the
//! trouble; it is tried again after a second. Each request has a limit of ten seconds (`millstream-log-kafka`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::clock::{SystemClock, WallClock as _};
use millstream_core::lag::{self, Places, Unsettled};
use millstream_core::log::LogError;
use millstream_core::message::{Offset, Partition};
use millstream_core::pipeline_spec::Start;
use millstream_log_kafka::{GroupHosts, KafkaLog, KafkaOptions};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::known::{Answer, TopicLag, Watched};
use crate::rate::{HostRate, Sample};

/// While nothing is due and somebody waits for it: a first message is told within two seconds.
const WAITED_FOR: Duration = Duration::from_millis(500);
/// Else.
const USUAL: Duration = Duration::from_secs(5);
/// After a look that failed.
const AGAIN: Duration = Duration::from_secs(1);
/// How long it is believed which topics and partitions there are.
const PLACES_FRESH: Duration = Duration::from_secs(10);

/// The cluster, reached by whoever needs it first.
pub(crate) struct Cluster {
    options: KafkaOptions,
    log: OnceCell<Arc<KafkaLog>>,
}

impl Cluster {
    pub(crate) fn new(options: KafkaOptions) -> Self {
        Self { options, log: OnceCell::new() }
    }

    async fn log(&self) -> Result<&Arc<KafkaLog>, LogError> {
        self.log.get_or_try_init(|| KafkaLog::connect(self.options.clone())).await
    }
}

/// Looks for as long as the task lives.
pub(crate) async fn watch(watched: Arc<Watched>, cluster: Arc<Cluster>) {
    let mut looker = Looker::default();
    loop {
        let looked = looker.look(&watched, &cluster).await;
        let failed = looked.is_err();
        tell(&watched, looked);
        let idle = watched.now().answer.is_none_or(|answer| answer.due() == 0);
        let pause = match (failed, idle && watched.is_followed()) {
            (true, _) => AGAIN,
            (false, true) => WAITED_FOR,
            (false, false) => USUAL,
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // Whoever comes shall not wait for what is usual.
            () = watched.wake.notified(), if !failed => {}
        }
    }
}

fn tell(watched: &Watched, looked: Result<Answer, LogError>) {
    let pipeline = &*watched.spec.name;
    match looked {
        Ok(answer) => watched.known.send_modify(|known| {
            if known.trouble.take().is_some() {
                tracing::warn!(pipeline, "the cluster answers again: the lag is known");
            }
            known.answer = Some(Arc::new(answer));
        }),
        Err(error) => watched.known.send_modify(|known| {
            if known.trouble.is_none() {
                let held = match &known.answer {
                    Some(_) => "the last answer is held",
                    None => "who asks is told that nothing is known",
                };
                tracing::warn!(pipeline, %error, "the lag cannot be told; {held} until it can");
            }
            known.trouble = Some(error.to_string().into());
        }),
    }
}

/// What a task remembers from one look to the next.
#[derive(Default)]
struct Looker {
    places: Option<(Places, Instant)>,
    rate: HostRate,
    begins: Begins,
}

impl Looker {
    async fn look(&mut self, watched: &Watched, cluster: &Cluster) -> Result<Answer, LogError> {
        let looked = self.ask(watched, cluster).await;
        if looked.is_err() {
            // Perhaps a topic has gone, or come.
            self.places = None;
        }
        looked
    }

    async fn ask(&mut self, watched: &Watched, cluster: &Cluster) -> Result<Answer, LogError> {
        let (spec, log) = (&watched.spec, cluster.log().await?);
        let known = self.places.take().filter(|(_, at)| at.elapsed() < PLACES_FRESH);
        let (places, listed) = match known {
            Some(known) => known,
            None => (lag::places(&**log, spec).await?, Instant::now()),
        };
        // A topic that is not there has no lag of zero: nothing is known of it.
        if let Some(missing) = places.missing_topics.first() {
            return Err(LogError::Fatal(format!(
                "topic {missing} does not exist, or this user may not see it: create it (`millstream topics create {missing}`), allow this user to describe it, or correct `source.topics`"
            )));
        }
        let mut unsettled = lag::unsettled(&**log, spec, &places, SystemClock.now()).await?;
        if spec.start == Start::Latest {
            self.begins.apply(&mut unsettled);
        }
        let at = Instant::now();
        let due = unsettled.iter().map(|partition| partition.due).sum();
        // Nothing is measured while nobody has anything to do, and the first message is told before the members are
        // asked for, which takes as long as the slowest broker. Not to know the members is no trouble.
        let was_idle = watched.now().answer.is_none_or(|answer| answer.due() == 0);
        let hosts = match due {
            0 => GroupHosts::Changing,
            _ if was_idle => GroupHosts::Changing,
            _ => log.hosts(&spec.group).await.unwrap_or_else(|error| {
                tracing::debug!(pipeline = %spec.name, %error, "the group's members are not known");
                GroupHosts::Changing
            }),
        };
        let next = unsettled.iter().filter_map(committed).collect();
        let wanted_last = || {
            let answer = watched.now().answer;
            answer.map_or(1, |answer| answer.wanted(&watched.settings())).max(1)
        };
        let (told, at_work) = match hosts {
            GroupHosts::Owning(hosts) => (Some(hosts), hosts),
            GroupHosts::Changing => (None, 0),
            GroupHosts::NotTold => (None, wanted_last()),
        };
        self.rate.observe(Sample { at, next, due, hosts: at_work, are_told: told.is_some() });
        let partitions = u32::try_from(places.sources.len()).unwrap_or(u32::MAX);
        self.places = Some((places, listed));
        Ok(Answer {
            at,
            topics: by_topic(&unsettled),
            partitions,
            hosts: told,
            rate: self.rate.known(),
        })
    }
}

/// Where a partition's commit is. Without one, or where retention has passed it, no host has handled what was passed.
fn committed(found: &Unsettled) -> Option<(Partition, Offset)> {
    let committed = found.committed.filter(|committed| *committed >= found.start)?;
    Some((found.partition.clone(), committed))
}

fn by_topic(unsettled: &[Unsettled]) -> BTreeMap<Arc<str>, TopicLag> {
    let mut topics: BTreeMap<Arc<str>, TopicLag> = BTreeMap::new();
    for found in unsettled {
        let topic = topics.entry(found.partition.topic.clone()).or_default();
        topic.lag += found.lag;
        topic.due += found.due;
    }
    topics
}

/// Where a group begins that has committed nothing and starts at the `latest`: at the end as it was when this was first
/// looked at. With the end of each look it would never have a lag, so nobody would start it, and it would never commit.
#[derive(Default)]
struct Begins(BTreeMap<Partition, Offset>);

impl Begins {
    fn apply(&mut self, unsettled: &mut [Unsettled]) {
        for found in unsettled.iter_mut().filter(|found| found.tier.is_none()) {
            if found.committed.is_some() {
                self.0.remove(&found.partition);
                continue;
            }
            let begin = *self.0.entry(found.partition.clone()).or_insert(found.end);
            found.next = begin.max(found.start);
            found.lag = found.end.saturating_sub(found.next);
            found.due = found.lag;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(committed: Option<Offset>, start: Offset, end: Offset) -> Unsettled {
        let partition = Partition::new("orders", 0);
        let next = committed.unwrap_or(end).max(start);
        let lag = end.saturating_sub(next);
        Unsettled {
            partition,
            tier: None,
            committed,
            start,
            next,
            end,
            due_end: end,
            lag,
            due: lag,
        }
    }

    #[test]
    fn a_new_group_that_starts_at_the_latest_is_behind_by_what_came_since() {
        let mut begins = Begins::default();
        let mut due = |found: Unsettled| {
            let mut found = [found];
            begins.apply(&mut found);
            (found[0].lag, found[0].due)
        };
        assert_eq!(due(source(None, 0, 100)), (0, 0), "what was there before is not handled");
        assert_eq!(due(source(None, 0, 103)), (3, 3));
        assert_eq!(due(source(None, 102, 103)), (1, 1), "retention was faster");
        assert_eq!(due(source(Some(103), 102, 103)), (0, 0), "a host has begun");
        assert_eq!(due(source(None, 0, 110)), (0, 0), "its commit was removed: it begins anew");
    }

    #[test]
    fn what_retention_removes_is_not_handled_by_anybody() {
        let at = |found| committed(&found).map(|(_, offset)| offset);
        assert_eq!(at(source(Some(5), 0, 100)), Some(5));
        assert_eq!(at(source(Some(5), 50, 100)), None, "retention has passed the commit");
        assert_eq!(at(source(None, 50, 100)), None);
    }

    #[tokio::test]
    async fn a_look_that_fails_leaves_the_answer_as_it_is() {
        let answer = |at| Answer {
            at,
            topics: BTreeMap::from([("orders".into(), TopicLag { lag: 7, due: 7 })]),
            partitions: 4,
            hosts: None,
            rate: None,
        };
        let watched = Watched::new(crate::server::tests::spec("orders"));
        let away = || LogError::Unavailable("the broker is away".to_owned());
        tell(&watched, Err(away()));
        assert!(watched.now().answer.is_none() && !watched.now().is_up());
        let at = Instant::now();
        tell(&watched, Ok(answer(at)));
        assert!(watched.now().is_up());
        tell(&watched, Err(away()));
        let known = watched.now();
        assert!(!known.is_up());
        assert_eq!(known.answer.map(|answer| (answer.due(), answer.at)), Some((7, at)));
        tell(&watched, Ok(answer(Instant::now())));
        assert!(watched.now().is_up());
    }
}
