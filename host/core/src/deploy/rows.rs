//! Rows of a control topic, to and from bytes.
//!
//! Whoever may write to the topic can put anything there, and hosts of other versions of this program do: a row that is
//! not understood in every part is none. Texts that get to terminals, metrics and headers are bounded and of a few
//! characters here, once for all.

use serde::{Deserialize, Serialize};

use crate::audit;
use crate::deploy::{PLUGIN_BYTES_MAX, SMOKE_MESSAGES_MAX};
use crate::message::{EpochMs, Offset};

/// The layout of all rows.
const FORMAT: u32 = 1;
/// The longest version, as it is shown.
const LABEL_CHARS_MAX: usize = 64;
/// The longest name of a plugin, host or person.
const NAME_BYTES_MAX: usize = audit::TEXT_BYTES_MAX;
/// Change numbers beyond are nobody's.
const NUMBER_MAX: u64 = 1 << 53;

/// A version of a plugin that was deployed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    format: u32,
    /// `sha256:` and the hexadecimal digest of its bytes.
    pub digest: String,
    /// The plugin's name.
    pub name: String,
    /// What it is called; no two of a pipeline are called the same.
    pub version: String,
    /// Who deployed it first.
    pub by: String,
    /// When, by the clock of whoever did.
    pub at: EpochMs,
    /// The size of its bytes.
    pub size_bytes: u64,
    /// Where its bytes begin among the topic's.
    pub blob_from: Offset,
}

/// From here on a version is in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    format: u32,
    /// Changes are numbered from 1.
    pub number: u64,
    /// Names it.
    pub id: String,
    /// The version; `None` is the file of the configuration.
    pub digest: Option<String>,
    /// Whether it goes back to what was in use before.
    pub rollback: bool,
    /// Who.
    pub by: String,
    /// When, by the clock of whoever did.
    pub at: EpochMs,
}

/// A version that all hosts are to check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Proposal {
    format: u32,
    pub(super) id: String,
    /// `None` is the file of the configuration.
    pub(super) version: Option<Version>,
    /// Lines of messages that must come out well.
    pub(super) smoke: Vec<String>,
    pub(super) by: String,
}

/// A live host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRow {
    format: u32,
    /// Proposals from this offset on are answered.
    pub(super) follows_from: Offset,
    /// The change it is at; 0 before the first.
    pub number: u64,
    /// What it runs.
    pub digest: Option<String>,
    /// What that is called.
    pub version: Option<String>,
    /// Why it handles nothing, if it does not.
    pub trouble: Option<String>,
}

/// What a host says of a proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VerdictRow {
    format: u32,
    pub(super) proposal: String,
    pub(super) verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// It has seen it, and is checking.
    Checking,
    /// It would run it.
    Yes,
    /// It would not, for this reason.
    No(String),
}

impl Version {
    pub(super) fn new(digest: String, name: &str, version: &str, by: &str, at: EpochMs) -> Self {
        let (name, version, by) = (text(name), version.to_owned(), text(by));
        Self { format: FORMAT, digest, name, version, by, at, size_bytes: 0, blob_from: 0 }
    }

    fn is_sound(&self) -> bool {
        self.format == FORMAT
            && is_digest(&self.digest)
            && label_problem(&self.version).is_none()
            && is_text(&self.name)
            && is_text(&self.by)
            && self.size_bytes <= PLUGIN_BYTES_MAX
    }
}

impl Change {
    pub(super) fn new(
        number: u64,
        id: &str,
        digest: Option<String>,
        rollback: bool,
        by: &str,
        at: EpochMs,
    ) -> Self {
        let (id, by) = (id.to_owned(), text(by));
        Self { format: FORMAT, number, id, digest, rollback, by, at }
    }
}

impl Proposal {
    pub(super) fn new(id: &str, version: Option<Version>, smoke: Vec<String>, by: &str) -> Self {
        Self { format: FORMAT, id: id.to_owned(), version, smoke, by: text(by) }
    }
}

impl HostRow {
    pub(super) fn new(
        follows_from: Offset,
        number: u64,
        digest: Option<String>,
        version: Option<String>,
        trouble: Option<String>,
    ) -> Self {
        Self { format: FORMAT, follows_from, number, digest, version, trouble }
    }
}

impl VerdictRow {
    pub(super) fn new(proposal: &str, verdict: Verdict) -> Self {
        Self { format: FORMAT, proposal: proposal.to_owned(), verdict }
    }
}

/// The bytes of a row.
pub(super) fn encode<T: Serialize>(row: &T) -> Vec<u8> {
    // Structs of texts and numbers: nothing that JSON cannot say.
    serde_json::to_vec(row).unwrap_or_default()
}

fn parse<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

pub(super) fn version(digest: &str, bytes: &[u8]) -> Option<Version> {
    parse::<Version>(bytes).filter(|version| version.is_sound() && version.digest == digest)
}

/// `rest` is the key behind its kind: `NUMBER/ID`.
pub(super) fn change(rest: &str, bytes: &[u8]) -> Option<Change> {
    let change: Change = parse(bytes)?;
    let sound = change.format == FORMAT
        && change.number <= NUMBER_MAX
        && change_key(&change).strip_prefix(CHANGE) == Some(rest)
        && is_text(&change.id)
        && is_text(&change.by)
        && change.digest.as_deref().is_none_or(is_digest);
    sound.then_some(change)
}

