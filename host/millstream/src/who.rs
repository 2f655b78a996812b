//! Who: this process and whoever gave the command, for what is written down about changes.

use millstream_core::dead_letter::Owner;

use crate::deploying::user_at_host;

/// This process, in the name of `by` or of its user.
pub(crate) fn owner(by: Option<&str>) -> Owner {
    let name = by.map_or_else(user_at_host, ToOwned::to_owned);
    Owner { name, machine: machine(), process: std::process::id() }
}

/// The boot of this machine, and which processes are seen from here: a container has ids of its own. Empty where the
/// system does not say.
fn machine() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let namespace = std::fs::read_link("/proc/self/ns/pid");
    match (boot, namespace) {
        (Ok(boot), Ok(namespace)) => format!("{} {}", boot.trim(), namespace.display()),
        _ => String::new(),
    }
}

/// Whether a process is known to be gone; of another machine nothing is known.
pub(crate) fn is_gone(owner: &Owner) -> bool {
    let here = machine();
    let is_here = !here.is_empty() && owner.machine == here;
    is_here && !std::path::Path::new("/proc").join(owner.process.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_not_gone_and_one_of_another_machine_is_not_known_to_be() {
        let own = owner(Some("ada"));
        assert_eq!(own.name, "ada");
        assert!(!is_gone(&own));
        assert!(!is_gone(&Owner {
            machine: "elsewhere".to_owned(),
            process: u32::MAX,
            ..own.clone()
        }));
        assert!(is_gone(&Owner { process: u32::MAX, ..own }), "there is no such process");
    }
}
