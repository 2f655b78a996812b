use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use millstream_core::idempotency::Marked;
use millstream_core::message::{EpochMs, Partition};
use proptest::prelude::*;

use super::*;
use crate::background::FAN_IN;

struct HandClock(AtomicI64);

impl WallClock for HandClock {
    fn now(&self) -> EpochMs {
        self.0.load(Ordering::SeqCst)
    }
}

fn options(buffer_marks: usize) -> (IndexOptions, Arc<HandClock>) {
    let clock = Arc::new(HandClock(AtomicI64::new(0)));
    let reserve_bytes = 1 << 20;
    let options =
        IndexOptions { buffer_marks, reserve_bytes, ..IndexOptions::new("log", clock.clone()) };
    (options, clock)
}

fn open(folder: &Path, buffer_marks: usize) -> MarkIndex {
    MarkIndex::open(folder, options(buffer_marks).0).unwrap()
}

fn scope(number: u32) -> Scope {
    Scope { group: "group".into(), partition: Partition::new("topic", number) }
}

fn key(number: u64) -> Bytes {
    Bytes::from(format!("key {number}"))
}

fn put(index: &MarkIndex, scope: &Scope, marks: &[(u64, Marked)], checkpoint: Option<Offset>) {
    index.wait_for_room(marks.len()).unwrap();
    let place = index.place(scope);
    let mut batch = Batch::default();
    for (number, marked) in marks {
        batch.add(&place, place.digest(&key(*number)), *marked);
    }
    index.put(batch, checkpoint.map(|checkpoint| (scope, checkpoint)));
}

fn get(
    index: &MarkIndex,
    scope: &Scope,
    numbers: impl IntoIterator<Item = u64>,
) -> Vec<Option<Marked>> {
    let keys: Vec<_> = numbers.into_iter().map(key).collect();
    index.ask(scope, &keys).known().unwrap_or_else(|asked| index.read(asked).unwrap())
}

/// A case syncs files dozens of times.
fn cases() -> u32 {
    if std::env::var_os("MILLSTREAM_SOAK").is_some() { 400 } else { 12 }
}

