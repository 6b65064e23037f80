//! Arbitrary bytes on a socket, each with the expected response.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{PATIENCE, TestApp, elapse, unique};

/// Sends raw bytes. Returns everything received until the connection closes, or within 1.5 s.
async fn raw(app: &TestApp, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    // The gateway may reject the request and close the connection before everything is sent.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let read = async {
        let mut part = vec![0; 64 << 10];
        while let Ok(length @ 1..) = stream.read(&mut part).await {
            answer.extend_from_slice(&part[..length]);
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(1500), read).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn statuses(answer: &str) -> Vec<u16> {
    let of = |line: &str| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok();
    // The next response starts on the line on which the previous body ends.
    answer.lines().filter_map(of).collect()
}

type Case = (&'static str, String, &'static [u16]);

/// Bodies with an ambiguous length, each with a request that one interpretation hides.
fn bodies() -> Vec<Case> {
    let post = "POST /v1/streams/smuggled/entries HTTP/1.1\r\nhost: localhost\r\n";
    let other = "POST /v1/streams/not-smuggled/entries HTTP/1.1\r\nhost: localhost\r\n";
    let hidden = "GET /v1/streams/hidden HTTP/1.1\r\nhost: localhost\r\n\r\n";
    vec![
        (
            "two lengths, of which one is chunked",
            format!(
                "{post}content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"
            ),
            &[400],
        ),
        (
            "the same in the other order",
            format!(
                "{post}transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n{hidden}"
            ),
            &[400],
        ),
        (
            "a coding before chunked",
            format!("{post}transfer-encoding: gzip, chunked\r\n\r\n3\r\nn=1\r\n0\r\n\r\n{hidden}"),
            &[400],
        ),
        (
            "no coding before chunked",
            format!("{post}transfer-encoding: identity, chunked\r\n\r\n0\r\n\r\n{hidden}"),
            &[400],
        ),
        (
            "two encodings",
            format!(
                "{post}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"
            ),
            &[400],
        ),
        (
            "an encoding of HTTP/1.0",
            "POST /v1/streams/smuggled/entries HTTP/1.0\r\nhost: localhost\r\n\
             transfer-encoding: chunked\r\n\r\n0\r\n\r\n"
                .to_owned(),
            &[400],
        ),
        (
            "a length that a bare LF hides",
            format!("{post}x: x\ncontent-length: 23\r\n\r\n{hidden}"),
            &[400],
        ),
        (
            "the same after requests without a fault, with a body of each kind",
            format!(
                "{post}content-length: 0\r\n\r\n{other}content-length: 2\r\n\r\n{{}}\
                 {other}transfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\nx: y\r\n\r\n\
                 {post}x: x\ncontent-length: 23\r\n\r\n{hidden}"
            ),
            &[422, 201, 201, 400],
        ),
        (
            "two different lengths",
            format!("{post}content-length: 4\r\ncontent-length: 5\r\n\r\nn=12{hidden}"),
            &[400],
        ),
        (
            "a length that is none",
            format!("{post}content-length: +4\r\n\r\nn=12{hidden}"),
            &[400],
        ),
        (
            "an encoding nobody knows",
            format!("{post}transfer-encoding: gzip\r\n\r\n{hidden}"),
            &[400],
        ),
        (
            "an encoding after chunked",
            format!("{post}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{hidden}"),
            &[400],
        ),
        (
            "a chunk longer than numbers are",
            format!("{post}transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n{hidden}"),
            &[400],
        ),
        (
            "a chunk that ends with a bare LF",
            format!("{post}transfer-encoding: chunked\r\n\r\n3\nn=1\n0\n\n{hidden}"),
            &[400],
        ),
    ]
}

/// Heads that can be interpreted in more than one way.
fn heads() -> Vec<Case> {
    vec![
        (
            "two hosts",
            "GET /v1/streams HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "no host",
            "GET /v1/streams HTTP/1.1\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "a line that is continued",
            "GET /v1/streams HTTP/1.1\r\nhost: localhost\r\nx: a\r\n b\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "a space before the colon",
            "GET /v1/streams HTTP/1.1\r\nhost : localhost\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "a NUL",
            "GET /v1/streams HTTP/1.1\r\nhost: localhost\r\nx: a\0b\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "a bare CR",
            "GET /v1/streams HTTP/1.1\r\nhost: localhost\r\nx: a\rb\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "bare LFs",
            "GET /v1/streams HTTP/1.1\nhost: localhost\n\n".to_owned(),
            &[400],
        ),
        (
            "an escape that is none",
            "GET /v1/streams/%zz HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "half an escape",
            "GET /v1/streams/a%2 HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "a target with its host",
            "GET http://localhost/v1/streams HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(),
            &[200],
        ),
        (
            "a target with another host",
            "GET http://localhost/v1/streams HTTP/1.1\r\nhost: evil.example\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "a target with a foreign host",
            "GET http://evil.example/v1/streams HTTP/1.1\r\nhost: evil.example\r\n\r\n".to_owned(),
            &[403],
        ),
        (
            "CONNECT",
            "CONNECT localhost:80 HTTP/1.1\r\nhost: localhost:80\r\n\r\n".to_owned(),
            &[404],
        ),
        (
            "TRACE",
            "TRACE /v1/streams HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(),
            &[405],
        ),
        (
            "a star",
            "OPTIONS * HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(),
            &[404],
        ),
        (
            "another protocol",
            "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "another version",
            "GET /v1/streams HTTP/3.0\r\nhost: localhost\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "TLS",
            "\x16\x03\x01\x02\0\x01\0\x01\u{7c}\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "an upgrade",
            "GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade, http2-settings\r\n\
             upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n"
                .to_owned(),
            &[200],
        ),
    ]
}

#[tokio::test]
async fn requests_that_two_servers_could_read_differently_get_one_answer() {
    let app = TestApp::start().await;
    let cases = [bodies(), heads()].concat();
    let answers = cases
        .iter()
        .map(|(_, request, _)| raw(&app, request.as_bytes()));
    let answers = futures_util::future::join_all(answers).await;
    for ((what, _, expected), answer) in cases.iter().zip(answers) {
        assert_eq!(&statuses(&answer), expected, "{what}: {answer}");
        assert!(
            !answer.to_lowercase().contains("\r\nserver:"),
            "{what}: {answer}"
        );
        let problems = answer
            .matches("content-type: application/problem+json")
            .count();
        let refused = expected.iter().filter(|status| **status >= 400).count();
        assert_eq!(problems, refused, "{what}: {answer}");
    }
    for stream in ["smuggled", "hidden"] {
        app.get(&format!("/v1/streams/{stream}"))
            .await
            .is_problem(404, "stream-not-found");
    }
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused_as_such() {
    let app = TestApp::start_with(|settings| settings.server.max_header_size = 16 << 10).await;
    let head = |rest: &str| format!("GET /livez HTTP/1.1\r\nhost: localhost\r\n{rest}\r\n");
    let many = (0..150)
        .map(|n| format!("x-{n}: 1\r\n"))
        .collect::<Vec<_>>()
        .concat();
    for (what, request, expected) in [
        (
            "a large field",
            head(&format!("x: {}\r\n", "x".repeat(20_000))),
            431,
        ),
        ("many fields", head(&many), 431),
        (
            "a large name",
            head(&format!("{}: 1\r\n", "x".repeat(20_000))),
            431,
        ),
        (
            "a long path",
            format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000)),
            431,
        ),
        (
            "what just fits",
            head(&format!("x: {}\r\n", "x".repeat(15_000))),
            200,
        ),
    ] {
        let answer = raw(&app, request.as_bytes()).await;
        assert_eq!(statuses(&answer), [expected], "{what}");
        let told = answer.contains("\"code\":\"head-too-large\"");
        assert_eq!(told, expected == 431, "{what}: {answer}");
    }
    let app = TestApp::start().await;
    let path = format!(
        "GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "x".repeat(70_000)
    );
    let answer = raw(&app, path.as_bytes()).await;
    assert_eq!(statuses(&answer), [414]);
    assert!(answer.contains("\"code\":\"uri-too-long\""), "{answer}");
}

