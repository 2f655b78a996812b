//! The rules, and a message's way through them: filter, map, route, key.
//!
//! Invariant: a message that no step changes keeps its bytes; numbers keep their digits and objects
//! their order in one that is changed.

mod read;

use millstream_plugin::{Destination, Failure, Message, Output};
use serde_json::Value;

use crate::condition::Condition;
use crate::mapping::Step;
use crate::pointer::Pointer;

/// serde_json's name for "this object is a number": an object that says so would become one.
const RESERVED_NAME: &str = "$serde_json::private::";

/// What the setting `rules` says.
pub(crate) struct Rules {
    not_json: Unreadable,
    tombstone: Unreadable,
    filter: Vec<Condition>,
    map: Vec<Step>,
    key: Option<Pointer>,
    route: Vec<Route>,
    otherwise: Target,
}

/// What happens to a message without a document.
#[derive(Clone, Copy)]
enum Unreadable {
    Reject,
    /// As it came, to `otherwise`.
    Pass,
    Drop,
}

struct Route {
    when: Vec<Condition>,
    target: Target,
}

/// The outputs a message goes to; none drops it.
struct Target(Vec<Destination>);

impl Rules {
    /// Handles a message.
    pub(crate) fn apply(&self, mut message: Message) -> Result<Vec<Output>, Failure> {
        let Some(value) = &message.value else {
            return self.without_document(message, self.tombstone, || {
                "the message has no value (it is a tombstone)".to_owned()
            });
        };
        let mut document = match read(value) {
            Ok(document) => document,
            Err(error) => return self.without_document(message, self.not_json, || error),
        };
        if !all_hold(&self.filter, &document, &message) {
            return Ok(Vec::new());
        }
        for (number, step) in self.map.iter().enumerate() {
            step.apply(&mut document, &message)
                .map_err(|error| Failure::reject(format_args!("map[{number}]: {error}")))?;
        }
        let first = self.route.iter().find(|route| all_hold(&route.when, &document, &message));
        let target = first.map_or(&self.otherwise, |route| &route.target);
        if let Some(pointer) = &self.key {
            message.key = Some(key_at(pointer, &document)?);
        }
        if !self.map.is_empty() {
            message.value = Some(document.to_string().into_bytes());
        }
        Ok(target.outputs(message))
    }

    fn without_document(
        &self,
        message: Message,
        wanted: Unreadable,
        why: impl FnOnce() -> String,
    ) -> Result<Vec<Output>, Failure> {
        match wanted {
            Unreadable::Reject => Err(Failure::reject(why())),
            Unreadable::Pass => Ok(self.otherwise.outputs(message)),
            Unreadable::Drop => Ok(Vec::new()),
        }
    }
}

impl Target {
    fn outputs(&self, message: Message) -> Vec<Output> {
        let Some((last, others)) = self.0.split_last() else { return Vec::new() };
        let copy = |to: &Destination| Output::from(message.clone()).to(to.clone());
        let mut outputs: Vec<Output> = others.iter().map(copy).collect();
        outputs.push(Output::from(message).to(last.clone()));
        outputs
    }
}

fn all_hold(conditions: &[Condition], document: &Value, message: &Message) -> bool {
    conditions.iter().all(|condition| condition.holds(document, message))
}

fn read(value: &[u8]) -> Result<Value, String> {
    let text = str::from_utf8(value).map_err(|error| {
        format!("the value is not JSON: no UTF-8 from byte {} on", error.valid_up_to())
    })?;
    if text.contains(RESERVED_NAME) {
        return Err(format!("names that begin with `{RESERVED_NAME}` can't be kept as they are"));
    }
    serde_json::from_str(text).map_err(|error| format!("the value is not JSON: {error}"))
}

/// Text as it is, anything else as JSON.
fn key_at(pointer: &Pointer, document: &Value) -> Result<Vec<u8>, Failure> {
    match pointer.get(document) {
        None | Some(Value::Null) => {
            Err(Failure::reject(format_args!("key: the document has nothing at `{pointer}`")))
        }
        Some(Value::String(text)) => Ok(text.clone().into_bytes()),
        Some(value) => Ok(value.to_string().into_bytes()),
    }
}

#[cfg(test)]
mod tests;
