//! Hosts of a group: those of its members that own partitions, by what the group's coordinator tells.

use std::collections::BTreeSet;

/// In the layout of an assignment (ConsumerProtocolAssignment) the number of topics stands behind a version.
const TOPICS_AT: std::ops::Range<usize> = 2..6;

/// How many hosts own partitions. A host that came back may be there twice, as a member that will time out and as
/// itself; its client id is one. `None`: nobody can tell, as while the group rebalances.
pub(crate) fn count<'a>(
    state: &str,
    members: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
) -> Option<u32> {
    match state {
        "Empty" => Some(0),
        "Stable" => {
            let owners = members.filter(|(_, assignment)| assignment.is_some_and(owns_any));
            let owners: BTreeSet<&str> = owners.map(|(client_id, _)| client_id).collect();
            u32::try_from(owners.len()).ok()
        }
        _ => None,
    }
}

fn owns_any(assignment: &[u8]) -> bool {
    assignment.get(TOPICS_AT).is_some_and(|count| count.iter().any(|byte| *byte != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE_TOPIC: &[u8] = &[0, 3, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    const NOTHING: &[u8] = &[0, 3, 0, 0, 0, 0, 0, 0, 0, 0];

    #[test]
    fn only_who_owns_partitions_is_counted_and_a_host_that_came_back_once() {
        let members = [
            ("a", Some(ONE_TOPIC)),
            ("a", Some(ONE_TOPIC)),
            ("b", Some(ONE_TOPIC)),
            ("c", Some(NOTHING)),
            ("d", None),
            ("e", Some(&[][..])),
        ];
        assert_eq!(count("Stable", members.into_iter()), Some(2));
    }

    #[test]
    fn a_group_that_changes_or_is_not_told_of_has_no_number() {
        for state in ["PreparingRebalance", "CompletingRebalance", "Dead", ""] {
            assert_eq!(count(state, [("a", Some(ONE_TOPIC))].into_iter()), None, "{state}");
        }
        assert_eq!(count("Empty", std::iter::empty()), Some(0));
    }
}