/// The folder as it is if the process dies now.
fn killed(folder: &Path) -> tempfile::TempDir {
    let copied = tempfile::tempdir().unwrap();
    // The manifest first: a run that it names may be merged away while they are copied.
    loop {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), copied.path().join(entry.file_name())).ok();
        }
        let now = std::fs::read(folder.join("manifest")).unwrap();
        if std::fs::read(copied.path().join("manifest")).unwrap() == now {
            return copied;
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Waits until nothing is merged any more.
fn settled(index: &MarkIndex) {
    index.flush().unwrap();
    loop {
        let runs = lock(&index.shared.manifest).runs.clone();
        if runs.chunk_by(|a, b| a.level == b.level).all(|level| level.len() < FAN_IN) {
            // Who merges does so before this is done.
            index.sweep();
            return;
        }
        index.sweep();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put { scope: u32, keys: Vec<u64>, checkpoint: bool },
    Discard(u32),
    Flush,
    Sweep,
    Reopen,
    Kill,
    Later(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let keys = proptest::collection::vec(0..60_u64, 0..40);
    prop_oneof![
        12 => (0..3_u32, keys, any::<bool>())
            .prop_map(|(scope, keys, checkpoint)| Step::Put { scope, keys, checkpoint }),
        1 => (0..3_u32).prop_map(Step::Discard),
        1 => Just(Step::Flush),
        1 => Just(Step::Sweep),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
        2 => (1..40_i64).prop_map(Step::Later),
    ]
}

/// Marks, and the checkpoint with them.
type Put = (Vec<(u64, Marked)>, Option<Offset>);

/// What an index must know: what was put, in order.
#[derive(Clone, Default)]
struct Model {
    puts: Vec<Put>,
}

impl Model {
    fn marks(&self) -> HashMap<u64, Marked> {
        self.puts.iter().flat_map(|(marks, _)| marks.iter().copied()).collect()
    }

    fn checkpoint(&self) -> Option<Offset> {
        self.puts.iter().rev().find_map(|(_, checkpoint)| *checkpoint)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn it_is_a_map_through_merges_restarts_and_kills(steps in proptest::collection::vec(step(), 1..60)) {
        let mut dir = tempfile::tempdir().unwrap();
        let (options, clock) = options(20);
        let mut index = MarkIndex::open(dir.path(), options.clone()).unwrap();
        let mut models: [Model; 3] = Default::default();
        let mut turn = 0;
        for step in steps {
            let now = clock.now();
            match step {
                Step::Put { scope: number, keys, checkpoint } => {
                    let mut marks = Vec::new();
                    for key in keys {
                        turn += 1;
                        // A later mark of a key expires later, as it does with one `ttl`.
                        marks.push((key, Marked { turn, expires: now + 50 }));
                    }
                    let checkpoint = checkpoint.then_some(turn);
                    put(&index, &scope(number), &marks, checkpoint);
                    models[number as usize].puts.push((marks, checkpoint));
                }
                Step::Discard(number) => {
                    index.discard(&scope(number)).unwrap();
                    models[number as usize] = Model::default();
                }
                Step::Flush => index.flush().unwrap(),
                Step::Sweep => index.sweep(),
                Step::Later(time) => clock.0.store(now + time, Ordering::SeqCst),
                Step::Reopen => {
                    drop(index);
                    index = MarkIndex::open(dir.path(), options.clone()).unwrap();
                }
                Step::Kill => {
                    let copied = killed(dir.path());
                    drop(index);
                    dir = copied;
                    index = MarkIndex::open(dir.path(), options.clone()).unwrap();
                    for (number, model) in models.iter_mut().enumerate() {
                        let scope = scope(number as u32);
                        // Everything up to the checkpoint is there, and the log brings the rest again.
                        let checkpoint = index.checkpoint(&scope);
                        let covered = model.puts.iter().rposition(|(_, at)| at.is_some() && *at == checkpoint);
                        let kept = covered.map_or(0, |last| last + 1);
                        prop_assert!(checkpoint.is_none() || covered.is_some(), "{checkpoint:?}");
                        for (marks, checkpoint) in &model.puts[kept..] {
                            put(&index, &scope, marks, *checkpoint);
                        }
                    }
                }
            }
            let now = clock.now();
            let live = |marked: Option<Marked>| marked.filter(|marked| marked.expires > now);
            for (number, model) in models.iter().enumerate() {
                let scope = scope(number as u32);
                prop_assert_eq!(index.checkpoint(&scope), model.checkpoint());
                let marks = model.marks();
                let expected: Vec<_> = (0..60).map(|key| live(marks.get(&key).copied())).collect();
                let found: Vec<_> = get(&index, &scope, 0..60).into_iter().map(live).collect();
                prop_assert_eq!(found, expected);
            }
        }
        let bytes: u64 = index.runs().iter().map(|run| run.filter_bytes()).sum();
        prop_assert!(bytes <= options.filter_bytes_max);
    }
}

#[test]
fn many_marks_become_few_runs_in_bounded_memory_and_all_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let (options, _) = options(1_000);
    let options = IndexOptions { filter_bytes_max: 20_000, ..options };
    let index = MarkIndex::open(dir.path(), options.clone()).unwrap();
    let marked = |number| Marked { turn: number, expires: 100 };
    for begin in (0..40_000).step_by(250) {
        let marks: Vec<_> = (begin..begin + 250).map(|number| (number, marked(number))).collect();
        put(&index, &scope(0), &marks, Some(begin));
    }
    settled(&index);
    let runs = index.runs();
    assert!(runs.len() <= 12, "{} runs", runs.len());
    let filters: u64 = runs.iter().map(|run| run.filter_bytes()).sum();
    assert!(filters <= 20_000 && filters > 9_000, "{filters} bytes");
    let files = files(dir.path());
    assert_eq!(files.len(), runs.len() + 2, "{files:?}");
    drop(index);
    let index = MarkIndex::open(dir.path(), options).unwrap();
    assert_eq!(index.checkpoint(&scope(0)), Some(39_750));
    let found = get(&index, &scope(0), 0..41_000);
    for (number, found) in found.into_iter().enumerate() {
        let number = number as u64;
        assert_eq!(found, (number < 40_000).then(|| marked(number)), "{number}");
    }
}

#[test]
fn what_has_expired_gives_its_space_back() {
    let dir = tempfile::tempdir().unwrap();
    let (options, clock) = options(500);
    let index = MarkIndex::open(dir.path(), options).unwrap();
    for begin in (0..4_000_u64).step_by(4_000 / FAN_IN) {
        let expires = |number: u64| if begin < 2_000 { 10 } else { 1_000 + number as i64 };
        let mark = |number| (number, Marked { turn: number, expires: expires(number) });
        let marks: Vec<_> = (begin..begin + 500).map(mark).collect();
        put(&index, &scope(0), &marks, None);
    }
    settled(&index);
    let entries = || index.runs().iter().map(|run| run.footer().entries).sum::<u64>();
    assert_eq!((index.runs().len(), entries()), (1, 4_000), "they were merged");
    clock.0.store(10, Ordering::SeqCst);
    index.sweep();
    assert_eq!(entries(), 4_000, "half of the time between the first and the last is not over");
    clock.0.store(2_600, Ordering::SeqCst);
    index.sweep();
    assert_eq!(entries(), 2_000, "written anew without what has expired");
    clock.0.store(6_000, Ordering::SeqCst);
    index.sweep();
    assert_eq!((index.runs().len(), index.size_bytes()), (0, 0));
    assert_eq!(files(dir.path()).len(), 2, "only the lock and the manifest are left");
}

/// Whether a mark may be missing, or another's be shown.
fn check(folder: &Path, count: u64) -> &'static str {
    let index = open(folder, 1_000);
    if index.checkpoint(&scope(0)).is_none() {
        return "made anew";
    }
    let keys: Vec<_> = (0..count).map(key).collect();
    let asked = match index.ask(&scope(0), &keys).known() {
        Ok(_) => panic!("all of them are on the disk"),
        Err(asked) => asked,
    };
    match index.read(asked) {
        Ok(found) => {
            let expected = |number| Some(Marked { turn: number, expires: 100 });
            assert!(found.into_iter().eq((0..count).map(expected)), "a mark differs");
            "intact"
        }
        Err(IndexError::Unavailable(text)) => panic!("{text}"),
        Err(IndexError::Damaged(text)) => {
            assert!(text.contains("is damaged") && text.contains("restored"), "{text}");
            drop(index);
            let again = open(folder, 1_000);
            assert_eq!(again.checkpoint(&scope(0)), None, "who opens it again begins anew");
            "damaged"
        }
    }
}

#[test]
fn a_changed_byte_of_any_file_is_found_or_harmless_and_so_is_a_missing_file() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path(), 150);
    for begin in (0..300).step_by(150) {
        let mark = |number| (number, Marked { turn: number, expires: 100 });
        let marks: Vec<_> = (begin..begin + 150).map(mark).collect();
        put(&index, &scope(0), &marks, Some(begin));
    }
    drop(index);
    assert_eq!(check(killed(dir.path()).path(), 300), "intact");
    let mut outcomes = HashMap::<_, usize>::new();
    for path in files(dir.path()) {
        let whole = std::fs::read(&path).unwrap();
        let name = path.file_name().unwrap();
        for at in (0..whole.len()).step_by(if whole.len() > 1_000 { 97 } else { 1 }) {
            let copied = killed(dir.path());
            let mut changed = whole.clone();
            changed[at] ^= 0x10;
            std::fs::write(copied.path().join(name), changed).unwrap();
            *outcomes.entry(check(copied.path(), 300)).or_default() += 1;
        }
        let copied = killed(dir.path());
        std::fs::remove_file(copied.path().join(name)).unwrap();
        let outcome = check(copied.path(), 300);
        assert_eq!(outcome == "intact", name == "lock", "{name:?} is missing: {outcome}");
    }
    assert!(outcomes["made anew"] > 300 && outcomes["damaged"] > 100, "{outcomes:?}");
}

