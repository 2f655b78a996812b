//! One trace follows a message on Kafka as on the embedded log.

use millstream_tests::kafka::{shared, unique};
use millstream_tests::traced::Shop;

#[test]
fn one_traced_message_through_pipelines_and_topics_of_kafka_is_one_trace() {
    let log = format!("kind = \"kafka\"\nbootstrap_servers = \"{}\"", shared().bootstrap());
    let log = format!("{log}\nnew_topics = {{ partitions = 2 }}");
    Shop::new(&unique("shop"), &log).one_message_is_one_trace();
}
