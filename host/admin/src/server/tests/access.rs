//! Who may ask for what: tokens, what is free on loopback, names of the server, other sites.

use super::*;

const READ: &str = "fedcba9876543210fedcba9876543210";
const METRICS: &str = "00112233445566778899aabbccddeeff";

fn with_tokens(log: &Arc<FakeLog>) -> AdminState {
    let token = |text| Some(Token::new(text).expect("a token"));
    AdminState { read_token: token(READ), metrics_token: token(METRICS), ..state(log) }
}

fn showing(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

#[tokio::test]
async fn on_loopback_reads_are_free_and_writes_and_messages_need_the_token() {
    let running = run_plain().await;
    for path in ["/", "/console/", "/metrics", "/health/live", "/health/ready", "/api/v1/status"] {
        let status = get(&running, path, "").await.status;
        assert_eq!(status, if path == "/" { 307 } else { 200 }, "{path}");
    }
    let wrong = "authorization: Bearer 0123456789abcdef0123456789abcdeX\r\n";
    let longer = format!("authorization: Bearer {TOKEN}0\r\n");
    let twice = format!("{}{}", bearer(), bearer());
    let basic = format!("authorization: Basic {TOKEN}\r\n");
    let refused = [
        "",
        wrong,
        &longer,
        &twice,
        &basic,
        "authorization: Bearer \r\n",
        "authorization: Bearer\r\n",
    ];
    for (line, status) in [
        ("POST /api/v1/fetch", 415),
        ("POST /api/v1/append", 415),
        ("PUT /api/v1/topics/x", 415),
        ("POST /api/v1/delete-before", 415),
        ("POST /api/v1/pipelines/x/redrive", 415),
        ("DELETE /api/v1/status", 405),
        ("POST /api/v1/unknown", 404),
    ] {
        for header in refused {
            let said = send(running.address, &head(running.address, line, header)).await;
            assert_eq!(said.status, 401, "{line} with {header}");
            assert!(said.head.contains("www-authenticate: bearer"), "{}", said.head);
            assert!(said.error().contains("Authorization: Bearer TOKEN"), "{}", said.body);
        }
        let said = send(running.address, &head(running.address, line, &bearer())).await;
        assert_eq!(said.status, status, "{line} gave {}", said.body);
    }
    // A token that is shown and wrong is a mistake that must be seen, also where none is needed.
    assert_eq!(get(&running, "/api/v1/status", wrong).await.status, 401);
}

#[tokio::test]
async fn each_token_opens_its_own_and_what_is_less() {
    let log = Arc::new(FakeLog::default());
    let running = run(Arc::clone(&log), with_tokens(&log)).await;
    let routes = ["GET /metrics", "GET /api/v1/overview", "POST /api/v1/fetch"];
    for (header, expected) in [
        (String::new(), [200, 401, 401]),
        (showing(METRICS), [200, 403, 403]),
        (showing(READ), [200, 200, 403]),
        (bearer(), [200, 200, 415]),
    ] {
        for (line, status) in routes.into_iter().zip(expected) {
            let said = send(running.address, &head(running.address, line, &header)).await;
            assert_eq!(said.status, status, "{line} with {header:?}: {}", said.body);
        }
    }
    let said = get(&running, "/api/v1/topics", &showing(METRICS)).await;
    assert!(said.error().contains("metrics token does not open this"), "{}", said.body);
}

#[tokio::test]
async fn another_site_reaches_nothing_but_a_page_that_shows_nothing() {
    let running = run_plain().await;
    let site = async |path: &str, site: &str| {
        get(&running, path, &format!("sec-fetch-site: {site}\r\n")).await.status
    };
    for other in ["cross-site", "same-site", "anything"] {
        assert_eq!(site("/api/v1/overview", other).await, 403, "{other}");
        assert_eq!(site("/metrics", other).await, 403, "{other}");
        // A link in a runbook leads to the console.
        assert_eq!(site("/console/", other).await, 200, "{other}");
    }
    assert_eq!(site("/api/v1/overview", "same-origin").await, 200);
    assert_eq!(site("/api/v1/overview", "none").await, 200);
    let page = get(&running, "/console/", "").await;
    for part in ["default-src 'none'", "frame-ancestors 'none'", "x-frame-options: deny"] {
        assert!(page.head.contains(part), "{part} is missing: {}", page.head);
    }
    let api = get(&running, "/api/v1/overview", "").await;
    assert!(api.head.contains("cross-origin-resource-policy: same-origin"), "{}", api.head);
}

#[tokio::test]
async fn a_request_must_mean_this_address_and_come_from_no_other_site() {
    let running = run_plain().await;
    let port = running.address.port();
    let as_host = async |host: &str, more: &str| {
        let request = format!("GET /health/live HTTP/1.1\r\n{host}connection: close\r\n{more}\r\n");
        send(running.address, &request).await
    };
    for good in ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"] {
        let said = as_host(&format!("host: {good}:{port}\r\n"), "").await;
        assert_eq!(said.status, 200, "{good}");
    }
    for bad in [
        format!("host: evil.example:{port}\r\n"),
        format!("host: localhost.evil.example:{port}\r\n"),
        "host: localhost\r\n".to_owned(),
        "host: localhost:1\r\n".to_owned(),
        format!("host: 10.0.0.1:{port}\r\n"),
        format!("host: localhost:{port}\r\nhost: evil.example\r\n"),
        String::new(),
    ] {
        let said = as_host(&bad, "").await;
        assert_eq!(said.status, 403, "{bad}");
        assert!(said.error().contains("http://127.0.0.1"), "{}", said.body);
    }
    let own = format!("host: localhost:{port}\r\n");
    let origin = async |origin: &str| as_host(&own, &format!("origin: {origin}\r\n")).await.status;
    assert_eq!(origin(&format!("http://localhost:{port}")).await, 200);
    for bad in ["http://localhost:3000", "https://evil.example", "null", ""] {
        assert_eq!(origin(bad).await, 403, "{bad}");
    }
    let elsewhere =
        format!("GET http://evil.example/health/live HTTP/1.1\r\n{own}connection: close\r\n\r\n");
    assert_eq!(send(running.address, &elsewhere).await.status, 403);
}

