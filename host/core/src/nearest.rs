//! Nearest: the known name that is most like one that is not known, for messages that say what was meant.

/// Names less like one another than this have nothing to do with one another.
const SIMILARITY_MIN: f64 = 0.7;

/// The known name that is most like `name`, if one is like it at all.
pub fn nearest<'a>(name: &str, known: &'a [String]) -> Option<&'a str> {
    let score = |k: &str| strsim::jaro_winkler(name, k);
    let best = known.iter().max_by(|a, b| score(a).total_cmp(&score(b)))?;
    (score(best) >= SIMILARITY_MIN).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_like_no_other_gets_no_suggestion() {
        assert_eq!(nearest("zzz", &["host".to_owned(), "log".to_owned()]), None);
        assert_eq!(nearest("hots", &["host".to_owned(), "log".to_owned()]), Some("host"));
    }
}
