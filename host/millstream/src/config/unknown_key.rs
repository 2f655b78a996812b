//! Unknown keys: from serde's message to a finding that names the nearest known key.

use millstream_core::nearest::nearest;

use crate::finding::{Code, Finding};

/// A key that does not exist where it stands, and those that do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnknownKey {
    key: String,
    known: Vec<String>,
}

/// Takes serde's message apart: "unknown field `x`, expected one of `a`, `b`".
pub(crate) fn parse(message: &str) -> Option<UnknownKey> {
    let rest = message.strip_prefix("unknown field `")?;
    let (key, rest) = rest.split_once('`')?;
    let known = rest.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    Some(UnknownKey { key: key.to_owned(), known })
}

impl UnknownKey {
    /// The finding for this key at `path` (the key's own path; empty if unknown).
    pub(crate) fn finding(&self, path: &str) -> Finding {
        let Self { key, known } = self;
        let nearest = nearest(key, known);
        let list = known.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ");
        let parent = path.strip_suffix(key.as_str()).unwrap_or_default().trim_end_matches('.');
        if parent.ends_with(".capabilities") {
            let what = format!("unknown capability `{key}`");
            let why = format!("capabilities that can be granted in this version: {list}");
            let fix = "take it out; a plugin that needs it cannot run in this version";
            return Finding::new(Code::UnknownGrant, what, fix).because(why);
        }
        let table = if parent.is_empty() { "the file".to_owned() } else { format!("`{parent}`") };
        let fix = match nearest {
            Some(nearest) => format!("did you mean `{nearest}`? Else take it out"),
            None => "take it out, or use one of these".to_owned(),
        };
        let what = format!("unknown key `{key}`");
        Finding::new(Code::UnknownKey, what, fix).because(format!("{table} may have {list}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::raw::RawConfig;

    #[test]
    fn the_words_of_the_parser_are_understood() {
        // The message is the library's: if an update changes it, this fails and not a user's hint.
        let error = toml::from_str::<RawConfig>("[host]\ndata_dri = \"x\"").expect_err("unknown");
        let unknown = parse(error.message()).expect("understood");
        assert_eq!(unknown.key, "data_dri");
        assert!(unknown.known.contains(&"data_dir".to_owned()), "{unknown:?}");
    }
}
