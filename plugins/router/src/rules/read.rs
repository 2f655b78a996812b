//! Reading the rules: every key is known, every value of the right kind, or the error names the place
//! (`route[1].when[0]`), what is wrong there and what would be right.
//!
//! Limits: [`TEXT_BYTES_MAX`] of text, [`PARTS_MAX`] conditions, steps and routes together.

use std::cmp::Ordering;

use millstream_plugin::Destination;
use serde_json::{Map, Value};

use super::{Route, Rules, Target, Unreadable};
use crate::condition::{Condition, Subject, Test};
use crate::mapping::{Source, Step};
use crate::pointer::Pointer;

/// More text is no set of rules.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Every message may have to go through all of them.
const PARTS_MAX: usize = 256;

const OPERATORS: [&str; 10] =
    ["exists", "=", "!=", "<", "<=", ">", ">=", "in", "contains", "starts_with"];
const SOURCES: &str = "`header:NAME`, `key`, `topic`, `partition`, `offset` or `timestamp`";

impl Rules {
    /// Reads the setting `rules`.
    ///
    /// # Errors
    /// One line: where, what is wrong, what would be right.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        if text.len() > TEXT_BYTES_MAX {
            let size = text.len();
            return Err(format!("{size} bytes of rules, at most {TEXT_BYTES_MAX} are taken"));
        }
        let document: Value =
            serde_json::from_str(text).map_err(|error| format!("this is not JSON: {error}"))?;
        let mut reader = Reader { parts_left: PARTS_MAX };
        reader.rules(&Node { path: String::new(), value: &document })
    }
}

/// A value of the rules and where it stands.
struct Node<'a> {
    path: String,
    value: &'a Value,
}

impl<'a> Node<'a> {
    fn wrong(&self, what: impl std::fmt::Display) -> String {
        if self.path.is_empty() { what.to_string() } else { format!("{}: {what}", self.path) }
    }

    fn field(&self, name: &str) -> Option<Node<'a>> {
        let value = self.value.get(name)?;
        let dot = if self.path.is_empty() { "" } else { "." };
        Some(Node { path: format!("{}{dot}{name}", self.path), value })
    }

    fn needed(&self, name: &str) -> Result<Node<'a>, String> {
        self.field(name).ok_or_else(|| self.wrong(format_args!("`{name}` is missing")))
    }

    /// An object that has these keys at most.
    fn object(&self, known: &[&str]) -> Result<&'a Map<String, Value>, String> {
        let Value::Object(fields) = self.value else {
            return Err(self.wrong("this must be an object"));
        };
        match fields.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(fields),
            Some(unknown) => {
                let known = known.join("`, `");
                Err(self.wrong(format_args!("unknown key `{unknown}`; known are `{known}`")))
            }
        }
    }

    fn list(&self) -> Result<Vec<Node<'a>>, String> {
        let Value::Array(items) = self.value else { return Err(self.wrong("this must be a list")) };
        let node = |(i, value)| Node { path: format!("{}[{i}]", self.path), value };
        Ok(items.iter().enumerate().map(node).collect())
    }

    fn text(&self) -> Result<&'a str, String> {
        match self.value.as_str() {
            Some(text) => Ok(text),
            None => Err(self.wrong("this must be a text")),
        }
    }

    fn flag(&self) -> Result<bool, String> {
        self.value.as_bool().ok_or_else(|| self.wrong("this must be `true` or `false`"))
    }

    fn pointer(&self) -> Result<Pointer, String> {
        Pointer::read(self.text()?).map_err(|error| self.wrong(error))
    }

    /// A place that can be written or removed: the whole document can't.
    fn place(&self) -> Result<Pointer, String> {
        let pointer = self.pointer()?;
        if pointer.is_whole() {
            return Err(self.wrong("this must name a place in the document, such as `/total`"));
        }
        Ok(pointer)
    }
}

struct Reader {
    parts_left: usize,
}

