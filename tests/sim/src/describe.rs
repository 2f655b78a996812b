//! Happenings in words, for the trace.

use std::fmt::Write as _;

use millstream_core::log::Commit;
use millstream_core::message::{Message, Partition};
use millstream_log_simulated::{Fate, Happening};

use crate::facts::{UID, number};

/// One line, or `None` for what would only fill the trace.
pub(crate) fn describe(happening: &Happening<'_>) -> Option<String> {
    Some(match happening {
        Happening::Called { fate: Fate::Answered, .. } => return None,
        Happening::Called { host, call, fate } => format!("{host} {call}: {fate:?}"),
        Happening::Given { host, partition, epoch } => format!("{partition} is {host}'s ({epoch})"),
        Happening::Taken { host, partition, epoch } => {
            format!("{partition} is no longer {host}'s ({epoch})")
        }
        Happening::ToldAssigned { host, partition, epoch } => {
            format!("{host} told: assigned {partition} ({epoch})")
        }
        Happening::ToldRevoked { host, partition } => format!("{host} told: revoked {partition}"),
        Happening::ToldLost { host, partition } => format!("{host} told: lost {partition}"),
        Happening::Released { host, partition } => format!("{host} released {partition}"),
        Happening::Attached { host, partition, from } => {
            format!("{host} attached {partition} from {from}")
        }
        Happening::Delivered { host, batch } => {
            let offsets: Vec<String> =
                batch.messages.iter().map(|m| m.offset.to_string()).collect();
            let offsets = offsets.join(",");
            let (partition, next, end) = (&batch.partition, batch.next, batch.end);
            format!("{host} got {partition} {offsets} (next {next}, end {end})")
        }
        Happening::Written { host, late, transaction, messages, commits, marks } => {
            let mut text = match host {
                Some(host) => format!("{host} wrote"),
                None => "produced".to_owned(),
            };
            if *late {
                text.push_str(" from the wire");
            }
            if *transaction {
                text.push_str(" as one");
            }
            messages.iter().for_each(|m| written(&mut text, m));
            commits.iter().for_each(|(p, c)| committed(&mut text, p, c));
            for mark in *marks {
                let key = String::from_utf8_lossy(&mark.key);
                let _ = write!(text, " mark({} {key}={})", mark.scope.partition, mark.turn);
            }
            text
        }
        Happening::Refused { host, record, error } => {
            let uid = number(&record.headers, UID).unwrap_or_default();
            format!("{host} may not write m{uid} to {}: {error}", record.topic)
        }
        Happening::Removed { partition, offsets } => {
            format!("the log removed {offsets:?} of {partition}")
        }
        Happening::Forgotten { partition } => format!("the log forgot the commit of {partition}"),
        Happening::Crashed { host } => format!("{host} CRASHED"),
        Happening::CallOfTheDead { host, call } => format!("{host} called {call} from the grave"),
    })
}

fn written(text: &mut String, message: &Message) {
    let _ = write!(text, " {}", message.position());
    if let Some(uid) = number(&message.headers, UID) {
        let _ = write!(text, "=m{uid}");
    }
    if let Some(attempt) = number(&message.headers, "millstream-attempt") {
        let _ = write!(text, "/{attempt}");
    }
}

fn committed(text: &mut String, partition: &Partition, commit: &Commit) {
    let _ = write!(text, " commit({partition} {}", commit.next);
    for range in &commit.settled_above {
        let _ = write!(text, " {}..{}", range.start, range.end);
    }
    for (offset, attempts) in &commit.attempts {
        let _ = write!(text, " {offset}:{attempts}");
    }
    if commit.owners > 1 {
        let _ = write!(text, " owners {}", commit.owners);
    }
    for (offset, hosts) in &commit.suspects {
        let _ = write!(text, " {offset} suspected {hosts}");
    }
    text.push(')');
}
