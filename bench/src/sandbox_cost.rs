//! Sandbox cost: a message through the sandbox beside the same handler called natively.
//!
//! One thread, a `current_thread` runtime, warm instances, both behind `dyn Instance`. The messages
//! of a ring are called in turn, the answer is dropped in the measured time on both sides.

use std::hint::black_box;
use std::time::Duration;

use anyhow::{Context as _, bail};
use indicatif::ProgressBar;
use millstream_bench::table::progress;
use millstream_core::message::{Message, Topic};
use millstream_core::outcome::Outcome;
use millstream_core::plugin::{AttemptContext, Instance, Plugin};
use serde::Serialize;
use tokio::time::Instant;

use crate::effort::Effort;
use crate::figures::Rounds;
use crate::messages::{VALUE_BYTES, message};

/// What the sandbox may add to a 200-byte message on one core.
pub(crate) const AIM_MICROSECONDS: f64 = 2.0;

/// Enough different messages that no branch predictor learns them.
const RING: u64 = 512;

/// Calls that warm both sides up and tell how long a call takes.
const WARM_UP_CALLS: usize = 20_000;

/// One shape of message, and what it costs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SandboxCost {
    /// The shape in words.
    pub(crate) message: &'static str,
    /// Nanoseconds a message, natively.
    pub(crate) native_ns: Rounds,
    /// Nanoseconds a message, through the sandbox.
    pub(crate) sandbox_ns: Rounds,
    /// The median difference of a round, in microseconds.
    pub(crate) added_us: f64,
    /// The median ratio of a round: sandbox to native.
    pub(crate) ratio: f64,
}

/// Shapes: name, bytes of the value, whether key and header are left out.
const SHAPES: [(&str, usize, bool); 4] = [
    ("200 bytes, key, header", VALUE_BYTES, false),
    ("200 bytes alone", VALUE_BYTES, true),
    ("1 KiB, key, header", 1024, false),
    ("1 KiB alone", 1024, true),
];

/// Measures every shape.
///
/// # Errors
/// When an instance cannot be made or does not pass a message on as it is.
pub(crate) fn measure(
    sandboxed: &dyn Plugin,
    native: &dyn Plugin,
    effort: Effort,
) -> anyhow::Result<Vec<SandboxCost>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let progress = progress(SHAPES.len() as u64 * u64::from(effort.sandbox_rounds));
    progress.set_message("sandbox");
    let costs = runtime.block_on(async {
        let mut sandboxed = sandboxed.instance().await?;
        let mut native = native.instance().await?;
        let mut costs = Vec::new();
        for shape in SHAPES {
            costs.push(cost(&mut *sandboxed, &mut *native, shape, effort, &progress).await?);
        }
        Ok(costs)
    });
    progress.finish_and_clear();
    costs
}

async fn cost(
    sandboxed: &mut dyn Instance,
    native: &mut dyn Instance,
    (name, value_bytes, bare): (&'static str, usize, bool),
    effort: Effort,
    progress: &ProgressBar,
) -> anyhow::Result<SandboxCost> {
    let topic = Topic::from("orders");
    let ring: Vec<Message> =
        (0..RING).map(|number| message(&topic, number, value_bytes, bare)).collect();
    check(sandboxed, &ring).await?;
    check(native, &ring).await?;
    let calls_of = |ns: f64| (effort.sandbox_round.as_nanos() as f64 / ns).max(1.0) as usize;
    let sandboxed_calls = calls_of(nanoseconds(sandboxed, &ring, WARM_UP_CALLS).await?);
    let native_calls = calls_of(nanoseconds(native, &ring, WARM_UP_CALLS).await?);

    let (mut sandboxed_ns, mut native_ns) = (Vec::new(), Vec::new());
    for round in 0..effort.sandbox_rounds {
        // Who is first alternates: neither side always finds the other's leftovers in the cache.
        if round % 2 == 0 {
            native_ns.push(nanoseconds(native, &ring, native_calls).await?);
            sandboxed_ns.push(nanoseconds(sandboxed, &ring, sandboxed_calls).await?);
        } else {
            sandboxed_ns.push(nanoseconds(sandboxed, &ring, sandboxed_calls).await?);
            native_ns.push(nanoseconds(native, &ring, native_calls).await?);
        }
        progress.inc(1);
    }
    let pairs = || sandboxed_ns.iter().zip(&native_ns);
    let added = Rounds::of(pairs().map(|(sandboxed, native)| sandboxed - native).collect());
    let ratio = Rounds::of(pairs().map(|(sandboxed, native)| sandboxed / native).collect());
    let no_rounds = "there was no round";
    Ok(SandboxCost {
        message: name,
        added_us: added.context(no_rounds)?.median / 1e3,
        ratio: ratio.context(no_rounds)?.median,
        native_ns: Rounds::of(native_ns).context(no_rounds)?,
        sandbox_ns: Rounds::of(sandboxed_ns).context(no_rounds)?,
    })
}

/// Nanoseconds a call, over so many calls.
async fn nanoseconds(
    instance: &mut dyn Instance,
    ring: &[Message],
    calls: usize,
) -> anyhow::Result<f64> {
    let begin = Instant::now();
    for message in ring.iter().cycle().take(calls) {
        let outcome = instance.handle(black_box(message), context(message)).await;
        if !matches!(black_box(&outcome), Outcome::Done(_)) {
            bail!("the handler did not handle {}: {outcome:?}", message.position());
        }
    }
    Ok(begin.elapsed().max(Duration::from_nanos(1)).as_nanos() as f64 / calls as f64)
}

/// Both sides do the same, or comparing them says nothing.
async fn check(instance: &mut dyn Instance, ring: &[Message]) -> anyhow::Result<()> {
    for message in ring {
        let Outcome::Done(outputs) = instance.handle(message, context(message)).await else {
            bail!("the handler did not handle {}", message.position());
        };
        let same = outputs.iter().all(|output| {
            output.key == message.key
                && output.value == message.value
                && output.headers == message.headers
        });
        if outputs.len() != 1 || !same {
            bail!("the handler did not pass {} on as it is: {outputs:?}", message.position());
        }
    }
    Ok(())
}

fn context(message: &Message) -> AttemptContext {
    let (turn, timestamp) = (message.offset, message.timestamp);
    AttemptContext { attempt: 1, turn, timestamp, trace: None }
}
