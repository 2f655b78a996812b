//! Names of pipelines, topics, groups, outputs and hosts: what is allowed, so that Kafka, metrics and
//! folders take them all.

use crate::config::bounds::Checker;
use crate::finding::{Code, Finding};

/// Longest name of a topic (Kafka's own limit) or group (it may be part of a topic's name).
pub(crate) const TOPIC_CHARS_MAX: usize = 249;
/// Longest name of a pipeline, output or host: it stands in metric labels and log lines.
pub(crate) const NAME_CHARS_MAX: usize = 64;

/// What is wrong with a topic's name, if anything is: Kafka's rules.
pub fn topic_problem(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("it is empty".to_owned());
    }
    if name == "." || name == ".." {
        return Some("`.` and `..` are folders to a log".to_owned());
    }
    if name.starts_with("__") {
        return Some("names that begin with `__` belong to the log itself".to_owned());
    }
    if name.len() > TOPIC_CHARS_MAX {
        return Some(format!("it has {} characters, at most {TOPIC_CHARS_MAX} go", name.len()));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let bad = name.chars().find(|c| !allowed(*c))?;
    Some(format!("it has {bad:?} in it; letters, digits, `.`, `_` and `-` are allowed"))
}

fn name_problem(name: &str) -> Option<String> {
    short_problem(name, &['_', '-'], "letters, digits, `_` and `-` are allowed")
}

/// What is wrong with a host's id, if anything is. Names of machines and pods go.
pub fn host_problem(id: &str) -> Option<String> {
    short_problem(id, &['.', '_', '-'], "letters, digits, `.`, `_` and `-` are allowed")
}

fn short_problem(name: &str, marks: &[char], allowed: &str) -> Option<String> {
    if name.is_empty() {
        return Some("it is empty".to_owned());
    }
    if name.len() > NAME_CHARS_MAX {
        return Some(format!("it has {} characters, at most {NAME_CHARS_MAX} go", name.len()));
    }
    let bad = name.chars().find(|c| !c.is_ascii_alphanumeric() && !marks.contains(c))?;
    Some(format!("it has {bad:?} in it; {allowed}"))
}

/// What a name is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// A topic.
    Topic,
    /// A consumer group.
    Group,
    /// A pipeline; the name is a key.
    Pipeline,
    /// An output; the name is a key.
    Output,
    /// A host's id.
    Host,
}

impl Checker<'_> {
    /// Checks the name at `path`; `false` if it is not allowed.
    pub(crate) fn name(&mut self, path: &str, name: &str, kind: Kind) -> bool {
        let (word, problem) = match kind {
            Kind::Topic => ("a topic", topic_problem(name)),
            Kind::Group => ("a consumer group", topic_problem(name)),
            Kind::Pipeline => ("a pipeline", name_problem(name)),
            Kind::Output => ("an output", name_problem(name)),
            Kind::Host => ("a host", host_problem(name)),
        };
        let Some(why) = problem else { return true };
        let shown = self.document.shown(path, name);
        let what = format!("{shown} is not a name for {word}");
        let finding = Finding::new(Code::BadName, what, "choose another name").because(why);
        match kind {
            Kind::Topic | Kind::Group | Kind::Host => self.value(finding, path),
            Kind::Pipeline | Kind::Output => self.key(finding, path),
        }
        false
    }
}
