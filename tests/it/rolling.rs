//! Shutdown while clients publish: requests in progress are answered, and a client that follows the
//! responses loses nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;

use deadpool_redis::redis::Value;

use crate::support::app::{answer, client};
use crate::support::gateway::Gateway;
use crate::support::redis::shared;
use crate::support::{PATIENCE, TestApp, elapse, eventually, unique};

/// A connection that is reused as long as the gateway allows it, and never retried.
struct Kept(BufReader<TcpStream>);

impl Kept {
    async fn open(address: SocketAddr) -> Self {
        Self(BufReader::new(
            TcpStream::connect(address).await.expect("it accepts"),
        ))
    }

    /// Sends a request. Returns its status, and whether the connection stays open.
    async fn send(&mut self, head: &str, body: &str) -> (u16, bool) {
        let request = format!(
            "{head}\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.write_all(request.as_bytes()).await.unwrap();
        let (mut status, mut length, mut stays) = (0, 0, true);
        loop {
            let mut line = String::new();
            let read = self.0.read_line(&mut line).await.unwrap();
            assert!(read > 0, "the connection ended without an answer");
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(rest) = line.strip_prefix("http/1.1 ") {
                status = rest[..3].parse().unwrap();
            } else if let Some(rest) = line.strip_prefix("content-length: ") {
                length = rest.parse().unwrap();
            } else if line == "connection: close" {
                stays = false;
            } else if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        (status, stays)
    }

    async fn publish(&mut self, stream: &str) -> bool {
        let head = format!(
            "POST /v1/streams/{stream}/entries HTTP/1.1\r\n\
             content-type: application/x-www-form-urlencoded"
        );
        let (status, stays) = self.send(&head, "n=1").await;
        assert_eq!(status, 201);
        stays
    }

    async fn until_closed(mut self) {
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut rest)).await;
        assert_eq!(closed.expect("it is closed").unwrap_or(0), 0);
    }
}

async fn gateway() -> Gateway {
    let url = shared().await.url();
    let start = move || {
        let lame_duck = ["--lame-duck", "1s", "--redis-url", &url];
        Gateway::start(&[&["serve", "--listen", "127.0.0.1:0"], &lame_duck[..]].concat())
    };
    tokio::task::spawn_blocking(start).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_under_load_breaks_no_publish() {
    let stream = unique("rolling");
    let mut running = gateway().await;
    // A load balancer: new connections go to a gateway that reports it is ready.
    let (ready, published) = (
        watch::channel(running.address),
        Arc::new(AtomicUsize::new(0)),
    );
    let (point, stop) = (ready.0, watch::channel(false));
    let publishers: Vec<_> = (0..8)
        .map(|n| {
            let (stream, at, published) = (stream.clone(), ready.1.clone(), published.clone());
            let stopped = stop.1.clone();
            tokio::spawn(async move {
                let mut random = fastrand::Rng::with_seed(n);
                let mut kept: Option<Kept> = None;
                while !*stopped.borrow() {
                    let address = *at.borrow();
                    let mut connection = match kept.take() {
                        Some(connection) => connection,
                        None => Kept::open(address).await,
                    };
                    if connection.publish(&stream).await {
                        kept = Some(connection);
                    }
                    published.fetch_add(1, Ordering::Relaxed);
                    elapse(random.u64(0..100), "a client with pauses").await;
                }
            })
        })
        .collect();
    for _ in 0..3 {
        let next = gateway().await;
        let url = format!("http://{}/readyz", running.address);
        running.signal("TERM");
        // A health check notices the change some time later.
        eventually("it is not ready", async || {
            answer(client().get(&url)).await.unwrap().status == 503
        })
        .await;
        elapse(300, "the balancer learns of it later").await;
        point.send(next.address).unwrap();
        assert_eq!(running.wait().code(), Some(0));
        running = next;
    }
    stop.0.send(true).unwrap();
    for publisher in publishers {
        publisher.await.expect("every publish is answered");
    }
    let stored = shared().await.command(&["XLEN", &stream]).await;
    let published = published.load(Ordering::Relaxed);
    assert!(published > 100);
    assert_eq!(stored, Value::Int(published.try_into().unwrap()));
}

#[tokio::test]
async fn a_stopping_gateway_answers_idle_connections_and_new_ones_and_then_closes_them() {
    let lame_duck = Duration::from_millis(1500);
    let app = TestApp::start_with(|settings| settings.server.lame_duck = lame_duck).await;
    let stream = unique("lame");
    let mut idle = Kept::open(app.address).await;
    assert!(
        idle.publish(&stream).await,
        "it stays while the gateway runs"
    );
    let mut quiet = Kept::open(app.address).await;
    assert!(quiet.publish(&stream).await);
    let mut partial = Kept::open(app.address).await;
    assert!(partial.publish(&stream).await);
    let began = Instant::now();
    app.drain();
    // The connections may hear of the stop a moment after the probe does.
    while idle.send("GET /readyz HTTP/1.1", "").await != (503, false) {}
    idle.until_closed().await;
    let mut new = Kept::open(app.address).await;
    assert!(
        !new.publish(&stream).await,
        "an answer says that the connection ends"
    );
    new.until_closed().await;
    // A head whose first bytes have arrived is answered, even after the lame duck period.
    partial
        .0
        .write_all(b"GET /livez HTTP/1.1\r\nhost: loc")
        .await
        .unwrap();
    assert!(
        began.elapsed() < lame_duck,
        "the machine is too slow for this test"
    );
    quiet.until_closed().await;
    assert!(
        began.elapsed() >= lame_duck,
        "idle connections are kept for the time that is set"
    );
    partial.0.write_all(b"alhost\r\n\r\n").await.unwrap();
    let mut rest = String::new();
    partial.0.read_to_string(&mut rest).await.unwrap();
    assert!(
        rest.starts_with("HTTP/1.1 200 ") && rest.contains("connection: close"),
        "{rest}"
    );
    app.stop().await;
}

#[tokio::test]
async fn ctrl_c_does_not_wait_for_a_load_balancer_and_a_second_signal_waits_for_nothing() {
    let url = shared().await.url();
    let start = |grace| {
        Gateway::start(&[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--redis-url",
            &url,
            "--lame-duck",
            "8s",
            "--shutdown-grace",
            grace,
        ])
    };
    let mut gateway = start("60s");
    let mut idle = Kept::open(gateway.address).await;
    assert!(idle.publish(&unique("ctrl")).await);
    let began = Instant::now();
    gateway.signal("INT");
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(
        began.elapsed() < Duration::from_secs(7),
        "{:?}",
        began.elapsed()
    );
    for (second, code) in [("TERM", 143), ("INT", 130)] {
        let mut gateway = start("60s");
        // An unfinished upload delays a graceful shutdown.
        let mut upload = TcpStream::connect(gateway.address).await.unwrap();
        let head = "POST /v1/streams/held/entries HTTP/1.1\r\nhost: localhost\r\n\
                    content-type: application/x-ndjson\r\ncontent-length: 1000\r\n\r\n{";
        upload.write_all(head.as_bytes()).await.unwrap();
        gateway.signal("TERM");
        let line = gateway.log.recv_timeout(PATIENCE).unwrap();
        assert!(line.contains("a second signal exits immediately"), "{line}");
        let began = Instant::now();
        gateway.signal(second);
        assert_eq!(gateway.wait().code(), Some(code));
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        );
    }
}

