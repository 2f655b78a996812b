//! CPU time: what a process has used on all cores so far. It tells a run that waits from one that
//! works, and moves less than the clock on a machine that has other things to do.

use std::time::Duration;

/// Linux counts in hundredths of a second, whatever its own tick is.
const TICK: Duration = Duration::from_millis(10);

/// User and system time of this process, in steps of 10 ms; `None` where the system does not tell.
pub fn used() -> Option<Duration> {
    of_stat(&std::fs::read_to_string("/proc/self/stat").ok()?)
}

/// User and system time of the process with this id, likewise.
pub fn used_by(pid: u32) -> Option<Duration> {
    of_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Out of the text of `/proc/PID/stat`: fields 14 and 15. The second, the name in parentheses, may
/// hold spaces, so counting begins behind it.
fn of_stat(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    TICK.checked_mul(user.checked_add(system)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "17 (a) b) c) R 1 2 3 4 5 6 7 8 9 10 25 17 0 0 20 0";
        assert_eq!(of_stat(stat), Some(Duration::from_millis(420)), "25 and 17 hundredths");
        assert_eq!(of_stat("17 (a"), None);
    }
}
