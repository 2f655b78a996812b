//! The headers of a message in a companion topic, where strangers may write too: what is understood is the same
//! after another hop, within its bounds, and the original headers stay as they were. A retry tier gives a message
//! back once, whatever its headers say.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use millstream_core::headers::{self, TOTAL_BYTES_MAX};
use millstream_core::ledger::Ledger;
use millstream_core::log::Commit;
use millstream_core::message::{EpochMs, Header, Message, Partition};
use millstream_core::tiers::{Due, Tier, Tiers};

/// Texts of at most so many bytes, and all of them together, are cut by nothing.
const UNCUT_BYTES_MAX: usize = 256;
const UNCUT_TOTAL_BYTES_MAX: usize = 2_000;

fuzz_target!(|bytes: &[u8]| {
    let given = millstream_fuzz::headers(bytes);
    hold(&given);
    let original = headers::strip(&given);
    let Ok(found) = headers::decode(&given) else { return };

    let written = headers::encode(&found, &given);
    assert_eq!(headers::strip(&written), original, "the originals stay");
    assert!(bytes_of_ours(&written) <= TOTAL_BYTES_MAX, "{}", bytes_of_ours(&written));
    let again = headers::decode(&written).expect("what was written is read");
    let short = given.iter().all(|header| header.value.len() <= UNCUT_BYTES_MAX);
    if short && bytes_of_ours(&given) <= UNCUT_TOTAL_BYTES_MAX {
        assert_eq!(again, found);
    }
    assert_eq!(headers::encode(&again, &written), written, "a further hop changes nothing");

    let letter = headers::dead_letter_headers(&found, &given);
    assert_eq!(headers::strip(&letter), original, "the originals stay");
    assert_eq!(headers::decode(&letter).as_ref(), Ok(&again), "a dead letter says the same");
    let minimal = headers::minimal(&letter);
    assert!(headers::is_minimal(&minimal));
    assert_eq!(headers::strip(&minimal), original, "the originals stay");
    let least = headers::decode(&minimal).expect("it can be redriven");
    assert_eq!(
        (least.turn, least.attempt, least.redrive),
        (again.turn, again.attempt, again.redrive)
    );
    assert_eq!(least.idempotency_key, again.idempotency_key);
});

/// A message with these headers is read from a retry tier.
fn hold(headers: &[Header]) {
    let tier = Partition::new("orders.retry.5s", 0);
    let message = Message {
        topic: tier.topic.clone(),
        partition: 0,
        offset: 3,
        timestamp: 0,
        key: None,
        value: None,
        headers: headers.to_vec(),
    };
    let ledger = Ledger::restore(&Commit::default());
    let tier = Tier::new(tier, Duration::from_secs(5), ledger, 10);
    let mut tiers = Tiers::new("group", Partition::new("orders", 0), vec![tier], true);
    tiers.index(0, &message);
    tiers.hold(0, message, 0);
    match tiers.take_due(EpochMs::MAX) {
        Some(Due::Attempt(item)) => assert!(item.context.attempt > 0),
        Some(Due::Settle(_, offset, why)) => assert_eq!((offset, why), (3, "other_group")),
        Some(Due::Unreadable(_, reason)) => assert!(!reason.is_empty()),
        Some(Due::Behind(..)) => panic!("there is no other"),
        None => panic!("it is lost"),
    }
    assert!(tiers.take_due(EpochMs::MAX).is_none(), "it comes once");
}

fn bytes_of_ours(headers: &[Header]) -> usize {
    let ours = headers.iter().filter(|header| headers::is_ours(&header.name));
    ours.map(|header| header.name.len() + header.value.len()).sum()
}
