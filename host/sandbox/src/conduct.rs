//! Conduct: what a plugin has burnt for nothing lately, and whether it is held back for that.
//!
//! A guest yields at each tick, but its worker has it back at once: an endless loop takes the whole
//! share of a worker until its time is up, and so does a plugin that traps without end. `pacing`
//! charges what they ran here, and rests a plugin that is held back.
//!
//! What the neighbours are promised: beyond its start, what a plugin runs in calls that fault is at
//! most a tenth of its instances' time ([`crate::pacing`] rests nine times as long as it ran), unless
//! its calls that end well run as long. The start is about two time limits of each instance: one is
//! forgiven, and the one in progress runs to its end.
//!
//! What the plugin is promised:
//! - Calls that end well are never the cause, however long they take: they only add to its favour.
//! - Faults now and then have no consequence: one time limit of each instance is forgiven, and a
//!   twentieth of the time that passes.
//! - Being held back fails no call, because rests don't count against `limits.time`. If they did, there
//!   would be no way out: a plugin whose calls take half of their limit, once held back after a bad
//!   minute, would time out at every message and so be held back for good.
//! - It ends: after twenty time limits without faults, or one of calls that end well (of each instance).
//!
//! What it costs: a pipeline with many bad messages takes longer for each of them, up to ten times. Of
//! three things, each call may run for its whole limit, faults run for a tenth of the time, bad
//! messages pass as fast as before, only two can be had; the last is the one that harms no message.
//!
//! Invariant: the balance stays within one time limit of each instance, in favour and in debt, so
//! neither an idle year nor a bad one is remembered longer. One of all instances of a plugin that is
//! loaded: a new version begins with a clean record.

use std::time::Duration;

use tokio::time::Instant;

/// Of the time that passes, this part of each instance may be spent on faults without consequence.
/// Less than what a plugin that is held back may run, else it would be free again while it goes on.
const FORGIVEN_PART: u32 = 20;

/// What is forgiven of each instance beyond one time limit: the instance that replaces the one that
/// timed out has to start.
const FORGIVEN_BEYOND: Duration = Duration::from_millis(20);

/// How often the log tells at most that a plugin is held back.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// The record of a plugin.
#[derive(Debug)]
pub(crate) struct Conduct {
    time_limit: Duration,
    instances: u32,
    /// The farthest the balance goes to either side, in nanoseconds.
    balance_max: i64,
    /// Run time in the plugin's favour, in nanoseconds. Below zero it is held back.
    balance: i64,
    /// Up to here the passing of time has been credited.
    credited: Instant,
    /// When the log was told last that it is held back.
    told: Option<Instant>,
}

impl Conduct {
    /// A clean record.
    pub(crate) fn new(time_limit: Duration, instances: u32, now: Instant) -> Self {
        let instances = instances.max(1);
        let of_each = time_limit.saturating_add(FORGIVEN_BEYOND);
        let balance_max = nanos(of_each.saturating_mul(instances));
        Self { time_limit, instances, balance_max, balance: balance_max, credited: now, told: None }
    }

    /// Whether the plugin is held back.
    pub(crate) fn is_held_back(&mut self, now: Instant) -> bool {
        self.credit_time(now);
        self.balance < 0
    }

    /// A guest ran so long for nothing: its call or start ended in a fault.
    pub(crate) fn burnt(&mut self, ran: Duration, now: Instant) {
        self.credit_time(now);
        // What it ran beyond its limit is the host's delay, on a machine that is too busy.
        self.add(-nanos(ran.min(self.time_limit)));
    }

    /// Guests ran so long in calls that ended well, whatever their outcome.
    pub(crate) fn ended_well(&mut self, ran: Duration, now: Instant) {
        self.credit_time(now);
        self.add(nanos(ran));
    }

    /// Whether the log is to be told now that the plugin is held back.
    pub(crate) fn is_news(&mut self, now: Instant) -> bool {
        let news = self.is_held_back(now)
            && self.told.is_none_or(|told| now.duration_since(told) >= TOLD_EVERY);
        if news {
            self.told = Some(now);
        }
        news
    }

    fn credit_time(&mut self, now: Instant) {
        // Zero if another worker was here with a later time.
        let passed = now.saturating_duration_since(self.credited);
        self.credited = self.credited.max(now);
        self.add(nanos(passed.saturating_mul(self.instances) / FORGIVEN_PART));
    }

    fn add(&mut self, nanos: i64) {
        let balance = self.balance.saturating_add(nanos);
        self.balance = balance.clamp(-self.balance_max, self.balance_max);
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
