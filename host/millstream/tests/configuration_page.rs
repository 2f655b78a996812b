//! `docs/configuration.md` and the keys of the configuration stay in step, and its example is one.
#![expect(clippy::expect_used, reason = "a test whose helper cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::Path;

use millstream::config;

const RAW: &str = include_str!("../src/config/raw.rs");
const PAGE: &str = include_str!("../../../docs/configuration.md");

/// Keys by table, the table as it is named in the code's doc comments and the page's headings.
type Tables<'a> = BTreeMap<&'a str, Vec<&'a str>>;

/// Every struct of `raw.rs` that stands for a table: its doc comment is the table's name.
fn tables_of_the_code() -> Tables<'static> {
    assert!(!RAW.contains("rename"), "a renamed key needs this test to read its name");
    let mut tables = Tables::new();
    let (mut doc, mut table) = ("", None);
    for line in RAW.lines() {
        if let Some(text) = line.strip_prefix("/// ") {
            doc = text;
        } else if line.starts_with("pub(crate) struct Raw") {
            // The file as a whole has tables only, which are headings of the page.
            table = Some(if line.contains("RawConfig") { "" } else { doc });
        } else if line.starts_with('}') {
            table = None;
        } else if let (Some(table), Some(field)) = (table, line.strip_prefix("    pub ")) {
            let (key, _) = field.split_once(':').expect("a field has a type");
            tables.entry(table).or_default().push(key);
        }
    }
    tables
}

/// Every table of the page: headings that are nothing but code, and the first cell of their rows.
fn tables_of_the_page() -> Tables<'static> {
    let mut tables = Tables::new();
    let mut table = None;
    for line in PAGE.lines() {
        if line.starts_with('#') {
            table = Some(line.trim_start_matches(['#', ' '])).filter(|name| name.starts_with('`'));
        } else if let (Some(table), Some(row)) = (table, line.strip_prefix("| `")) {
            let (key, rest) = row.split_once("` |").expect("a key is alone in its cell");
            assert_eq!(rest.matches('|').count(), 3, "`{key}` has default, bounds and effect");
            tables.entry(table).or_default().push(key);
        }
    }
    tables
}

#[test]
fn the_page_has_every_key_in_its_table_and_no_other() {
    let mut code = tables_of_the_code();
    let top = code.remove("").expect("the file itself");
    assert!(code.len() >= 12, "the code was not understood: {code:?}");
    assert!(code["`limits`"].contains(&"time"), "the code was not understood: {code:?}");
    let page = tables_of_the_page();
    for key in top {
        assert!(
            page.keys().any(|table| table.starts_with(&format!("`[{key}"))),
            "no table `{key}`"
        );
    }
    for (table, keys) in &code {
        let shown = page.get(table).cloned().unwrap_or_default();
        assert_eq!(&shown, keys, "{table}: the page on the left, raw.rs on the right");
    }
    assert_eq!(page.len(), code.len(), "a table of the page is not in raw.rs: {page:?}");
}

/// The examples: lines that are indented, apart from one another by lines that are not.
fn examples() -> Vec<String> {
    let mut examples = vec![String::new()];
    for line in PAGE.lines() {
        match (line.strip_prefix("    "), examples.last_mut()) {
            (Some(line), Some(example)) => *example = format!("{example}{line}\n"),
            (None, Some(example)) if !line.is_empty() && !example.is_empty() => {
                examples.push(String::new());
            }
            _ => {}
        }
    }
    examples.retain(|example| !example.is_empty());
    examples
}

#[test]
fn the_examples_of_the_page_are_taken() {
    let examples = examples();
    assert_eq!(examples.len(), 2, "the whole file, and Kafka: {examples:?}");
    for example in examples {
        if !cfg!(feature = "kafka") && example.contains("\"kafka\"") {
            continue;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("millstream.toml");
        std::fs::write(&file, &example).expect("written");
        let config = config::load_with(Path::new(&file), &|_| Some("from outside".to_owned()));
        let config = config.unwrap_or_else(|findings| panic!("{findings:?}\n{example}"));
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        let pipelines = example.matches("[pipelines.").count();
        assert_eq!(config.pipelines.len(), pipelines, "{example}");
    }
}
