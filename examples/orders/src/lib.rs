//! The plugin of `make demo`: prices orders.
//!
//! An order may be `flaky` (so many attempts fail before one succeeds) or `poison` (it has no pack
//! size, which the first version divides by; feature `fixed` is the version that does not).

use millstream_plugin::prelude::*;
use serde::{Deserialize, Serialize};

handler!(handle);

#[derive(Deserialize)]
struct Order {
    order_id: String,
    item: String,
    quantity: i64,
    /// In cents.
    unit_price: i64,
    #[serde(default)]
    flaky: u32,
    #[serde(default)]
    poison: bool,
}

#[derive(Serialize)]
struct Priced<'a> {
    order_id: &'a str,
    item: &'a str,
    /// In cents.
    total: i64,
    attempt: u32,
}

fn handle(message: Message) -> Result<Output, Failure> {
    let order: Order = message.json()?;
    if message.attempt <= order.flaky {
        return Err(Failure::retry(format!("the price of `{}` is not there yet", order.item)));
    }
    if order.quantity < 1 || order.unit_price < 0 {
        return Err(Failure::reject("quantity must be at least 1 and unit_price at least 0"));
    }

    let pack = pack_size(&order);
    let packs = order.quantity / pack;
    let total = packs.checked_mul(pack).and_then(|pieces| pieces.checked_mul(order.unit_price));
    let total = total.or_reject("the total is beyond all money")?;
    let priced =
        Priced { order_id: &order.order_id, item: &order.item, total, attempt: message.attempt };
    Ok(Output::json(&priced)?.key(&*order.order_id))
}

/// How many pieces a pack of this item holds; of a poison order's item the catalogue does not know.
fn pack_size(order: &Order) -> i64 {
    let in_catalogue = if order.poison { 0 } else { 1 };
    if cfg!(feature = "fixed") { in_catalogue.max(1) } else { in_catalogue }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(more: &str) -> Message {
        let order = r#"{"order_id":"o-17","item":"bolt","quantity":3,"unit_price":250"#;
        Message::new(format!("{order}{more}}}"))
    }

    #[test]
    fn an_order_is_priced_under_its_own_key() {
        let expected = r#"{"order_id":"o-17","item":"bolt","total":750,"attempt":1}"#;
        assert_eq!(handle(order("")), Ok(Output::new(expected).key("o-17")));
    }

    #[test]
    fn a_flaky_order_succeeds_after_as_many_failures_as_it_says() {
        let flaky = order(r#","flaky":2"#);
        assert!(handle(flaky.clone().with_attempt(2)).unwrap_err().is_retry());
        assert!(handle(flaky.with_attempt(3)).is_ok());
    }

    #[test]
    fn nothing_is_sold_in_negative_numbers() {
        let message =
            Message::new(r#"{"order_id":"o-18","item":"nut","quantity":-3,"unit_price":250}"#);
        assert!(handle(message).unwrap_err().is_reject());
    }

    #[test]
    #[cfg_attr(not(feature = "fixed"), should_panic(expected = "divide by zero"))]
    fn a_poison_order_stops_the_first_version_only() {
        assert!(handle(order(r#","poison":true"#)).is_ok());
    }
}
