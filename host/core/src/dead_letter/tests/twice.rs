//! Killed, lost, at the same time: every letter is sent once all the same.

use super::shelf::Fate;
use super::*;

const LETTERS: u64 = 2_200;

fn many() -> Arc<Shelf> {
    let shelf = Shelf::with(&["orders", "orders.dlq", "orders.retry.0s"]);
    for offset in 0..LETTERS {
        bury(&shelf, "orders", 0, &offset.to_string(), &found("orders", 0, offset, "trap"));
    }
    shelf
}

/// Every letter has one copy, in the order of the letters.
fn each_once(shelf: &Shelf) {
    let expected: Vec<String> = (0..LETTERS).map(|offset| offset.to_string()).collect();
    assert!(shelf.values("orders.retry.0s", 0) == expected, "each once, in their order");
}

/// Redrives until it is killed.
async fn killed(shelf: &Shelf, request: &RedriveRequest) {
    let within = Duration::from_secs(3_600);
    let ended = tokio::time::timeout(within, try_redrive(shelf, request)).await;
    assert!(ended.is_err(), "it was to be killed: {ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_redrive_that_is_killed_at_any_batch_goes_on_where_it_was() {
    // Batches: the claim, three with letters, the end.
    for batch in 0..5 {
        for fate in [Fate::KilledAfter, Fate::KilledBefore] {
            let shelf = many();
            shelf.fate(std::iter::repeat_n(Fate::Answered, batch).chain([fate]));
            killed(&shelf, &request("run-1", Filter::default())).await;
            let sent = shelf.values("orders.retry.0s", 0).len() as u64;
            let spec = spec();
            let gone = |owner: &Owner| owner.name == "ada";
            let letters = DeadLetters::new(&*shelf, &spec).knowing(&gone);
            let again =
                RedriveRequest { owner: owner("bob"), ..request("run-2", Filter::default()) };
            let report = letters.redrive(&again, &mut |_| {}).await.expect("it goes on");
            assert_eq!(report.redriven, LETTERS - sent, "{batch} {fate:?}");
            let begun = batch > 0 || fate == Fate::KilledAfter;
            let ended = batch == 4 && fate == Fate::KilledAfter;
            let resumed = (begun && !ended).then_some(sent);
            assert_eq!(report.resumed_after, resumed, "{batch} {fate:?}");
            let id = if resumed.is_some() { "run-1" } else { "run-2" };
            assert_eq!(report.id, id, "{batch} {fate:?}");
            each_once(&shelf);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_sends_nothing_twice_and_loses_nothing() {
    for fate in [Fate::AnswerLost, Fate::Lost] {
        let shelf = many();
        shelf.fate(std::iter::repeat_n([Fate::Answered, fate], 5).flatten());
        let report = redrive(&shelf, &request("run-1", Filter::default())).await;
        assert_eq!(report.redriven, LETTERS, "{fate:?}");
        each_once(&shelf);
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_counts_what_was_sent_before_it_was_killed() {
    let shelf = many();
    let limited = |id: &str, name: &str| RedriveRequest {
        limit: Some(1_500),
        owner: owner(name),
        ..request(id, Filter::default())
    };
    shelf.fate([Fate::Answered, Fate::KilledAfter]);
    killed(&shelf, &limited("run-1", "ada")).await;
    assert_eq!(shelf.values("orders.retry.0s", 0).len(), 1_000);
    // Nobody knows that it is gone: it is seen to stand still.
    let begin = tokio::time::Instant::now();
    let report = redrive(&shelf, &limited("run-2", "bob")).await;
    assert!(begin.elapsed() >= LEASE, "{:?}", begin.elapsed());
    assert_eq!((report.resumed_after, report.redriven), (Some(1_000), 500));
    assert_eq!(shelf.values("orders.retry.0s", 0).len(), 1_500);
}

#[tokio::test(start_paused = true)]
async fn a_second_redrive_is_refused_while_the_first_is_at_work() {
    let shelf = many();
    let slow =
        RedriveRequest { per_second: "100".parse().ok(), ..request("run-1", Filter::default()) };
    let second = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let other = RedriveRequest { owner: owner("bob"), ..request("run-2", Filter::default()) };
        let error = try_redrive(&shelf, &other).await.expect_err("one at a time");
        assert!(error.to_string().contains("run-1 by ada"), "{error}");
    };
    let (report, ()) = tokio::join!(redrive(&shelf, &slow), second);
    assert_eq!(report.redriven, LETTERS);
    each_once(&shelf);
}

#[tokio::test(start_paused = true)]
async fn who_was_taken_over_ends_and_has_sent_nothing_that_was_sent_by_the_other() {
    let shelf = many();
    let slow =
        RedriveRequest { per_second: "500".parse().ok(), ..request("run-1", Filter::default()) };
    let second = async {
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        // As if it were known to be gone, which it is not.
        let spec = spec();
        let letters = DeadLetters::new(&*shelf, &spec).knowing(&|_| true);
        let other = RedriveRequest { owner: owner("bob"), ..request("run-2", Filter::default()) };
        letters.redrive(&other, &mut |_| {}).await.expect("it takes over")
    };
    let (first, second) = tokio::join!(try_redrive(&shelf, &slow), second);
    let error = first.expect_err("it was taken over");
    assert!(error.to_string().contains("by bob"), "{error}");
    assert!(second.redriven > 0);
    each_once(&shelf);
}

#[tokio::test(start_paused = true)]
async fn a_resumed_redrive_does_not_take_what_it_sent_itself_and_failed_again() {
    let shelf = many();
    shelf.fate([Fate::Answered, Fate::KilledAfter]);
    killed(&shelf, &request("run-1", Filter::default())).await;
    let copy = &shelf.all("orders.retry.0s", 0)[0];
    let again = headers::decode(&copy.headers).expect("ours");
    let again = CompanionHeaders { error: found("orders", 0, 1, "trap").error, ..again };
    bury(&shelf, "orders", 0, "failed again", &again);
    let report = redrive(&shelf, &request("run-2", Filter::default())).await;
    assert_eq!((report.redriven, report.left), (LETTERS - 1_000, 1));
    each_once(&shelf);
    assert_eq!(list(&shelf, &Filter::default()).await.total, 1, "the next redrive takes it");
}

#[tokio::test]
async fn states_of_a_topic_that_was_made_anew_hide_nothing() {
    let shelf = many();
    redrive(&shelf, &request("run-1", Filter::default())).await;
    shelf.make_anew("orders.dlq");
    bury(&shelf, "orders", 0, "new", &found("orders", 0, 1, "trap"));
    let error =
        try_redrive(&shelf, &request("run-2", Filter::default())).await.expect_err("not its");
    assert!(error.to_string().contains("delete topic orders.dlq.states"), "{error}");
    let spec = spec();
    let listed = DeadLetters::new(&*shelf, &spec).list(&Filter::default(), 1).await;
    assert!(listed.is_err(), "{listed:?}");
    shelf.make_anew("orders.dlq.states");
    assert_eq!(redrive(&shelf, &request("run-3", Filter::default())).await.redriven, 1);
}
