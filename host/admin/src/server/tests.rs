//! Over real connections, byte for byte as a client sends them.

mod access;

use std::sync::Arc;

use millstream_core::log::LogError;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::*;
use crate::fake_log::*;
use crate::limits::{BODY_BYTES_MAX, CONNECTIONS_MAX, HEAD_TIME_MAX, REQUESTS_MAX};
use crate::token::Token;

struct Said {
    status: u16,
    head: String,
    body: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.body))
    }

    fn error(&self) -> String {
        self.json()["error"].as_str().expect("an error has a text").to_owned()
    }
}

async fn send(address: SocketAddr, request: &str) -> Said {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("the request is sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    let answer = String::from_utf8(answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Said { status, head: head.to_lowercase(), body: body.to_owned() }
}

fn head(address: SocketAddr, line: &str, more: &str) -> String {
    format!("{line} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{more}\r\n")
}

async fn get(running: &Running, path: &str, more: &str) -> Said {
    send(running.address, &head(running.address, &format!("GET {path}"), more)).await
}

fn bearer() -> String {
    format!("authorization: Bearer {TOKEN}\r\n")
}

async fn post(running: &Running, path: &str, body: &str) -> Said {
    let more =
        format!("{}content-type: application/json\r\ncontent-length: {}\r\n", bearer(), body.len());
    let head = head(running.address, &format!("POST {path}"), &more);
    send(running.address, &format!("{head}{body}")).await
}

/// What opens what: asked is each with each.
#[tokio::test]
async fn every_write_is_told_before_it_is_made_and_the_trail_itself_stays() {
    let running = run_plain().await;
    running.log.topics.lock().unwrap().push(topic("orders"));
    let named = format!("{}millstream-by: Ada\r\ncontent-type: application/json\r\n", bearer());
    let body = r#"{"partitions":3,"message_bytes_max":1000}"#;
    let more = format!("{named}content-length: {}\r\n", body.len());
    let request = format!("{}{body}", head(running.address, "PUT /api/v1/topics/x", &more));
    assert_eq!(send(running.address, &request).await.status, 200);
    let append = r#"{"records":[{"topic":"orders","value":"a"},{"topic":"orders","value":"b"}]}"#;
    for _ in 0..3 {
        assert_eq!(post(&running, "/api/v1/append", append).await.status, 200);
    }
    let delete = r#"{"topic":"orders","partition":0,"before":1}"#;
    assert_eq!(post(&running, "/api/v1/delete-before", delete).await.status, 200);
    let said = post(
        &running,
        "/api/v1/delete-before",
        r#"{"topic":"millstream.audit","partition":0,"before":1}"#,
    );
    let said = said.await;
    assert_eq!((said.status, said.error().contains("audit trail")), (403, true), "{}", said.body);

    let trail = get(&running, "/api/v1/audit?limit=100", "").await.json();
    let entries = trail["entries"].as_array().expect("entries").iter().rev();
    let brief = |entry: &Value| {
        let text = |name: &str| entry[name].as_str().expect(name).to_owned();
        format!("{} {} by {}: {}", text("action"), text("outcome"), text("by"), text("text"))
    };
    let brief: Vec<_> = entries.map(brief).collect();
    assert_eq!(
        brief,
        [
            "topic-create begun by Ada (write token): topic x",
            "topic-create done by Ada (write token): done",
            "append begun by write token: 2 records to orders; more within 10 s are not told one by one",
            "delete-before begun by write token: what stands in orders[0] below 1",
            "delete-before done by write token: done",
        ]
    );
}

#[tokio::test]
async fn what_cannot_be_told_is_not_done() {
    let running = run_plain().await;
    let full = LogError::Unavailable("the disk is full".to_owned());
    *running.log.failure.lock().unwrap() = Some(full);
    let said = post(&running, "/api/v1/delete-before", r#"{"topic":"t","partition":0,"before":1}"#);
    let said = said.await;
    assert_eq!(said.status, 503);
    assert!(said.error().starts_with("nothing was changed"), "{}", said.body);
    assert!(running.log.starts.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_document_has_every_route_and_every_route_is_in_it() {
    let running = run_plain().await;
    let document = get(&running, "/api/v1/openapi.json", "").await.json();
    let documented = document["paths"].as_object().expect("paths");
    let mut routed: Vec<_> = routes().into_iter().map(|(path, _)| path).collect();
    routed.sort_unstable();
    let mut paths: Vec<_> = documented.keys().map(String::as_str).collect();
    paths.sort_unstable();
    assert_eq!(paths, routed);
    for (path, operations) in documented {
        for method in ["get", "put", "post", "delete", "patch"] {
            let asked = path
                .replace("{pipeline}", "p")
                .replace("{topic}", "t")
                .replace("{partition}", "0")
                .replace("{offset}", "0")
                .replace("{name}", "n");
            let line = format!("{} {asked}", method.to_uppercase());
            let said = send(running.address, &head(running.address, &line, &bearer())).await;
            let operation = &operations[method];
            assert_eq!(said.status == 405, operation.is_null(), "{line}: {}", said.body);
            let Some(access) = operation["x-access"].as_str() else { continue };
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
            let needed = serde_json::json!(crate::access::Access::needed(&method, &asked));
            assert_eq!(needed, access, "{line} needs what the document says");
        }
    }
}

#[tokio::test]
async fn metrics_come_with_help_and_type() {
    let log = Arc::new(FakeLog::default());
    let state = state(&log);
    let counter = prometheus::IntCounter::new("millstream_things_total", "Things.").expect("one");
    state.registry.register(Box::new(counter.clone())).expect("registered");
    counter.inc();
    let said = get(&run(log, state).await, "/metrics", "").await;
    assert!(said.head.contains("content-type: text/plain"), "{}", said.head);
    assert_eq!(
        said.body,
        "# HELP millstream_things_total Things.\n# TYPE millstream_things_total counter\nmillstream_things_total 1\n"
    );
}

#[tokio::test]
async fn readiness_says_which_pipeline_waits_and_for_what() {
    let log = Arc::new(FakeLog::default());
    let pipelines = || {
        let waits = vec!["the plugin is compiled".to_owned()];
        vec![
            PipelineReadiness { pipeline: "orders".to_owned(), not_ready: waits },
            PipelineReadiness { pipeline: "refunds".to_owned(), not_ready: Vec::new() },
        ]
    };
    let state = AdminState { readiness: Arc::new(pipelines), ..state(&log) };
    let running = run(log, state).await;
    let said = get(&running, "/health/ready", "").await;
    assert_eq!(said.status, 503);
    assert_eq!(said.error(), "not ready: orders (the plugin is compiled)");
    assert_eq!(said.json()["pipelines"]["refunds"], serde_json::json!([]));
    assert_eq!(get(&running, "/health/live", "").await.status, 200);
}

#[tokio::test]
async fn whatever_is_wrong_with_a_request_is_said_in_json() {
    let running = run_plain().await;
    let said = get(&running, "/api/v2/topics", &bearer()).await;
    assert_eq!((said.status, said.error().contains("there is no /api/v2/topics")), (404, true));
    let said = get(&running, "/api/v1/append", &bearer()).await;
    assert_eq!((said.status, said.error().contains("does not take GET")), (405, true));
    for (body, part) in [
        ("{", "EOF"),
        (r#"{"record":[]}"#, "unknown field `record`"),
        (r#"{"records":[{"topic":"t"}]}"#, "missing field `value`"),
        (r#"{"records":[{"topic":"t","value":{"base64":"%"}}]}"#, "not base64"),
        (r#"{"records":[{"topic":"t","value":"","partition":-1}]}"#, "-1"),
    ] {
        let said = post(&running, "/api/v1/append", body).await;
        assert_eq!(said.status, 400, "{body}");
        assert!(said.error().contains(part), "{body} gave: {}", said.body);
        assert_eq!(said.json()["class"], "request");
    }
    let form = format!("{}content-type: text/plain\r\ncontent-length: 2\r\n", bearer());
    let request = format!("{}{{}}", head(running.address, "POST /api/v1/append", &form));
    assert_eq!(send(running.address, &request).await.status, 415);
    assert!(running.log.appends.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_body_over_its_bound_is_refused_with_or_without_a_length() {
    let running = run_plain().await;
    let json = format!("{}content-type: application/json\r\n", bearer());
    let told = format!("{json}content-length: {}\r\n", BODY_BYTES_MAX + 1);
    let said = send(running.address, &head(running.address, "POST /api/v1/append", &told)).await;
    assert_eq!(said.status, 413);
    assert!(said.error().contains("send less at once"), "{}", said.body);

    let chunked = format!("{json}transfer-encoding: chunked\r\n");
    let mut stream = TcpStream::connect(running.address).await.expect("a connection");
    let head = head(running.address, "POST /api/v1/append", &chunked);
    stream.write_all(head.as_bytes()).await.expect("the head is sent");
    let (mut reading, mut writing) = stream.into_split();
    let sending = tokio::spawn(async move {
        let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, " ".repeat(1 << 20));
        let mut chunks = 0_usize;
        // Goes on until the server hangs up: it must, long before this.
        while chunks < 64 && writing.write_all(chunk.as_bytes()).await.is_ok() {
            chunks += 1;
        }
        chunks
    });
    let mut start = [0_u8; 12];
    reading.read_exact(&mut start).await.expect("an answer");
    assert_eq!(&start, b"HTTP/1.1 413");
    drop(reading);
    assert!(sending.await.expect("sent") < 64);
}

#[tokio::test]
async fn requests_beyond_the_bound_are_told_to_come_again_and_probes_are_answered() {
    let running = Arc::new(run_plain().await);
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    *running.log.gate.lock().unwrap() = Some((Arc::clone(&begun), Arc::clone(&go)));
    let mut waiting = Vec::new();
    for _ in 0..REQUESTS_MAX {
        let running = Arc::clone(&running);
        let ask =
            async move { post(&running, "/api/v1/ends", r#"{"partitions":[]}"#).await.status };
        waiting.push(tokio::spawn(ask));
        begun.notified().await;
    }
    let said = get(&running, "/api/v1/status", &bearer()).await;
    assert_eq!((said.status, said.json()["class"].as_str()), (503, Some("unavailable")));
    assert_eq!(get(&running, "/health/live", "").await.status, 200);
    for _ in 0..REQUESTS_MAX {
        go.notify_one();
        begun.notify_one();
    }
    go.notify_waiters();
    for request in waiting {
        assert_eq!(request.await.expect("it ends"), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_loses_his_connection_and_holds_no_other_up() {
    let running = run_plain().await;
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        silent.push(TcpStream::connect(running.address).await.expect("a connection"));
    }
    // All room is taken until the head's time is up, which the paused clock makes soon.
    let asked = tokio::time::Instant::now();
    let said = get(&running, "/health/live", "").await;
    assert_eq!(said.status, 200);
    assert!(asked.elapsed() < HEAD_TIME_MAX * 2, "waited {:?}", asked.elapsed());
    let mut rest = Vec::new();
    let _ = silent[0].read_to_end(&mut rest).await;
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"), "{rest:?}");
}

#[tokio::test]
async fn an_occupied_port_is_named_with_what_to_do_and_leaves_the_others_token_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("admin.token");
    let log = Arc::new(FakeLog::default());
    let made =
        || AdminState { token: TokenSource::MadeAtStart { file: file.clone() }, ..state(&log) };
    let first = run(Arc::clone(&log), made()).await;
    let before = std::fs::read(&file).expect("a token");
    let error =
        AdminServer::bind(first.address, made()).await.expect_err("it is taken").to_string();
    assert!(error.contains(&first.address.to_string()) && error.contains("in use"), "{error}");
    assert!(error.contains("set `host.admin`"), "{error}");
    assert_eq!(std::fs::read(&file).expect("still there"), before);
}

#[cfg(unix)]
#[tokio::test]
async fn a_made_token_is_only_its_owners_and_goes_with_the_server() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("admin.token");
    std::fs::write(&file, "left-behind-by-a-killed-host").expect("written");
    let log = Arc::new(FakeLog::default());
    let state =
        AdminState { token: TokenSource::MadeAtStart { file: file.clone() }, ..state(&log) };
    let running = run(log, state).await;
    let mode = std::fs::metadata(&file).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let made = Token::read(&file).expect("a token");
    assert_eq!(std::fs::read_to_string(&file).expect("text").trim().len(), 64);
    let with = format!("authorization: {}\r\n", made.bearer());
    assert_eq!(get(&running, "/api/v1/status", &with).await.status, 200);
    running.stop.send(()).expect("it runs");
    running.served.await.expect("it ends");
    assert!(!file.exists());
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_server_ends() {
    let running = run_plain().await;
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    *running.log.gate.lock().unwrap() = Some((Arc::clone(&begun), Arc::clone(&go)));
    let Running { address, stop, served, .. } = running;
    let body = r#"{"partitions":[]}"#;
    let more =
        format!("{}content-type: application/json\r\ncontent-length: {}\r\n", bearer(), body.len());
    let request = format!("{}{body}", head(address, "POST /api/v1/ends", &more));
    let asked = tokio::spawn(async move { send(address, &request).await.status });
    begun.notified().await;
    stop.send(()).expect("it runs");
    // Once nobody listens any more, the connections have been told.
    while TcpStream::connect(address).await.is_ok() {}
    go.notify_one();
    assert_eq!(asked.await.expect("answered"), 200);
    served.await.expect("it ends");
}

#[test]
fn a_token_is_long_enough_printable_and_shown_by_nothing() {
    for bad in ["", "short", "has a space in it here", "0123456789abcdé0123"] {
        assert!(Token::new(bad).is_err(), "{bad}");
    }
    let token = Token::new(TOKEN).expect("it is one");
    assert!(!format!("{token:?}").contains(TOKEN));
    assert!(token.is(TOKEN.as_bytes()));
    assert!(!token.is(b"") && !token.is(&TOKEN.as_bytes()[1..]));
}
