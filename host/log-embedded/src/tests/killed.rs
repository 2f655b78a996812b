//! SIGKILL at random moments: nothing acknowledged is lost, nothing is there twice.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use super::*;

const FOLDER: &str = "MILLSTREAM_TEST_FOLDER";
const ROUNDS: u64 = 20;
const PARTITIONS: u32 = 3;

/// The child: appends numbers to all partitions and says which were answered for.
#[test]
#[ignore = "run by the test below, in a process of its own"]
fn child_that_appends_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let options = EmbeddedOptions { write_buffer_bytes: 1024 * 1024, ..options() };
        let log = EmbeddedLog::open(Path::new(&folder), options).unwrap();
        log.create_topic(spec("t", PARTITIONS)).await.unwrap();
        let mut tasks = Vec::new();
        for partition in 0..PARTITIONS {
            let log = log.clone();
            tasks.push(tokio::spawn(async move {
                let source = Partition::new("t", partition);
                let mut next = log.ends(std::slice::from_ref(&source)).await.unwrap()[0].end;
                loop {
                    let filling = "x".repeat(200);
                    let records = (next..next + 10)
                        .map(|number| record("t", partition, format!("{number}:{filling}")));
                    append(&log, records.collect()).await;
                    next += 10;
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "\nacked {partition} {next}").unwrap();
                    out.flush().unwrap();
                }
            }));
        }
        // They never end by themselves; the first that fails ends the child.
        if let Some(task) = tasks.pop() {
            task.await.unwrap();
        }
    });
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_by_twenty_kills() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("log");
    let mut acked = [0_u64; PARTITIONS as usize];
    let mut seed = 0x9e37_79b9_u64;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--nocapture", "--exact"])
            .arg("tests::killed::child_that_appends_until_it_is_killed")
            .env(FOLDER, &folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(round);
        // Killed after so many answers: from before the first write of the round to thousands.
        let answers = (seed >> 40) % 400;
        let mut seen = 0;
        let mut read = |line: String| {
            let Some(rest) = line.strip_prefix("acked ") else { return false };
            let (partition, next) = rest.split_once(' ').unwrap();
            acked[partition.parse::<usize>().unwrap()] = next.parse().unwrap();
            true
        };
        while seen < answers {
            let Some(line) = lines.next() else {
                let mut text = String::new();
                std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut text)
                    .unwrap();
                panic!("round {round}: the child ended by itself: {text}");
            };
            seen += u64::from(read(line.unwrap()));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had still said before it died counts too; the last line may be cut.
        for line in lines.map_while(Result::ok).filter(|line| line.split(' ').count() == 3) {
            read(line);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let log = open(&folder);
            for partition in 0..PARTITIONS {
                if log.topics().await.unwrap().is_empty() {
                    continue;
                }
                let messages = read_all(&log, "t", partition).await;
                let acked = acked[partition as usize];
                assert!(
                    messages.len() as u64 >= acked,
                    "round {round}: partition {partition} has {} messages, and {acked} were \
                     acknowledged",
                    messages.len()
                );
                for (number, message) in messages.iter().enumerate() {
                    let value = message.value.clone().unwrap();
                    assert!(value.starts_with(format!("{number}:").as_bytes()));
                }
            }
            log.close().await;
        });
    }
    assert!(acked.iter().all(|acked| *acked > 0), "the children did write: {acked:?}");
}
