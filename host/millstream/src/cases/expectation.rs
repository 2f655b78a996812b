//! Expectations: an outcome as JSON, and how far what came differs from it.
//!
//! What an expectation leaves out is not compared. Every difference is found, each named by its
//! place: `done[1].value`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millstream_core::outcome::{FaultKind, Outcome, Output};
use serde_json::{Map, Value, json};

/// Values longer than this are cut in a difference.
const SHOWN_CHARS_MAX: usize = 400;

/// What an expectation may be, with the keys each may have.
const KINDS: [(&str, &[&str]); 5] = [
    ("done", &["to", "key", "value", "headers"]),
    ("retry", &["reason", "after_ms"]),
    ("reject", &["reason"]),
    ("pause", &["reason", "for_ms"]),
    ("fault", &["kind", "reason"]),
];

/// Whether this is an expectation at all.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check(expected: &Value) -> Result<(), String> {
    let kinds = || KINDS.map(|(kind, _)| format!("`{kind}`")).join(", ");
    let entries = expected.as_object().filter(|entries| entries.len() == 1);
    let Some((kind, body)) = entries.and_then(|entries| entries.iter().next()) else {
        return Err(format!("it is an object with one of {}", kinds()));
    };
    let Some((_, known)) = KINDS.iter().find(|(name, _)| name == kind) else {
        return Err(format!("`{kind}` is none of {}", kinds()));
    };
    let bodies = match body {
        Value::Array(outputs) if kind == "done" => outputs.iter().collect(),
        Value::Object(_) if kind != "done" => vec![body],
        _ if kind == "done" => return Err("`done` is a list of outputs".to_owned()),
        _ => return Err(format!("`{kind}` is an object; `{{\"{kind}\":{{}}}}` takes any")),
    };
    for body in bodies {
        let Some(body) = body.as_object() else {
            return Err("an output is an object; `{}` takes any".to_owned());
        };
        for (key, value) in body {
            if !known.contains(&key.as_str()) {
                return Err(format!("`{kind}` has no `{key}`; it may have {}", known.join(", ")));
            }
            check_value(key, value)?;
        }
    }
    Ok(())
}

fn check_value(key: &str, value: &Value) -> Result<(), String> {
    let fits = match key {
        "reason" | "to" => value.is_string(),
        "after_ms" | "for_ms" => value.is_u64() || (key == "after_ms" && value.is_null()),
        "kind" => FaultKind::ALL.iter().any(|kind| value.as_str() == Some(kind.as_str())),
        "key" => value.is_null() || bytes_of(value).is_some(),
        "headers" => header_list(value).is_some(),
        _ => true,
    };
    if fits { Ok(()) } else { Err(format!("`{key}` cannot be {value}")) }
}

/// The bytes a text or `{"base64": …}` stands for.
fn bytes_of(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.clone().into_bytes()),
        Value::Object(entries) if entries.len() == 1 => {
            STANDARD.decode(entries.get("base64")?.as_str()?).ok()
        }
        _ => None,
    }
}

fn header_list(value: &Value) -> Option<Vec<(String, Vec<u8>)>> {
    let header = |pair: &Value| match pair.as_array()?.as_slice() {
        [Value::String(name), value] => Some((name.clone(), bytes_of(value)?)),
        _ => None,
    };
    value.as_array()?.iter().map(header).collect()
}

/// The outcome in the form of an expectation, with everything in it.
pub(crate) fn shown(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Done(outputs) => json!({ "done": outputs.iter().map(output).collect::<Vec<_>>() }),
        Outcome::Retry { reason, after } => {
            json!({ "retry": { "reason": reason, "after_ms": after.map(millis) } })
        }
        Outcome::Reject { reason } => json!({ "reject": { "reason": reason } }),
        Outcome::Pause { reason, pause } => {
            json!({ "pause": { "reason": reason, "for_ms": millis(*pause) } })
        }
        Outcome::Fault(fault) => {
            json!({ "fault": { "kind": fault.kind.as_str(), "reason": fault.reason } })
        }
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn output(output: &Output) -> Value {
    let headers: Vec<Value> =
        output.headers.iter().map(|h| json!([&*h.name, payload(&h.value)])).collect();
    let mut entries = Map::new();
    entries.insert("to".to_owned(), json!(output.to.name()));
    entries.insert("key".to_owned(), output.key.as_deref().map_or(Value::Null, payload));
    entries.insert("value".to_owned(), output.value.as_deref().map_or(Value::Null, payload));
    entries.insert("headers".to_owned(), Value::Array(headers));
    Value::Object(entries)
}

fn payload(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "base64": STANDARD.encode(bytes) }),
    }
}

