use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use sha2::Digest as _;

use super::*;
use crate::clock::WallClock;
use crate::headers::CompanionHeaders;
use crate::in_hand::{InHand, ReadFrom};
use crate::message::{EpochMs, Message, Record};
use crate::outcome::Outcome;
use crate::plugin::PluginIdentity;
use crate::settle::Ending;

const OWN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

fn context(text: &str) -> SpanContext {
    SpanContext::parse(text.as_bytes()).expect("a context")
}

fn parent(text: &str) -> Header {
    Header::new(TRACEPARENT, text.to_owned())
}

#[test]
fn a_context_is_read_as_the_w3c_has_it() {
    let read = context(OWN);
    assert_eq!(read.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(read.span.to_string(), "b7ad6b7169203331");
    assert!(read.sampled && !context(UNSAMPLED).sampled);
    assert_eq!(read.to_string(), OWN);
    // Unknown flags are not carried on; of a later version the known part counts.
    assert_eq!(context(&OWN.replace("-01", "-03")).to_string(), OWN);
    assert_eq!(context(&format!("cc{}-more", &OWN[2..])), read);
    assert_eq!(context(&format!("cc{}", &OWN[2..])), read);
}

#[test]
fn what_is_not_exactly_a_context_is_none() {
    let no_trace = format!("00-{}-b7ad6b7169203331-01", "0".repeat(32));
    let no_span = format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", "0".repeat(16));
    let upper = OWN.to_uppercase();
    for wrong in [
        "",
        "00",
        &OWN[..54],
        &format!("{OWN}-more"),
        &format!("cc{}x", &OWN[2..]),
        &format!("ff{}", &OWN[2..]),
        &no_trace,
        &no_span,
        &upper,
        &OWN.replace('-', "_"),
        &OWN.replace("b7ad", "b-ad"),
        &OWN.replace("b7ad", "b+ad"),
        &OWN.replace("01", "0g"),
    ] {
        assert_eq!(SpanContext::parse(wrong.as_bytes()), None, "{wrong}");
    }
}

proptest! {
    #[test]
    fn bytes_of_strangers_never_panic_and_what_is_written_is_read_back(
        bytes in proptest::collection::vec(any::<u8>(), 0..80),
        (trace, span, sampled) in (1..=u128::MAX, 1..=u64::MAX, any::<bool>()),
    ) {
        let _ = SpanContext::parse(&bytes);
        let trace = TraceId(NonZeroU128::new(trace).expect("not 0"));
        let span = SpanId(NonZeroU64::new(span).expect("not 0"));
        let written = SpanContext { trace, span, sampled };
        prop_assert_eq!(SpanContext::parse(written.to_string().as_bytes()), Some(written));
    }
}

#[test]
fn of_two_contexts_none_is_believed_and_a_strange_state_is_left_out() {
    assert_eq!(Incoming::of(&[parent(OWN), parent(OWN)]), None);
    let state = |value: &[u8]| {
        let state = Header::new(TRACESTATE, value.to_vec());
        Incoming::of(&[state, parent(OWN)]).expect("a context").state
    };
    assert_eq!(state(b"a=1,b=2").as_deref(), Some("a=1,b=2"));
    assert_eq!(state(&[b'a'; STATE_BYTES_MAX]).map(|text| text.len()), Some(STATE_BYTES_MAX));
    for strange in [&[b'a'; STATE_BYTES_MAX + 1][..], b"", b"a=\n", b"a=\xff"] {
        assert_eq!(state(strange), None);
    }
}

#[derive(Default)]
struct Kept(Mutex<Vec<Span>>);

impl SpanSink for Kept {
    fn ended(&self, span: Span) {
        self.0.lock().expect("whole").push(span);
    }
}

struct Still;

impl WallClock for Still {
    fn now(&self) -> EpochMs {
        1_700_000_000_000
    }
}

fn tracer(share: f64) -> (Tracer, Arc<Kept>) {
    let kept = Arc::new(Kept::default());
    let drawn = AtomicU64::new(0);
    // The same in every run, and spread over all of the range.
    let random = move || {
        let number = drawn.fetch_add(1, Ordering::Relaxed);
        u64::from_be_bytes(sha2::Sha256::digest(number.to_be_bytes())[..8].try_into().unwrap())
    };
    let traces = Traces {
        sink: Arc::clone(&kept) as _,
        random: Arc::new(random),
        sample: Ratio::new(share),
        system: "kafka",
    };
    (Tracer::new(traces, Arc::new(Still), "orders", "pricing"), kept)
}

fn item(headers: Vec<Header>) -> InHand {
    let message = Message {
        topic: "orders.created".into(),
        partition: 3,
        offset: 17,
        timestamp: 0,
        key: Some("secret".into()),
        value: Some("12345".into()),
        headers,
    };
    InHand::of_source(message, 0)
}

fn attempt(tracer: &Tracer, item: &mut InHand, failed: Option<&Outcome>) -> Option<Outgoing> {
    let traced = tracer.begin(item)?;
    let outgoing = traced.outgoing.clone();
    let plugin =
        PluginIdentity { name: "p".into(), version: "1".into(), digest: "sha256:00".into() };
    let ended = AttemptEnded { failed, outputs: 2, plugin: &plugin };
    tracer.end(traced, item, ended, Duration::from_micros(5));
    Some(outgoing)
}

fn headers_of(outgoing: &Outgoing) -> Vec<Header> {
    let mut headers = vec![parent("the plugin's own"), Header::new("other", "x")];
    outgoing.put_into(&mut headers);
    headers
}

fn retry() -> Outcome {
    Outcome::Retry { reason: "not yet".into(), after: None }
}

/// The message as its copy in a tier is read.
fn read_again(item: &InHand) -> InHand {
    let found = CompanionHeaders {
        trace: item.continues(),
        tier: Some("5s".into()),
        ..CompanionHeaders::of_source(&item.message, "pricing")
    };
    let read_from = ReadFrom::Tier { tier: 0, offset: 4 };
    let mut again = InHand::of_source(item.message.clone(), item.context.attempt);
    (again.provenance, again.read_from) = (Some(Box::new(found)), read_from);
    again
}

#[test]
fn attempts_of_a_traced_message_are_children_of_its_context_and_linked_to_one_another() {
    let (tracer, kept) = tracer(0.0);
    let mut first = item(vec![parent(OWN), Header::new(TRACESTATE, "v=1")]);
    let outgoing = attempt(&tracer, &mut first, Some(&retry())).expect("it is traced");
    let mut second = read_again(&first);
    attempt(&tracer, &mut second, None).expect("it is traced");
    tracer.settled(&second, &Ending::Done, &[]);

    let spans = kept.0.lock().expect("whole").clone();
    let [failed, done, settled] = &spans[..] else { panic!("{spans:?}") };
    assert!(spans.iter().all(|span| span.context.trace == context(OWN).trace));
    assert_eq!((failed.parent, failed.link), (Some(context(OWN).span), None));
    assert_eq!((done.parent, done.link), (Some(context(OWN).span), Some(failed.context)));
    assert_eq!((settled.parent, settled.link), (Some(done.context.span), None));
    assert_eq!(failed.failure.as_deref(), Some("not yet"));
    assert_eq!(done.end_nanos - done.begin_nanos, 5_000);

    let mut expected = vec![Header::new("other", "x"), parent(&failed.context.to_string())];
    expected.push(Header::new(TRACESTATE, "v=1"));
    assert_eq!(headers_of(&outgoing), expected, "outputs follow from the attempt");
}

#[test]
fn what_began_by_the_ratio_goes_on_after_it_was_put_off() {
    let (tracer, kept) = tracer(1.0);
    let mut first = item(Vec::new());
    attempt(&tracer, &mut first, Some(&retry()));
    let mut second = read_again(&first);
    let (none, _) = self::tracer(0.0);
    attempt(&none, &mut second, None).expect("its trace is recorded, whatever the ratio is now");
    // In place: it was never out of hand.
    attempt(&tracer, &mut first, None);
    let spans = kept.0.lock().expect("whole").clone();
    let [root, in_place] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((root.parent, root.link), (None, None));
    assert_eq!(in_place.context.trace, root.context.trace);
    assert_eq!((in_place.parent, in_place.link), (Some(root.context.span), Some(root.context)));
    assert_eq!(second.trace_id(), Some(root.context.trace));
}

#[test]
fn a_trace_that_is_not_recorded_is_passed_on_as_it_came() {
    let (tracer, kept) = tracer(1.0);
    let mut item = item(vec![parent(UNSAMPLED)]);
    let outgoing = attempt(&tracer, &mut item, Some(&retry())).expect("it has a context");
    assert_eq!(headers_of(&outgoing).last(), Some(&parent(UNSAMPLED)));
    assert!(kept.0.lock().expect("whole").is_empty() && item.continues().is_none());
    assert_eq!(item.trace_id(), Some(context(UNSAMPLED).trace), "lines of the log name it");
}

#[test]
fn the_ratio_decides_about_messages_without_context_only() {
    for (share, between) in [(0.0, 0..=0), (0.1, 70..=130), (1.0, 1000..=1000), (f64::NAN, 0..=0)] {
        let (tracer, kept) = tracer(share);
        for _ in 0..1000 {
            attempt(&tracer, &mut item(Vec::new()), None);
        }
        let traced = kept.0.lock().expect("whole").len();
        assert!(between.contains(&traced), "{share}: {traced}");
    }
}

#[test]
fn a_span_says_where_and_how_and_never_what() {
    let (tracer, kept) = tracer(1.0);
    let mut failed = item(vec![parent(OWN)]);
    attempt(&tracer, &mut failed, Some(&retry()));
    let copy = Record {
        topic: "orders.created.retry.5s".into(),
        partition: None,
        timestamp: None,
        key: None,
        value: None,
        headers: Vec::new(),
    };
    tracer.settled(&failed, &Ending::Retry(Duration::from_secs(5)), &[copy]);
    attempt(&tracer, &mut read_again(&failed), None);
    let spans = kept.0.lock().expect("whole").clone();
    let [process, settle, again] = &spans[..] else { panic!("{spans:?}") };
    let value = |span: &Span, name: &str| {
        let mut named = span.attributes.iter().filter(|(known, _)| *known == name);
        let found = named.next().map(|(_, value)| value.clone());
        assert_eq!(named.next(), None, "{name} is there twice");
        found
    };
    for (span, name, expected) in [
        (process, "messaging.system", Value::from("kafka")),
        (process, "messaging.operation.type", "process".into()),
        (process, "messaging.destination.name", "orders.created".into()),
        (process, "messaging.destination.partition.id", "3".into()),
        (process, "messaging.kafka.offset", 17_u64.into()),
        (process, "messaging.consumer.group.name", "pricing".into()),
        (process, "messaging.message.body.size", 5_u64.into()),
        (process, "error.type", "retry".into()),
        (process, "millstream.outcome", "retry".into()),
        (process, "millstream.pipeline", "orders".into()),
        (process, "millstream.attempt", 1_u64.into()),
        (process, "millstream.turn", 17_u64.into()),
        (process, "millstream.plugin.digest", "sha256:00".into()),
        (settle, "messaging.operation.type", "settle".into()),
        (settle, "millstream.ending", "retry".into()),
        (settle, "millstream.to", "orders.created.retry.5s".into()),
        (again, "millstream.tier", "5s".into()),
        (again, "millstream.tier.offset", 4_u64.into()),
        (again, "millstream.outcome", "done".into()),
        (again, "millstream.outputs", 2_u64.into()),
    ] {
        assert_eq!(value(span, name), Some(expected), "{name}");
    }
    assert_eq!(value(again, "error.type"), None);
    for span in &spans {
        let told = format!("{span:?}");
        assert!(!told.contains("secret") && !told.contains("12345"), "{told}");
    }
}

#[test]
fn a_context_of_another_trace_beside_the_continued_one_does_not_part_it() {
    let (tracer, kept) = tracer(0.0);
    let other = context("00-11111111111111111111111111111111-2222222222222222-01");
    let mut moved = read_again(&item(vec![parent(OWN), Header::new(TRACESTATE, "v=1")]));
    moved.provenance.as_mut().expect("it has been put off").trace = Some(other);
    attempt(&tracer, &mut moved, None);
    let spans = kept.0.lock().expect("whole").clone();
    assert_eq!((spans[0].context.trace, spans[0].parent), (other.trace, Some(other.span)));
    assert_eq!(spans[0].state, None, "that is the other trace's");
}
