//! `consume`: messages of a topic as lines of JSON, without a consumer group.
//!
//! Reads partition after partition up to the ends taken at the start; with `--follow` it goes round
//! them for ever. Between rounds an embedded log is given free, so that others can use it meanwhile.

use std::time::Duration;

use clap::Args;
use millstream_core::jsonl;
use millstream_core::log::{Log, Room};
use millstream_core::message::{Offset, Partition};

use crate::access;
use crate::commands::Context;
use crate::exit::{Exit, Failure};
use crate::finding::{Code, Finding};

/// How much is read at once.
const ROOM: Room = Room { messages: 500, bytes: 1 << 20 };
/// How long `--follow` waits when there is nothing new.
const FOLLOW_WAIT: Duration = Duration::from_millis(300);

/// Arguments of `consume`.
#[derive(Debug, Args)]
pub struct ConsumeArgs {
    /// The topic
    topic: String,
    /// Begin at the first message there is, and end at the last; without it, wait for new messages
    #[arg(long)]
    from_beginning: bool,
    /// End after so many messages
    #[arg(long, value_name = "N")]
    max: Option<u64>,
    /// With --from-beginning: go on waiting for new messages
    #[arg(long)]
    follow: bool,
    /// This partition only
    #[arg(long, value_name = "NUMBER")]
    partition: Option<u32>,
}

struct Reading {
    partition: Partition,
    from: Offset,
    end: Offset,
}

/// Prints messages.
///
/// # Errors
/// When the topic or partition does not exist, or the log cannot be read.
pub async fn run(context: &Context, args: ConsumeArgs) -> Result<Exit, Failure> {
    let place = context.place()?;
    let mut access = access::open(context, &place).await?;
    let mut readings = begin(&*access.log, &args).await?;
    let mut left = args.max.unwrap_or(u64::MAX);
    loop {
        let before = left;
        for reading in &mut readings {
            read(context, &*access.log, reading, &mut left).await?;
        }
        let ends_here = args.from_beginning && !args.follow;
        if ends_here || left == 0 {
            return Ok(Exit::Done);
        }
        if before == left {
            access = access.wait(context, &place, FOLLOW_WAIT).await?;
        }
        extend(&*access.log, &mut readings).await?;
    }
}

async fn begin(log: &dyn Log, args: &ConsumeArgs) -> Result<Vec<Reading>, Failure> {
    let topic = access::require_topic(log, &args.topic).await?;
    let numbers = match args.partition {
        None => 0..topic.partitions,
        Some(number) if number < topic.partitions => number..number + 1,
        Some(number) => {
            let what = format!("topic {} has no partition {number}", topic.name);
            let fix = format!("name one from 0 to {}", topic.partitions.saturating_sub(1));
            return Err(Finding::new(Code::Usage, what, fix).into());
        }
    };
    let partitions: Vec<_> = numbers.map(|n| Partition::new(topic.name.clone(), n)).collect();
    let ends = log.ends(&partitions).await.map_err(|e| unreadable(&args.topic, &e))?;
    let reading = |(partition, ends): (Partition, millstream_core::log::Ends)| Reading {
        partition,
        from: if args.from_beginning { ends.start } else { ends.end },
        end: ends.end,
    };
    Ok(partitions.into_iter().zip(ends).map(reading).collect())
}

fn unreadable(topic: &str, error: &millstream_core::log::LogError) -> Failure {
    Failure::log(format!("topic {topic} cannot be read"), error)
}

/// Prints from one partition up to its end as it was known (a batch may go somewhat further), or until
/// nothing is left to print.
async fn read(
    context: &Context,
    log: &dyn Log,
    reading: &mut Reading,
    left: &mut u64,
) -> Result<(), Failure> {
    while reading.from < reading.end && *left > 0 {
        let batch = log
            .fetch(&reading.partition, reading.from, ROOM)
            .await
            .map_err(|error| unreadable(&reading.partition.to_string(), &error))?;
        let wanted = usize::try_from(*left).unwrap_or(usize::MAX);
        let lines: Vec<String> =
            batch.messages.iter().take(wanted).map(jsonl::write_line).collect();
        if !lines.is_empty() {
            context.terminal.print(&lines.join("\n"))?;
        }
        *left -= lines.len() as u64;
        // A batch that moves nothing on would be asked for without end.
        if batch.next <= reading.from {
            break;
        }
        reading.from = batch.next;
    }
    Ok(())
}

/// Looks for new messages behind what was read.
async fn extend(log: &dyn Log, readings: &mut [Reading]) -> Result<(), Failure> {
    let partitions: Vec<_> = readings.iter().map(|r| r.partition.clone()).collect();
    let topic = partitions.first().map(|p| p.topic.clone()).unwrap_or_default();
    let ends = log.ends(&partitions).await.map_err(|error| unreadable(&topic, &error))?;
    for (reading, ends) in readings.iter_mut().zip(ends) {
        reading.end = ends.end;
    }
    Ok(())
}
