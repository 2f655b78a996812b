//! A configuration file: read, or refused with findings that say what to do and where.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use millstream::config;

/// One for each process. `fuzz/run` has it in memory: it is written with every input.
static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    std::env::temp_dir().join(format!("millstream-fuzz-{}.toml", std::process::id()))
});

/// What stands for every `${…}`; it could be a secret.
const SECRET: &str = "zq-17-secret";

fuzz_target!(|text: &str| {
    // Of other files on this machine nothing is read: some of them never end.
    if text.contains("file:") || text.contains(SECRET) {
        return;
    }
    std::fs::write(&*FILE, text).expect("a file");
    let environment = |name: &str| (name != "MISSING").then(|| SECRET.to_owned());
    match config::load_with(&FILE, &environment) {
        Ok(config) => assert!(!config::summary::summary(&config).is_empty()),
        Err(findings) => {
            assert!(!findings.is_empty(), "refused without a word");
            for finding in findings {
                let shown = finding.to_string();
                assert!(!shown.is_empty() && !shown.contains(SECRET), "{shown}");
            }
        }
    }
});
