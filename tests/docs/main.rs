//! The page of guarantees names tests and the simulator's promises: each is there.
#![expect(clippy::unwrap_used, reason = "this is a test: what is not as expected ends it")]

use std::collections::BTreeSet;
use std::path::Path;

use millstream_tests::program::tree;

/// Everything that is written in the sources below a folder.
fn sources(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" {
            sources(&path, text);
        } else if name.ends_with(".rs") {
            text.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

/// What stands between two marks, a line at a time.
fn between<'a>(page: &'a str, mark: char) -> impl Iterator<Item = &'a str> {
    let in_line = move |line: &'a str| line.split(mark).skip(1).step_by(2);
    page.lines().flat_map(in_line)
}

#[test]
fn what_the_page_of_guarantees_names_is_there() {
    let tree = tree();
    let page = std::fs::read_to_string(tree.join("docs/guarantees.md")).unwrap();
    let mut code = String::new();
    for folder in ["host", "tests", "plugins"] {
        sources(&tree.join(folder), &mut code);
    }
    let named: BTreeSet<&str> = between(&page, '`').collect();
    let tests = named.iter().filter(|name| name.matches('_').count() >= 3);
    let tests = tests.filter(|name| !name.starts_with("millstream_"));
    let missing: Vec<_> = tests.clone().filter(|n| !code.contains(&format!("fn {n}("))).collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
    assert!(tests.count() > 50, "the names were not found in the page");

    let promises: BTreeSet<&str> = between(&page, '*').filter(|text| text.contains(' ')).collect();
    // Wherever a sentence breaks in the code, its words stand on one line.
    let missing: Vec<_> = promises
        .iter()
        .filter(|text| !text.starts_with("Sentences"))
        .filter(|text| !code.contains(&format!("\"{text}")))
        .collect();
    assert!(missing.is_empty(), "no such promises of the simulator: {missing:#?}");
    assert!(promises.len() > 10, "the promises were not found in the page");
}