impl Reader {
    fn count(&mut self, node: &Node<'_>) -> Result<(), String> {
        match self.parts_left.checked_sub(1) {
            Some(left) => self.parts_left = left,
            None => {
                return Err(node.wrong(format_args!(
                    "more than {PARTS_MAX} conditions, steps and routes: use several pipelines"
                )));
            }
        }
        Ok(())
    }

    fn rules(&mut self, node: &Node<'_>) -> Result<Rules, String> {
        node.object(&["not_json", "tombstone", "filter", "map", "key", "route", "otherwise"])?;
        let mut rules = Rules {
            not_json: Unreadable::Reject,
            tombstone: Unreadable::Pass,
            filter: Vec::new(),
            map: Vec::new(),
            key: None,
            route: Vec::new(),
            otherwise: Target(vec![Destination::Default]),
        };
        if let Some(node) = node.field("not_json") {
            rules.not_json = unreadable(&node)?;
        }
        if let Some(node) = node.field("tombstone") {
            rules.tombstone = unreadable(&node)?;
        }
        if let Some(node) = node.field("filter") {
            rules.filter = self.conditions(&node)?;
        }
        if let Some(node) = node.field("map") {
            for step in node.list()? {
                rules.map.push(self.step(&step)?);
            }
        }
        if let Some(node) = node.field("key") {
            rules.key = Some(node.pointer()?);
        }
        if let Some(node) = node.field("route") {
            for node in node.list()? {
                self.count(&node)?;
                node.object(&["when", "to", "drop"])?;
                let when = self.conditions(&node.needed("when")?)?;
                rules.route.push(Route { when, target: target(&node)? });
            }
        }
        if let Some(node) = node.field("otherwise") {
            node.object(&["to", "drop"])?;
            rules.otherwise = target(&node)?;
        }
        Ok(rules)
    }

    fn conditions(&mut self, node: &Node<'_>) -> Result<Vec<Condition>, String> {
        node.list()?.iter().map(|node| self.condition(node)).collect()
    }

    fn condition(&mut self, node: &Node<'_>) -> Result<Condition, String> {
        self.count(node)?;
        for (name, make) in
            [("any", Condition::Any as fn(_) -> Condition), ("none", Condition::None)]
        {
            if let Some(inner) = node.field(name) {
                node.object(&[name])?;
                return Ok(make(self.conditions(&inner)?));
            }
        }
        let mut known = vec!["at", "header", "key", "any", "none"];
        known.extend(OPERATORS);
        let fields = node.object(&known)?;
        let subject = match (node.field("at"), node.field("header"), node.field("key")) {
            (Some(at), None, None) => Subject::At(at.pointer()?),
            (None, Some(name), None) => Subject::Header(name.text()?.to_owned()),
            (None, None, Some(flag)) if flag.flag()? => Subject::Key,
            _ => {
                return Err(node.wrong(
                    "exactly one of `at` (a pointer), `header` (a name) and `key` (true) must \
                     say what is looked at",
                ));
            }
        };
        let mut operators = OPERATORS.iter().filter(|name| fields.contains_key(**name));
        let (Some(operator), None) = (operators.next(), operators.next()) else {
            let operators = OPERATORS.join("`, `");
            return Err(node.wrong(format_args!("exactly one of `{operators}` must stand here")));
        };
        Ok(Condition::Test(subject, test(operator, &node.needed(operator)?)?))
    }

