//! Memory of many connections: the share of each, and its return to the system after they close.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::gateway::Gateway;
use crate::support::redis::Server;
use crate::support::{FEW_FILES, elapse, may_connect, memory, skipped};

const SUBSCRIBERS: usize = 2000;

/// Time for memory to go back. The allocator waits 10 s for further use of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Opens a subscription and waits for its first event.
async fn subscribe(gateway: &Gateway) -> TcpStream {
    open(gateway, "/v1/streams/s/events").await
}

/// Opens an event stream and waits for its first event.
async fn open(gateway: &Gateway, path: &str) -> TcpStream {
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    while !read.windows(5).any(|part| part == b"$open") {
        let count = socket.read_buf(&mut read).await.unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&read));
    }
    socket
}

/// Starts a gateway on a Redis.
fn start(server: &Server) -> Gateway {
    Gateway::start(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--redis-url",
        &server.url(),
    ])
}

/// Returns the memory of an idle event stream in KiB, with `count` of them.
async fn each(gateway: &Gateway, count: usize, path: impl Fn(usize) -> String) -> f64 {
    let pid = gateway.child.id();
    // The first stream creates what the others share.
    drop(open(gateway, &path(count)).await);
    let start = memory(pid, "RssAnon");
    let mut sockets = Vec::new();
    for n in 0..count {
        sockets.push(open(gateway, &path(n)).await);
    }
    #[expect(clippy::cast_precision_loss, reason = "KiB of one process")]
    let each = memory(pid, "RssAnon").saturating_sub(start) as f64 / count as f64;
    each
}

#[tokio::test]
async fn an_idle_push_session_is_a_socket_and_a_session_like_a_subscription() {
    if !may_connect(SUBSCRIBERS) {
        return skipped(FEW_FILES);
    }
    let server = Server::start().await;
    let gateway = start(&server);
    let subscription = each(&gateway, 500, |_| "/v1/streams/s/events".to_owned()).await;
    let push = each(&gateway, 500, |n| {
        format!("/v1/streams/p/groups/g/events?consumer=w{n}&create=true")
    })
    .await;
    println!("{subscription:.1} KiB per subscription, {push:.1} KiB per push session");
    assert!(push < 6.0, "{push} KiB per push session");
}

#[tokio::test]
async fn memory_goes_back_after_many_subscribers_have_left() {
    if !may_connect(SUBSCRIBERS) {
        return skipped(FEW_FILES);
    }
    let server = Server::start().await;
    let gateway = start(&server);
    let pid = gateway.child.id();
    drop(subscribe(&gateway).await);
    let start = memory(pid, "RssAnon");
    let mut subscribers = Vec::new();
    while subscribers.len() < SUBSCRIBERS {
        subscribers.extend(join_all((0..100).map(|_| subscribe(&gateway))).await);
    }
    let peak = memory(pid, "RssAnon");
    assert!(peak > start + 1000, "{start} KiB at start, {peak} with all");
    drop(subscribers);
    let left = Instant::now();
    let half = start + (peak - start) / 2;
    while memory(pid, "RssAnon") > half {
        let now = memory(pid, "RssAnon");
        assert!(
            left.elapsed() < PATIENCE,
            "{start} KiB at start, {peak} with {SUBSCRIBERS} subscribers, {now} after them"
        );
        elapse(200, "before the next look").await;
    }
    println!(
        "{start} KiB at start, {peak} with {SUBSCRIBERS} subscribers, {} after {:?}",
        memory(pid, "RssAnon"),
        left.elapsed()
    );
}
