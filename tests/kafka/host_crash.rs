//! A message that kills its host, on Kafka: the next owner on any machine knows of it.

use millstream_tests::host::END_WITHIN;
use millstream_tests::host_crash::{self, KILLER};
use millstream_tests::kafka::shared;
use millstream_tests::kafka_topic::{Writer, counts, read};

use crate::hosts::Pipeline;

const MESSAGES: usize = 300;
const KILLER_AT: usize = 120;
/// The default of `after_host_crashes`.
const AFTER: usize = 5;

#[test]
fn a_message_that_kills_one_host_after_the_other_becomes_a_dead_letter() {
    for delivery in ["at_least_once", "exactly_once"] {
        let more = format!("delivery = \"{delivery}\"\nlimits = {{ time = \"5m\" }}");
        let soon = "\"session.timeout.ms\" = 6000";
        let pipeline = Pipeline::new(shared(), "hostile", soon, &more);
        let writer = Writer::new(pipeline.cluster.bootstrap());
        for number in 0..MESSAGES {
            let value = match number {
                KILLER_AT => KILLER.to_owned(),
                _ => format!("after 0 {number}"),
            };
            writer.write(&pipeline.source, &format!("k{}", number % 20), &value);
        }
        writer.flush();
        let folders: Vec<_> = pipeline.folders.iter().take(2).collect();
        let (killed, hosts) = host_crash::until_settled(&folders, AFTER);
        assert_eq!(killed, AFTER, "{delivery}");
        for host in hosts {
            host.stop(END_WITHIN);
        }
        let dead = pipeline.folders[0].consume(&format!("{}.dlq", pipeline.source));
        let values: Vec<&str> = dead.iter().map(|letter| letter.text()).collect();
        assert_eq!(values, [KILLER], "{delivery}: no other message is taken for it");
        assert_eq!(dead[0].header("millstream-error-kind"), "host-crash");
        let read = read(pipeline.cluster.bootstrap(), &pipeline.output);
        let counts = counts(&read);
        assert_eq!(counts.len(), MESSAGES - 1, "{delivery}: lost");
        let again: usize = counts.values().map(|count| count - 1).sum();
        assert!(delivery == "at_least_once" || again == 0, "{again} outputs again");
    }
}
