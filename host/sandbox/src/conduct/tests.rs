use super::*;

const LIMIT: Duration = Duration::from_secs(1);
/// What is forgiven of an instance.
const FORGIVEN: Duration = LIMIT.saturating_add(FORGIVEN_BEYOND);

/// A plugin's record with a clock of its own.
struct Plugin {
    conduct: Conduct,
    begin: Instant,
    now: Instant,
}

impl Plugin {
    fn new(instances: u32) -> Self {
        let now = Instant::now();
        Self { conduct: Conduct::new(LIMIT, instances, now), begin: now, now }
    }

    fn held_back(&mut self) -> bool {
        self.conduct.is_held_back(self.now)
    }

    fn passes(&mut self, time: Duration) {
        self.now += time;
    }

    /// One call that runs to its time limit; takes ten times as long if it is held back.
    fn times_out(&mut self) {
        let factor = if self.held_back() { 10 } else { 1 };
        self.passes(factor * LIMIT);
        self.conduct.burnt(LIMIT, self.now);
    }

    fn ends_well_after(&mut self, ran: Duration) {
        self.passes(ran);
        self.conduct.ended_well(ran, self.now);
    }
}

#[test]
fn one_timeout_is_forgiven_and_a_second_one_at_once_is_not() {
    let mut plugin = Plugin::new(1);
    plugin.times_out();
    assert!(!plugin.held_back());
    plugin.times_out();
    assert!(plugin.held_back());
}

#[test]
fn one_timeout_of_each_instance_is_forgiven() {
    let mut plugin = Plugin::new(4);
    for _ in 0..4 {
        plugin.conduct.burnt(LIMIT, plugin.now);
        assert!(!plugin.held_back());
    }
    plugin.conduct.burnt(LIMIT, plugin.now);
    assert!(plugin.held_back());
}

#[test]
fn timeouts_now_and_then_never_have_a_consequence() {
    let mut plugin = Plugin::new(1);
    for number in 0..1_000 {
        plugin.times_out();
        assert!(!plugin.held_back(), "after {number} timeouts");
        plugin.passes(20 * LIMIT);
    }
}

#[test]
fn calls_that_end_well_are_never_the_cause_however_long_they_are() {
    let mut plugin = Plugin::new(1);
    for number in 0..1_000 {
        plugin.ends_well_after(LIMIT * 99 / 100);
        assert!(!plugin.held_back(), "after {number} calls");
    }
}

#[test]
fn a_plugin_that_does_as_much_good_as_it_burns_is_not_held_back() {
    let mut plugin = Plugin::new(1);
    for number in 0..1_000 {
        plugin.times_out();
        assert!(!plugin.held_back(), "after {number} timeouts");
        // Two other messages of half a limit each.
        plugin.ends_well_after(LIMIT / 2);
        plugin.ends_well_after(LIMIT / 2);
    }
}

#[test]
fn endless_timeouts_run_a_tenth_of_the_time_beyond_two_at_the_start() {
    let mut plugin = Plugin::new(1);
    let calls = 1_000;
    for _ in 0..calls {
        plugin.times_out();
    }
    let held_back = plugin.now.duration_since(plugin.begin) - 2 * LIMIT;
    assert_eq!(held_back, (calls - 2) * 10 * LIMIT, "it was let go in between");
}

#[test]
fn short_faults_without_end_are_held_back_after_a_limit_of_run_time() {
    let mut plugin = Plugin::new(1);
    let fault = Duration::from_micros(100);
    let mut faults = 0;
    while !plugin.held_back() {
        plugin.passes(fault);
        plugin.conduct.burnt(fault, plugin.now);
        faults += 1;
    }
    // What is forgiven, and a twentieth of the time in which they ran.
    assert!((10_200..10_800).contains(&faults), "{faults}");
    for _ in 0..100_000 {
        plugin.passes(10 * fault);
        plugin.conduct.burnt(fault, plugin.now);
        assert!(plugin.held_back());
    }
}

#[test]
fn after_the_worst_record_twenty_quiet_limits_free_it() {
    let mut plugin = Plugin::new(3);
    for _ in 0..1_000 {
        plugin.conduct.burnt(LIMIT, plugin.now);
    }
    plugin.passes(20 * FORGIVEN - Duration::from_millis(1));
    assert!(plugin.held_back());
    plugin.passes(Duration::from_millis(1));
    assert!(!plugin.held_back());
}

#[test]
fn after_the_worst_record_a_limit_of_calls_that_end_well_frees_it() {
    let mut plugin = Plugin::new(1);
    for _ in 0..1_000 {
        plugin.conduct.burnt(LIMIT, plugin.now);
    }
    for _ in 0..10 {
        assert!(plugin.held_back());
        plugin.conduct.ended_well(FORGIVEN / 10, plugin.now);
    }
    assert!(!plugin.held_back());
}

#[test]
fn a_long_good_record_is_worth_one_timeout_of_each_instance() {
    let mut plugin = Plugin::new(2);
    plugin.passes(LIMIT * 1_000_000);
    plugin.ends_well_after(LIMIT * 1_000);
    plugin.conduct.burnt(LIMIT, plugin.now);
    plugin.conduct.burnt(LIMIT, plugin.now);
    plugin.conduct.burnt(2 * FORGIVEN_BEYOND, plugin.now);
    assert!(!plugin.held_back());
    plugin.conduct.burnt(Duration::from_nanos(1), plugin.now);
    assert!(plugin.held_back());
}

#[test]
fn a_worker_with_an_older_time_credits_nothing_twice() {
    let mut plugin = Plugin::new(1);
    for _ in 0..3 {
        plugin.conduct.burnt(LIMIT, plugin.now);
    }
    let older = plugin.now;
    plugin.passes(19 * LIMIT);
    for _ in 0..10 {
        assert!(plugin.held_back());
        assert!(plugin.conduct.is_held_back(older));
    }
}

#[test]
fn the_log_is_told_when_it_begins_and_once_a_minute() {
    let mut plugin = Plugin::new(1);
    assert!(!plugin.conduct.is_news(plugin.now), "it is not held back");
    let mut told = 0;
    for _ in 0..62 {
        plugin.times_out();
        told += u32::from(plugin.conduct.is_news(plugin.now));
    }
    // 2 s until it is held back, then 10 s a call, 60 of them.
    assert_eq!(told, 11);
}

/// A call that the machine let run for a minute is the machine's fault but for its limit.
#[test]
fn no_more_than_its_limit_is_charged_for_a_call() {
    let mut plugin = Plugin::new(1);
    plugin.conduct.burnt(60 * LIMIT, plugin.now);
    assert!(!plugin.held_back());
}
