//! Comparing JSON numbers by their digits: exact, whatever their size.
//!
//! `f64` would make 9007199254740993 equal to 9007199254740992, and such numbers are identifiers.

use std::cmp::Ordering;

use serde_json::Number;

/// Exponents beyond this count as this: such numbers are equal only if their digits are.
const EXPONENT_MAX: i64 = 1_000_000_000_000_000_000;

/// A number as `0.digits × 10^exponent`; zero has no digits.
struct Decimal {
    negative: bool,
    digits: Vec<u8>,
    exponent: i64,
}

impl Decimal {
    /// Reads the text of a JSON number, which the JSON parser has checked.
    fn read(text: &str) -> Self {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let exponent = read_exponent(exponent);
        let negative = mantissa.starts_with('-');
        let mantissa = mantissa.trim_start_matches('-');
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));

        let all = || whole.bytes().chain(fraction.bytes());
        let leading_zeros = all().take_while(|digit| *digit == b'0').count();
        let mut digits: Vec<u8> = all().skip(leading_zeros).collect();
        while digits.last() == Some(&b'0') {
            digits.pop();
        }
        let places = |count: usize| i64::try_from(count).unwrap_or(EXPONENT_MAX);
        let exponent = exponent.saturating_add(places(whole.len()) - places(leading_zeros));
        Self { negative: negative && !digits.is_empty(), digits, exponent }
    }

    fn magnitude(&self, other: &Self) -> Ordering {
        match (self.digits.is_empty(), other.digits.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            // Without trailing zeros, the order of digit texts is that of the fractions.
            _ => self.exponent.cmp(&other.exponent).then_with(|| self.digits.cmp(&other.digits)),
        }
    }
}

fn read_exponent(text: &str) -> i64 {
    let magnitude = text.trim_start_matches(['+', '-']);
    // Only too many digits can fail here.
    let magnitude: i64 = magnitude.parse().unwrap_or(EXPONENT_MAX);
    let magnitude = magnitude.min(EXPONENT_MAX);
    if text.starts_with('-') { -magnitude } else { magnitude }
}

/// The order of two numbers by value: `1`, `1.0` and `10e-1` are equal.
pub(crate) fn compare(one: &Number, other: &Number) -> Ordering {
    let (one, other) = (Decimal::read(one.as_str()), Decimal::read(other.as_str()));
    match (one.negative, other.negative) {
        (false, true) => Ordering::Greater,
        (true, false) => Ordering::Less,
        (false, false) => one.magnitude(&other),
        (true, true) => other.magnitude(&one),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(one: &str, other: &str) -> Ordering {
        compare(&serde_json::from_str(one).unwrap(), &serde_json::from_str(other).unwrap())
    }

    #[test]
    fn numbers_are_ordered_by_value_not_by_how_they_are_written() {
        let rising = [
            "-1e400",
            "-12",
            "-1.5",
            "-1e-400",
            "0",
            "0.0001",
            "1e-3",
            "0.5",
            "1",
            "9",
            "10",
            "9007199254740992",
            "9007199254740993",
            "1e300",
            "1e400",
        ];
        for (i, one) in rising.iter().enumerate() {
            for (j, other) in rising.iter().enumerate() {
                assert_eq!(order(one, other), i.cmp(&j), "{one} and {other}");
            }
        }
        for alike in [["1", "1.0"], ["100", "1e2"], ["-0", "0.000"], ["0.25", "25E-2"]] {
            assert_eq!(order(alike[0], alike[1]), Ordering::Equal, "{alike:?}");
        }
    }

    #[test]
    fn exponents_beyond_all_reason_do_no_harm() {
        let huge = "1e99999999999999999999999999";
        let tiny = "1e-99999999999999999999999999";
        assert_eq!(order(huge, "1e999999"), Ordering::Greater);
        assert_eq!(order(tiny, "1e-999999"), Ordering::Less);
        assert_eq!(order("0e99999999999999999999999999", "1"), Ordering::Less);
        let long = format!("{}1", "0.".to_owned() + &"0".repeat(100_000));
        assert_eq!(order(&long, "1e-100001"), Ordering::Equal);
    }
}
