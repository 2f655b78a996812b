//! Hosts that a message kills: the plugin `hostile` asks for it, and the test does it.

use std::time::Duration;

use crate::folder::Folder;
use crate::host::Host;
use crate::waiting;

/// The value of a message that kills its host.
pub const KILLER: &str = "kill";

/// What the plugin writes when it handles one.
const ASKS: &str = "kill this host now";

const WITHIN: Duration = Duration::from_secs(180);

/// Runs a host in each folder, and kills each that handles a killer, starting it again, until everything is
/// settled. Gives how many were killed, and the hosts.
///
/// # Panics
/// When nothing happens for too long, or more than `most` hosts have died.
pub fn until_settled(folders: &[&Folder], most: usize) -> (usize, Vec<Host>) {
    let start = |folder: &&Folder| {
        let mut host = Host::start(folder);
        host.until_ready();
        host
    };
    let mut hosts: Vec<Host> = folders.iter().map(start).collect();
    let mut seen = vec![0; folders.len()];
    let asked = |host: &Host| host.said().matches(ASKS).count();
    loop {
        let asks = || (0..hosts.len()).find(|index| asked(&hosts[*index]) > seen[*index]);
        // Whoever is asked may be gone the next moment; settled is only what it says twice.
        let next = waiting::until("a host is to be killed, or all is settled", WITHIN, || {
            let settled = folders[0].unsettled() == 0;
            asks().map(Some).or(settled.then_some(None))
        });
        let Some(index) = next else { break };
        seen[index] = asked(&hosts[index]);
        hosts.remove(index).kill();
        let killed: usize = seen.iter().sum();
        assert!(killed <= most, "{killed} hosts died of one message");
        hosts.insert(index, start(&folders[index]));
    }
    (seen.iter().sum(), hosts)
}
