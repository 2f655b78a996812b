//! Consumer groups: assignment, reading, commits, transactions, handing on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_core::idempotency::{IdempotencyStore, Mark, Scope};
use millstream_core::log::{
    Commit, Consumer, Event, Log, LogError, Room, TopicSpec, TransactError, Transaction,
};
use millstream_core::message::{Message, Offset, Partition};

use super::{
    Checked, MESSAGE_BYTES_MAX, ROOM, append, expect, fatal, in_time, join, next, ok, record, text,
    topic, values,
};

/// How long a check waits to see that nothing comes.
const NOTHING: Duration = Duration::from_millis(300);

const NO_ROOM: Room = Room { messages: 0, bytes: 0 };

pub(super) async fn check(log: &Arc<dyn Log>) -> Checked {
    a_group_needs_its_topics(log).await?;
    a_member_reads_what_it_attached_and_nothing_else(log).await?;
    a_member_pauses_and_goes_back(log).await?;
    a_dropped_next_loses_nothing(log).await?;
    commits_come_back_as_they_were(log).await?;
    a_transaction_is_all_or_nothing(log).await
}

async fn a_group_needs_its_topics(log: &Arc<dyn Log>) -> Checked {
    let spec = topic(log, "group", 1).await?;
    let mut nowhere = spec.clone();
    nowhere.name = "conformance-there-is-no-such-topic".into();
    let refused = join(log, &nowhere).await;
    expect("joining a group without its topic fails", true, refused.is_err())?;
    fatal("fetching nowhere", log.fetch(&Partition::new(nowhere.name, 0), 0, ROOM).await)
}

/// Waits for the assignment of `count` partitions.
async fn assigned(consumer: &Arc<dyn Consumer>, count: usize) -> Result<Vec<Partition>, String> {
    let mut partitions = Vec::new();
    while partitions.len() < count {
        match next(consumer, NO_ROOM).await? {
            Event::Assigned(more) => partitions.extend(more),
            other => return Err(format!("expected an assignment, saw {other:?}")),
        }
    }
    partitions.sort();
    Ok(partitions)
}

/// Reads until the message with `last` as its value came; each offset once, in order.
async fn read_until(
    consumer: &Arc<dyn Consumer>,
    partition: &Partition,
    last: &str,
) -> Result<Vec<Message>, String> {
    read_beside(consumer, partition, last, &mut Vec::new()).await
}

/// The same while more partitions may be assigned, which are added to `given`.
async fn read_beside(
    consumer: &Arc<dyn Consumer>,
    partition: &Partition,
    last: &str,
    given: &mut Vec<Partition>,
) -> Result<Vec<Message>, String> {
    let mut messages: Vec<Message> = Vec::new();
    loop {
        let batch = match next(consumer, ROOM).await? {
            Event::Messages(batch) => batch,
            Event::Assigned(more) => {
                given.extend(more);
                continue;
            }
            other => return Err(format!("expected messages, saw {other:?}")),
        };
        expect("the partition of a batch", partition, &batch.partition)?;
        let ascending = batch.messages.is_sorted_by(|a, b| a.offset < b.offset);
        expect("whether a batch's offsets ascend", true, ascending)?;
        for message in batch.messages {
            expect("beyond the batch", true, message.offset < batch.next)?;
            // A redelivery is allowed; skipping is not, and shows at the end.
            if messages.last().is_none_or(|m| m.offset < message.offset) {
                messages.push(message);
            }
        }
        if messages.last().is_some_and(|m| text(m) == last) {
            return Ok(messages);
        }
    }
}

fn texts(messages: &[Message]) -> Vec<String> {
    messages.iter().map(text).collect()
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|t| (*t).to_owned()).collect()
}

async fn nothing_comes(consumer: &Arc<dyn Consumer>, why: &str) -> Checked {
    match tokio::time::timeout(NOTHING, consumer.next(ROOM)).await {
        Err(_) => Ok(()),
        Ok(Ok(Event::Messages(batch))) if batch.messages.is_empty() => Ok(()),
        Ok(event) => Err(format!("{why}: expected nothing, saw {event:?}")),
    }
}

