//! The simulation as a test: many seeds, the same history twice, bugs that must be found.

#![expect(clippy::expect_used, reason = "helpers of tests")]

use std::sync::atomic::{AtomicU64, Ordering};

use millstream_sim::planted::Bug;
use millstream_sim::{Options, Report, shorten, simulate};

/// How many seeds every run of the tests simulates.
const SEEDS: u64 = 2_000;

/// Seeds that found something, kept for good.
const FOUND: &str = include_str!("found-seeds.txt");

fn run(seed: u64, options: &Options) -> Report {
    simulate(seed, options).expect("a runtime")
}

fn first_broken(from: u64, seeds: u64, options: &Options) -> Option<Report> {
    let next = AtomicU64::new(from);
    std::thread::scope(|scope| {
        let work = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= from + seeds {
                    return None;
                }
                let report = run(seed, options);
                if report.violation.is_some() {
                    next.store(u64::MAX / 2, Ordering::Relaxed);
                    return Some(report);
                }
            }
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        threads.into_iter().filter_map(|t| t.join().expect("no panic")).min_by_key(|r| r.seed)
    })
}

#[test]
fn two_thousand_seeds_keep_every_promise() {
    if let Some(report) = first_broken(0, SEEDS, &Options::default()) {
        panic!("{}", shortened(report.seed));
    }
}

#[test]
fn seeds_that_found_something_keep_every_promise() {
    let seeds = FOUND.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok());
    let seeds: Vec<u64> = seeds.collect();
    assert!(seeds.len() >= 3, "{seeds:?} is all that {FOUND:?} has");
    for seed in seeds {
        let broken = run(seed, &Options::default()).violation.map(|_| shortened(seed));
        assert_eq!(broken, None);
    }
}

#[test]
fn a_seed_that_fails_is_shown_shortened_and_as_a_command() {
    let bug = Options { bug: Some(Bug::CommitsOneFurther), ..Options::default() };
    let whole = run(0, &bug);
    let shortened = shorten(0, &bug).expect("a runtime").expect("it fails");
    let promise = |report: &Report| {
        let violation = report.violation.clone().unwrap_or_default();
        violation.split_once(": ").map(|(promise, _)| promise.to_owned())
    };
    assert_eq!(promise(&shortened.report), promise(&whole));
    assert!(shortened.report.trace.len() < 60, "{}", shortened.report.trace.join("\n"));
    assert!(shorten(0, &Options::default()).expect("a runtime").is_none(), "it does not fail");
}

fn shortened(seed: u64) -> String {
    let shortened = shorten(seed, &Options::default()).expect("a runtime").expect("it failed");
    let (report, summary) = (shortened.report, shortened.summary);
    let tail = report.trace.len().saturating_sub(80);
    let tail = report.trace.get(tail..).unwrap_or_default().join("\n");
    let violation = report.violation.unwrap_or_default();
    format!("{tail}\n{}\n{summary}\nBROKEN {violation}\nmake sim SEED={seed}", report.drawn)
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in 0..25 {
        let (once, twice) = (run(seed, &Options::default()), run(seed, &Options::default()));
        assert_eq!(once.hash, twice.hash, "seed {seed}");
        assert_eq!(once.lasted, twice.lasted, "seed {seed}");
    }
}

/// A planted bug shows within so many seeds, as one of these broken promises.
fn is_found(bug: Bug, seeds: u64, promises: &[&str]) {
    // The wrong tier of a retry that forgot its count would be seen first.
    let ignored = vec!["a retry takes the tier of its delay".to_owned()];
    let options = Options { bug: Some(bug), ignored, ..Options::default() };
    let found: Vec<String> = (0..seeds).filter_map(|seed| run(seed, &options).violation).collect();
    let expected = |violation: &String| promises.iter().any(|p| violation.starts_with(p));
    assert!(found.iter().any(expected), "{bug:?} was not found in {seeds} seeds, but: {found:?}");
}

#[test]
fn a_commit_past_an_unsettled_message_is_found_within_3_seeds() {
    is_found(Bug::CommitsOneFurther, 3, &["a commit never passes an unsettled message"]);
}

#[test]
fn an_append_that_never_happened_is_found_within_5_seeds() {
    let promises = ["a commit never passes an unsettled message", "only done marks a key"];
    is_found(Bug::DropsAppends, 5, &promises);
}

#[test]
fn two_messages_of_a_key_in_the_wrong_order_are_found_within_20_seeds() {
    let promises = [
        "first attempts of a lane are in order",
        "the turn is the source offset",
        "the handler gets the message as it was",
    ];
    is_found(Bug::SwapsNeighbours, 20, &promises);
}

#[test]
fn a_forgotten_attempt_count_is_found_within_30_seeds() {
    let promises =
        ["attempts are not repeated", "attempts are never forgotten", "what is retried has failed"];
    is_found(Bug::ForgetsAttempts, 30, &promises);
}

#[test]
fn records_that_a_transaction_writes_twice_are_found_within_20_seeds() {
    is_found(Bug::WritesTwice, 20, &["exactly once"]);
}

#[test]
fn a_commit_that_goes_back_is_found_within_10_seeds() {
    is_found(Bug::CommitsGoBack, 10, &["commits never go back"]);
}

#[test]
fn a_message_that_passes_a_retried_one_of_its_key_is_found_within_20_seeds() {
    is_found(Bug::KeepsNoOrder, 20, &["a message waits for the earlier ones of its key"]);
}

#[test]
fn an_attempt_too_many_is_found_within_20_seeds() {
    is_found(Bug::AttemptsOneMore, 20, &["attempts are bounded", "what is retried has failed"]);
}

#[test]
fn marks_that_are_not_restored_are_found_within_60_seeds() {
    let promises = ["exactly once: of one key one message is done", "attempts are not repeated"];
    is_found(Bug::ForgetsMarks, 60, &promises);
}

#[test]
fn a_commit_that_is_never_refreshed_is_found_within_20_seeds() {
    let promises = ["what is committed is committed again before it is forgotten"];
    is_found(Bug::NeverRefreshes, 20, &promises);
}

#[test]
fn a_refused_record_that_nobody_heeds_is_found_within_60_seeds() {
    // Settled for the host, and in hand for whoever sees the log alone.
    let promises = ["a commit never passes an unsettled message", "what is in flight is bounded"];
    is_found(Bug::HidesRefusals, 60, &promises);
}

#[test]
fn a_name_that_is_forgotten_is_found_within_100_seeds() {
    is_found(Bug::ForgetsNames, 100, &["a message that kills its host is found"]);
}

#[test]
fn too_many_messages_in_hand_are_found_within_20_seeds() {
    is_found(
        Bug::TakesTooMany,
        20,
        &["what is in flight is bounded", "what is held in memory is bounded"],
    );
}