#[tokio::test]
async fn idle_connections_and_heads_have_a_timeout_each() {
    let app = TestApp::start_with(|settings| {
        settings.server.header_timeout = Duration::from_millis(300);
        settings.server.idle_timeout = Duration::from_secs(3);
    })
    .await;
    let mut idle = Kept::open(app.address).await;
    idle.send("GET /livez HTTP/1.1", "").await;
    elapse(700, "longer than a head may take").await;
    let began = Instant::now();
    assert_eq!(
        idle.send("GET /livez HTTP/1.1", "").await,
        (200, true),
        "longer than a head"
    );
    idle.until_closed().await;
    assert!(
        began.elapsed() >= Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    // A connection that has never sent anything, and one in the middle of its second head.
    let quiet = Kept::open(app.address).await;
    let mut second = Kept::open(app.address).await;
    second.send("GET /livez HTTP/1.1", "").await;
    let began = Instant::now();
    second
        .0
        .write_all(b"GET /livez HTTP/1.1\r\nhost: loc")
        .await
        .unwrap();
    tokio::join!(quiet.until_closed(), second.until_closed());
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_gateway_that_stops_leaves_no_task_connection_or_memory() {
    let app = TestApp::start().await;
    let stream = app.stream_of("left", 1).await;
    let path = format!("/v1/streams/{stream}");
    let group = format!("{path}/groups/g");
    let made = app.put_json(&group, r#"{"start":"$","policy":{}}"#).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let mut events = app.follow(&format!("{path}/events")).await;
    events.expect("$open").await;
    let poll = app
        .client
        .get(app.url(&format!("{path}/entries?after=$&wait=20s")));
    let read = app.client.post(app.url(&format!("{group}/read")));
    let read = read
        .header("content-type", "application/x-www-form-urlencoded")
        .body("consumer=w&wait=20s");
    let waiting = [poll, read].map(|request| tokio::spawn(answer(request)));
    eventually("both wait", async || app.metric("waiting_reads").await == 2).await;
    app.stop().await;
    for answered in futures_util::future::join_all(waiting).await {
        assert_eq!(answered.unwrap().unwrap().status, 200);
    }
}
