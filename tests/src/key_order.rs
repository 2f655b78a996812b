//! The order of keys: messages of which every fifth fails at first, and what is to be seen of them at the
//! end, whatever died meanwhile. The handler is the guest `hostile`.

use std::collections::{BTreeMap, BTreeSet};

/// The retry delays of the pipeline: three tiers.
pub const DELAYS: &str = r#"["50ms", "100ms", "200ms"]"#;
const ATTEMPTS: usize = 4;
const KEYS: usize = 50;
const FAILS_ONE_IN: usize = 5;
const DIES_ONE_IN: usize = 97;

/// Key and value of a message.
pub fn message(number: usize) -> (String, String) {
    let failures = match number {
        n if n % DIES_ONE_IN == 0 => ATTEMPTS,
        n if n % FAILS_ONE_IN == 0 => 1 + n / FAILS_ONE_IN % (ATTEMPTS - 1),
        _ => 0,
    };
    (format!("k{}", key(number)), format!("after {failures} {number}"))
}

/// A key has messages of each kind.
fn key(number: usize) -> usize {
    number / FAILS_ONE_IN % KEYS
}

/// Whether every attempt at a message fails.
pub fn dies(number: usize) -> bool {
    number.is_multiple_of(DIES_ONE_IN)
}

/// Everything that is not as promised, of `sent` messages: `outputs` are their keys and values in the order
/// of each partition, `dead` the numbers of the dead letters.
pub fn violations(
    sent: usize,
    outputs: &[(String, String)],
    dead: &[usize],
    exactly_once: bool,
) -> Vec<String> {
    let mut violations = Vec::new();
    let mut seen: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for (key, value) in outputs {
        let number: usize = value.parse().unwrap_or_else(|error| panic!("{value}: {error}"));
        let seen = seen.entry(key).or_default();
        let last = seen.last().copied();
        if !seen.insert(number) {
            // Handled again after a crash: what counts is when it was handled first.
            if exactly_once {
                violations.push(format!("{number} of {key} is there again"));
            }
        } else if let Some(last) = last.filter(|last| *last > number) {
            violations.push(format!("{number} of {key} comes after {last}"));
        }
    }
    let all: BTreeSet<usize> = seen.into_values().flatten().collect();
    let dead: BTreeSet<usize> = dead.iter().copied().collect();
    for number in 0..sent {
        let (is_output, is_dead) = (all.contains(&number), dead.contains(&number));
        if (is_output, is_dead) != (!dies(number), dies(number)) {
            violations.push(format!("{number} is an output: {is_output}, dead: {is_dead}"));
        }
    }
    violations
}

/// The number in a message's value.
///
/// # Panics
/// When there is none.
pub fn number(value: &str) -> usize {
    let last = value.rsplit(' ').next().unwrap_or_default();
    last.parse().unwrap_or_else(|error| panic!("{value}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> (Vec<(String, String)>, Vec<usize>) {
        let outputs = (0..100).filter(|n| !dies(*n)).map(|n| (message(n).0, n.to_string()));
        (outputs.collect(), vec![0, 97])
    }

    #[test]
    fn what_is_wrong_is_seen() {
        let (outputs, dead) = good();
        assert_eq!(violations(100, &outputs, &dead, true), Vec::<String>::new());
        let mut again = outputs.clone();
        again.push(outputs[7].clone());
        assert_eq!(violations(100, &again, &dead, false), Vec::<String>::new());
        assert_eq!(violations(100, &again, &dead, true).len(), 1);
        let mut swapped = outputs.clone();
        swapped.swap(5, 6);
        assert_eq!(violations(100, &swapped, &dead, false).len(), 1);
        assert_eq!(violations(100, &outputs[1..], &dead, false).len(), 1);
        assert_eq!(violations(100, &outputs, &dead[1..], false).len(), 1);
    }
}