async fn three(log: &Arc<dyn Log>, name: &str) -> Result<(TopicSpec, Partition), String> {
    let spec = topic(log, name, 1).await?;
    append(log, ["a", "b", "c"].map(|v| record(&spec, 0, v)).to_vec()).await?;
    let partition = Partition::new(spec.name.clone(), 0);
    Ok((spec, partition))
}

async fn leave(consumer: Arc<dyn Consumer>, partitions: &[Partition]) -> Checked {
    in_time("release", consumer.release(partitions)).await?;
    in_time("close", consumer.close()).await
}

async fn a_member_reads_what_it_attached_and_nothing_else(log: &Arc<dyn Log>) -> Checked {
    let (spec, partition) = three(log, "attach").await?;
    let consumer = join(log, &spec).await?;
    expect("assigned", vec![partition.clone()], assigned(&consumer, 1).await?)?;
    nothing_comes(&consumer, "before it was attached").await?;
    ok("attach", consumer.attach(&partition, 0).await)?;
    let messages = read_until(&consumer, &partition, "c").await?;
    expect("messages", strings(&["a", "b", "c"]), texts(&messages))?;
    append(log, vec![record(&spec, 0, "d")]).await?;
    let messages = read_until(&consumer, &partition, "d").await?;
    expect("the last message", Some("d".to_owned()), messages.last().map(text))?;
    append(log, vec![record(&spec, 0, "e")]).await?;
    in_time("release", consumer.release(std::slice::from_ref(&partition))).await?;
    // It may be given back to the only member there is; nothing of it comes before it is attached.
    if let Ok(Ok(event)) = tokio::time::timeout(NOTHING, consumer.next(ROOM)).await {
        expect("after it was released", Event::Assigned(vec![partition.clone()]), event)?;
    }
    nothing_comes(&consumer, "before it was attached again").await?;
    in_time("close", consumer.close()).await
}

async fn a_member_pauses_and_goes_back(log: &Arc<dyn Log>) -> Checked {
    let (spec, partition) = three(log, "pause").await?;
    let companion = topic(log, "pause.retry.5s", 1).await?;
    append(log, vec![record(&companion, 0, "r")]).await?;
    let companion = Partition::new(companion.name, 0);
    let consumer = join(log, &spec).await?;
    assigned(&consumer, 1).await?;
    ok("attach", consumer.attach(&partition, 0).await)?;
    let messages = read_until(&consumer, &partition, "c").await?;
    let second = messages.get(1).map(|m| m.offset).unwrap_or_default();
    ok("attach again", consumer.attach(&partition, second).await)?;
    consumer.pause(std::slice::from_ref(&partition));
    nothing_comes(&consumer, "while it is paused").await?;
    ok("attach a companion", consumer.attach(&companion, 0).await)?;
    let beside = read_until(&consumer, &companion, "r").await?;
    expect("a companion's messages", strings(&["r"]), texts(&beside))?;
    consumer.resume(std::slice::from_ref(&partition));
    let again = read_until(&consumer, &partition, "c").await?;
    expect("from the second on", strings(&["b", "c"]), texts(&again))?;
    leave(consumer, &[partition]).await
}

async fn a_dropped_next_loses_nothing(log: &Arc<dyn Log>) -> Checked {
    let (spec, partition) = three(log, "dropped").await?;
    let consumer = join(log, &spec).await?;
    assigned(&consumer, 1).await?;
    ok("attach", consumer.attach(&partition, 0).await)?;
    let mut messages = Vec::new();
    for _ in 0..2_000 {
        // Polled once and dropped, mostly before it has anything.
        let room = Room { messages: 1, bytes: 1 };
        let polled = tokio::time::timeout(Duration::from_millis(1), consumer.next(room)).await;
        if let Ok(Ok(Event::Messages(batch))) = polled {
            for message in batch.messages {
                if messages.last().is_none_or(|m: &Message| m.offset < message.offset) {
                    messages.push(message);
                }
            }
        }
        if messages.last().is_some_and(|m| text(m) == "c") {
            break;
        }
    }
    expect("messages", strings(&["a", "b", "c"]), texts(&messages))?;
    leave(consumer, &[partition]).await
}

