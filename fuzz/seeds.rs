//! Seeds: inputs to begin with, made by the encoders that the targets' decoders belong to.
//! `fuzz/run seeds` writes all of them into `corpus/`; what is text (configurations) lies there as it was typed.

use std::path::Path;

use bytes::Bytes;
// Its callbacks are what the coverage flags make this program call, too.
use libfuzzer_sys as _;
use millstream_core::headers::{self, CompanionHeaders, ErrorHeaders, Redrive};
use millstream_core::idempotency::{Mark, Scope, mark_record};
use millstream_core::jsonl;
use millstream_core::log::{Commit, TopicSpec};
use millstream_core::message::{Header, Message, Partition};
use millstream_core::plugin::PluginIdentity;
use millstream_core::trace::SpanContext;
use millstream_fuzz::{put_headers, put_part};

fn main() {
    let mut seeds: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>| seeds.push((name.to_owned(), bytes));

    let commit = Commit {
        next: 1_000,
        settled_above: vec![1_002..1_010, 1_500..1_501],
        attempts: vec![(1_000, 3)],
        ..Commit::default()
    };
    #[cfg(feature = "kafka")]
    {
        let text = millstream_log_kafka::fuzzing::written(&commit);
        add("commit_metadata/body", millstream_log_kafka::fuzzing::body(&text));
        add("commit_metadata/text", text.into_bytes());
    }

    let mut letters = Vec::new();
    for (name, message) in messages() {
        let mut bytes = Vec::new();
        put_headers(&mut bytes, &message.headers);
        put_part(&mut letters, &bytes);
        add(&format!("headers/{name}"), bytes);
        add(&format!("json_lines/{name}"), jsonl::write_line(&message).into_bytes());
    }

    let mut of_connect = Vec::new();
    let topic = Header::new("__connect.errors.topic", "orders");
    put_headers(
        &mut of_connect,
        &[topic, Header::new("__connect.errors.exception.message", "no: ")],
    );
    put_part(&mut letters, &of_connect);
    add("dead_letters/all", letters);

    let topic = TopicSpec {
        name: "orders".into(),
        partitions: 4,
        retention: Some(std::time::Duration::from_secs(3_600)),
        retention_bytes: None,
        message_bytes_max: 1 << 20,
        append_time: true,
        compacted: false,
        replication: None,
    };
    for (name, key, value) in millstream_log_embedded::fuzzing::entries(&commit, &topic) {
        add(&format!("stored/{name}"), keyed(&key, &value));
    }
    let batch: Vec<Message> = messages().into_iter().map(|(_, message)| message).collect();
    let (key, value) = millstream_log_embedded::fuzzing::batch_of(&batch);
    add("stored/batch", keyed(&key, &value));

    let scope = Scope { group: "group".into(), partition: Partition::new("orders", 3) };
    let mark =
        Mark { scope: scope.into(), key: "A-17".into(), turn: 42, expires: 1_700_000_000_000 };
    let record = mark_record::encode(&mark);
    let value = record.value.unwrap_or_default();
    add("mark_record/record", keyed(&record.key.unwrap_or_default(), &value));
    for (name, bytes) in millstream_mark_copy::fuzzing::seeds() {
        add(&format!("mark_index/{name}"), bytes);
    }

    add("idempotency_key/text", keyed(b"/order/id", br#"{"order":{"id":"A-17"}}"#));
    add("idempotency_key/number", keyed(b"/1", b"[null,18446744073709551615,1e400]"));

    #[cfg(feature = "plugin")]
    {
        let (module, component) = plugin();
        add("component/core_module", module);
        add("component/component", component);
    }

    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, bytes) in seeds {
        let file = corpus.join(name);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder is made");
        std::fs::write(&file, bytes).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
}

fn keyed(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_part(&mut bytes, key);
    bytes.extend_from_slice(value);
    bytes
}

/// A message of a source, one that is retried, and a dead letter.
fn messages() -> Vec<(&'static str, Message)> {
    let source = Message {
        topic: "orders".into(),
        partition: 0,
        offset: 5,
        timestamp: 1_700_000_000_000,
        key: Some(Bytes::from_static(b"A-17")),
        value: Some(Bytes::from_static(br#"{"order_id":"A-17","total":1.50}"#)),
        headers: vec![Header::new("trace", Bytes::from_static(&[0xff, 0]))],
    };
    let mut found = CompanionHeaders::of_source(&source, "group");
    found.attempt = 2;
    found.waits = 1;
    found.tier = Some("5s".into());
    found.first_failed = Some(source.timestamp);
    found.last_failed = Some(source.timestamp + 5_000);
    found.idempotency_key = Some(Bytes::from_static(&[0xfe, 1]));
    found.trace = SpanContext::parse(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let retried =
        Message { offset: 6, headers: headers::encode(&found, &source.headers), ..source.clone() };
    found.tier = None;
    found.error = Some(ErrorHeaders {
        kind: "reject".to_owned(),
        reason: "no such currency".to_owned(),
        backtrace: Some("0: handle".to_owned()),
    });
    found.plugin = Some(PluginIdentity {
        name: "orders".to_owned(),
        version: "1.2.3".to_owned(),
        digest: "sha256:00".to_owned(),
    });
    found.redrive = Some(Redrive { count: 1, id: "r1".to_owned(), at: source.timestamp + 9_000 });
    let dead = Message {
        offset: 7,
        value: None,
        headers: headers::dead_letter_headers(&found, &source.headers),
        ..source.clone()
    };
    vec![("source", source), ("retried", retried), ("dead_letter", dead)]
}

/// The smallest plugin of the contract: as a core module with its component type, and as a component.
#[cfg(feature = "plugin")]
fn plugin() -> (Vec<u8>, Vec<u8>) {
    use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
    use wit_parser::{ManglingAndAbi, Resolve};
    let mut resolve = Resolve::default();
    let contract = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit/plugin-0.1.0");
    let (package, _) = resolve.push_dir(contract).expect("the contract is read");
    let world = resolve.select_world(&[package], Some("handler")).expect("it has this world");
    let mangling = ManglingAndAbi::Legacy(wit_parser::LiftLowerAbi::Sync);
    let mut module = dummy_module(&resolve, world, mangling);
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("the type is embedded");
    let encoder = ComponentEncoder::default().validate(true).module(&module);
    let component = encoder.and_then(|mut encoder| encoder.encode()).expect("it is a component");
    (module, component)
}
