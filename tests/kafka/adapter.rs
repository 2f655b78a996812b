//! What the port cannot say and a Kafka engineer would look at first: markers, metadata, stalls.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_core::log::{
    Commit, Consumer, Event, Log, LogError, Room, Subscription, TopicSpec, Transaction,
};
use millstream_core::message::{Header, Partition, Record};
use millstream_log_kafka::{GroupProtocol, KafkaLog};
use millstream_tests::kafka::{Cluster, shared, unique};

use crate::conformance::connect;

const ROOM: Room = Room { messages: 1000, bytes: 1 << 20 };
const PATIENCE: Duration = Duration::from_secs(30);

fn spec(name: &str, partitions: u32) -> TopicSpec {
    TopicSpec {
        name: name.into(),
        partitions,
        retention: None,
        retention_bytes: None,
        message_bytes_max: 1 << 20,
        append_time: false,
        compacted: false,
        replication: None,
    }
}

fn record(topic: &str, value: &str) -> Record {
    Record {
        topic: topic.into(),
        partition: Some(0),
        timestamp: None,
        key: None,
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: Vec::new(),
    }
}

async fn join(log: &Arc<KafkaLog>, topic: &str, group: &str) -> Arc<dyn Consumer> {
    let subscription = Subscription {
        pipeline: group.to_owned(),
        group: group.to_owned(),
        topics: vec![topic.into()],
        transactional: true,
        ..Subscription::default()
    };
    let consumer = log.consumer(subscription).await.unwrap();
    let event = tokio::time::timeout(PATIENCE, consumer.next(ROOM)).await.unwrap().unwrap();
    assert!(matches!(&event, Event::Assigned(all) if all.len() == 1), "{event:?}");
    consumer
}

