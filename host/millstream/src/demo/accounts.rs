//! The demo's accounts: every message sent must be somewhere, exactly once.
//!
//! Taken from the topics' contents alone, by the orders' ids; nothing the host says about itself is
//! used.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::exit::Failure;
use crate::finding::{Code, Finding};
use crate::table::{self, Column};

use super::child::Tools;
use super::orders::Orders;

/// The sums.
#[derive(Debug, Serialize)]
pub(super) struct Accounts {
    /// Messages in the source topic, what was sent again after the kill included.
    sent: u64,
    /// Orders priced.
    handled: u64,
    /// Messages of orders that were in the source before.
    duplicates_dropped: u64,
    /// Orders in the dead-letter topic at the end.
    dead: u64,
    /// Orders in the dead-letter topic before the redrive.
    dead_before_redrive: u64,
    /// Orders that are neither priced nor dead.
    lost: u64,
    /// Outputs beyond one for each order.
    handled_twice: u64,
    /// Orders that were expected there.
    poison: u64,
}

#[derive(Deserialize)]
struct Line {
    value: String,
}

#[derive(Deserialize)]
struct Order {
    order_id: String,
}

impl Accounts {
    /// Reads the topics and counts.
    pub(super) async fn take(
        tools: &Tools,
        orders: &Orders,
        dead_before: u64,
    ) -> Result<Self, Failure> {
        let source = by_id(&tools.consume("orders.created").await?)?;
        let priced = by_id(&tools.consume("orders.priced").await?)?;
        let dead = by_id(&tools.dead("orders").await?)?;
        let sent: u64 = source.values().sum();
        let lost = (0..orders.unique())
            .map(Orders::id)
            .filter(|id| !priced.contains_key(id) && !dead.contains_key(id))
            .count();
        Ok(Self {
            sent,
            handled: priced.len() as u64,
            duplicates_dropped: sent - source.len() as u64,
            dead: dead.len() as u64,
            dead_before_redrive: dead_before,
            lost: lost as u64,
            handled_twice: priced.values().sum::<u64>() - priced.len() as u64,
            poison: orders.poison(),
        })
    }

    /// Whether everything adds up.
    pub(super) fn hold(&self) -> bool {
        self.sent == self.handled + self.duplicates_dropped + self.dead
            && self.lost == 0
            && self.handled_twice == 0
            && self.dead == 0
            && self.dead_before_redrive == self.poison
    }

    /// The sums as JSON.
    pub(super) fn json(&self) -> Result<String, Failure> {
        serde_json::to_string_pretty(self).map_err(|error| {
            let what = "the sums cannot be written as JSON";
            Finding::new(Code::Io, what, "leave out `--json`").because(error).into()
        })
    }

    /// The sums for a person.
    pub(super) fn table(&self) -> String {
        let rows = [
            ("sent", self.sent, "messages in orders.created"),
            ("= handled", self.handled, "orders in orders.priced"),
            ("+ duplicates dropped", self.duplicates_dropped, "sent again, not handled again"),
            ("+ dead", self.dead, "orders whose dead letters are open"),
            ("dead before the redrive", self.dead_before_redrive, "orders the bug could not take"),
            ("lost", self.lost, "orders that are nowhere"),
            ("handled twice", self.handled_twice, "outputs beyond one for each order"),
        ];
        let rows = rows.map(|(what, n, meaning)| vec![what.into(), n.to_string(), meaning.into()]);
        let columns = [Column::Text(""), Column::Number("messages"), Column::Text("")];
        let table = table::layout(&columns, &rows);
        let verdict = if self.hold() { "The sums hold." } else { "THE SUMS DO NOT HOLD." };
        format!("{table}\n\n{verdict}")
    }
}

/// How many different orders stand in these lines.
pub(super) fn orders_in(lines: &str) -> Result<u64, Failure> {
    Ok(by_id(lines)?.len() as u64)
}

fn by_id(lines: &str) -> Result<BTreeMap<String, u64>, Failure> {
    let mut found = BTreeMap::new();
    for line in lines.lines() {
        let order = serde_json::from_str::<Line>(line)
            .and_then(|line| serde_json::from_str::<Order>(&line.value))
            .map_err(|error| -> Failure {
                let what = "a message in the log is no order";
                let why = format!("{error}: {line}");
                Finding::new(Code::BadInput, what, "report it").because(why).into()
            })?;
        *found.entry(order.order_id).or_default() += 1;
    }
    Ok(found)
}