#[tokio::test]
async fn a_name_that_is_allowed_is_a_name_of_the_server() {
    let log = Arc::new(FakeLog::default());
    let state = AdminState { allowed_hosts: vec!["mill.internal:80".to_owned()], ..state(&log) };
    let running = run(log, state).await;
    let head = "GET /health/live HTTP/1.1\r\nconnection: close\r\n";
    for (more, expected) in [
        ("host: Mill.internal:80\r\n", 200),
        // A proxy in front of it may speak TLS.
        ("host: mill.internal:80\r\norigin: https://mill.internal:80\r\n", 200),
        ("host: mill.internal:80\r\norigin: https://mill.internal\r\n", 403),
        ("host: mill.internal\r\n", 403),
    ] {
        let said = send(running.address, &format!("{head}{more}\r\n")).await;
        assert_eq!(said.status, expected, "{more}");
    }
}

#[tokio::test]
async fn beyond_loopback_a_token_must_be_configured_and_probes_need_it() {
    let log = Arc::new(FakeLog::default());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("admin.token");
    let all: SocketAddr = "0.0.0.0:0".parse().expect("an address");
    let made = AdminState { token: TokenSource::MadeAtStart { file: file.clone() }, ..state(&log) };
    let error = AdminServer::bind(all, made).await.expect_err("no token is configured");
    assert!(error.to_string().contains("host.admin_token"), "{error}");
    assert!(!file.exists());

    for (open_probes, expected) in [(false, 401), (true, 200)] {
        let state = AdminState { open_probes, ..state(&log) };
        let server = AdminServer::bind(all, state).await.expect("a free port");
        let port = server.local_addr().port();
        let served = tokio::spawn(server.serve(std::future::pending()));
        let address: SocketAddr = format!("127.0.0.1:{port}").parse().expect("an address");
        for path in ["/metrics", "/health/live"] {
            let said = send(address, &head(address, &format!("GET {path}"), "")).await;
            assert_eq!(said.status, expected, "{path}");
        }
        for path in ["/api/v1/status", "/api/v1/overview", "/api/v1/openapi.json", "/nowhere"] {
            let said = send(address, &head(address, &format!("GET {path}"), "")).await;
            assert_eq!(said.status, 401, "{path}");
        }
        let page = send(address, &head(address, "GET /console/", "")).await;
        assert_eq!(page.status, 200, "the page asks for the token itself");
        served.abort();
    }
}
