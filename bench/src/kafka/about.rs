//! About: what a reader of the figures has to know. It stands in front of them in the report, so that
//! `bench/README.md` says what this very version measures.

/// The head of the report, as Markdown.
pub(crate) const TEXT: &str = "\
## On Kafka

    cargo run --release -p millstream-bench --bin kafka                 everything, about an hour after the builds
    cargo run --release -p millstream-bench --bin kafka -- --quick      a smoke test, about two minutes after the builds; its figures are noise
    cargo run --release -p millstream-bench --bin kafka -- --help       `--only`, `--run`, `--rounds`, `--messages`, `--dir`, `--markdown`, `--profile`

It needs Java 17 with its compiler, and Maven (Debian: `default-jdk-headless maven`), and starts a broker of its own. Every contender copies a topic into another as
a process of its own, and all are watched from outside in the same way: outputs by the ends that a read-committed consumer sees, looked at every 20 ms; processor time and memory in
`/proc`. Throughput is what lies between 20 % and 90 % of the outputs: before that clients meet and Java compiles itself, after it partitions run out. Then all outputs are read: one that is missing
fails the benchmark, and so does one that is there twice where exactly once is promised.

- *loop*: librdkafka from Rust. Poll, produce with idempotence, commit each second what is acknowledged. `linger.ms` 5, `fetch.queue.backoff.ms` 5. No handler.
- *Millstream*: `millstream run` with the plugin `tests/guests/echo` in the sandbox; by key, 2 instances, 50,000 messages or 64 MiB in flight, else the defaults. Exactly once commits every 100 ms where
  throughput is measured.
- *Kafka Streams* 4.3.1: a source and a sink, 2 threads; commits each second, or with `exactly_once_v2` every 100 ms, its default.
- *Spring Kafka* 4.1.1: a batch listener and `KafkaTemplate`, 2 consumers; a batch is committed when its sends are acknowledged.
- Both Java contenders: `linger.ms` 5, batches of 512 KiB, polls of 5,000 records, a heap of 1 GiB.

Latency is from just before a message is produced, without linger, to its output in a read-committed consumer in the benchmark itself, after some seconds of the same load. Retries: a plugin
fails every first attempt; an attempt is late by the append time of its output, less that of the retry, less the delay.
";
