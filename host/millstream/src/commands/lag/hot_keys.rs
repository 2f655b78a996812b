//! `lag --hot-keys`: the keys that take the largest part of a partition, as the running host counts them.
//!
//! The log does not know: a host counts what it attempts, of the partitions it has.

use std::fmt::Write as _;

use millstream_core::hot_keys::HotKey;
use serde::{Deserialize, Serialize};

use crate::access;
use crate::commands::Context;
use crate::exit::{Exit, Failure};
use crate::finding::{Code, Finding};
use crate::table::{self, Column};

/// A key with so much of a partition is its bound.
const TOO_HOT: f64 = 0.5;
/// Two keys with so much each would be better apart.
const WARM: f64 = 0.2;

#[derive(Deserialize)]
struct Status {
    pipelines: Vec<Pipeline>,
}

#[derive(Deserialize)]
struct Pipeline {
    pipeline: String,
    partitions: Vec<Partition>,
}

#[derive(Deserialize)]
struct Partition {
    topic: String,
    partition: u32,
    hot_keys: Vec<Share>,
}

/// A [`HotKey`] as the status has it.
#[derive(Deserialize)]
struct Share {
    key: String,
    of_attempts: f64,
    of_time: f64,
}

/// A line of the table.
#[derive(Debug, Serialize)]
struct Row {
    pipeline: String,
    topic: String,
    partition: u32,
    #[serde(flatten)]
    hot: HotKey,
}

/// Prints the hot keys of this pipeline, or of all.
///
/// # Errors
/// When no host runs, or it can't be reached.
pub(super) async fn run(
    context: &Context,
    pipeline: Option<&str>,
    json: bool,
) -> Result<Exit, Failure> {
    let value = access::host_status(&context.place()?).await?;
    let status: Status = serde_json::from_value(value).map_err(|error| {
        let fix = "use the host's own version of this program";
        Finding::new(Code::LogUnavailable, "the host's status is not understood", fix)
            .because(error)
    })?;
    let rows = rows(status, pipeline);
    if json {
        table::print_json(&context.terminal, &rows)?;
    } else {
        context.terminal.print(&show(&rows))?;
    }
    Ok(Exit::Done)
}

fn rows(status: Status, wanted: Option<&str>) -> Vec<Row> {
    let mut rows = Vec::new();
    for Pipeline { pipeline, partitions } in status.pipelines {
        if wanted.is_some_and(|wanted| wanted != pipeline) {
            continue;
        }
        for Partition { topic, partition, hot_keys } in partitions {
            rows.extend(hot_keys.into_iter().map(|Share { key, of_attempts, of_time }| Row {
                pipeline: pipeline.clone(),
                topic: topic.clone(),
                partition,
                hot: HotKey { key, of_attempts, of_time },
            }));
        }
    }
    rows
}

fn show(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no key has 1 % of the attempts, or of their time, of any partition this host has (looked at: the last minutes, partitions with 100 attempts or more)".to_owned();
    }
    let columns = [
        Column::Text("pipeline"),
        Column::Text("topic"),
        Column::Number("partition"),
        Column::Text("key"),
        Column::Number("of attempts"),
        Column::Number("of time"),
    ];
    let cells = |row: &Row| {
        vec![
            row.pipeline.clone(),
            row.topic.clone(),
            row.partition.to_string(),
            shown(&row.hot.key),
            percent(row.hot.of_attempts),
            percent(row.hot.of_time),
        ]
    };
    let cells: Vec<_> = rows.iter().map(cells).collect();
    let mut text = table::layout(&columns, &cells);
    let advice = advice(rows);
    if !advice.is_empty() {
        let _ = write!(text, "\n\n{}", advice.join("\n"));
    }
    text
}

/// What to do about a partition that one key, or two, take up.
fn advice(rows: &[Row]) -> Vec<String> {
    let mut advice = Vec::new();
    let same = |a: &Row, b: &Row| {
        a.pipeline == b.pipeline && a.topic == b.topic && a.partition == b.partition
    };
    for of_one in rows.chunk_by(same) {
        let share = |row: &Row| row.hot.of_attempts.max(row.hot.of_time);
        // The hottest stands first.
        let Some(first) = of_one.first() else { continue };
        let place = format!("{}: {}[{}]", first.pipeline, first.topic, first.partition);
        let key = shown(&first.hot.key);
        if share(first) >= TOO_HOT {
            let much = match first.hot.of_attempts >= TOO_HOT {
                true => format!("{} of the attempts", percent(first.hot.of_attempts)),
                false => format!("{} of the time", percent(first.hot.of_time)),
            };
            advice.push(format!(
                "{place}: key {key} has {much}. Its messages are handled one after the other, so neither hosts nor partitions help: split the key where its order does not matter ({key}#1, {key}#2, ...), or make its handling faster"
            ));
        } else if of_one.iter().filter(|row| share(row) >= WARM).count() > 1 {
            advice.push(format!(
                "{place}: several keys take up this partition; more partitions would set them apart"
            ));
        }
    }
    advice
}

/// A key is a stranger's: it must not move the cursor.
fn shown(key: &str) -> String {
    key.escape_debug().to_string()
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(partition: u32, key: &str, of_attempts: f64, of_time: f64) -> Row {
        let hot = HotKey { key: key.to_owned(), of_attempts, of_time };
        Row { pipeline: "orders".to_owned(), topic: "orders.created".to_owned(), partition, hot }
    }

    #[test]
    fn a_key_that_takes_half_of_a_partition_is_to_be_split() {
        let told = advice(&[row(0, "a", 0.1, 0.8), row(0, "b", 0.3, 0.1), row(1, "c", 0.3, 0.3)]);
        assert_eq!(told.len(), 1);
        assert!(told[0].contains("orders.created[0]: key a has 80 % of the time"), "{told:?}");
    }

    #[test]
    fn two_warm_keys_are_to_be_set_apart_by_partitions() {
        let told = advice(&[row(0, "a", 0.4, 0.4), row(0, "b", 0.3, 0.1), row(1, "c", 0.3, 0.3)]);
        assert_eq!(told.len(), 1);
        assert!(told[0].contains("orders.created[0]: several keys"), "{told:?}");
    }

    #[test]
    fn a_key_cannot_move_the_cursor() {
        let text = show(&[row(0, "\u{1b}[2J\nx", 0.9, 0.9)]);
        assert!(!text.contains('\u{1b}') && text.contains("\\u{1b}[2J\\nx"), "{text}");
    }
}
