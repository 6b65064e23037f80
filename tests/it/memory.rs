//! Memory that many connections needed goes back to the system after they have closed.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::gateway::Gateway;
use crate::support::redis::Server;
use crate::support::{elapse, memory};

const SUBSCRIBERS: usize = 2000;

/// Time for memory to go back. The allocator waits 10 s for further use of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Opens a subscription and waits for its first event.
async fn subscribe(gateway: &Gateway) -> TcpStream {
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    let request = "GET /v1/streams/s/events HTTP/1.1\r\nHost: localhost\r\n\
                   Accept: text/event-stream\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    while !read.windows(5).any(|part| part == b"$open") {
        let count = socket.read_buf(&mut read).await.unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&read));
    }
    socket
}

#[tokio::test]
async fn memory_goes_back_after_many_subscribers_have_left() {
    let _ = streamgate::net::rlimit::allow(SUBSCRIBERS);
    let server = Server::start().await;
    let gateway = Gateway::start(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--redis-url",
        &server.url(),
    ]);
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
