//! Listings for a person: plain aligned columns, or the same rows as JSON.

use std::time::{Duration, SystemTime};

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use humantime::format_rfc3339_seconds;
use millstream_core::message::EpochMs;
use serde::Serialize;

use crate::exit::Failure;
use crate::terminal::Terminal;

/// The first millisecond of the year 10000.
const YEAR_10000: EpochMs = 253_402_300_800_000;

/// A column's heading, and whether it holds numbers.
#[derive(Clone, Copy, Debug)]
pub enum Column {
    /// Words, to the left.
    Text(&'static str),
    /// Numbers, to the right.
    Number(&'static str),
}

/// Lays out rows under headings.
pub fn layout(columns: &[Column], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    // Never wrapped: a cut or folded topic name cannot be copied from the screen.
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    let aligned = |column: &Column, text: String| match column {
        Column::Text(_) => Cell::new(text),
        Column::Number(_) => Cell::new(text).set_alignment(CellAlignment::Right),
    };
    let heading = |column: &Column| match column {
        Column::Text(name) | Column::Number(name) => aligned(column, name.to_uppercase()),
    };
    table.set_header(columns.iter().map(heading));
    for row in rows {
        table.add_row(columns.iter().zip(row).map(|(column, text)| aligned(column, text.clone())));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

/// A point in time as tables show it: to the second, in UTC.
pub fn time(at: EpochMs) -> String {
    let since = u64::try_from(at).map(Duration::from_millis);
    let when = since.ok().and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
    // The library writes years of four digits only.
    let when = when.filter(|_| at < YEAR_10000);
    when.map_or_else(|| format!("{at} ms"), |when| format_rfc3339_seconds(when).to_string())
}

/// Prints rows as JSON.
///
/// # Errors
/// When stdout is closed or full.
pub fn print_json<T: Serialize>(terminal: &Terminal, rows: &T) -> Result<(), Failure> {
    // Rows are structs of texts and numbers: nothing that JSON cannot say.
    terminal.print(&serde_json::to_string_pretty(rows).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_out_of_every_calendar_are_shown_as_numbers() {
        assert_eq!(super::time(1_700_000_000_999), "2023-11-14T22:13:20Z");
        assert_eq!(super::time(super::YEAR_10000 - 1), "9999-12-31T23:59:59Z");
        for strange in [-1, super::YEAR_10000, i64::MAX, i64::MIN] {
            assert_eq!(super::time(strange), format!("{strange} ms"));
        }
    }
}