async fn commits_come_back_as_they_were(log: &Arc<dyn Log>) -> Checked {
    let (spec, partition) = three(log, "commits").await?;
    let companion = topic(log, "commits.retry.5s", 1).await?;
    let companion = Partition::new(companion.name, 0);
    let both = [partition.clone(), companion.clone()];
    let consumer = join(log, &spec).await?;
    assigned(&consumer, 1).await?;
    expect(
        "before any commit",
        vec![None, None],
        ok("committed", consumer.committed(&both).await)?,
    )?;
    let full = Commit {
        next: 1,
        settled_above: vec![3..5, 7..8],
        attempts: vec![(2, 3), (6, 1)],
        owners: 3,
        suspects: vec![(2, 1)],
    };
    let plain = Commit { next: 9, ..Commit::default() };
    let commits = vec![(partition.clone(), full.clone()), (companion, plain.clone())];
    ok("commit", consumer.commit(commits).await)?;
    let expected = vec![Some(full), Some(plain)];
    expect("committed", expected.clone(), ok("committed", consumer.committed(&both).await)?)?;
    let seen = ok("committed", log.committed(&spec.name, &both).await)?;
    expect("committed, for tools", expected, seen)?;
    let other = ok("committed", log.committed("conformance-other", &both).await)?;
    expect("committed of another group", vec![None, None], other)?;
    leave(consumer, std::slice::from_ref(&partition)).await?;
    let consumer = join(log, &spec).await?;
    assigned(&consumer, 1).await?;
    let kept = ok("committed", consumer.committed(&both).await)?;
    expect("the next member sees it", Some(1), kept.into_iter().flatten().map(|c| c.next).next())?;
    leave(consumer, &[partition]).await
}

async fn a_transaction_is_all_or_nothing(log: &Arc<dyn Log>) -> Checked {
    let (spec, partition) = three(log, "transact").await?;
    let outputs = topic(log, "transact-outputs", 2).await?;
    let consumer = join(log, &spec).await?;
    assigned(&consumer, 1).await?;
    let large = "x".repeat(MESSAGE_BYTES_MAX + 1);
    let commit = |next: Offset| vec![(partition.clone(), Commit { next, ..Commit::default() })];
    let broken = Transaction {
        records: vec![record(&outputs, 0, "a"), record(&outputs, 1, &large)],
        marks: Vec::new(),
        commits: commit(2),
    };
    match consumer.transact(Arc::new(broken)).await {
        Err(TransactError::Offender { index: 1, .. }) => {}
        other => return Err(format!("expected record 1 to be the offender, saw {other:?}")),
    }
    let out = [0, 1].map(|number| Partition::new(outputs.name.clone(), number));
    let [first, second] = &out;
    expect("after an offender", strings(&[]), values(log, first).await?)?;
    let none = ok("committed", consumer.committed(std::slice::from_ref(&partition)).await)?;
    expect("committed after an offender", vec![None], none)?;
    let whole = Transaction {
        records: vec![record(&outputs, 0, "a"), record(&outputs, 1, "b"), record(&outputs, 0, "c")],
        marks: Vec::new(),
        commits: commit(2),
    };
    ok("transact", consumer.transact(Arc::new(whole)).await)?;
    expect("outputs", strings(&["a", "c"]), values(log, first).await?)?;
    expect("outputs", strings(&["b"]), values(log, second).await?)?;
    let seen = ok("committed", consumer.committed(std::slice::from_ref(&partition)).await)?;
    expect("committed", Some(2), seen.into_iter().flatten().map(|c| c.next).next())?;
    leave(consumer, &[partition]).await
}

