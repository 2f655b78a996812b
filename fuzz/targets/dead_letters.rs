//! What strangers may have written into a dead-letter topic: all of it is listed, what is the pipeline's is put back once
//! and as it was, the rest stays open. The input is the headers of a message as a part, for each message.
#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use millstream_core::dead_letter::{
    DeadLetters, Filter, Listing, Owner, RedriveReport, RedriveRequest,
};
use millstream_core::headers;
use millstream_core::message::{Message, Record};
use millstream_core::pipeline_spec::PipelineSpec;
use millstream_fuzz::shelf::{Shelf, done};

const CONFIG: &str = r#"
[pipelines.orders]
source = { topics = ["orders"], group = "group" }
plugin = "orders.wasm"
"#;

static SPEC: LazyLock<PipelineSpec> = LazyLock::new(|| {
    let file = std::env::temp_dir().join(format!("millstream-fuzz-{}.toml", std::process::id()));
    std::fs::write(&file, CONFIG).expect("a file");
    let config = millstream::config::load_with(&file, &|_| None).expect("it is right");
    std::fs::remove_file(&file).expect("it is there");
    config.pipelines.into_iter().next().expect("there is one").spec
});

const LETTERS: &str = "orders.dlq";
const TIER: &str = "orders.retry.0s";

fuzz_target!(|bytes: &[u8]| {
    let shelf = Shelf::new(&["orders", LETTERS]);
    let mut rest = bytes;
    while let Some(part) = millstream_fuzz::part(&mut rest) {
        let headers = millstream_fuzz::headers(part);
        shelf.put(Record {
            topic: LETTERS.into(),
            partition: Some(0),
            timestamp: None,
            key: None,
            value: Some(Bytes::from_static(b"value")),
            headers,
        });
    }
    let letters = shelf.all(LETTERS);
    let before = list(&shelf);
    assert_eq!(before.letters.len() as u64, before.total);
    let first = before.letters.first().map(|line| line.kind.clone());
    // First those of a kind, so that others stay between them; then the rest.
    if let Some(kind) = first {
        let some = redrive(&shelf, Filter { kind: Some(kind), ..Filter::default() });
        assert_eq!(list(&shelf).total, before.total - some.redriven, "what was put back is closed");
    }
    let report = redrive(&shelf, Filter::default());
    let after = list(&shelf);
    assert_eq!((report.foreign, report.left, report.refused), (after.total, 0, 0));
    assert_eq!(redrive(&shelf, Filter::default()).redriven, 0, "it is put back once");

    let copies = shelf.all(TIER);
    assert_eq!(copies.len() as u64, before.total - after.total, "none is lost");
    for copy in copies {
        headers::decode(&copy.headers).expect("it can be attempted");
        let original = headers::strip(&copy.headers);
        let is_its = |letter: &Message| headers::strip(&letter.headers) == original;
        assert!(letters.iter().any(is_its), "the original headers stay");
    }
});

fn list(shelf: &Shelf) -> Listing {
    done(DeadLetters::new(shelf, &SPEC).list(&Filter::default(), usize::MAX)).expect("it is listed")
}

fn redrive(shelf: &Shelf, filter: Filter) -> RedriveReport {
    let owner = Owner { name: "ada".to_owned(), machine: String::new(), process: 1 };
    let request = RedriveRequest {
        filter,
        to: None,
        limit: None,
        per_second: None,
        id: "run".to_owned(),
        at: 9_000,
        owner,
        dry_run: false,
    };
    let redrive = DeadLetters::new(shelf, &SPEC);
    done(redrive.redrive(&request, &mut |_| {})).expect("it is redriven")
}
