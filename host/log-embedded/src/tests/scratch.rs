use super::*;
use tokio::time::Instant;
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore]
async fn bench() {
    let n: u64 = 1_000_000;
    let value = Bytes::from(vec![b'x'; 200]);
    // bare
    {
        let dir = tempfile::tempdir_in(std::env::var("BD").unwrap()).unwrap();
        let db = fjall::Database::builder(dir.path()).open().unwrap();
        let src = db.keyspace("src", fjall::KeyspaceCreateOptions::default).unwrap();
        let dst = db.keyspace("dst", fjall::KeyspaceCreateOptions::default).unwrap();
        let t = Instant::now();
        for i in 0..n { src.insert(i.to_be_bytes(), &value[..]).unwrap(); }
        eprintln!("bare insert {:.0}/s", n as f64 / t.elapsed().as_secs_f64());
        let t = Instant::now();
        for kv in src.iter() { let (k, v) = kv.into_inner().unwrap(); dst.insert(k, v).unwrap(); }
        eprintln!("bare loop {:.0}/s", n as f64 / t.elapsed().as_secs_f64());
    }
    let dir = tempfile::tempdir_in(std::env::var("BD").unwrap()).unwrap();
    let log = EmbeddedLog::open(dir.path(), EmbeddedOptions { reserve_bytes: 1 << 20, ..EmbeddedOptions::default() }).unwrap();
    log.create_topic(spec("t", 6)).await.unwrap();
    log.create_topic(spec("out", 6)).await.unwrap();
    let key = Bytes::from("somekey1");
    let topic: millstream_core::message::Topic = "t".into();
    let make = |k: u64| Record { topic: topic.clone(), partition: Some((k % 6) as u32), timestamp: Some(1), key: Some(key.clone()), value: Some(value.clone()), headers: vec![] };
    for size in [1_u64, 50, 500, 5000] {
        let total = if size == 1 { 50_000 } else { n };
        let t = Instant::now();
        let mut inflight = std::collections::VecDeque::new();
        for c in 0..total / size {
            let records: Vec<_> = (0..size).map(|i| make(c * size + i)).collect();
            let l = log.clone();
            inflight.push_back(tokio::spawn(async move { l.append(records).await.unwrap().len() }));
            if inflight.len() >= 8 { inflight.pop_front().unwrap().await.unwrap(); }
        }
        for f in inflight { f.await.unwrap(); }
        eprintln!("append size {size}: {:.0}/s", total as f64 / t.elapsed().as_secs_f64());
    }
    for pass in 0..2 {
        let t = Instant::now();
        let mut count = 0;
        let (consumer, parts) = member(&log, &format!("g{pass}"), &["t"]).await;
        for p in &parts { consumer.attach(p, 0).await.unwrap(); }
        let total: u64 = log.ends(&parts).await.unwrap().iter().map(|e| e.end).sum();
        while count < total {
            let Event::Messages(b) = next(&consumer, Room { messages: 1000, bytes: 1 << 20 }).await else { panic!() };
            count += b.messages.len() as u64;
        }
        eprintln!("cold read {pass}: {:.0}/s", count as f64 / t.elapsed().as_secs_f64());
    }
    // loop: consume and produce
    let t = Instant::now();
    let (consumer, parts) = member(&log, "loop", &["t"]).await;
    for p in &parts { consumer.attach(p, 0).await.unwrap(); }
    let mut count = 0;
    let out: millstream_core::message::Topic = "out".into();
    let mut inflight = std::collections::VecDeque::new();
    let mut batches = 0;
    while count < n {
        let Event::Messages(b) = next(&consumer, Room { messages: 1000, bytes: 1 << 20 }).await else { panic!() };
        count += b.messages.len() as u64; batches += 1;
        let records: Vec<_> = b.messages.into_iter().map(|m| Record { topic: out.clone(), partition: Some(m.partition), timestamp: Some(m.timestamp), key: m.key, value: m.value, headers: m.headers }).collect();
        let l = log.clone();
        inflight.push_back(tokio::spawn(async move { l.append(records).await.unwrap().len() }));
        if inflight.len() >= 8 { inflight.pop_front().unwrap().await.unwrap(); }
    }
    for f in inflight { f.await.unwrap(); }
    eprintln!("loop: {:.0}/s batches of {}", count as f64 / t.elapsed().as_secs_f64(), count / batches);
    log.close().await;
    let t = Instant::now();
    let log = open(dir.path());
    eprintln!("reopen {:?}", t.elapsed());
    log.close().await;
}