/// Each part of the outcome that is not as expected; empty if it is.
pub(crate) fn differences(expected: &Value, outcome: &Outcome) -> Vec<String> {
    let Some((kind, body)) = expected.as_object().and_then(|entries| entries.iter().next()) else {
        return vec!["the expectation is no object".to_owned()];
    };
    let actual = if let Outcome::Fault(_) = outcome { "fault" } else { outcome.kind() };
    if actual != kind {
        return vec![format!("expected {kind}, came {actual}")];
    }
    let mut parts = Vec::new();
    match outcome {
        Outcome::Done(outputs) => done(body, outputs, &mut parts),
        _ => failed(kind, body, &shown(outcome), &mut parts),
    }
    parts
}

fn failed(kind: &str, body: &Value, shown: &Value, parts: &mut Vec<String>) {
    let none = Map::new();
    let actual = shown.get(kind).and_then(Value::as_object).unwrap_or(&none);
    for (key, wanted) in body.as_object().unwrap_or(&none) {
        let came = actual.get(key).unwrap_or(&Value::Null);
        if key == "reason" {
            let (wanted, came) = (wanted.as_str().unwrap_or(""), came.as_str().unwrap_or(""));
            if !came.contains(wanted) {
                parts.push(format!("{kind}.reason: {came:?} does not contain {wanted:?}"));
            }
        } else if wanted != came {
            parts.push(differs(&format!("{kind}.{key}"), wanted, came));
        }
    }
}

fn done(body: &Value, outputs: &[Output], parts: &mut Vec<String>) {
    let expected = body.as_array().map(Vec::as_slice).unwrap_or_default();
    if expected.len() != outputs.len() {
        parts.push(format!("expected {} outputs, came {}", expected.len(), outputs.len()));
    }
    for (index, (wanted, came)) in expected.iter().zip(outputs).enumerate() {
        let place = format!("done[{index}]");
        if let Some(to) = wanted.get("to")
            && to.as_str() != Some(came.to.name())
        {
            parts.push(differs(&format!("{place}.to"), to, &json!(came.to.name())));
        }
        if let Some(key) = wanted.get("key")
            && bytes_of(key).as_deref() != came.key.as_deref()
        {
            let came = came.key.as_deref().map_or(Value::Null, payload);
            parts.push(differs(&format!("{place}.key"), key, &came));
        }
        if let Some(headers) = wanted.get("headers") {
            let came_list: Vec<(String, Vec<u8>)> =
                came.headers.iter().map(|h| (h.name.to_string(), h.value.to_vec())).collect();
            if header_list(headers).as_ref() != Some(&came_list) {
                let came = output(came).get("headers").cloned().unwrap_or_default();
                parts.push(differs(&format!("{place}.headers"), headers, &came));
            }
        }
        if let Some(value) = wanted.get("value") {
            value_differences(&format!("{place}.value"), value, came.value.as_deref(), parts);
        }
    }
}

fn value_differences(place: &str, wanted: &Value, came: Option<&[u8]>, parts: &mut Vec<String>) {
    if wanted.is_null() || bytes_of(wanted).is_some() {
        if bytes_of(wanted).as_deref() != came {
            parts.push(differs(place, wanted, &came.map_or(Value::Null, payload)));
        }
        return;
    }
    let Some(came) = came else {
        parts.push(differs(place, wanted, &Value::Null));
        return;
    };
    match serde_json::from_slice(came) {
        Ok(came) => json_differences(place, wanted, &came, parts),
        Err(_) => parts.push(format!("{place}: expected JSON, came {}", cut(&payload(came)))),
    }
}

/// Goes down to the smallest part that differs.
fn json_differences(place: &str, wanted: &Value, came: &Value, parts: &mut Vec<String>) {
    match (wanted, came) {
        (Value::Object(wanted), Value::Object(came)) => {
            for (key, wanted) in wanted {
                let place = format!("{place}.{key}");
                match came.get(key) {
                    Some(came) => json_differences(&place, wanted, came, parts),
                    None => parts.push(format!("{place}: expected {}, is missing", cut(wanted))),
                }
            }
            for (key, came) in came.iter().filter(|(key, _)| !wanted.contains_key(*key)) {
                parts.push(format!("{place}.{key}: not expected, came {}", cut(came)));
            }
        }
        (Value::Array(wanted), Value::Array(came)) if wanted.len() == came.len() => {
            for (index, (wanted, came)) in wanted.iter().zip(came).enumerate() {
                json_differences(&format!("{place}[{index}]"), wanted, came, parts);
            }
        }
        _ if wanted == came => {}
        _ => parts.push(differs(place, wanted, came)),
    }
}

fn differs(place: &str, wanted: &Value, came: &Value) -> String {
    format!("{place}: expected {}, came {}", cut(wanted), cut(came))
}

fn cut(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        None => text,
        Some((at, _)) => format!("{}… (cut)", text.get(..at).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests;
