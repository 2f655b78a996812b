//! Hosts of a group: those of its members that own partitions, by what the group's coordinator tells.

use std::collections::BTreeSet;

/// In the layout of an assignment (ConsumerProtocolAssignment) the number of topics stands behind a version.
const TOPICS_AT: std::ops::Range<usize> = 2..6;

/// Who works in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupHosts {
    /// So many hosts own partitions.
    Owning(u32),
    /// It rebalances: nobody works now, and who will is not decided.
    Changing,
    /// The cluster does not tell, as of groups of the new protocol.
    NotTold,
}

/// How many hosts own partitions. A host that came back may be there twice, as a member that will time out and as
/// itself; its client id is one.
pub(crate) fn count<'a>(
    state: &str,
    members: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
) -> GroupHosts {
    match state {
        "Empty" => GroupHosts::Owning(0),
        "Stable" => {
            let owners = members.filter(|(_, assignment)| assignment.is_some_and(owns_any));
            let owners: BTreeSet<&str> = owners.map(|(client_id, _)| client_id).collect();
            GroupHosts::Owning(u32::try_from(owners.len()).unwrap_or(u32::MAX))
        }
        "PreparingRebalance" | "CompletingRebalance" => GroupHosts::Changing,
        _ => GroupHosts::NotTold,
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
        assert_eq!(count("Stable", members.into_iter()), GroupHosts::Owning(2));
    }

    #[test]
    fn a_group_that_changes_or_is_not_told_of_has_no_number() {
        for (state, hosts) in [
            ("PreparingRebalance", GroupHosts::Changing),
            ("CompletingRebalance", GroupHosts::Changing),
            ("Dead", GroupHosts::NotTold),
            ("", GroupHosts::NotTold),
        ] {
            assert_eq!(count(state, [("a", Some(ONE_TOPIC))].into_iter()), hosts, "{state}");
        }
        assert_eq!(count("Empty", std::iter::empty()), GroupHosts::Owning(0));
    }
}
