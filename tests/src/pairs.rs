//! Pairs of runs, for the measurements in `bin`: each side once, the other first each time, and the median of the ratios.

/// The number behind an argument of this name.
///
/// # Panics
/// When it is none.
pub fn argument(name: &str) -> Option<usize> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name).skip(1);
    arguments.next().map(|value| value.parse().unwrap())
}

/// Whether there is an argument of this name.
pub fn flag(name: &str) -> bool {
    std::env::args().any(|argument| argument == name)
}

/// Measures both sides so often, with `run(false)` and `run(true)` in messages a second, and prints each pair. The median
/// of what the second side has of the first.
#[expect(clippy::print_stdout, reason = "what was measured is what it is for")]
pub fn median(pairs: usize, [first, second]: [&str; 2], run: impl Fn(bool) -> f64) -> f64 {
    let mut ratios = Vec::new();
    for pair in 1..=pairs {
        // Whoever goes first finds another machine.
        let is_turned = pair.is_multiple_of(2);
        let (one, other) = (run(is_turned), run(!is_turned));
        let (without, with) = if is_turned { (other, one) } else { (one, other) };
        let ratio = with / without;
        println!("pair {pair}: {first} {without:.0}/s, {second} {with:.0}/s, ratio {ratio:.3}");
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
}
