//! JSON in and out, with reasons that say where in the document something is wrong.
//!
//! serde_json names line and column and, for a missing field, its name; for a wrong type it does not
//! say *which* field. [`pointer_at`] finds that by reading the document again up to the error: it
//! costs nothing while all is well, and no generic code for each type.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::Failure;
use crate::message::Message;
use crate::output::Output;

/// Of a hostile document's nesting, so much is named.
const DEPTH_NAMED_MAX: usize = 16;
/// Of a hostile field name or error text, so much is shown at either end.
const SHOWN_BYTES_MAX: usize = 160;

impl Message {
    /// The value as JSON (feature `json`).
    ///
    /// # Errors
    /// A reject that names the place and what was expected there, such as `the value is not the
    /// expected JSON: /quantity (line 1 column 30): invalid type: string "two", expected u32`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let bytes = self.bytes()?;
        serde_json::from_slice(bytes).map_err(|error| explain(bytes, &error))
    }
}

impl Output {
    /// This value as JSON, to the default output (feature `json`).
    ///
    /// # Errors
    /// A reject, if the value has no JSON form, such as a map whose keys are not text.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, Failure> {
        match serde_json::to_vec(value) {
            Ok(bytes) => Ok(Self::new(bytes)),
            Err(error) => Err(Failure::reject(format_args!("no JSON for the output: {error}"))),
        }
    }
}

fn explain(document: &[u8], error: &serde_json::Error) -> Failure {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let what = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text);
    // A syntax error's column is that of the byte that does not belong there.
    let column_read = if error.is_syntax() { column.saturating_sub(1) } else { column };
    let pointer = pointer_at(document, line, column_read);
    let place = if pointer.is_empty() { "the document" } else { &pointer };
    Failure::reject(format_args!(
        "the value is not the expected JSON: {place} (line {line} column {column}): {}",
        shortened(what)
    ))
}

/// What a guest quotes of a message may be as long as the message; both ends matter.
fn shortened(text: &str) -> String {
    if text.len() <= 2 * SHOWN_BYTES_MAX {
        return text.to_owned();
    }
    let head = text.floor_char_boundary(SHOWN_BYTES_MAX);
    let tail = text.ceil_char_boundary(text.len() - SHOWN_BYTES_MAX);
    let part = |range| text.get(range).unwrap_or_default();
    format!("{} … {}", part(0..head), part(tail..text.len()))
}

/// An object or list that the error lies in.
enum Open {
    Object { field: Vec<u8>, before_colon: bool },
    List { index: usize },
}

/// The JSON pointer of the value that ends at, or holds, this place of the document.
fn pointer_at(document: &[u8], line: usize, column: usize) -> String {
    let lines = document.split_inclusive(|byte| *byte == b'\n');
    let line_start: usize = lines.take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    let mut bytes = document.iter().take(line_start.saturating_add(column)).copied();

    let mut open: Vec<Open> = Vec::new();
    let mut deeper = 0_usize; // how far below what is named
    while let Some(byte) = bytes.next() {
        let full = open.len() >= DEPTH_NAMED_MAX;
        let innermost = if deeper == 0 { open.last_mut() } else { None };
        match (byte, innermost) {
            (b'{' | b'[', _) if full => deeper += 1,
            (b'{', _) => open.push(Open::Object { field: Vec::new(), before_colon: true }),
            (b'[', _) => open.push(Open::List { index: 0 }),
            (b'}' | b']', _) if deeper > 0 => deeper -= 1,
            (b'}' | b']', _) => drop(open.pop()),
            (b',', Some(Open::List { index })) => *index += 1,
            (b',', Some(Open::Object { before_colon, .. })) => *before_colon = true,
            (b':', Some(Open::Object { before_colon, .. })) => *before_colon = false,
            (b'"', Some(Open::Object { field, before_colon: true })) => {
                field.clear();
                string(&mut bytes, |byte| field.push(byte));
            }
            (b'"', _) => string(&mut bytes, |_| ()),
            _ => {}
        }
    }

    let mut pointer = String::new();
    for inside in open {
        match inside {
            Open::List { index } => pointer.push_str(&format!("/{index}")),
            // Nothing was read of it yet: the error is the object's own.
            Open::Object { field, .. } if field.is_empty() => break,
            Open::Object { field, .. } => {
                let name = String::from_utf8_lossy(&field).replace('~', "~0").replace('/', "~1");
                pointer.push('/');
                pointer.push_str(&shortened(&name));
            }
        }
    }
    pointer
}

/// Reads to the end of a string, whose opening quote was read. Escapes stay as they are written.
fn string(bytes: &mut impl Iterator<Item = u8>, mut take: impl FnMut(u8)) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                take(byte);
                bytes.next().into_iter().for_each(&mut take);
            }
            _ => take(byte),
        }
    }
}
