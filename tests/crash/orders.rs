//! The orders that are sent: made from their number alone, so that it is known what must become of
//! each. Some are flaky, some poison, some sent twice.

/// What must become of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Priced, after this many failed attempts.
    Priced {
        /// So many fail.
        after: u64,
    },
    /// Every attempt traps.
    Dead,
}

/// The retry delays of the pipeline; a poison order has one attempt more than there are delays.
pub(crate) const DELAYS: [&str; 2] = ["150ms", "400ms"];
/// How far behind its first sending an order is sent once more.
const LATE_TWIN_AFTER: u64 = 120;

pub(crate) fn fate(number: u64) -> Fate {
    match number {
        n if n % 53 == 0 => Fate::Dead,
        n if n % 11 == 0 => Fate::Priced { after: 1 + n % 2 },
        _ => Fate::Priced { after: 0 },
    }
}

pub(crate) fn id(number: u64) -> String {
    format!("o-{number:07}")
}

/// The order's number.
pub(crate) fn number(id: &str) -> u64 {
    // Whatever else it is, it was never sent.
    id.strip_prefix("o-").and_then(|digits| digits.parse().ok()).unwrap_or(u64::MAX)
}

/// The numbers in the order they are sent: every so-many-th twice in a row or once more later.
pub(crate) fn sequence(count: u64) -> Vec<u64> {
    let mut sent = Vec::new();
    for number in 0..count {
        sent.push(number);
        if number % 19 == 7 {
            sent.push(number);
        }
        if number % 29 == 11 && number >= LATE_TWIN_AFTER {
            sent.push(number - LATE_TWIN_AFTER);
        }
    }
    sent
}

/// An order as a line for `produce`.
pub(crate) fn line(number: u64) -> String {
    let (flaky, poison) = match fate(number) {
        Fate::Dead => (0, true),
        Fate::Priced { after } => (after, false),
    };
    let id = id(number);
    format!(
        r#"{{"key":"{id}","value":{{"order_id":"{id}","item":"bolt","quantity":2,"unit_price":250,"flaky":{flaky},"poison":{poison}}}}}"#
    )
}
