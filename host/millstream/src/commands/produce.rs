//! `produce`: lines of JSON from stdin, appended in bounded batches.
//!
//! A batch goes out when it is full or when stdin has nothing more at hand, so a slow writer's
//! messages don't wait. Limits: `BATCH_MESSAGES_MAX`, `BATCH_BYTES_MAX`,
//! [`jsonl::LINE_BYTES_MAX`].

use bytes::Bytes;
use clap::Args;
use indicatif::ProgressBar;
use millstream_core::jsonl::{self, JsonlError};
use millstream_core::log::Log;
use millstream_core::message::{Record, Topic};

use crate::access;
use crate::commands::Context;
use crate::exit::{Exit, Failure};
use crate::finding::{Code, Finding};

/// Most messages of one append.
const BATCH_MESSAGES_MAX: usize = 1000;
/// Most bytes of one append; a larger message goes alone.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// How much of stdin is read at once.
const READ_BYTES: usize = 256 << 10;

/// Arguments of `produce`.
#[derive(Debug, Args)]
pub struct ProduceArgs {
    /// The topic, which must exist
    topic: String,
    /// Take each line as it is for a value, without key and headers
    #[arg(long)]
    values: bool,
    /// Keep each line's `partition` instead of choosing it by key
    #[arg(long, conflicts_with = "values")]
    keep_partitions: bool,
}

/// Appends what stands on stdin.
///
/// # Errors
/// When a line is no message, or the log refuses it. What came before is appended.
pub async fn run(context: &Context, args: ProduceArgs) -> Result<Exit, Failure> {
    let place = context.place()?;
    let access = access::open(context, &place).await?;
    access::require_topic(&*access.log, &args.topic).await?;
    let bar = context.terminal.progress("messages", None);
    let mut input = std::io::BufReader::with_capacity(READ_BYTES, std::io::stdin().lock());
    let mut producer = Producer::new(&*access.log, &args, bar);
    let result = producer.take_all(&mut input).await;
    producer.bar.finish_and_clear();
    let appended = producer.appended;
    match result {
        Ok(()) => {
            let messages = if appended == 1 { "message" } else { "messages" };
            context.terminal.say(&format!("{appended} {messages} appended to {}", args.topic));
            Ok(Exit::Done)
        }
        Err(Failure::Findings(findings)) => {
            let messages = if appended == 1 { "message" } else { "messages" };
            context.terminal.say(&format!("{appended} {messages} appended to {}", args.topic));
            Err(Failure::Findings(findings))
        }
        Err(closed) => Err(closed),
    }
}

fn bad_line(error: JsonlError) -> Failure {
    let JsonlError { line, reason } = error;
    let fix = "correct the line and produce again from there; a line is {\"value\":\"…\"}, or use \
               `--values` to take lines as they are";
    let what = format!("line {line} is not a message");
    Finding::new(Code::BadInput, what, fix).because(reason).at("stdin").into()
}

struct Producer<'a> {
    log: &'a dyn Log,
    args: &'a ProduceArgs,
    topic: Topic,
    bar: ProgressBar,
    batch: Vec<Record>,
    /// The input's line of each record of the batch.
    lines: Vec<u64>,
    batch_bytes: usize,
    appended: u64,
}

impl<'a> Producer<'a> {
    fn new(log: &'a dyn Log, args: &'a ProduceArgs, bar: ProgressBar) -> Self {
        let topic = Topic::from(args.topic.as_str());
        let (batch, lines) = (Vec::new(), Vec::new());
        Self { log, args, topic, bar, batch, lines, batch_bytes: 0, appended: 0 }
    }

    async fn take_all<R: std::io::Read>(
        &mut self,
        input: &mut std::io::BufReader<R>,
    ) -> Result<(), Failure> {
        let mut number = 0u64;
        let mut line = Vec::new();
        loop {
            number += 1;
            let taken = match jsonl::read_line(input, &mut line, number) {
                Ok(false) => return self.append().await,
                Ok(true) => self.take_line(number, &line),
                Err(error) => Err(error),
            };
            // What stands before a bad line is good: append it, then say what is wrong.
            if taken.is_err() || self.is_full() || input.buffer().is_empty() {
                self.append().await?;
            }
            taken.map_err(bad_line)?;
        }
    }

    fn take_line(&mut self, number: u64, line: &[u8]) -> Result<(), JsonlError> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let record = if self.args.values {
            Record {
                topic: self.topic.clone(),
                partition: None,
                timestamp: None,
                key: None,
                value: Some(Bytes::copy_from_slice(line)),
                headers: Vec::new(),
            }
        } else {
            // Topic and partition of the line are where it came from; it goes where we are told.
            let record = jsonl::parse_line(line, number, Some(&self.args.topic))?;
            let partition = record.partition.filter(|_| self.args.keep_partitions);
            Record { topic: self.topic.clone(), partition, ..record }
        };
        self.batch_bytes += record.payload_bytes();
        self.batch.push(record);
        self.lines.push(number);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.batch.len() >= BATCH_MESSAGES_MAX || self.batch_bytes >= BATCH_BYTES_MAX
    }

    async fn append(&mut self) -> Result<(), Failure> {
        self.batch_bytes = 0;
        let lines = std::mem::take(&mut self.lines);
        let (Some(first), Some(last)) = (lines.first(), lines.last()) else { return Ok(()) };
        let records = std::mem::take(&mut self.batch);
        let answers =
            self.log.append(&records.iter().collect::<Vec<_>>()).await.map_err(|error| {
                let what = format!("lines {first} to {last} may or may not be appended");
                Failure::log(what, &error)
            })?;
        let mut refused = None;
        for (line, answer) in lines.iter().zip(&answers) {
            match answer {
                Ok(_) => self.appended += 1,
                Err(error) if refused.is_none() => refused = Some((line, error)),
                Err(_) => {}
            }
        }
        self.bar.set_position(self.appended);
        let Some((line, error)) = refused else { return Ok(()) };
        let what = format!("line {line} was refused by the log");
        let fix = format!(
            "correct it; of lines {first} to {last} those that are not refused are appended"
        );
        Err(Finding::new(Code::BadInput, what, fix).because(error).at("stdin").into())
    }
}
