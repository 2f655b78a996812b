//! `host`: who may ask the admin API. Tokens are long enough, differ, and do not stand in the file; names can be names.

use crate::config::bounds::Checker;
use crate::config::raw::RawHost;
use crate::finding::{Code, Finding};

/// A token that can be guessed is no token.
const TOKEN_CHARS_MIN: usize = 16;
/// What fits in a header that every server takes.
const TOKEN_CHARS_MAX: usize = 512;
/// More names than a server is reached by.
const HOSTS_MAX: usize = 16;

/// Checks what is said about tokens and names.
pub(super) fn check(checker: &mut Checker<'_>, raw: &RawHost) {
    let tokens = [
        ("host.admin_token", &raw.admin_token),
        ("host.admin_read_token", &raw.admin_read_token),
        ("host.metrics_token", &raw.metrics_token),
    ];
    for (index, (path, token)) in tokens.iter().enumerate() {
        let Some(token) = token else { continue };
        let mut before = tokens.iter().take(index);
        if let Some((same, _)) = before.find(|(_, other)| other.as_ref() == Some(token)) {
            let what = format!("`{path}` is `{same}`");
            let why = "who has the smaller right would have the larger one";
            let finding = Finding::new(Code::BadValue, what, "make another token for it");
            checker.value(finding.because(why), path);
        } else {
            self::token(checker, path, token);
        }
    }
    let hosts = raw.allowed_hosts.iter().flatten();
    for (index, host) in hosts.enumerate() {
        let problem = match index {
            HOSTS_MAX => Some(format!("there are more than {HOSTS_MAX}")),
            _ => host_problem(host),
        };
        if let Some(why) = problem {
            let path = format!("host.allowed_hosts[{index}]");
            let what = format!("`{path}` cannot be {}", checker.document.shown(&path, host));
            let fix = "write what browsers put into `Host`, as \"mill.example.com\" or \"localhost:19464\"";
            checker.value(Finding::new(Code::BadValue, what, fix).because(why), &path);
            break;
        }
    }
}

fn token(checker: &mut Checker<'_>, path: &str, token: &str) {
    let visible = token.chars().all(|c| c.is_ascii_graphic());
    if !(TOKEN_CHARS_MIN..=TOKEN_CHARS_MAX).contains(&token.len()) || !visible {
        let fix = "make one with `openssl rand -hex 32`, and hand it in as `${VARIABLE}`";
        let finding = Finding::new(Code::BadValue, format!("`{path}` is no token"), fix);
        let why = format!(
            "it needs {TOKEN_CHARS_MIN} to {TOKEN_CHARS_MAX} characters, all visible ASCII"
        );
        checker.value(finding.because(why), path);
    } else if !checker.document.is_substituted(path) {
        let fix = "hand it in as `${VARIABLE}` or `${file:PATH}`";
        let what = format!("`{path}` stands in the file itself");
        let why = "who may read the configuration can then call the API";
        let finding = Finding::new(Code::BadValue, what, fix).because(why).warning();
        checker.value(finding, path);
    }
}

/// Why this can be no `Host` header of a request that means this server.
fn host_problem(host: &str) -> Option<String> {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !name.ends_with(':') => (name, Some(port)),
        _ => (host, None),
    };
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '[' | ']' | ':');
    if name.is_empty() || host.len() > 255 || !name.chars().all(plain) {
        return Some("it is no name of a server".to_owned());
    }
    match port.map(str::parse::<u16>) {
        Some(Err(_)) => Some("what stands behind the colon is no port".to_owned()),
        Some(Ok(_)) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::host_problem;

    #[test]
    fn a_name_is_what_a_browser_sends() {
        for good in ["mill.example.com", "mill:80", "127.0.0.1:19464", "[::1]:9464", "a_b"] {
            assert_eq!(host_problem(good), None, "{good}");
        }
        for bad in ["", ":80", "http://mill", "mill/", "mill:port", "mill:99999", "two words", "*"]
        {
            assert!(host_problem(bad).is_some(), "{bad}");
        }
    }
}
