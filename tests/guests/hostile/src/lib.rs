//! Misbehaves in the way its message's value names; `echo` does not. Each way is tied to a test of
//! the sandbox.

wit_bindgen::generate!({ path: "../../../wit/plugin-0.1.0", world: "handler", generate_all });

use std::hint::black_box;
use std::io::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use exports::millstream::plugin::handle::{Failure, Guest, Message, Output};
use millstream::plugin::types::{Destination, Header, Pause, Reject, Retry};
use wasi::logging::logging::{Level, log};

struct Hostile;

impl Guest for Hostile {
    fn handle(message: Message) -> Result<Vec<Output>, Failure> {
        let way = String::from_utf8(message.value.clone().unwrap_or_default()).unwrap();
        // Within JSON, as messages mostly are, the way stands in a field: `{"way":"trap",…}`.
        let named = way.split_once(r#""way":""#).and_then(|(_, rest)| rest.split_once('"'));
        let way = named.filter(|_| way.starts_with('{')).map_or(&*way, |(way, _)| way);
        let (way, argument) = way.split_once(' ').unwrap_or((way, ""));
        match way {
            // Well-behaved.
            "echo" => Ok(vec![Output { headers: message.headers, ..output("echo") }]),
            "show" => Ok(vec![output(&format!("{message:?}"))]),
            "retry" => Err(retry(argument)),
            "after" => {
                // So many attempts fail; what follows is the output.
                let (failures, value) = argument.split_once(' ').unwrap();
                if message.attempt <= failures.parse().unwrap() {
                    return Err(Failure::Retry(Retry { reason: "not yet".into(), after: None }));
                }
                Ok(vec![Output { key: message.key, ..output(value) }])
            }
            "reject" => Err(Failure::Reject(Reject { reason: argument.into() })),
            "pause" => Err(Failure::Pause(Pause { reason: argument.into(), duration: 1_500 })),
            "named" => Ok(vec![Output { to: Destination::Named(argument.into()), ..output("x") }]),
            "reply" => Ok(vec![Output { to: Destination::Reply, ..output("x") }]),
            "count" => Ok(vec![output(&COUNT.fetch_add(1, Ordering::Relaxed).to_string())]),
            "time" => Ok(vec![output(&time_and_random())]),
            "reject-time" => Err(Failure::Reject(Reject { reason: time_and_random() })),
            "sleep" => {
                // What follows the time is padding.
                let time = argument.split(' ').next().unwrap();
                std::thread::sleep(Duration::from_millis(time.parse().unwrap()));
                Ok(vec![output("awake")])
            }
            "environment" => Ok(vec![output(&environment())]),
            // Time.
            "loop" => endless(),
            "wait" => {
                std::thread::sleep(Duration::from_secs(3_600));
                Ok(vec![])
            }
            // Whoever reads this kills the host.
            "kill" => {
                log(Level::Error, "kill", "kill this host now");
                std::thread::sleep(Duration::from_secs(3_600));
                Ok(vec![])
            }
            // Memory.
            "allocate" => loop {
                black_box(vec![1_u8; 1 << 20].leak());
            },
            "recurse" => Ok(vec![output(&recurse(0).to_string())]),
            // What it returns.
            "huge" => Ok(vec![Output { value: Some(vec![7; 2 << 20]), ..output("") }]),
            "huger" => Ok(vec![Output { value: Some(vec![7; 32 << 20]), ..output("") }]),
            "countless" => Ok((0..2_000).map(|_| output("x")).collect()),
            "more-countless" => Ok((0..100_000).map(|_| output("x")).collect()),
            "many-headers" => Ok(vec![Output { headers: headers(65, 1), ..output("x") }]),
            "giant-headers" => Ok(vec![Output { headers: headers(2, 40 << 10), ..output("x") }]),
            "aliased-headers" => Ok(vec![Output { headers: aliased(), ..output("x") }]),
            "giant-reason" => Err(retry(&"because ".repeat(1_000))),
            "invalid-text" => {
                // SAFETY: none: the host must not believe a guest's text.
                let name = unsafe { String::from_utf8_unchecked(vec![b'a', 0xff, 0xfe]) };
                Ok(vec![Output { to: Destination::Named(name), ..output("x") }])
            }
            "invalid-log" => {
                // SAFETY: none, as above.
                log(Level::Info, "", unsafe { std::str::from_utf8_unchecked(black_box(&[0xff])) });
                Ok(vec![])
            }
            // Ends.
            "trap" => core::arch::wasm32::unreachable(),
            "panic" => panic!("no price for {argument}"),
            "panic-counted" => {
                COUNT.fetch_add(1_000, Ordering::Relaxed);
                panic!("after counting")
            }
            "exit" => std::process::exit(3),
            // Host functions.
            "connect" => {
                let connected = std::net::TcpStream::connect("127.0.0.1:9");
                Ok(vec![output(&format!("{connected:?}"))])
            }
            "lines" => {
                for line in 0..argument.parse().unwrap() {
                    log(Level::Info, "lines", &format!("line {line}"));
                }
                log(Level::Error, "\u{1b}[31mred", "two\nlines");
                println!("to stdout");
                eprint!("to stderr");
                Ok(vec![])
            }
            "long-line" => {
                log(Level::Info, "long", &"x".repeat(100_000));
                for _ in 0..1_000 {
                    std::io::stdout().write_all(&[b'y'; 4096]).unwrap();
                }
                Ok(vec![])
            }
            "longest-line" => {
                log(Level::Info, "long", &"x".repeat(20 << 20));
                Ok(vec![])
            }
            way => Err(Failure::Reject(Reject { reason: format!("there is no way {way}") })),
        }
    }
}

export!(Hostile);

/// State that a fault must take with it.
static COUNT: AtomicU32 = AtomicU32::new(0);

fn output(value: &str) -> Output {
    Output {
        to: Destination::Default,
        key: None,
        value: Some(value.as_bytes().to_vec()),
        headers: vec![],
        partition: None,
        timestamp: None,
    }
}

fn retry(reason: &str) -> Failure {
    Failure::Retry(Retry { reason: reason.into(), after: Some(2_500) })
}

fn headers(count: usize, value_bytes: usize) -> Vec<Header> {
    let header = |n| Header { name: format!("h{n}"), value: vec![1; value_bytes] };
    (0..count).map(header).collect()
}

/// Sixty headers whose names are all the same 20 MiB: small here, 1.2 GiB once copied.
fn aliased() -> Vec<Header> {
    let name = "n".repeat(20 << 20).leak();
    (0..60)
        .map(|_| {
            // SAFETY: never freed twice: the host ends the call before it is cleaned up.
            let name = unsafe { String::from_raw_parts(name.as_mut_ptr(), name.len(), name.len()) };
            Header { name, value: vec![] }
        })
        .collect()
}

fn endless() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

#[inline(never)]
fn recurse(depth: u64) -> u64 {
    if black_box(depth) == u64::MAX {
        return depth;
    }
    recurse(depth + 1) ^ black_box(depth)
}

fn time_and_random() -> String {
    let start = Instant::now();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    std::thread::sleep(Duration::from_millis(2));
    let passed = start.elapsed();
    // The hasher's keys come from the host's random numbers, fresh in each instance.
    let hash = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 1);
    format!("{}ms slept={} {hash}", now.as_millis(), passed >= Duration::from_millis(2))
}

fn environment() -> String {
    let variables = std::env::vars().count();
    let arguments = std::env::args().count();
    let root = std::fs::read_dir("/").map(|_| ()).is_ok();
    let file = std::fs::write("/tmp/hostile", "x").is_ok();
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line).unwrap_or(0);
    format!("{variables} {arguments} {root} {file} {read}")
}