pub(super) async fn check_members(log: &Arc<dyn Log>) -> Checked {
    let spec = topic(log, "members", 4).await?;
    let first = join(log, &spec).await?;
    let all = assigned(&first, 4).await?;
    for partition in &all {
        ok("attach", first.attach(partition, 0).await)?;
    }
    let second = join(log, &spec).await?;
    let revoked = match next(&first, ROOM).await? {
        Event::Revoked(partitions) => partitions,
        other => return Err(format!("expected a revocation, saw {other:?}")),
    };
    let Some(moved) = revoked.first().cloned() else {
        return Err("expected partitions in the revocation, saw none".to_owned());
    };
    let commit = |next: Offset| vec![(moved.clone(), Commit { next, ..Commit::default() })];
    // Until it is released it is still the first member's: that is what the drain is for.
    ok("commit while draining", first.commit(commit(0)).await)?;
    in_time("release", first.release(&revoked)).await?;
    let mut given = assigned(&second, 1).await?;
    expect("what was released is given on", true, given.iter().all(|p| revoked.contains(p)))?;
    let Some(mine) = given.first().cloned() else {
        return Err("expected an assignment, saw none".to_owned());
    };
    let commit = |next: Offset| vec![(mine.clone(), Commit { next, ..Commit::default() })];
    match first.commit(commit(7)).await {
        Err(LogError::Fenced(_)) => {}
        other => return Err(format!("a commit of the old owner is fenced, saw {other:?}")),
    }
    let records = vec![record(&spec, mine.number, "zombie")];
    let zombie = Transaction { records, marks: Vec::new(), commits: commit(7) };
    match first.transact(Arc::new(zombie)).await {
        Err(TransactError::Log(LogError::Fenced(_))) => {}
        other => return Err(format!("a transaction of the old owner is fenced, saw {other:?}")),
    }
    expect("nothing of it is there", strings(&[]), values(log, &mine).await?)?;
    ok("commit of the new owner", second.commit(commit(1)).await)?;
    let seen = ok("committed", second.committed(std::slice::from_ref(&mine)).await)?;
    expect("committed", Some(1), seen.into_iter().flatten().map(|c| c.next).next())?;
    ok("attach", second.attach(&mine, 0).await)?;
    append(log, vec![record(&spec, mine.number, "a")]).await?;
    let messages = read_beside(&second, &mine, "a", &mut given).await?;
    expect("messages", strings(&["a"]), texts(&messages))?;
    let kept: Vec<Partition> = all.into_iter().filter(|p| !revoked.contains(p)).collect();
    leave(first, &kept).await?;
    leave(second, &given).await
}

pub(super) async fn check_store(log: &Arc<dyn Log>, store: &Arc<dyn IdempotencyStore>) -> Checked {
    let (spec, partition) = three(log, "marks").await?;
    let consumer = join(log, &spec).await?;
    assigned(&consumer, 1).await?;
    let scope = Scope { group: (&*spec.name).into(), partition: partition.clone() };
    let mark = |key: &'static str, turn: Offset, expires: i64| Mark {
        scope: scope.clone().into(),
        key: Bytes::from_static(key.as_bytes()),
        turn,
        expires,
    };
    let keys = ["a", "b", "c"].map(|key| Bytes::from_static(key.as_bytes()));
    ok("mark", store.mark(vec![mark("a", 1, 1_000), mark("b", 2, 2_000)]).await)?;
    let seen = ok("lookup", store.lookup(&scope, &keys, 999).await)?;
    expect("marks", vec![Some(1), Some(2), None], seen)?;
    let seen = ok("lookup", store.lookup(&scope, &keys, 1_000).await)?;
    expect("marks that expired count as absent", vec![None, Some(2), None], seen)?;
    let transaction = Transaction {
        records: Vec::new(),
        marks: vec![mark("c", 3, 3_000), mark("a", 4, 3_000)],
        commits: vec![(partition.clone(), Commit { next: 1, ..Commit::default() })],
    };
    ok("transact", consumer.transact(Arc::new(transaction)).await)?;
    let seen = ok("lookup", store.lookup(&scope, &keys, 2_500).await)?;
    expect("marks of a transaction", vec![Some(4), None, Some(3)], seen)?;
    let elsewhere = Scope { partition: Partition::new(spec.name.clone(), 9), ..scope.clone() };
    let seen = ok("lookup", store.lookup(&elsewhere, &keys, 0).await)?;
    expect("marks of another partition", vec![None, None, None], seen)?;
    leave(consumer, &[partition]).await
}