async fn in_time<T>(what: &str, answer: impl Future<Output = T>) -> T {
    let answer = tokio::time::timeout(PATIENCE, answer).await;
    answer.unwrap_or_else(|_| panic!("{what}: no answer within {PATIENCE:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_moves_over_the_markers_of_transactions() {
    let log = connect(shared(), GroupProtocol::Classic).await;
    let topic = unique("markers");
    log.create_topic(spec(&topic, 1)).await.unwrap();
    let partition = Partition::new(topic.as_str(), 0);
    let consumer = join(&log, &topic, &unique("markers")).await;
    for value in ["a", "b", "c"] {
        let records = vec![record(&topic, value)];
        let commits = vec![(partition.clone(), Commit::default())];
        let transaction = Transaction { records, commits, ..Transaction::default() };
        in_time("transact", consumer.transact(Arc::new(transaction))).await.unwrap();
    }
    // The last marker is written after the commit was answered.
    let ends = loop {
        let ends = log.ends(std::slice::from_ref(&partition)).await.unwrap()[0];
        if ends.end == ends.high {
            break ends;
        }
    };
    assert_eq!(ends.high, 6, "three messages and three markers");
    consumer.attach(&partition, 0).await.unwrap();
    let (mut values, mut next) = (Vec::new(), 0);
    while next < ends.end {
        let event = tokio::time::timeout(PATIENCE, consumer.next(ROOM)).await;
        let Event::Messages(batch) = event.expect("the end is reached").unwrap() else { continue };
        values.extend(batch.messages.iter().map(|m| m.value.clone().unwrap()));
        next = batch.next;
    }
    assert_eq!(values, ["a", "b", "c"]);
    assert_eq!(next, 6, "beyond the last marker");
    in_time("release", consumer.release(&[partition])).await;
    in_time("close", consumer.close()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_whose_name_is_not_text_does_not_end_the_host() {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
    let log = connect(shared(), GroupProtocol::Classic).await;
    let topic = unique("hostile-headers");
    log.create_topic(spec(&topic, 1)).await.unwrap();
    let producer: BaseProducer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", shared().bootstrap())
        .create()
        .unwrap();
    #[expect(unsafe_code, reason = "this is what a hostile producer sends")]
    // SAFETY: none is needed: librdkafka takes bytes.
    let name = unsafe { std::str::from_utf8_unchecked(std::hint::black_box(&[b'a', 0xff, 0xfe])) };
    let headers = rdkafka::message::OwnedHeaders::new()
        .insert(rdkafka::message::Header { key: name, value: Some("x") })
        .insert(rdkafka::message::Header { key: "fine", value: None::<&str> });
    let hostile = BaseRecord::<[u8], str>::to(&topic).payload("v").headers(headers);
    producer.send(hostile).map_err(|(error, _)| error).unwrap();
    producer.flush(PATIENCE).unwrap();
    let batch = log.fetch(&Partition::new(topic.as_str(), 0), 0, ROOM).await.unwrap();
    assert_eq!(batch.messages.len(), 1);
    let headers = &batch.messages[0].headers;
    assert!(headers[0].name.starts_with('a') && headers[0].value == "x", "{headers:?}");
    assert_eq!(headers[1], Header::new("fine", Bytes::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_small_records_that_is_too_large_for_its_topic_goes_record_by_record() {
    let log = connect(shared(), GroupProtocol::Classic).await;
    let topic = unique("small-batches");
    log.create_topic(TopicSpec { message_bytes_max: 3000, ..spec(&topic, 1) }).await.unwrap();
    let value = "x".repeat(1000);
    let records: Vec<Record> = (0..20).map(|_| record(&topic, &value)).collect();
    let answers = log.append(&records.iter().collect::<Vec<_>>()).await.unwrap();
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let ends = log.ends(&[Partition::new(topic.as_str(), 0)]).await.unwrap()[0];
    assert_eq!(ends.end, 20, "each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commit_metadata_comes_back_and_that_of_others_is_ignored() {
    let log = connect(shared(), GroupProtocol::Classic).await;
    let (topic, group) = (unique("metadata"), unique("metadata"));
    log.create_topic(spec(&topic, 1)).await.unwrap();
    let partition = Partition::new(topic.as_str(), 0);
    let consumer = join(&log, &topic, &group).await;
    let commit = Commit {
        next: 3,
        settled_above: vec![5..9, 12..13],
        attempts: vec![(3, 2)],
        ..Commit::default()
    };
    let commits = vec![(partition.clone(), commit.clone())];
    in_time("commit", consumer.commit(commits)).await.unwrap();
    let asked = std::slice::from_ref(&partition);
    let committed = in_time("committed", consumer.committed(asked)).await.unwrap();
    assert_eq!(committed, vec![Some(commit.clone())]);
    let committed = in_time("a tool's committed", log.committed(&group, asked)).await.unwrap();
    assert_eq!(committed, vec![Some(commit)]);
    let elsewhere = vec![(Partition::new("elsewhere", 0), Commit::default())];
    let not_ours = in_time("a stranger's commit", consumer.commit(elsewhere)).await;
    assert!(matches!(not_ours, Err(LogError::Fenced(_))), "{not_ours:?}");
    in_time("release", consumer.release(asked)).await;
    in_time("close", consumer.close()).await;
}

/// Who takes a topic for missing dead-letters what goes there, and calls a pipeline caught up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_comes_back_hides_no_topic() {
    let cluster = tokio::task::spawn_blocking(|| Cluster::start(&["--quick", "--nodes", "1"]));
    let cluster: &'static Cluster = Box::leak(Box::new(cluster.await.unwrap()));
    let log = connect(cluster, GroupProtocol::Classic).await;
    log.create_topic(spec("there", 2)).await.unwrap();
    let partition = Partition::new("there", 1);
    tokio::task::spawn_blocking(|| {
        cluster.pause(1);
        // Longer than the controller waits for a broker.
        std::thread::sleep(Duration::from_secs(12));
        cluster.resume(1);
    })
    .await
    .unwrap();
    let there = |topics: Result<Vec<TopicSpec>, LogError>| match topics {
        Ok(topics) => {
            assert!(topics.iter().any(|topic| &*topic.name == "there"), "{topics:?}");
            true
        }
        Err(error) => {
            assert!(matches!(error, LogError::Unavailable(_)), "{error:?}");
            false
        }
    };
    let back = async {
        // A client that is connected is answered at once, before the controller knows its broker again.
        while !there(log.topics().await) {}
        // As a command that starts now.
        while !there(connect(cluster, GroupProtocol::Classic).await.topics().await) {}
        while let Err(error) = log.ends(std::slice::from_ref(&partition)).await {
            assert!(matches!(error, LogError::Unavailable(_)), "{error:?}");
        }
    };
    in_time("the topic is back", back).await;
    let appended = in_time("append", log.append(&[&record("there", "x")])).await.unwrap();
    assert!(appended.iter().all(Result::is_ok), "{appended:?}");
}
