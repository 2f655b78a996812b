//! Topics, appending, fetching and deleting: what needs no group.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use millstream_core::log::{AppendedAfter, Log, RecordError, Room, TopicSpec, TransactError};
use millstream_core::message::{Header, Offset, Partition, Record};

use super::{
    Checked, MESSAGE_BYTES_MAX, ROOM, append, expect, fatal, ok, record, text, topic, values,
};

pub(super) async fn check(log: &Arc<dyn Log>) -> Checked {
    a_topic_is_created_once_and_may_grow(log).await?;
    records_keep_their_order_and_the_answer_says_where_they_stand(log).await?;
    a_message_comes_back_byte_for_byte(log).await?;
    a_record_that_is_refused_leaves_the_others_alone(log).await?;
    records_of_a_key_stay_together(log).await?;
    append_time_is_the_logs_own(log).await?;
    it_is_told_where_messages_after_a_time_begin(log).await?;
    a_fetch_keeps_to_its_room(log).await?;
    what_is_deleted_moves_the_start(log).await?;
    a_writer_appends_all_or_nothing(log).await?;
    who_takes_a_writers_name_fences_who_had_it(log).await
}

async fn a_writer_appends_all_or_nothing(log: &Arc<dyn Log>) -> Checked {
    let (spec, beside) = (topic(log, "writer", 2).await?, topic(log, "writer-beside", 1).await?);
    let writer = ok("taking a name", log.writer("conformance-writer").await)?;
    let records = [
        record(&spec, 0, "a"),
        record(&spec, 1, "b"),
        record(&beside, 0, "c"),
        record(&spec, 0, "d"),
    ];
    ok("appending all", writer.append_all(&records).await)?;
    let large = "x".repeat(MESSAGE_BYTES_MAX + 1);
    let with_an_offender = [record(&spec, 0, "e"), record(&beside, 0, &large)];
    match writer.append_all(&with_an_offender).await {
        Err(TransactError::Offender { index: 1, error: RecordError::TooLarge { .. } }) => {}
        other => return Err(format!("one is too large: expected an offender at 1, saw {other:?}")),
    }
    let nowhere = [record(&spec, 0, "f"), record(&spec, 2, "g")];
    match writer.append_all(&nowhere).await {
        Err(TransactError::Offender { index: 1, error: RecordError::UnknownTopic { .. } }) => {}
        other => {
            return Err(format!("one has no partition: expected an offender at 1, saw {other:?}"));
        }
    }
    ok("appending after offenders", writer.append_all(&[record(&spec, 0, "h")]).await)?;
    for (topic, number, expected) in
        [(&spec, 0, vec!["a", "d", "h"]), (&spec, 1, vec!["b"]), (&beside, 0, vec!["c"])]
    {
        let partition = Partition::new(topic.name.clone(), number);
        let expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
        expect("what a writer appended", expected, values(log, &partition).await?)?;
    }
    Ok(())
}

async fn who_takes_a_writers_name_fences_who_had_it(log: &Arc<dyn Log>) -> Checked {
    let spec = topic(log, "writer-fenced", 1).await?;
    let first = ok("taking a name", log.writer("conformance-fenced").await)?;
    ok("the first", first.append_all(&[record(&spec, 0, "a")]).await)?;
    let other = ok("taking another name", log.writer("conformance-other").await)?;
    let second = ok("taking the name again", log.writer("conformance-fenced").await)?;
    if let Ok(()) = first.append_all(&[record(&spec, 0, "late")]).await {
        return Err("a writer whose name was taken appended all the same".to_owned());
    }
    ok("the second", second.append_all(&[record(&spec, 0, "b")]).await)?;
    ok("the other", other.append_all(&[record(&spec, 0, "c")]).await)?;
    let seen = values(log, &Partition::new(spec.name, 0)).await?;
    expect("values", vec!["a".to_owned(), "b".to_owned(), "c".to_owned()], seen)
}

