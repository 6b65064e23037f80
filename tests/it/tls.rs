//! TLS: every feature works over it and over both protocols, certificates can change, and clients
//! that do not complete a handshake are disconnected.

use std::time::Duration;

use reqwest::Version;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::app::{answer, client, client_with};
use crate::support::certs::Authority;
use crate::support::gateway::{Gateway, run};
use crate::support::redis::shared;
use crate::support::sse::Sse;
use crate::support::{PATIENCE, TestApp, eventually, unique};

pub async fn over_tls(authority: &Authority, dir: &std::path::Path) -> TestApp {
    let files = authority.issue(dir);
    let mut app = TestApp::start_with(|settings| settings.server.tls = Some(files)).await;
    app.client = authority.client();
    app
}

/// Uses every kind of request over one protocol until the gateway stops.
async fn use_it(app: TestApp, version: Version) {
    let stream = unique("all");
    let path = format!("/v1/streams/{stream}");
    let mut live = app.follow(&format!("{path}/events")).await;
    live.expect("$open").await;
    let lines = app
        .client
        .get(app.url(&format!("{path}/entries?after=0&follow=true")));
    let lines = lines
        .header("accept", "application/x-ndjson")
        .send()
        .await
        .unwrap();
    assert_eq!((lines.status().as_u16(), lines.version()), (200, version));
    app.publish(&stream, "0").await;
    let entry = |n: usize| format!("{{\"fields\":{{\"n\":\"{n}\"}}}}\n");
    let upload = (1..=3000).map(entry).collect::<Vec<_>>().concat();
    let post = app.client.post(app.url(&format!("{path}/entries")));
    let post = post
        .header("content-type", "application/x-ndjson")
        .body(upload);
    assert_eq!(app.send(post).await.json()["appended"], 3000);
    let expected: Vec<String> = (0..=3000).map(|n| n.to_string()).collect();
    assert_eq!(live.values(3001).await, expected);
    let mut followed = Vec::new();
    let mut lines = Box::pin(lines.bytes_stream());
    while followed.split(|byte| *byte == b'\n').count() <= 3001 {
        let part = tokio::time::timeout(PATIENCE, futures_util::StreamExt::next(&mut lines)).await;
        followed.extend_from_slice(&part.unwrap().unwrap().unwrap());
    }
    let large = "x".repeat(300_000);
    app.publish(&unique("other"), "1").await;
    app.post_form(&format!("{path}/entries"), &format!("n={large}"))
        .await;
    let last = app.get(&format!("{path}/entries?last=1")).await.json();
    assert_eq!(last["entries"][0]["fields"]["n"], large);
    assert_eq!(live.values(1).await, [large]);
    let get = app.client.get(app.url("/livez")).send().await.unwrap();
    assert_eq!(
        (get.version(), get.headers().get("server")),
        (version, None)
    );
    app.get("/nope").await.is_problem(404, "route-not-found");
    app.drain();
    assert_eq!(live.expect("$end").await.json()["reason"], "draining");
    assert!(live.next().await.is_none());
    drop(lines);
    tokio::time::timeout(Duration::from_secs(8), app.stop())
        .await
        .expect("it stops in time");
}

#[tokio::test]
async fn everything_works_over_tls_and_over_http_2() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    use_it(over_tls(&authority, dir.path()).await, Version::HTTP_2).await;
    let mut app = over_tls(&authority, dir.path()).await;
    app.client = authority.client_with(reqwest::ClientBuilder::http1_only);
    use_it(app, Version::HTTP_11).await;
    let mut app = TestApp::start().await;
    app.client = client_with(reqwest::ClientBuilder::http2_prior_knowledge);
    use_it(app, Version::HTTP_2).await;
    use_it(TestApp::start().await, Version::HTTP_11).await;
}

#[tokio::test]
async fn a_certificate_is_changed_while_it_is_used_and_a_broken_one_changes_nothing() {
    let (old, new, dir) = (
        Authority::new(),
        Authority::new(),
        tempfile::tempdir().unwrap(),
    );
    let files = old.issue(dir.path());
    let gateway = Gateway::start(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--redis-url",
        &shared().await.url(),
        "--tls-cert",
        files.cert.to_str().unwrap(),
        "--tls-key",
        files.key.to_str().unwrap(),
    ]);
    let url = |path: &str| format!("https://{}{path}", gateway.address);
    let told = |what: &str| {
        while !gateway
            .log
            .recv_timeout(PATIENCE)
            .expect(what)
            .contains(what)
        {}
    };
    let events = url(&format!("/v1/streams/{}/events", unique("kept")));
    let mut kept = Sse::open(&old.client(), &events, None).await;
    kept.expect("$open").await;
    std::fs::write(&files.key, "nonsense").unwrap();
    told("holds no private key");
    let live = async |authority: &Authority| answer(authority.client().get(url("/livez"))).await;
    assert_eq!(live(&old).await.unwrap().status, 200);
    assert!(live(&new).await.is_err());
    new.issue(dir.path());
    told("reloaded the TLS certificate");
    assert_eq!(live(&new).await.unwrap().status, 200);
    assert!(live(&old).await.is_err());
    assert!(
        kept.soon(Duration::from_millis(100)).await.is_none(),
        "what is open goes on"
    );
    gateway.signal("TERM");
    assert_eq!(kept.expect("$end").await.json()["reason"], "draining");
}

