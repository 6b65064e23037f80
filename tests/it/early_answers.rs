//! Answers that are there before a request has been sent to its end: who sends first and reads later
//! gets them all the same.

use std::future::poll_fn;
use std::process::Stdio;
use std::time::{Duration, Instant};

use hyper::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::support::auth::{AuthFile, record};
use crate::support::certs::Authority;
use crate::support::{PATIENCE, TestApp, elapse, eventually, unique};

/// What is sent: more than any buffer on the way holds.
const LARGE: usize = 60_000_000;

fn post(path: &str, more: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{more}content-length: {LARGE}\r\n\r\n")
}

/// Sends all of a large request first, then reads the answer.
async fn send_first(app: &TestApp, head: &str) -> String {
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let part = vec![b'x'; 1 << 20];
    let mut left = LARGE;
    while left > 0 {
        let length = left.min(part.len());
        stream
            .write_all(&part[..length])
            .await
            .expect("it is read on");
        left -= length;
    }
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .await
        .expect("the answer is not lost");
    answer
}

#[tokio::test]
async fn who_sends_a_large_body_before_reading_gets_every_early_answer() {
    let app = TestApp::start().await;
    let path = format!("/v1/streams/{}/entries", unique("early"));
    for (head, status) in [
        (post(&path, ""), 413),
        (post(&path, "content-type: application/json\r\n"), 413),
        (post(&path, "origin: https://evil.example\r\n"), 403),
        (post("/nope", ""), 404),
        (post("/livez", ""), 405),
        (post("/v1/streams/%zz/entries", ""), 400),
        (post(&path, "x: y\nz: z\r\n"), 400),
        (post(&path, "content-length: 7\r\n"), 400),
        (post(&path, &"x: y\r\n".repeat(101)), 431),
    ] {
        let answer = send_first(&app, &head).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert!(
            answer.contains("content-type: application/problem+json"),
            "{answer}"
        );
    }
    eventually("all are closed", async || {
        app.metric("connections").await == 1
    })
    .await;
    assert_eq!(
        app.metric_if_any("refused_total{bound=\"linger\"}")
            .await
            .unwrap_or(0),
        0
    );

    let file = AuthFile::new(&record("root", &["* *"]));
    let app = file.app().await;
    let answer = send_first(&app, &post(&path, "")).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

#[tokio::test]
async fn a_client_that_asks_before_it_sends_a_large_body_is_not_told_to_go_on() {
    let app = TestApp::start().await;
    let path = format!("/v1/streams/{}/entries", unique("expect"));
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    stream
        .write_all(post(&path, "expect: 100-continue\r\n").as_bytes())
        .await
        .unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 413");
    // One that fits is.
    let small = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\
         content-type: application/x-www-form-urlencoded\r\n\r\n"
    );
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    stream.write_all(small.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"n=1").await.unwrap();
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 201");
}

#[tokio::test]
async fn a_client_that_sends_on_and_on_is_cut_at_the_bounds_and_counted() {
    let short = TestApp::start_with(|settings| {
        settings.server.linger_timeout = Duration::from_millis(400);
    })
    .await;
    let path = format!("/v1/streams/{}/entries", unique("on"));
    let mut slow = TcpStream::connect(short.address).await.unwrap();
    slow.write_all(post(&path, "").as_bytes()).await.unwrap();
    let began = Instant::now();
    let mut answer = Vec::new();
    slow.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 413 "));
    let sending = async {
        while slow.write_all(b"x").await.is_ok() {
            elapse(20, "a slow client").await;
        }
    };
    tokio::time::timeout(PATIENCE, sending)
        .await
        .expect("it is cut");
    assert!(
        began.elapsed() >= Duration::from_millis(400),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(short.metric("refused_total{bound=\"linger\"}").await, 1);

    let little = TestApp::start_with(|settings| settings.server.linger_bytes = 1 << 20).await;
    let mut fast = TcpStream::connect(little.address).await.unwrap();
    fast.write_all(post(&path, "").as_bytes()).await.unwrap();
    let part = vec![0; 1 << 20];
    let sending = async { while fast.write_all(&part).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, sending)
        .await
        .expect("it is cut");
    assert_eq!(little.metric("refused_total{bound=\"linger\"}").await, 1);
}

/// Runs a command and answers what it prints.
async fn run(program: &str, args: &[&str]) -> String {
    let run = Command::new(program)
        .args(args)
        .stderr(Stdio::inherit())
        .output();
    let output = tokio::time::timeout(PATIENCE, run)
        .await
        .expect("it ends in time")
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn clients_as_they_are_read_413_of_a_large_body() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let plain = TestApp::start().await;
    let tls = crate::tls::over_tls(&authority, dir.path()).await;
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).unwrap();
    let ca = ca.to_str().unwrap();
    for app in [&plain, &tls] {
        let url = app.url(&format!("/v1/streams/{}/entries", unique("clients")));
        let script = format!(
            "import ssl, urllib.request, urllib.error\n\
             context = ssl.create_default_context(cafile={ca:?})\n\
             request = urllib.request.Request({url:?}, data=b'x' * {LARGE})\n\
             try: urllib.request.urlopen(request, context=context if {url:?}[4] == 's' else None)\n\
             except urllib.error.HTTPError as error: print(error.code, error.headers['content-type'])"
        );
        assert_eq!(
            run("python3", &["-c", &script]).await.trim(),
            "413 application/problem+json"
        );
        let large = dir.path().join("large");
        std::fs::write(&large, vec![b'x'; LARGE]).unwrap();
        let data = format!("@{}", large.display());
        // With `Expect: 100-continue`, as curl does by itself, and without.
        for how in [
            &["--http1.1"][..],
            &["--http1.1", "-H", "Expect:"],
            &["--http2-prior-knowledge"],
        ] {
            let args = [
                &[
                    "-sS",
                    "--cacert",
                    ca,
                    "-w",
                    "%{http_code}",
                    "-o",
                    "/dev/null",
                ],
                how,
                &["--data-binary", &data, &url],
            ]
            .concat();
            assert_eq!(run("curl", &args).await, "413", "{how:?}");
        }
        let sent = app.client.post(&url).body(vec![b'x'; LARGE]);
        app.send(sent).await.is_problem(413, "too-large");
    }
}

