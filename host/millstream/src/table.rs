//! Listings for a person: plain aligned columns, or the same rows as JSON.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::exit::Failure;
use crate::terminal::Terminal;

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

/// Prints rows as JSON.
///
/// # Errors
/// When stdout is closed or full.
pub fn print_json<T: Serialize>(terminal: &Terminal, rows: &T) -> Result<(), Failure> {
    // Rows are structs of texts and numbers: nothing that JSON cannot say.
    terminal.print(&serde_json::to_string_pretty(rows).unwrap_or_default())
}