#[tokio::test]
async fn a_refused_head_is_logged_counted_and_answered_like_any_request() {
    let app = TestApp::start().await;
    for (head, part) in [
        ("GET / HTTP/1.1\r\nx: a\nb: c\r\n\r\n", "ends with LF only"),
        ("\x16\x03\x01\x02\0\x01\0\x01", "does not support TLS"),
        (
            "POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            "cannot be combined",
        ),
    ] {
        let answer = raw(&app, head.as_bytes()).await;
        assert_eq!(statuses(&answer), [400], "{answer}");
        for part in [
            part,
            "x-request-id: ",
            "connection: close",
            "\"code\":\"invalid-request\"",
        ] {
            assert!(answer.contains(part), "{part}: {answer}");
        }
    }
    let counted = "requests_total{method=\"GET\",route=\"none\",status=\"400\"}";
    assert_eq!(app.metric_if_any(counted).await, Some(3));
}

#[tokio::test]
async fn http_1_0_names_no_host_where_credentials_say_who_asks() {
    let file = crate::support::auth::AuthFile::new(&crate::support::auth::record("root", &["* *"]));
    let app = file.app().await;
    let key = crate::support::auth::key("root");
    let get = |version| format!("GET /v1/streams HTTP/{version}\r\nx-api-key: {key}\r\n\r\n");
    assert!(
        raw(&app, get("1.0").as_bytes())
            .await
            .starts_with("HTTP/1.0 200 ")
    );
    assert!(
        raw(&app, get("1.1").as_bytes())
            .await
            .starts_with("HTTP/1.1 400 ")
    );
    let foreign = "GET /v1/streams HTTP/1.0\r\norigin: https://evil.example\r\n\r\n";
    assert!(
        raw(&app, foreign.as_bytes())
            .await
            .starts_with("HTTP/1.0 403 ")
    );
    // Without authentication, the host is the only protection against pages of other origins.
    let app = TestApp::start().await;
    assert!(
        raw(&app, get("1.0").as_bytes())
            .await
            .starts_with("HTTP/1.0 400 ")
    );
}