    fn step(&mut self, node: &Node<'_>) -> Result<Step, String> {
        self.count(node)?;
        if let Some(to) = node.field("set") {
            node.object(&["set", "value", "from"])?;
            let source = match (node.field("value"), node.field("from")) {
                (Some(constant), None) => Source::Constant(constant.value.clone()),
                (None, Some(from)) => source(&from)?,
                _ => return Err(node.wrong("`set` needs either `value` or `from`")),
            };
            return Ok(Step::Set(to.place()?, source));
        }
        if let Some(at) = node.field("remove") {
            node.object(&["remove"])?;
            return Ok(Step::Remove(at.place()?));
        }
        if let Some(kept) = node.field("keep") {
            node.object(&["keep"])?;
            let kept: Result<Vec<Pointer>, String> = kept.list()?.iter().map(Node::place).collect();
            return Ok(Step::Keep(kept?));
        }
        for (name, make) in [("rename", Step::Rename as fn(_, _) -> Step), ("copy", Step::Copy)] {
            if let Some(from) = node.field(name) {
                node.object(&[name, "to"])?;
                let (from, to) = (from.place()?, node.needed("to")?.place()?);
                if to.is_within(&from) {
                    let wrong = format_args!("`{to}` lies in `{from}`: a value can't hold itself");
                    return Err(node.wrong(wrong));
                }
                return Ok(make(from, to));
            }
        }
        Err(node.wrong("a step has one of `set`, `remove`, `rename`, `copy` and `keep`"))
    }
}

fn test(operator: &str, constant: &Node<'_>) -> Result<Test, String> {
    use Ordering::{Equal, Greater, Less};

    let passing: &[Ordering] = match operator {
        "exists" => return Ok(Test::Exists(constant.flag()?)),
        "=" => return Ok(Test::Equal(constant.value.clone())),
        "!=" => return Ok(Test::Unequal(constant.value.clone())),
        "in" => {
            let constants = constant.list()?.iter().map(|node| node.value.clone()).collect();
            return Ok(Test::In(constants));
        }
        "contains" => return Ok(Test::Contains(constant.value.clone())),
        "starts_with" => return Ok(Test::StartsWith(constant.text()?.to_owned())),
        "<" => &[Less],
        "<=" => &[Less, Equal],
        ">" => &[Greater],
        _ => &[Greater, Equal],
    };
    match constant.value {
        Value::Number(_) | Value::String(_) => Ok(Test::Ordered(passing, constant.value.clone())),
        _ => Err(constant.wrong("only numbers and texts have an order")),
    }
}

fn source(node: &Node<'_>) -> Result<Source, String> {
    Ok(match node.text()? {
        "key" => Source::Key,
        "topic" => Source::Topic,
        "partition" => Source::Partition,
        "offset" => Source::Offset,
        "timestamp" => Source::Timestamp,
        other => match other.strip_prefix("header:") {
            Some(name) => Source::Header(name.to_owned()),
            None => return Err(node.wrong(format_args!("`{other}` is none of {SOURCES}"))),
        },
    })
}

fn unreadable(node: &Node<'_>) -> Result<Unreadable, String> {
    match node.text()? {
        "reject" => Ok(Unreadable::Reject),
        "pass" => Ok(Unreadable::Pass),
        "drop" => Ok(Unreadable::Drop),
        other => Err(node.wrong(format_args!("`{other}` is none of `reject`, `pass` and `drop`"))),
    }
}

/// `"to": NAME`, `"to": [NAME, …]` or `"drop": true`.
fn target(node: &Node<'_>) -> Result<Target, String> {
    match (node.field("to"), node.field("drop")) {
        (Some(to), None) if to.value.is_string() => Ok(Target(vec![destination(&to)?])),
        (Some(to), None) => {
            let names = to.list()?;
            if names.is_empty() {
                return Err(to.wrong("no output is named; to drop the message write `drop`: true"));
            }
            let names: Result<_, String> = names.iter().map(destination).collect();
            Ok(Target(names?))
        }
        (None, Some(flag)) if flag.flag()? => Ok(Target(Vec::new())),
        _ => {
            Err(node.wrong("exactly one of `to` (an output, or a list of them) and `drop` (true)"))
        }
    }
}

fn destination(node: &Node<'_>) -> Result<Destination, String> {
    match node.text()? {
        "" => Err(node.wrong("an output's name is not empty")),
        name => Ok(name.into()),
    }
}
