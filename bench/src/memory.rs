//! Memory: the most that a process has had resident.

/// From here on the most of this process is counted anew. Where the system cannot, it is the most since its start.
pub fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").ok();
}

/// The most of this process since, in MiB; `None` where the system does not tell.
pub fn peak_mib() -> Option<f64> {
    of_status(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// Out of the text of `/proc/PID/status`.
pub fn of_status(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u32 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(f64::from(kib) / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_memory_is_read_out_of_its_line() {
        let status = "Name:\tjava\nVmPeak:\t  9999 kB\nVmHWM:\t  2048 kB\nVmRSS:\t 1 kB\n";
        assert_eq!(of_status(status), Some(2.0));
        assert_eq!(of_status("Name:\tjava\n"), None);
    }
}