#[tokio::test]
async fn clients_that_dawdle_are_closed_in_time_while_others_are_served() {
    let limit = Duration::from_secs(1);
    let app = TestApp::start_with(|settings| {
        settings.server.header_timeout = limit;
        settings.api.body_timeout = limit;
    })
    .await;
    // A third each: heads sent one byte at a time, HTTP/2 connections that stop after the preface,
    // and bodies sent one byte at a time.
    let heads = [
        "GET /livez HTTP/1.1\r\nhost: localhost\r\nx-slow: ".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        format!(
            "POST /v1/streams/{}/entries HTTP/1.1\r\nhost: localhost\r\n\
             content-length: 1000\r\nconnection: close\r\n\r\n",
            unique("dawdle")
        ),
    ];
    // One after another, because together they would exceed the accept queue of a socket.
    let mut streams = Vec::new();
    for _ in 0..200 {
        streams.push(TcpStream::connect(app.address).await.unwrap());
    }
    let dawdle = async |(n, mut stream): (usize, TcpStream)| {
        stream.write_all(heads[n % 3].as_bytes()).await.unwrap();
        let (began, mut part) = (Instant::now(), [0; 1024]);
        loop {
            let pause = tokio::time::timeout(Duration::from_millis(100), stream.read(&mut part));
            match pause.await {
                Ok(Ok(0) | Err(_)) => return began.elapsed(),
                Ok(Ok(_)) => {}
                Err(_) => drop(stream.write_all(b"x").await),
            }
            assert!(began.elapsed() < PATIENCE, "{n} is not closed");
        }
    };
    let all = futures_util::future::join_all(streams.into_iter().enumerate().map(dawdle));
    let served = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..50 {
            let asked = Instant::now();
            assert_eq!(app.get("/v1/streams?limit=1").await.status, 200);
            slowest = slowest.max(asked.elapsed());
        }
        slowest
    };
    let (closed, slowest) = tokio::join!(all, served);
    let latest = closed.into_iter().max().unwrap();
    assert!(
        latest < Duration::from_secs(5),
        "the last was closed after {latest:?}"
    );
    assert!(
        slowest < Duration::from_secs(5),
        "others waited {slowest:?}"
    );
    crate::support::eventually("all are gone", async || {
        app.metric("connections").await == 1
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_connections_leaves_those_that_are_served_alone() {
    let app = TestApp::start_with(|settings| settings.server.max_connections = 20).await;
    let mut live = app
        .follow(&format!("/v1/streams/{}/events", unique("calm")))
        .await;
    live.expect("$open").await;
    let kept = app.client.clone();
    assert_eq!(app.get("/livez").await.status, 200);
    let mut flood = Vec::new();
    for _ in 0..500 {
        flood.push(TcpStream::connect(app.address).await.unwrap());
    }
    assert_eq!(app.send(kept.get(app.url("/livez"))).await.status, 200);
    assert!(app.metric("connections").await <= 20 + 256 + 1);
    crate::support::eventually("those beyond it are counted", async || {
        let refused = app
            .metric_if_any("refused_total{bound=\"connections\"}")
            .await;
        refused.is_some_and(|refused| refused >= 400)
    })
    .await;
    assert!(live.soon(Duration::from_millis(50)).await.is_none());
    drop(flood);
    crate::support::eventually("they are gone", async || {
        app.metric("connections").await <= 2
    })
    .await;
}

#[tokio::test]
async fn a_request_that_begins_like_http_2_loses_no_byte() {
    let app = TestApp::start().await;
    let stream = unique("begins");
    // Longer than the buffer of the connection, so that the second read fills it.
    let body = "x".repeat(60_000);
    let request = format!(
        "POST /v1/streams/{stream}/entries?payload=data HTTP/1.1\r\nhost: localhost\r\n\
         content-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    // `P` could also begin the preface of HTTP/2, `PRI * HTTP/2.0`.
    for first in [1, 2] {
        let mut socket = TcpStream::connect(app.address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let bytes = request.as_bytes();
        socket.write_all(&bytes[..first]).await.unwrap();
        elapse(100, "the gateway reads the first bytes alone").await;
        socket.write_all(&bytes[first..]).await.unwrap();
        let mut answer = String::new();
        let read = socket.read_to_string(&mut answer);
        tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    }
    let page = app
        .get(&format!(
            "/v1/streams/{stream}/entries?after=0&payload=data"
        ))
        .await
        .json();
    let stored: Vec<_> = page["entries"].as_array().unwrap().iter().collect();
    assert_eq!(stored.len(), 2);
    assert!(stored.iter().all(|entry| entry["payload"] == *body));
}
