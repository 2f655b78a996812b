//! `topics`: list, create and describe; `create --pipelines` makes everything a configuration needs.

use std::time::Duration;

use clap::{Args, Subcommand};
use millstream_core::log::{Log, TopicSpec};
use millstream_core::message::Partition;
use serde::Serialize;

use crate::access;
use crate::commands::Context;
use crate::config::{LogKind, summary, topic_problem};
use crate::exit::{Exit, Failure};
use crate::finding::{Code, Finding};
use crate::table::{self, Column};
use crate::topic_check;
use crate::topic_plan::{self, Action};

/// Most partitions of a topic, as in `log.new_topics`.
const PARTITIONS_MAX: i64 = 1024;

/// What to do with topics.
#[derive(Debug, Subcommand)]
pub enum TopicsCommand {
    /// All topics
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a topic, or all that the configured pipelines need
    Create(CreateArgs),
    /// A topic's partitions
    Describe {
        /// The topic
        topic: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// Arguments of `topics create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The topic's name
    #[arg(required_unless_present = "pipelines", conflicts_with = "pipelines")]
    name: Option<String>,
    /// Partitions: the most messages handled in order side by side [default: log.new_topics]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=PARTITIONS_MAX))]
    #[arg(conflicts_with = "pipelines")]
    partitions: Option<u32>,
    /// How long messages are kept, as `7d` [default: log.new_topics]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    #[arg(conflicts_with = "pipelines")]
    retention: Option<Duration>,
    /// All source, output and companion topics of the configured pipelines
    #[arg(long)]
    pipelines: bool,
    /// Only say what would be made
    #[arg(long)]
    dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// When the topic does not exist, or the log does not do it.
pub async fn run(context: &Context, command: TopicsCommand) -> Result<Exit, Failure> {
    match command {
        TopicsCommand::List { json } => list(context, json).await,
        TopicsCommand::Create(args) if args.pipelines => create_all(context, &args).await,
        TopicsCommand::Create(args) => create(context, &args).await,
        TopicsCommand::Describe { topic, json } => describe(context, &topic, json).await,
    }
}

#[derive(Serialize)]
struct TopicRow {
    topic: String,
    partitions: u32,
    messages: u64,
    retention_seconds: Option<u64>,
    append_time: bool,
}

async fn list(context: &Context, json: bool) -> Result<Exit, Failure> {
    let access = access::open(context, &context.place()?).await?;
    let log = &*access.log;
    let unlisted = |error| Failure::log("the log's topics cannot be listed", &error);
    let topics = log.topics().await.map_err(unlisted)?;
    let mut rows = Vec::with_capacity(topics.len());
    for topic in topics {
        let ends = log.ends(&partitions(&topic)).await.map_err(unlisted)?;
        rows.push(TopicRow {
            topic: topic.name.to_string(),
            partitions: topic.partitions,
            messages: ends.iter().map(|ends| ends.end.saturating_sub(ends.start)).sum(),
            retention_seconds: topic.retention.map(|retention| retention.as_secs()),
            append_time: topic.append_time,
        });
    }
    rows.sort_by(|a, b| a.topic.cmp(&b.topic));
    if json {
        table::print_json(&context.terminal, &rows)?;
        return Ok(Exit::Done);
    }
    if rows.is_empty() {
        context.terminal.say("there are no topics; make one with `millstream topics create NAME`");
        return Ok(Exit::Done);
    }
    let columns = [
        Column::Text("topic"),
        Column::Number("partitions"),
        Column::Number("messages"),
        Column::Text("kept"),
    ];
    let kept = |seconds: Option<u64>| {
        seconds.map_or("for ever".into(), |s| summary::duration(Duration::from_secs(s)))
    };
    let lines: Vec<Vec<String>> = rows
        .into_iter()
        .map(|row| {
            let kept = kept(row.retention_seconds);
            vec![row.topic, row.partitions.to_string(), row.messages.to_string(), kept]
        })
        .collect();
    context.terminal.print(&table::layout(&columns, &lines))?;
    Ok(Exit::Done)
}

/// All partitions of a topic.
fn partitions(topic: &TopicSpec) -> Vec<Partition> {
    (0..topic.partitions).map(|number| Partition::new(topic.name.clone(), number)).collect()
}

fn partitions_text(count: u32) -> String {
    if count == 1 { "1 partition".to_owned() } else { format!("{count} partitions") }
}

async fn create(context: &Context, args: &CreateArgs) -> Result<Exit, Failure> {
    let name = args.name.as_deref().unwrap_or_default();
    if let Some(why) = topic_problem(name) {
        let what = format!("{name:?} is not a name for a topic");
        return Err(Finding::new(Code::BadName, what, "choose another name").because(why).into());
    }
    let place = context.place()?;
    let mut spec = place.new_topics.spec(name.into());
    if let Some(partitions) = args.partitions {
        spec.partitions = partitions;
    }
    if let Some(retention) = args.retention {
        spec.retention = Some(retention);
    }
    let access = access::open(context, &place).await?;
    let topics = access.log.topics().await;
    let topics = topics.map_err(|e| Failure::log("the log's topics cannot be listed", &e))?;
    let there = topics.iter().find(|topic| topic.name == spec.name).map(|topic| topic.partitions);
    let wanted = spec.partitions;
    match there {
        Some(there) if there == wanted || args.partitions.is_none() => {
            context
                .terminal
                .say(&format!("topic {name} is there, with {}", partitions_text(there)));
            return Ok(Exit::Done);
        }
        Some(there) if there > wanted => {
            let there = partitions_text(there);
            let what = format!("topic {name} has {there}, {wanted} asked for");
            let why = "a topic's partitions can only become more: messages stand in them";
            let fix = "keep them, or make a topic of another name";
            return Err(Finding::new(Code::Topic, what, fix).because(why).into());
        }
        _ => {}
    }
    if !args.dry_run {
        let what = format!("topic {name} cannot be created");
        access.log.create_topic(spec).await.map_err(|error| Failure::log(what, &error))?;
    }
    let partitions = partitions_text(wanted);
    let done = match (there, args.dry_run) {
        (None, false) => format!("topic {name} created with {partitions}"),
        (None, true) => format!("topic {name} would be created with {partitions}"),
        (Some(there), false) => format!("topic {name} has {partitions}, up from {there}"),
        (Some(there), true) => format!("topic {name} would get {partitions}, up from {there}"),
    };
    context.terminal.say(&done);
    Ok(Exit::Done)
}

async fn create_all(context: &Context, args: &CreateArgs) -> Result<Exit, Failure> {
    let config = context.config()?;
    let access = access::open(context, &context.place()?).await?;
    let plan = topic_plan::plan(&*access.log, &config.pipelines, &config.log.new_topics).await?;
    for planned in &plan {
        let (name, partitions) = (&planned.spec.name, partitions_text(planned.spec.partitions));
        let would = if args.dry_run { "would be " } else { "" };
        let line = match planned.action {
            Action::Keep | Action::Larger { .. } => format!("{name}: is there"),
            Action::Create => format!("{name}: {would}created with {partitions}"),
            Action::Grow { from } => format!("{name}: {would}grown from {from} to {partitions}"),
        };
        if !args.dry_run {
            planned.apply(&*access.log).await?;
        }
        context.terminal.print(&line)?;
    }
    if let LogKind::Kafka(kafka) = &config.log.kind {
        // What is missing was made just now, or would be; settings of what is there are not changed.
        for finding in topic_check::unchanged(&plan, kafka) {
            context.terminal.show(&finding.warning());
        }
    }
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct PartitionRow {
    partition: u32,
    start: u64,
    end: u64,
    messages: u64,
}

async fn describe(context: &Context, topic: &str, json: bool) -> Result<Exit, Failure> {
    let access = access::open(context, &context.place()?).await?;
    let log: &dyn Log = &*access.log;
    let spec = access::require_topic(log, topic).await?;
    let partitions = partitions(&spec);
    let ends = log.ends(&partitions).await;
    let ends = ends.map_err(|e| Failure::log(format!("topic {topic} cannot be read"), &e))?;
    let rows: Vec<PartitionRow> = partitions
        .iter()
        .zip(ends)
        .map(|(partition, ends)| PartitionRow {
            partition: partition.number,
            start: ends.start,
            end: ends.end,
            messages: ends.end.saturating_sub(ends.start),
        })
        .collect();
    if json {
        table::print_json(&context.terminal, &rows)?;
        return Ok(Exit::Done);
    }
    let kept = spec.retention.map_or("for ever".to_owned(), summary::duration);
    let bytes = spec.retention_bytes.map_or(String::new(), |bytes| {
        format!(", at most {} a partition", bytesize::ByteSize::b(bytes))
    });
    let largest = summary::size(spec.message_bytes_max);
    let time = if spec.append_time { "the log's" } else { "the message's own" };
    let copies = spec.replication.map_or(String::new(), |n| format!("; copies {n}"));
    context.terminal.print(&format!(
        "topic {topic}: kept {kept}{bytes}; largest message {largest}; time is {time}{copies}"
    ))?;
    let columns = [
        Column::Number("partition"),
        Column::Number("start"),
        Column::Number("end"),
        Column::Number("messages"),
    ];
    let numbers = |row: &PartitionRow| {
        let numbers = [u64::from(row.partition), row.start, row.end, row.messages];
        numbers.map(|n| n.to_string()).to_vec()
    };
    let lines: Vec<_> = rows.iter().map(numbers).collect();
    context.terminal.print(&table::layout(&columns, &lines))?;
    Ok(Exit::Done)
}