async fn a_topic_is_created_once_and_may_grow(log: &Arc<dyn Log>) -> Checked {
    let spec = topic(log, "grow", 2).await?;
    ok("creating it again", log.create_topic(spec.clone()).await)?;
    let more = TopicSpec { partitions: 3, ..spec.clone() };
    ok("adding a partition", log.create_topic(more).await)?;
    let fewer = TopicSpec { partitions: 1, ..spec.clone() };
    fatal("taking partitions away", log.create_topic(fewer).await)?;
    let topics = ok("topics", log.topics().await)?;
    let partitions: Vec<u32> =
        topics.iter().filter(|t| t.name == spec.name).map(|t| t.partitions).collect();
    expect("partitions of the topic", vec![3], partitions)?;
    let ends = log.ends(&[Partition::new(spec.name.clone(), 2)]).await;
    expect(
        "end of the added partition",
        vec![0],
        ok("ends", ends)?.iter().map(|e| e.end).collect(),
    )?;
    fatal("ends of no partition", log.ends(&[Partition::new(spec.name, 3)]).await)
}

async fn records_keep_their_order_and_the_answer_says_where_they_stand(
    log: &Arc<dyn Log>,
) -> Checked {
    let spec = topic(log, "order", 2).await?;
    let records = [(1, "a"), (0, "b"), (1, "c"), (1, "d")].map(|(p, v)| record(&spec, p, v));
    let answers = ok("appending", log.append(&records.iter().collect::<Vec<_>>()).await)?;
    expect("answers", 4, answers.len())?;
    let p1 = Partition::new(spec.name.clone(), 1);
    expect("values", vec!["a".to_owned(), "c".into(), "d".into()], values(log, &p1).await?)?;
    for (answer, value) in answers.into_iter().zip(["a", "b", "c", "d"]) {
        let stands = ok("an append", answer)?;
        let partition = Partition::new(spec.name.clone(), stands.partition);
        let room = Room { messages: 1, bytes: 1 };
        let batch = ok("fetching", log.fetch(&partition, stands.offset, room).await)?;
        let seen: Vec<_> = batch.messages.iter().map(|m| (m.offset, text(m))).collect();
        expect("what stands there", vec![(stands.offset, value.to_owned())], seen)?;
    }
    let ends = ok("ends", log.ends(std::slice::from_ref(&p1)).await)?;
    let last = ok("fetching", log.fetch(&p1, 0, ROOM).await)?.messages.last().map(|m| m.offset + 1);
    expect("the end is behind the last", last, ends.first().map(|e| e.end))?;
    expect("and so is the high end", last, ends.first().map(|e| e.high))
}

async fn a_message_comes_back_byte_for_byte(log: &Arc<dyn Log>) -> Checked {
    let spec = topic(log, "bytes", 1).await?;
    let full = Record {
        key: Some(Bytes::from_static(&[0, 255, 7])),
        value: Some(Bytes::from_static(&[255, 254, 0])),
        headers: vec![
            Header::new("n", Bytes::from_static(b"1")),
            Header::new("ü", Bytes::from_static(&[128])),
            Header::new("n", Bytes::new()),
        ],
        timestamp: Some(-5),
        ..record(&spec, 0, "")
    };
    let empty = Record { key: Some(Bytes::new()), ..record(&spec, 0, "") };
    let tombstone = Record { value: None, ..record(&spec, 0, "") };
    let records = vec![full, empty, tombstone];
    append(log, records.clone()).await?;
    let batch = ok("fetching", log.fetch(&Partition::new(spec.name, 0), 0, ROOM).await)?;
    let seen = batch.messages.into_iter().map(|m| Record {
        topic: m.topic,
        partition: Some(m.partition),
        timestamp: Some(m.timestamp),
        key: m.key,
        value: m.value,
        headers: m.headers,
    });
    expect("the messages", records, seen.collect())
}

