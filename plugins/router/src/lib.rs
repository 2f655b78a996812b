//! The router: filters, maps and routes JSON by the rules in the setting `rules`; see README.md.
//!
//! The rules are read once in an instance's life. Rules that are wrong reject every message with the
//! place and what is wrong there: the dead letters are redriven when the rules are right.

mod condition;
mod mapping;
mod number;
mod pointer;
mod rules;

use std::cell::OnceCell;

use millstream_plugin::prelude::*;

use crate::rules::Rules;

handler!(handle);

thread_local! {
    static RULES: OnceCell<Result<Rules, String>> = const { OnceCell::new() };
}

fn handle(message: Message) -> Result<Vec<Output>, Failure> {
    RULES.with(|cell| {
        let rules = match cell.get() {
            Some(rules) => rules,
            None => {
                // An error is no answer: what can't be read now may be readable later.
                let setting = config::get("rules")?;
                cell.get_or_init(|| match setting {
                    Some(text) => Rules::read(&text),
                    None => Err("the setting is missing; `{}` passes everything".to_owned()),
                })
            }
        };
        match rules {
            Ok(rules) => rules.apply(message),
            Err(error) => Err(Failure::reject(format_args!("the router's `rules`: {error}"))),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_are_read_once() {
        config::set("rules", r#"{"otherwise":{"to":"first"}}"#);
        let expected = Ok(vec![Output::new("1").to("first")]);
        assert_eq!(handle(Message::new("1")), expected);
        config::set("rules", "{");
        assert_eq!(handle(Message::new("1")), expected);
    }

    #[test]
    fn wrong_rules_reject_with_the_place_and_what_is_wrong() {
        config::set("rules", r#"{"route":[{"when":[{"at":"/a","=>":1}],"to":"x"}]}"#);
        let failure = handle(Message::new("1")).unwrap_err();
        assert!(failure.is_reject());
        let start = "the router's `rules`: route[0].when[0]: unknown key `=>`; known are `at`";
        assert!(failure.reason().starts_with(start), "{failure}");
    }

    #[test]
    fn without_rules_nothing_passes() {
        let failure = handle(Message::new("1")).unwrap_err();
        assert!(failure.is_reject());
        assert!(failure.reason().contains("the setting is missing"), "{failure}");
    }
}
