//! Kafka keeps what the log's port promises: the same checks that the other logs pass.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::log::Log;
use millstream_log_kafka::{GroupProtocol, KafkaLog, KafkaOptions};
use millstream_log_simulated::conformance;
use millstream_tests::kafka::{Cluster, shared, unique};

/// A log on a cluster, as a host of its own.
pub(crate) async fn connect(cluster: &Cluster, protocol: GroupProtocol) -> Arc<KafkaLog> {
    let options = KafkaOptions {
        bootstrap_servers: cluster.bootstrap().to_owned(),
        client: BTreeMap::from([("session.timeout.ms".to_owned(), "6000".to_owned())]),
        host_id: unique("host"),
        group_protocol: protocol,
        static_membership: false,
        oauth_token_file: None,
    };
    // The broker has its own idea of a session in the new protocol.
    let client = match protocol {
        GroupProtocol::Classic => options.client.clone(),
        GroupProtocol::Consumer => BTreeMap::new(),
    };
    KafkaLog::connect(KafkaOptions { client, ..options }).await.unwrap()
}

async fn check(protocol: GroupProtocol) {
    // The checks name their topics themselves, so each protocol has a cluster to itself.
    let cluster = Cluster::start(&["--nodes", "1"]);
    let log = connect(&cluster, protocol).await;
    assert_eq!(conformance::check(log.clone()).await, Ok(()));
    assert_eq!(conformance::check_members(log.clone()).await, Ok(()));
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_keeps_its_promises() {
    check(GroupProtocol::Classic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_keeps_its_promises_with_the_new_group_protocol() {
    check(GroupProtocol::Consumer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_does_not_answer_is_named() {
    let options = KafkaOptions {
        bootstrap_servers: "127.0.0.1:9".to_owned(),
        client: BTreeMap::new(),
        host_id: unique("host"),
        group_protocol: GroupProtocol::Classic,
        static_membership: false,
        oauth_token_file: None,
    };
    let error = KafkaLog::connect(options).await.err().unwrap().to_string();
    assert!(error.contains("127.0.0.1:9") && error.contains("bootstrap_servers"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cluster_has_an_id_that_stays() {
    let one = connect(shared(), GroupProtocol::Classic).await;
    let other = connect(shared(), GroupProtocol::Classic).await;
    assert!(!one.cluster_id().is_empty());
    assert_eq!(one.cluster_id(), other.cluster_id());
}