async fn a_record_that_is_refused_leaves_the_others_alone(log: &Arc<dyn Log>) -> Checked {
    let spec = topic(log, "refused", 1).await?;
    let fits = "x".repeat(MESSAGE_BYTES_MAX);
    let large = "x".repeat(MESSAGE_BYTES_MAX + 1);
    let elsewhere = TopicSpec { name: "conformance-there-is-no-such-topic".into(), ..spec.clone() };
    let records = [
        record(&spec, 0, "a"),
        record(&spec, 0, &large),
        record(&spec, 1, "b"),
        record(&elsewhere, 0, "c"),
        record(&spec, 0, &fits),
    ];
    let answers = ok("appending", log.append(&records.iter().collect::<Vec<_>>()).await)?;
    let seen: Vec<&str> = answers
        .iter()
        .map(|answer| match answer {
            Ok(_) => "ok",
            Err(RecordError::TooLarge { size_bytes, max_bytes, .. })
                if (*size_bytes, *max_bytes) == (MESSAGE_BYTES_MAX + 1, MESSAGE_BYTES_MAX) =>
            {
                "too large"
            }
            Err(RecordError::TooLarge { .. }) => "too large, with wrong sizes",
            Err(RecordError::UnknownTopic { .. }) => "unknown",
            Err(RecordError::Denied { .. }) => "denied",
        })
        .collect();
    expect("answers", vec!["ok", "too large", "unknown", "unknown", "ok"], seen)?;
    let stored = values(log, &Partition::new(spec.name, 0)).await?;
    expect("what was appended", vec!["a".to_owned(), fits], stored)
}

async fn records_of_a_key_stay_together(log: &Arc<dyn Log>) -> Checked {
    let spec = topic(log, "keys", 4).await?;
    let keyed = |n: u32| Record {
        partition: None,
        key: Some(Bytes::from(format!("key-{}", n % 10))),
        ..record(&spec, 0, &n.to_string())
    };
    append(log, (0..40).map(keyed).collect()).await?;
    append(log, (40..80).map(keyed).collect()).await?;
    let mut total = 0;
    let mut home = std::collections::BTreeMap::new();
    for number in 0..4 {
        let partition = Partition::new(spec.name.clone(), number);
        let batch = ok("fetching", log.fetch(&partition, 0, ROOM).await)?;
        total += batch.messages.len();
        for message in batch.messages {
            let first = *home.entry(message.key).or_insert(number);
            expect("the partition of a key", first, number)?;
        }
    }
    expect("keyed messages", 80, total)?;
    let spread = Record { partition: None, ..record(&spec, 0, "spread") };
    append(log, vec![spread]).await
}

async fn append_time_is_the_logs_own(log: &Arc<dyn Log>) -> Checked {
    let spec = topic(log, "original-time", 1).await?;
    let stamped =
        TopicSpec { name: "conformance-append-time".into(), append_time: true, ..spec.clone() };
    ok("creating a topic", log.create_topic(stamped.clone()).await)?;
    let timeless = Record { timestamp: None, ..record(&spec, 0, "none") };
    append(log, vec![record(&stamped, 0, "own"), record(&spec, 0, "own"), timeless]).await?;
    let mut times = Vec::new();
    for spec in [&stamped, &spec] {
        let partition = Partition::new(spec.name.clone(), 0);
        let batch = ok("fetching", log.fetch(&partition, 0, ROOM).await)?;
        times.extend(batch.messages.iter().map(|m| m.timestamp == 1_000));
    }
    expect("whether the record's own time was kept", vec![false, true, false], times)
}

