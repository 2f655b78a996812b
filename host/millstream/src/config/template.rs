//! Templates of topic names, as retry tiers and dead letters have them.
//!
//! Part of `pipeline`.

use millstream_core::names::Template;

use crate::config::bounds::Checker;
use crate::finding::{Code, Finding};

/// Checks the name of a pipeline's own topics, with placeholders. `tier`: `{delay}` goes. `shared`: another pipeline reads its
/// topic too.
pub(super) fn check(
    checker: &mut Checker<'_>,
    path: &str,
    text: Option<String>,
    default: &str,
    tier: bool,
    shared: bool,
) -> Template {
    let typed = text.as_deref().unwrap_or(default);
    let problem = match Template::new(typed, tier) {
        Ok(template) if !shared || typed.contains("{group}") => return template,
        Ok(_) => "another pipeline reads the same topic: without {group} each would handle the \
                  other's messages"
            .to_owned(),
        Err(problem) => problem,
    };
    let shown = checker.document.shown(path, typed);
    let what = format!("`{path}` cannot be {shown}");
    let fix = format!("write a name like {default:?}, or take the key out");
    checker.value(Finding::new(Code::Template, what, fix).because(problem), path);
    fallback_template(default, tier)
}

/// Stands in for a template that was refused, so that checking goes on; never used to run.
fn fallback_template(default: &str, tier: bool) -> Template {
    #[expect(clippy::expect_used, reason = "the defaults are templates; a test reads them")]
    Template::new(default, tier).expect("a default template is well-formed")
}
