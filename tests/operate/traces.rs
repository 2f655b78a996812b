//! One trace follows a message through pipelines, retries, dead letters and redrive; and what becomes of spans that nobody
//! takes.

use std::time::Duration;

use millstream_tests::host::{END_WITHIN, Host};
use millstream_tests::span_receiver::Answer;
use millstream_tests::traced::{Shop, TRACE};
use millstream_tests::waiting;

const WITHIN: Duration = Duration::from_secs(60);
const LOG: &str = "durability = \"100ms\"";

#[test]
fn one_traced_message_through_two_pipelines_retries_a_dead_letter_and_redrive_is_one_trace() {
    Shop::new("shop", LOG).one_message_is_one_trace();
}

#[test]
fn spans_that_nobody_takes_are_counted_and_hold_up_no_message() {
    let shop = Shop::new("shop", LOG);
    let (folder, receiver) = (&shop.folder, &shop.receiver);
    let mut host = Host::start(folder);
    host.until_ready();
    // Each message makes four spans, which may come in more than one request.
    let send = || {
        shop.send("echo", &format!("00-{TRACE}-b7ad6b7169203331-01"));
        folder.until_settled(WITHIN);
    };
    let counted = |host: &mut Host, what: &str, labels: &[&str], count: f64| {
        waiting::until(&format!("{what} {labels:?} is {count}"), WITHIN, || {
            (host.metric(what, labels)? == count).then_some(())
        });
    };

    receiver.answer([Answer::Status(503), Answer::Status(429)]);
    send();
    counted(&mut host, "millstream_spans_exported_total", &[], 4.0);
    assert_eq!(receiver.spans().len(), 4, "they were sent again");

    receiver.answer([Answer::Rejects(1)]);
    send();
    counted(&mut host, "millstream_spans_exported_total", &[], 7.0);
    let refused = ["reason=\"refused\""];
    counted(&mut host, "millstream_spans_dropped_total", &refused, 1.0);

    receiver.answer(std::iter::repeat_n(Answer::Status(400), 4));
    send();
    counted(&mut host, "millstream_spans_dropped_total", &refused, 5.0);
    assert!(host.said().contains("spans are lost"), "it is told");
    host.stop(END_WITHIN);
}