async fn it_is_told_where_messages_after_a_time_begin(log: &Arc<dyn Log>) -> Checked {
    let spec = topic(log, "times", 2).await?;
    let timed = |partition: u32, timestamp| Record {
        timestamp: Some(timestamp),
        ..record(&spec, partition, "timed")
    };
    let records = [timed(0, 1_000), timed(0, 2_000), timed(0, 3_000), timed(0, 4_000)];
    let mut offsets = Vec::new();
    for answer in ok("appending", log.append(&records.iter().collect::<Vec<_>>()).await)? {
        offsets.push(ok("appending one record", answer)?.offset);
    }
    append(log, vec![timed(1, 5_000)]).await?;
    let asked = |number: u32, within: Range<Offset>, time| AppendedAfter {
        partition: Partition::new(spec.name.clone(), number),
        within,
        time,
    };
    // By the number of the message, since a log may leave gaps; where a gap is, any offset of it is as good.
    let behind = |message: usize| offsets.get(message).map_or(0, |offset| offset + 1);
    let at = |message: usize| offsets.get(message).copied().unwrap_or(behind(offsets.len() - 1));
    for (what, from, to, time, first) in [
        ("before all", 0, 4, 999, 0),
        ("at the first", 0, 4, 1_000, 1),
        ("between two", 0, 4, 2_500, 2),
        ("after all", 0, 4, 4_000, 4),
        ("before the range", 2, 4, 1_000, 2),
        ("after the range", 0, 2, 2_500, 2),
        ("nothing to look in", 3, 3, 0, 3),
        ("before any time", 0, 4, -1_000, 0),
    ] {
        let end = if to > from { behind(to - 1) } else { at(from) };
        let within = at(from)..end;
        // The other partition is asked beside it: answers must not be mixed up.
        let both = [asked(1, 0..1, 4_999), asked(0, within.clone(), time)];
        let found = ok("asking for the first after a time", log.first_after(&both).await)?;
        let least = if first > from { behind(first - 1) } else { within.start };
        let most = if first < to { at(first) } else { within.end };
        let is_right = matches!(&*found, [0, found] if (least..=most).contains(found));
        if !is_right {
            return Err(format!("{what}: expected [0, {least} to {most}], saw {found:?}"));
        }
    }
    let none = ok("asking for nothing", log.first_after(&[]).await)?;
    expect("nothing", Vec::<Offset>::new(), none)
}

async fn a_fetch_keeps_to_its_room(log: &Arc<dyn Log>) -> Checked {
    let spec = topic(log, "room", 1).await?;
    let large = "x".repeat(1000);
    append(log, ["a", "b", &large, "c"].map(|v| record(&spec, 0, v)).to_vec()).await?;
    let partition = Partition::new(spec.name, 0);
    let all = ok("fetching", log.fetch(&partition, 0, ROOM).await)?;
    let offsets: Vec<_> = all.messages.iter().map(|m| m.offset).collect();
    expect("messages", 4, offsets.len())?;
    let cases = [
        (0, Room { messages: 2, bytes: 1 << 20 }, 2),
        (0, Room { messages: 4, bytes: 600 }, 2),
        (2, Room { messages: 4, bytes: 600 }, 1),
        (0, Room { messages: 1, bytes: 1 }, 1),
    ];
    for (first, room, expected) in cases {
        let from = offsets.get(first).copied().unwrap_or_default();
        let batch = ok("fetching", log.fetch(&partition, from, room).await)?;
        expect(&format!("messages within {room:?}"), expected, batch.messages.len())?;
        expect("the first of them", Some(from), batch.messages.first().map(|m| m.offset))?;
    }
    let end = ok("fetching", log.fetch(&partition, all.next, ROOM).await)?;
    expect("messages at the end", 0, end.messages.len())?;
    expect("the end that a batch tells", offsets.last().map(|o| o + 1), Some(end.end))
}

async fn what_is_deleted_moves_the_start(log: &Arc<dyn Log>) -> Checked {
    let spec = topic(log, "deleted", 1).await?;
    append(log, ["a", "b", "c"].map(|v| record(&spec, 0, v)).to_vec()).await?;
    let partition = Partition::new(spec.name.clone(), 0);
    let all = ok("fetching", log.fetch(&partition, 0, ROOM).await)?;
    let last = all.messages.last().map(|m| m.offset).unwrap_or_default();
    ok("deleting", log.delete_before(&partition, last).await)?;
    let ends = ok("ends", log.ends(std::slice::from_ref(&partition)).await)?;
    expect("the start", Some((last, last + 1)), ends.first().map(|e| (e.start, e.end)))?;
    expect("what is left", vec!["c".to_owned()], values(log, &partition).await?)?;
    ok("deleting everything", log.delete_before(&partition, last + 1).await)?;
    append(log, vec![record(&spec, 0, "d")]).await?;
    expect("what was appended since", vec!["d".to_owned()], values(log, &partition).await?)
}
