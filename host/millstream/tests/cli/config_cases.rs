//! Configurations, good and bad: `tests/config/<case>/{config.toml,error.txt}` or, for a good one,
//! `summary.txt`. A new case needs no code.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use millstream::config::{self, summary};
use millstream::finding::Finding;

/// What `${…}` stands for in the cases.
fn environment(name: &str) -> Option<String> {
    match name {
        "TOKEN" => Some("token-token-token-token".to_owned()),
        "SECRET" => Some(SECRET.to_owned()),
        _ => None,
    }
}

const SECRET: &str = "hunter2hunter2";

fn cases() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("tests/config").expect("the folder of cases");
    let mut cases: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    cases.sort();
    cases
}

fn render(findings: &[Finding]) -> String {
    findings.iter().fold(String::new(), |mut text, finding| {
        writeln!(text, "{}", finding.render(false)).expect("a text");
        text
    })
}

/// Whether a case cannot come out as its file says: this build has no Kafka.
fn needs_another_build(case: &Path) -> bool {
    let config = std::fs::read_to_string(case.join("config.toml")).expect("the case");
    !cfg!(feature = "kafka") && config.contains("kind = \"kafka\"")
}

/// The text of a case, and the file it is compared with.
fn outcome(case: &Path) -> (String, &'static str) {
    match config::load_with(&case.join("config.toml"), &environment) {
        Ok(config) => (summary::summary(&config) + &render(&config.warnings), "summary.txt"),
        Err(findings) => (render(&findings), "error.txt"),
    }
}

#[test]
fn every_configuration_is_taken_or_refused_as_its_case_says() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut differing = Vec::new();
    let mut bad = 0;
    for case in cases() {
        let (text, file) = outcome(&case);
        if needs_another_build(&case) {
            // What is not TOML, or not of the right shape, is not looked at any further.
            let says = ["this build has no Kafka", "MS1002", "MS1004"];
            assert!(says.iter().any(|it| text.contains(it)), "{} gave:\n{text}", case.display());
            assert_eq!(file, "error.txt", "{} was taken", case.display());
            continue;
        }
        bad += usize::from(file == "error.txt");
        let other = if file == "error.txt" { "summary.txt" } else { "error.txt" };
        if bless {
            std::fs::write(case.join(file), &text).expect("written");
            continue;
        }
        assert!(!case.join(other).exists(), "{} gave this instead:\n{text}", case.display());
        let expected = std::fs::read_to_string(case.join(file)).unwrap_or_default();
        if text != expected {
            differing.push(format!("{}\n--- expected\n{expected}--- came\n{text}", case.display()));
        }
    }
    assert!(bad >= 20, "only {bad} bad configurations were tried");
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn what_stands_for_a_variable_is_shown_nowhere() {
    for case in cases() {
        let (text, _) = outcome(&case);
        assert!(!text.contains(SECRET), "{} shows a secret:\n{text}", case.display());
        assert!(!text.contains("token-token"), "{} shows a token:\n{text}", case.display());
        assert!(!text.contains("short secret"), "{} shows a token:\n{text}", case.display());
        assert!(!text.contains("0123456789abcdef"), "{} shows a token:\n{text}", case.display());
    }
}

#[test]
fn every_finding_says_what_to_do() {
    for case in cases() {
        let findings = match config::load_with(&case.join("config.toml"), &environment) {
            Ok(config) => config.warnings,
            Err(findings) => findings,
        };
        for finding in findings {
            assert!(!finding.what.is_empty() && !finding.fix.is_empty(), "{finding:?}");
            assert!(finding.place.is_some(), "{}: {finding} has no place", case.display());
        }
    }
}