pub(super) fn proposal(bytes: &[u8]) -> Option<Proposal> {
    let proposal: Proposal = parse(bytes)?;
    let sound = proposal.format == FORMAT
        && is_text(&proposal.id)
        && is_text(&proposal.by)
        && proposal.smoke.len() <= SMOKE_MESSAGES_MAX
        && proposal.version.as_ref().is_none_or(Version::is_sound);
    sound.then_some(proposal)
}

pub(super) fn host(host: &str, bytes: &[u8]) -> Option<HostRow> {
    let row: HostRow = parse(bytes)?;
    let sound = row.format == FORMAT
        && is_text(host)
        && row.digest.as_deref().is_none_or(is_digest)
        && row.version.as_deref().is_none_or(is_text);
    let trouble = row.trouble.as_deref().map(text);
    sound.then_some(HostRow { trouble, ..row })
}

pub(super) fn verdict(bytes: &[u8]) -> Option<VerdictRow> {
    let row: VerdictRow = parse(bytes)?;
    let verdict = match row.verdict {
        Verdict::No(reason) => Verdict::No(text(&reason)),
        verdict => verdict,
    };
    (row.format == FORMAT && is_text(&row.proposal)).then_some(VerdictRow { verdict, ..row })
}

pub(super) const VERSION: &str = "version/";
pub(super) const CHANGE: &str = "change/";
pub(super) const PROPOSAL: &str = "proposal";
pub(super) const HOST: &str = "host/";
pub(super) const VERDICT: &str = "verdict/";

/// Numbers of one width, so that keys stand in the order of the changes.
pub(super) fn change_key(change: &Change) -> String {
    format!("{CHANGE}{:016}/{}", change.number, change.id)
}

/// What is wrong with what a version is to be called, if anything is: it stands in metrics, headers and on
/// command lines.
pub fn label_problem(label: &str) -> Option<String> {
    if label.is_empty() || label.len() > LABEL_CHARS_MAX {
        return Some(format!("it has {} characters, 1 to {LABEL_CHARS_MAX} go", label.len()));
    }
    if label == "file" || label.starts_with("sha256") {
        return Some("that word stands for something else".to_owned());
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+');
    let bad = label.chars().find(|c| !allowed(*c))?;
    Some(format!("it has {bad:?} in it; letters, digits, `.`, `_`, `-` and `+` are allowed"))
}

/// Whether it is `sha256:` and 64 hexadecimal digits.
pub(super) fn is_digest(text: &str) -> bool {
    let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    text.strip_prefix("sha256:").is_some_and(|rest| rest.len() == 64 && rest.bytes().all(hex))
}

fn is_text(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control)
}

/// A text of a stranger as it may be shown.
fn text(text: &str) -> String {
    let clean = audit::printable(text);
    if clean.is_empty() { "?".to_owned() } else { clean }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest() -> String {
        format!("sha256:{}", "0a".repeat(32))
    }

    #[test]
    fn what_is_written_is_read_back() {
        let made = Version::new(digest(), "pricing", "2", "me", 7);
        assert_eq!(version(&digest(), &encode(&made)), Some(made.clone()));
        let changed = Change::new(3, "id", Some(digest()), true, "me", 7);
        let key = change_key(&changed);
        let rest = key.strip_prefix(CHANGE).expect("its kind");
        assert_eq!(change(rest, &encode(&changed)), Some(changed));
        let proposed = Proposal::new("id", Some(made), vec!["{}".to_owned()], "me");
        assert_eq!(proposal(&encode(&proposed)), Some(proposed));
        let row = HostRow::new(3, 4, Some(digest()), Some("2".to_owned()), None);
        assert_eq!(host("h", &encode(&row)), Some(row));
        let no = VerdictRow::new("id", Verdict::No("why".to_owned()));
        assert_eq!(verdict(&encode(&no)), Some(no));
    }

    #[test]
    fn rows_of_strangers_are_none() {
        let good = Version::new(digest(), "pricing", "2", "me", 7);
        let with = |change: &dyn Fn(&mut Version)| {
            let mut bad = good.clone();
            change(&mut bad);
            version(&bad.digest, &encode(&bad))
        };
        assert_eq!(version(&digest().replace('a', "b"), &encode(&good)), None, "under another key");
        assert_eq!(with(&|v| v.format = 2), None);
        assert_eq!(with(&|v| v.digest = "sha256:../../etc".to_owned()), None);
        assert_eq!(with(&|v| v.version = "2\u{1b}[31m".to_owned()), None);
        assert_eq!(with(&|v| v.name = "x".repeat(10_000)), None);
        assert_eq!(with(&|v| v.size_bytes = PLUGIN_BYTES_MAX + 1), None);
        for bytes in [&b""[..], b"{}", b"null", b"[1,2", b"\xff"] {
            assert_eq!(version(&digest(), bytes), None);
            assert_eq!(change("0000000000000001/id", bytes), None);
            assert_eq!(proposal(bytes), None);
            assert_eq!(host("h", bytes), None);
            assert_eq!(verdict(bytes), None);
        }
        let far = Change::new(u64::MAX, "id", None, false, "me", 0);
        let key = change_key(&far);
        assert_eq!(change(key.strip_prefix(CHANGE).expect("its kind"), &encode(&far)), None);
    }

    #[test]
    fn words_that_stand_for_something_else_name_no_version() {
        for bad in ["", "file", "sha256:0", "two words", "a/b", "ä", &"x".repeat(65)] {
            assert!(label_problem(bad).is_some(), "{bad:?}");
        }
        for good in ["2", "1.4.0-rc.1+build", "v2_3"] {
            assert_eq!(label_problem(good), None, "{good:?}");
        }
    }
}