#[test]
fn an_index_that_cannot_be_written_takes_what_fits_says_why_and_goes_on_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (options, _) = options(100);
    // More than any disk has.
    let full = IndexOptions { reserve_bytes: u64::MAX / 2, ..options.clone() };
    let index = MarkIndex::open(dir.path(), full).unwrap();
    let marks = |begin: u64| -> Vec<_> {
        (begin..begin + 100).map(|number| (number, Marked { turn: number, expires: 9 })).collect()
    };
    let mut taken = 0;
    let why = loop {
        match index.wait_for_room(100) {
            Ok(()) => put(&index, &scope(0), &marks(taken * 100), Some(taken)),
            Err(why) => break why,
        }
        taken += 1;
    };
    assert_eq!(taken, 3, "a buffer and two that are full");
    let IndexError::Unavailable(text) = why else { panic!("{why}") };
    assert!(text.contains("free some space") && text.contains("by itself"), "{text}");
    assert!(
        get(&index, &scope(0), 0..300).iter().all(Option::is_some),
        "all of it is answered for"
    );
    let copied = killed(dir.path());
    drop(index);
    let index = MarkIndex::open(copied.path(), options).unwrap();
    assert_eq!(index.checkpoint(&scope(0)), None, "nothing is said to be there that is not");
}

#[test]
fn a_file_that_cannot_be_written_is_written_again_when_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("index");
    let index = open(&folder, 100);
    let away = dir.path().join("away");
    std::fs::rename(&folder, &away).unwrap();
    put(&index, &scope(0), &[(1, Marked { turn: 5, expires: 9 })], Some(6));
    assert!(index.flush().is_err());
    std::fs::rename(&away, &folder).unwrap();
    // It is tried once a second.
    while index.flush().is_err() {
        std::thread::yield_now();
    }
    drop(index);
    let index = open(&folder, 100);
    assert_eq!(index.checkpoint(&scope(0)), Some(6));
    assert_eq!(get(&index, &scope(0), [1]), [Some(Marked { turn: 5, expires: 9 })]);
}

#[test]
fn a_put_larger_than_a_buffer_is_one_nevertheless() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path(), 100);
    let marks: Vec<_> = (0..5_000).map(|n| (n, Marked { turn: n, expires: 9 })).collect();
    put(&index, &scope(0), &marks, Some(1));
    index.flush().unwrap();
    assert_eq!(index.runs().len(), 1, "with its checkpoint it is in one run");
    assert!(get(&index, &scope(0), 0..5_000).iter().all(Option::is_some));
}
