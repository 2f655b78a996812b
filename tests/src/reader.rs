//! The independent reader: a Python program (`tests/reader/sums.py`) that adds up what was sent and what came
//! out, with nothing of this project's code between it and the lines it reads. On Kafka the lines are what
//! Kafka's own console consumer printed. The files of the embedded log can be opened by Millstream only:
//! there they are what `millstream consume` printed, and independent are the sums.

use std::path::PathBuf;
use std::process::Command;

use crate::kafka::Cluster;
use crate::program::tree;

/// How long Kafka's console consumer waits for one message more before it ends: it does not know the end of a
/// topic, and has a group of its own to join first.
const NO_MORE_AFTER_MS: &str = "10000";

/// What it prints of each message, with the value behind it.
const PRINTED: [&str; 4] =
    ["print.partition=true", "print.offset=true", "print.headers=true", "print.key=true"];

/// What the reader is given.
pub struct Lines {
    /// `KEY`, or a field of the JSON value: `/order_id`.
    pub id: &'static str,
    /// `ID`, `ID dead`, `ID maybe` or `ID dead maybe`, as the reader's own text says.
    pub sent: String,
    /// What was sent and stands in the log, if that is not known by what was answered.
    pub source: Option<String>,
    /// The output topic.
    pub out: String,
    /// The dead letters.
    pub dead: String,
    /// Whether nothing may be there again.
    pub exactly_once: bool,
}

/// What the reader found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Messages sent, those that were sent again included.
    pub sent: usize,
    /// Different messages with an output.
    pub handled: usize,
    /// Different messages with a dead letter.
    pub dead: usize,
    /// Different messages with neither.
    pub lost: usize,
    /// Outputs and dead letters that are there once more.
    pub again: usize,
}

impl Lines {
    /// Runs the reader, and prints what it says.
    ///
    /// # Errors
    /// All it said, if it found a violation.
    ///
    /// # Panics
    /// When it cannot be run, or said something else than sums.
    #[expect(clippy::print_stdout, reason = "cargo shows it when the test fails, and soaks always")]
    pub fn sums(&self, test: &str) -> Result<Sums, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| -> PathBuf {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let mut python = Command::new("python3");
        python.arg(tree().join("tests/reader/sums.py")).args(["--id", self.id]);
        python.arg("--sent").arg(file("sent", &self.sent));
        python.arg("--out").arg(file("out", &self.out));
        python.arg("--dead").arg(file("dead", &self.dead));
        if let Some(source) = &self.source {
            python.arg("--source").arg(file("source", source));
        }
        if self.exactly_once {
            python.arg("--exactly-once");
        }
        let output = python.output();
        let output = output.unwrap_or_else(|e| panic!("python3 ({e}): tests/prepare installs it"));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        println!("{test}: the independent reader says: {}", said.trim_end());
        match output.status.code() {
            Some(0) => Ok(Sums::parse(&said)),
            Some(1) if !said.is_empty() => Err(said),
            _ => panic!("the reader: {said}{}", String::from_utf8_lossy(&output.stderr)),
        }
    }
}

impl Sums {
    fn parse(said: &str) -> Self {
        let words: Vec<&str> = said.split([' ', ',', '\n']).collect();
        let number = |name: &str| -> usize {
            let at = words.iter().position(|word| *word == name);
            let number = at.and_then(|at| words.get(at + 1)?.parse().ok());
            number.unwrap_or_else(|| panic!("the reader says nothing of `{name}`: {said}"))
        };
        let (sent, handled, dead) = (number("sent"), number("handled"), number("dead"));
        Self { sent, handled, dead, lost: number("lost"), again: number("again") }
    }
}

/// A topic as Kafka's own console consumer prints it: committed messages only, each with its partition, offset,
/// headers, key and value.
pub fn console(cluster: &Cluster, topic: &str) -> String {
    let mut args = vec!["console-consumer", "--topic", topic, "--from-beginning"];
    args.extend(["--isolation-level", "read_committed", "--timeout-ms", NO_MORE_AFTER_MS]);
    args.extend(PRINTED.iter().flat_map(|printed| ["--formatter-property", printed]));
    cluster.tool(&args)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console_line(offset: u64, headers: &str, key: &str) -> String {
        format!("Partition:0\tOffset:{offset}\t{headers}\t{key}\tvalue\n")
    }

    fn json_line(offset: u64, turn: u64, key: &str) -> String {
        format!(
            r#"{{"topic":"t","partition":0,"offset":{offset},"key":"{key}","value":"v","headers":[["millstream-turn","{turn}"]]}}"#
        ) + "\n"
    }

    /// a is handled, b dies, and c has no answer.
    fn good() -> Lines {
        Lines {
            id: "KEY",
            sent: "a\na\nb dead\nc maybe\n".to_owned(),
            source: None,
            out: console_line(4, "NO_HEADERS", "a"),
            dead: json_line(0, 1, "b") + &json_line(1, 2, "b"),
            exactly_once: true,
        }
    }

    #[test]
    fn every_kind_of_violation_is_seen() {
        let sums = Sums { sent: 4, handled: 1, dead: 1, lost: 0, again: 0 };
        assert_eq!(good().sums("good"), Ok(sums));
        let a = || console_line(4, "NO_HEADERS", "a");
        let again = || a() + &console_line(5, "x:y,z:1", "a");
        let repeated = Lines { out: again(), exactly_once: false, ..good() };
        assert_eq!(repeated.sums("again"), Ok(Sums { again: 1, ..sums }));
        let letters = json_line(0, 1, "b") + &json_line(1, 1, "b");
        let wrong = [
            ("a was handled 2 times", Lines { out: again(), ..good() }),
            ("1 are there again", Lines { dead: letters, ..good() }),
            ("a is lost", Lines { out: String::new(), ..good() }),
            ("two outputs at (0, 4)", Lines { out: a() + &a(), exactly_once: false, ..good() }),
            ("x came out", Lines { out: a() + &console_line(5, "", "x"), ..good() }),
            ("b was handled", Lines { out: a() + &console_line(5, "", "b"), ..good() }),
            ("a is dead", Lines { dead: good().dead + &json_line(7, 7, "a"), ..good() }),
            (
                "c is lost",
                Lines {
                    source: Some(a() + &json_line(9, 1, "b") + &json_line(10, 1, "c")),
                    ..good()
                },
            ),
            ("b was acknowledged and is not there", Lines { source: Some(a()), ..good() }),
        ];
        for (violation, lines) in wrong {
            let said = lines.sums("wrong").unwrap_err();
            assert!(said.contains(&format!("violation: {violation}")), "{violation}: {said}");
        }
    }
}
