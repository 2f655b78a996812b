//! Check: whether a version would work here, before it takes effect.
//!
//! Made by every host on a proposal, and by the command itself before it proposes anything. Loading has seen to imports,
//! grants and room; here an instance is made, and the smoke messages are handled by it. Nothing they cause goes anywhere.

use std::collections::BTreeMap;

use crate::deploy::{DeployError, SMOKE_BYTES_MAX, SMOKE_MESSAGES_MAX};
use crate::jsonl;
use crate::message::{Message, Topic};
use crate::outcome::Outcome;
use crate::plugin::{AttemptContext, Plugin};

/// The topic of a smoke message that names none.
const SMOKE_TOPIC: &str = "smoke";

/// Smoke messages from lines as `consume` prints them.
///
/// # Errors
/// [`DeployError::Request`], with the line that is wrong.
pub fn smoke_lines(text: &str) -> Result<Vec<String>, DeployError> {
    let lines: Vec<String> =
        text.lines().filter(|line| !line.trim().is_empty()).map(ToOwned::to_owned).collect();
    if lines.len() > SMOKE_MESSAGES_MAX || text.len() > SMOKE_BYTES_MAX {
        return Err(DeployError::Request(format!(
            "there are {} smoke messages of {} bytes, and at most {SMOKE_MESSAGES_MAX} of {SMOKE_BYTES_MAX} bytes go: give fewer",
            lines.len(),
            text.len()
        )));
    }
    messages(&lines).map_err(DeployError::Request)?;
    Ok(lines)
}

fn messages(lines: &[String]) -> Result<Vec<Message>, String> {
    let numbered = (1..).zip(lines);
    let message = |(number, line): (u64, &String)| {
        let record = jsonl::parse_line(line.as_bytes(), number, Some(SMOKE_TOPIC));
        let record = record.map_err(|error| format!("smoke messages: {error}"))?;
        Ok(Message {
            topic: record.topic,
            partition: record.partition.unwrap_or(0),
            offset: number,
            timestamp: record.timestamp.unwrap_or(0),
            key: record.key,
            value: record.value,
            headers: record.headers,
        })
    };
    numbered.map(message).collect()
}

/// Makes an instance and has it handle the smoke messages; `outputs` are those the pipeline names.
///
/// # Errors
/// A sentence: why the version would not work here.
pub async fn try_out(
    plugin: &dyn Plugin,
    smoke: &[String],
    outputs: &BTreeMap<String, Topic>,
) -> Result<(), String> {
    let mut instance = plugin.instance().await.map_err(|error| error.to_string())?;
    for message in messages(smoke)? {
        let context = AttemptContext {
            attempt: 1,
            turn: message.offset,
            timestamp: message.timestamp,
            trace: None,
        };
        let number = message.offset;
        let reason = match instance.handle(&message, context).await {
            Outcome::Done(sent) => {
                let Some(unnamed) = sent.iter().find(|o| !outputs.contains_key(o.to.name())) else {
                    continue;
                };
                format!(
                    "it sent to output `{}`, which the pipeline does not name",
                    unnamed.to.name()
                )
            }
            Outcome::Retry { reason, .. }
            | Outcome::Reject { reason }
            | Outcome::Pause { reason, .. } => reason,
            Outcome::Fault(fault) => format!("{}: {}", fault.kind.as_str(), fault.reason),
        };
        return Err(format!("smoke message {number} was not handled: {reason}"));
    }
    Ok(())
}