#[tokio::test]
async fn curl_reads_every_early_answer_over_http2() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let plain = TestApp::start().await;
    let tls = crate::tls::over_tls(&authority, dir.path()).await;
    let file = AuthFile::new(&record("root", &["* *"]));
    let locked = file.app().await;
    let (ca, large) = (dir.path().join("ca.pem"), dir.path().join("large"));
    std::fs::write(&ca, &authority.pem).unwrap();
    std::fs::write(&large, vec![b'x'; LARGE]).unwrap();
    let (ca, data) = (ca.to_str().unwrap(), format!("@{}", large.display()));
    let path = format!("/v1/streams/{}/entries", unique("early"));
    for (app, path, header, status) in [
        (&plain, path.as_str(), "accept: */*", "413"),
        (&plain, &path, "content-type: application/json", "413"),
        // Without a length the limit is met on the way.
        (&plain, &path, "content-length:", "413"),
        (&plain, &path, "content-encoding: rot13", "415"),
        (&plain, &path, "origin: https://evil.example", "403"),
        (&plain, "/nope", "accept: */*", "404"),
        (&plain, "/livez", "accept: */*", "405"),
        (&tls, &path, "accept: */*", "413"),
        (&tls, &path, "content-encoding: rot13", "415"),
        (&locked, &path, "accept: */*", "401"),
    ] {
        let protocol = match app.url("").starts_with("https") {
            true => "--http2",
            false => "--http2-prior-knowledge",
        };
        let (url, form) = (
            app.url(path),
            "%{http_code} %{http_version} %{content_type}",
        );
        // Whether the reset or the answer comes first varies.
        for _ in 0..3 {
            let args = [
                "-sS",
                "--cacert",
                ca,
                "-w",
                form,
                "-o",
                "/dev/null",
                protocol,
                "-H",
                header,
                "--data-binary",
                &data,
                &url,
            ];
            let expected = format!("{status} 2 application/problem+json");
            assert_eq!(run("curl", &args).await, expected, "{path} {header}");
        }
    }
    for app in [&plain, &tls] {
        eventually("all are closed", async || {
            app.metric("connections").await == 1
        })
        .await;
        assert_eq!(app.metric("refused_total{bound=\"linger\"}").await, 0);
    }
}

#[tokio::test]
async fn a_stream_of_http2_that_sends_on_and_on_is_reset_at_the_bounds_and_counted() {
    let (slowly, at_once) = (20, 0);
    for (timeout, bytes, pause) in [(400, 64 << 20, slowly), (60_000, 1 << 20, at_once)] {
        let app = TestApp::start_with(|settings| {
            settings.server.linger_timeout = Duration::from_millis(timeout);
            settings.server.linger_bytes = bytes;
        })
        .await;
        let path = app.url(&format!("/v1/streams/{}/entries", unique("on")));
        let stream = TcpStream::connect(app.address).await.unwrap();
        let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = Request::post(path)
            .header("content-length", LARGE)
            .body(())
            .unwrap();
        let (answer, mut body) = send.send_request(request, false).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 413);
        let mut problem = answer.into_body();
        while let Some(part) = problem.data().await {
            part.unwrap();
        }
        let sending = async {
            loop {
                body.reserve_capacity(16 << 10);
                match poll_fn(|cx| body.poll_capacity(cx)).await {
                    Some(Ok(length)) => {
                        if body.send_data(vec![b'x'; length].into(), false).is_err() {
                            break;
                        }
                    }
                    _ => break,
                }
                elapse(pause, "the pace of the client").await;
            }
            poll_fn(|cx| body.poll_reset(cx)).await
        };
        let reset = tokio::time::timeout(PATIENCE, sending)
            .await
            .expect("it is cut");
        assert_eq!(reset.unwrap(), h2::Reason::NO_ERROR);
        assert_eq!(app.metric("refused_total{bound=\"linger\"}").await, 1);
        // The connection serves others as before.
        let request = Request::get(app.url("/livez")).body(()).unwrap();
        let (answer, _) = send.send_request(request, true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 200);
        connection.abort();
    }
}
