//! The metadata of a commit on Kafka, which anybody may have written: what is understood of it is the same when it
//! is written and read again, and the ledger goes on from it. The input is the text, and the body of a text whose
//! prefix and checksum are right.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream_core::in_hand::InHand;
use millstream_core::ledger::Ledger;
use millstream_core::log::Commit;
use millstream_core::message::{Message, Offset};
use millstream_log_kafka::fuzzing::{NEXT, read, sealed, written};

fuzz_target!(|bytes: &[u8]| {
    check(&read(&sealed(bytes)));
    if let Ok(text) = std::str::from_utf8(bytes) {
        check(&read(text));
    }
});

fn check(commit: &Commit) {
    assert_eq!(commit.next, NEXT, "the offset is the broker's word");
    let again = read(&written(commit));
    // What does not fit is left out, from the highest on.
    let kept =
        commit.settled_above.get(..again.settled_above.len()).expect("no more than there were");
    assert_eq!(again, Commit { settled_above: kept.to_vec(), ..commit.clone() });

    let ledger = Ledger::restore(commit);
    let kept = ledger.commit(usize::MAX);
    assert_eq!(
        Ledger::restore(&kept).commit(usize::MAX),
        kept,
        "it is the same from owner to owner"
    );
    let ends = commit.settled_above.iter().flat_map(|range| [range.start, range.end]);
    for offset in ends.take(64) {
        let settled = offset < NEXT || commit.settled_above.iter().any(|r| r.contains(&offset));
        assert_eq!(ledger.is_settled(offset), settled, "offset {offset}");
    }
    for (offset, _) in commit.attempts.iter().take(64) {
        let made = ledger.attempts(*offset);
        let next = InHand::of_source(message(*offset), made).context.attempt;
        assert!(next > made || made == u32::MAX, "attempt {next} after {made}");
    }
}

fn message(offset: Offset) -> Message {
    let (topic, headers) = ("orders".into(), Vec::new());
    Message { topic, partition: 0, offset, timestamp: 0, key: None, value: None, headers }
}
