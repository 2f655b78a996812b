//! Every error code has a page in `docs/errors/`, and every page a code.

use std::collections::BTreeSet;
use std::path::Path;

use millstream::finding::Code;

const PAGES: &str = "../../docs/errors";

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    let codes: BTreeSet<String> = Code::ALL.iter().map(|code| code.as_str().to_owned()).collect();
    assert_eq!(codes.len(), Code::ALL.len(), "two codes have the same number");
    let pages: BTreeSet<String> = std::fs::read_dir(PAGES)
        .expect("the pages' folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .map(|name| name.strip_suffix(".md").expect("only pages").to_owned())
        .collect();
    assert_eq!(codes, pages, "codes of `finding` on the left, pages of docs/errors on the right");
}

#[test]
fn a_page_begins_with_its_code_and_says_what_to_do() {
    for code in Code::ALL {
        let code = code.as_str();
        let path = Path::new(PAGES).join(format!("{code}.md"));
        let page = std::fs::read_to_string(&path).expect("the page");
        assert!(page.starts_with(&format!("# {code}: ")), "{}", path.display());
        assert!(page.to_lowercase().contains("what to do"), "{}", path.display());
    }
}