#[tokio::test]
async fn the_quick_start_and_the_health_check_know_of_tls() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let files = authority.issue(dir.path());
    let (cert, key) = (files.cert.to_str().unwrap(), files.key.to_str().unwrap());
    let url = shared().await.url();
    let tls = ["--tls-cert", cert, "--tls-key", key];
    let serve = ["serve", "--listen", "127.0.0.1:0", "--redis-url", &url];
    let gateway = Gateway::start(&[&serve[..], &tls].concat());
    let listen = gateway.address.to_string();
    let start = answer(authority.client().get(format!("https://{listen}/")))
        .await
        .unwrap();
    assert!(
        start.body.contains(&format!("curl https://{listen}/v1/")),
        "{}",
        start.body
    );
    assert!(!start.body.contains("http://"), "{}", start.body);
    let check = ["healthcheck", "--listen", &listen];
    assert_eq!(run(&[&check[..], &tls].concat(), &[]).0, Some(0));
    // A file that has become invalid is no reason to restart a running gateway.
    std::fs::write(&files.cert, "nonsense").unwrap();
    assert_eq!(run(&[&check[..], &tls].concat(), &[]).0, Some(0));
    assert_eq!(
        run(&check, &[]).0,
        Some(1),
        "without TLS it does not answer"
    );
}

#[test]
fn certificates_that_cannot_be_used_are_refused_at_the_start_without_telling_them() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let other = tempfile::tempdir().unwrap();
    let files = authority.issue(dir.path());
    let (cert, key) = (files.cert.to_str().unwrap(), files.key.to_str().unwrap());
    let foreign = authority.issue(other.path()).key;
    let foreign = foreign.to_str().unwrap();
    for (cert, key, problems) in [
        (
            cert,
            foreign,
            &["tls-key: ", "does not match the certificate in"][..],
        ),
        (
            key,
            cert,
            &[
                "tls-cert: ",
                "holds no certificate",
                "tls-key: ",
                "holds no private key",
            ],
        ),
        (
            "/nowhere/c",
            "/nowhere/k",
            &["cannot read /nowhere/c", "cannot read /nowhere/k"],
        ),
    ] {
        let args = [
            "config",
            "check",
            "--redis-url",
            "redis://h",
            "--tls-cert",
            cert,
            "--tls-key",
            key,
        ];
        let (code, out, err) = run(&args, &[("STREAMGATE_HEARTBEAT", "1")]);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
        for problem in problems.iter().chain(&["heartbeat"]) {
            assert!(err.contains(problem), "{problem}: {err}");
        }
        for file in [cert, key] {
            let secret = std::fs::read_to_string(file).unwrap_or_default();
            assert!(
                secret.lines().skip(1).all(|line| !err.contains(line)),
                "{err}"
            );
        }
    }
    let (code, _, err) = run(
        &[
            "config",
            "check",
            "--redis-url",
            "redis://h",
            "--tls-key",
            key,
        ],
        &[],
    );
    assert_eq!(code, Some(2));
    assert!(err.contains("tls-key requires tls-cert"), "{err}");
}

#[tokio::test]
async fn a_handshake_that_does_not_come_to_an_end_is_bounded_and_counted() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let files = authority.issue(dir.path());
    let mut app = TestApp::start_with(|settings| {
        settings.server.tls = Some(files);
        settings.server.handshake_timeout = Duration::from_millis(300);
    })
    .await;
    app.client = authority.client();
    let mut rest = Vec::new();
    let mut silent = TcpStream::connect(app.address).await.unwrap();
    tokio::time::timeout(PATIENCE, silent.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    let mut plain = TcpStream::connect(app.address).await.unwrap();
    plain
        .write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let _ = tokio::time::timeout(PATIENCE, plain.read_to_end(&mut rest))
        .await
        .unwrap();
    assert!(
        !String::from_utf8_lossy(&rest).contains("HTTP"),
        "nothing is answered in the clear"
    );
    for outcome in ["timeout", "failed"] {
        let name = format!("tls_handshakes_total{{outcome=\"{outcome}\"}}");
        assert_eq!(app.metric_if_any(&name).await, Some(1), "{outcome}");
    }
    // The limit on connections includes those in a handshake.
    let app = TestApp::start_with(|settings| {
        settings.server.tls = Some(authority.issue(dir.path()));
        settings.server.max_connections = 2;
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(TcpStream::connect(app.address).await.unwrap());
    }
    let get = || answer(authority.client().get(app.url("/livez")));
    eventually("one too many is told so", async || {
        get().await.is_ok_and(|a| a.status == 503)
    })
    .await;
    held.clear();
    eventually("there is room again", async || {
        get().await.is_ok_and(|a| a.status == 200)
    })
    .await;
    assert!(
        answer(client().get(app.url("/livez"))).await.is_err(),
        "an unknown authority"
    );
}
