//! Troubles: what happens to hosts, cluster and log at a time, drawn with the scenario.

use std::time::Duration;

use millstream_core::message::{EpochMs, Topic};
use millstream_log_simulated::Draw;

/// A wall clock jumps so far at most.
const JUMP_MS_MAX: u64 = 7_200_000;

/// Something that happens to the hosts at a time.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// Partitions are taken away: each with this chance (per mille), at once or after asking.
    Shake {
        /// Per mille.
        chance: u32,
        /// `Lost` instead of `Revoked`.
        at_once: bool,
    },
    /// The brokers are away for this long.
    Outage(Duration),
    /// The idempotency store is away for this long.
    StoreOutage(Duration),
    /// This host dies.
    Crash(usize),
    /// This host is asked to stop, and started again.
    Stop(usize),
    /// A member of the group is thrown out of it.
    Expel,
    /// Nothing can be written for this long; reads and commits go on.
    FullDisk(Duration),
    /// This host's wall clock jumps by so many milliseconds.
    ClockJump(usize, EpochMs),
    /// Retention removes the oldest of a source topic, so many per mille of each partition.
    Retain(Topic, u32),
    /// A topic is compacted.
    Compact(Topic),
    /// All hosts die, and some of what they have committed is forgotten before another comes.
    Forget(Forgotten),
}

/// Which commits are forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgotten {
    /// Those of the sources.
    Sources,
    /// Those of the companions.
    Companions,
    /// All.
    All,
}

/// Draws troubles of these kinds, each with whether it is switched on.
pub(crate) fn draw_troubles(
    draw: &mut Draw,
    rough_ms: u64,
    hosts: usize,
    kinds: &[(bool, u32)],
) -> Vec<(Duration, Trouble)> {
    let kinds: Vec<u32> = kinds.iter().filter(|(on, _)| *on).map(|(_, kind)| *kind).collect();
    let mut troubles = Vec::new();
    for _ in 0..draw.below(7) {
        let at = Duration::from_millis(draw.between(0, rough_ms));
        let away = Duration::from_millis(draw.between(10, 4_000));
        let host = draw.count(0, hosts.saturating_sub(1));
        let chance = u32::try_from(draw.between(200, 1000)).unwrap_or(1000);
        let Some(kind) = draw.pick(&kinds) else { break };
        let trouble = match kind {
            0 => Trouble::Crash(host),
            1 => Trouble::Shake { chance, at_once: true },
            2 => Trouble::Shake { chance, at_once: false },
            3 => Trouble::Outage(away),
            4 => Trouble::StoreOutage(away),
            _ => Trouble::Stop(host),
        };
        troubles.push((at, trouble));
    }
    troubles.sort_by_key(|(at, _)| *at);
    troubles
}

/// Draws those that came later: they have a source of their own, so that seeds that were found before mean what
/// they meant, as far as nothing is added to them.
pub(crate) fn draw_more_troubles(
    draw: &mut Draw,
    rough_ms: u64,
    hosts: usize,
    switches: &Switches,
    topics: &TroubledTopics,
) -> Vec<(Duration, Trouble)> {
    let kinds = [
        (switches.expelling, 0),
        (switches.full_disks, 1),
        (switches.jumping, 2),
        (switches.retention, 3),
        (switches.compaction, 4),
        (switches.forgetting, 5),
    ];
    let kinds: Vec<u32> = kinds.iter().filter(|(on, _)| *on).map(|(_, kind)| *kind).collect();
    let mut troubles = Vec::new();
    for _ in 0..draw.between(1, 5) {
        let Some(kind) = draw.pick(&kinds) else { break };
        let trouble = match kind {
            0 => Some(Trouble::Expel),
            1 => Some(Trouble::FullDisk(Duration::from_millis(draw.between(10, 4_000)))),
            2 => Some(draw_jump(draw, hosts)),
            3 => {
                let per_mille = u32::try_from(draw.between(1, 1_000)).unwrap_or(1_000);
                draw.pick(&topics.sources).map(|topic| Trouble::Retain(topic.clone(), per_mille))
            }
            4 => draw.pick(&topics.compacted).map(|topic| Trouble::Compact(topic.clone())),
            _ => {
                let which = [Forgotten::Sources, Forgotten::Companions, Forgotten::All];
                draw.pick(&which).map(|which| Trouble::Forget(*which))
            }
        };
        let at = Duration::from_millis(draw.between(0, rough_ms));
        troubles.extend(trouble.map(|trouble| (at, trouble)));
    }
    troubles
}

fn draw_jump(draw: &mut Draw, hosts: usize) -> Trouble {
    let host = draw.count(0, hosts.saturating_sub(1));
    // By little as often as by much.
    let most = *draw.pick(&[10, 3_000, JUMP_MS_MAX]).unwrap_or(&10);
    let by = EpochMs::try_from(draw.between(1, most)).unwrap_or(1);
    Trouble::ClockJump(host, if draw.chance(500) { by } else { -by })
}

/// Which of the troubles that came later a seed has.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Switches {
    pub(crate) expelling: bool,
    pub(crate) full_disks: bool,
    pub(crate) jumping: bool,
    pub(crate) retention: bool,
    pub(crate) compaction: bool,
    pub(crate) forgetting: bool,
}

impl Switches {
    /// Whether any is on.
    pub(crate) fn any(&self) -> bool {
        let Self { expelling, full_disks, jumping, retention, compaction, forgetting } = *self;
        expelling || full_disks || jumping || retention || compaction || forgetting
    }
}

/// What retention and compaction may hit.
pub(crate) struct TroubledTopics {
    pub(crate) sources: Vec<Topic>,
    pub(crate) compacted: Vec<Topic>,
}
