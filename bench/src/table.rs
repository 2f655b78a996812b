//! Table: how figures are shown, and how far a measurement is while it runs.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};

/// A table that can be put into a README as it is.
pub fn layout(heads: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heads);
    for row in rows {
        let mut cells = row.into_iter();
        let name = cells.next().into_iter().map(Cell::new);
        let numbers = cells.map(|text| Cell::new(text).set_alignment(CellAlignment::Right));
        table.add_row(name.chain(numbers));
    }
    table.to_string()
}

/// A bar on the terminal; nothing where there is none.
pub fn progress(steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar
}
