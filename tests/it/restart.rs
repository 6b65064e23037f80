//! The private Redis: started with the gateway, restarted when it dies, and never left behind.

use deadpool_redis::redis::{Client, Cmd, Value};

use crate::support::app::{answer, client};
use crate::support::eventually;
use crate::support::gateway::{Gateway, processes, run, signal};
use crate::support::redis::has_written;
use crate::support::sse::Sse;

async fn publish(gateway: &Gateway, value: &str) -> Option<u16> {
    let url = format!("http://{}/v1/streams/orders/entries", gateway.address);
    let request = client()
        .post(url)
        .header("content-type", "application/x-www-form-urlencoded");
    answer(request.body(format!("n={value}")))
        .await
        .ok()
        .map(|answer| answer.status)
}

async fn values(gateway: &Gateway) -> Vec<String> {
    let url = format!(
        "http://{}/v1/streams/orders/entries?after=0",
        gateway.address
    );
    let json = answer(client().get(url)).await.unwrap().json();
    json["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["fields"]["n"].as_str().unwrap().to_owned())
        .collect()
}

/// Returns the processes of the private Redis in `dir`, found by the socket in their command lines.
fn servers(dir: &std::path::Path) -> Vec<u32> {
    let dir = std::fs::canonicalize(dir).unwrap();
    processes(dir.join("redis.sock").to_str().unwrap())
}

/// Waits until the private Redis in `dir` has written all changes to its append-only file.
async fn written(dir: &std::path::Path) {
    let socket = format!("unix://{}", dir.join("redis.sock").display());
    let client = Client::open(socket).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let info = Cmd::new().arg("INFO").arg("persistence").to_owned();
    eventually("all is written", async || {
        has_written(&info.query_async::<Value>(&mut connection).await.unwrap())
    })
    .await;
}

#[tokio::test]
async fn data_outlives_a_restart_and_no_server_outlives_its_gateway() {
    let dir = tempfile::tempdir().unwrap();
    for (round, how) in ["TERM", "INT", "TERM"].into_iter().enumerate() {
        let mut gateway = Gateway::dev(dir.path());
        assert_eq!(servers(dir.path()).len(), 1);
        assert_eq!(publish(&gateway, &round.to_string()).await, Some(201));
        assert_eq!(values(&gateway).await.len(), round + 1, "{how}");
        gateway.signal(how);
        assert_eq!(gateway.wait().code(), Some(0), "{how}");
        assert_eq!(
            servers(dir.path()),
            Vec::<u32>::new(),
            "left behind after {how}"
        );
    }
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_gateway_that_is_killed_or_aborts_takes_its_server_along() {
    let dir = tempfile::tempdir().unwrap();
    for how in ["KILL", "ABRT"] {
        let mut gateway = Gateway::dev(dir.path());
        assert_eq!(publish(&gateway, how).await, Some(201));
        gateway.signal(how);
        assert!(!gateway.wait().success());
        eventually("the server is gone", async || {
            servers(dir.path()).is_empty()
        })
        .await;
    }
    assert_eq!(values(&Gateway::dev(dir.path())).await, ["KILL", "ABRT"]);
}

#[tokio::test]
async fn a_server_that_dies_is_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = Gateway::dev(dir.path());
    let url = format!(
        "http://{}/v1/streams/orders/events?after=0",
        gateway.address
    );
    let mut sse = Sse::open(&client(), &url, None).await;
    sse.expect("$open").await;
    assert_eq!(publish(&gateway, "before").await, Some(201));
    written(dir.path()).await;
    let first = servers(dir.path());
    signal(first[0], "KILL");
    eventually("it can be published again", async || {
        publish(&gateway, "after").await == Some(201)
    })
    .await;
    assert_ne!(servers(dir.path()), first);
    assert_eq!(sse.values(2).await, ["before", "after"]);
    gateway.stop();
}

#[tokio::test]
async fn a_second_gateway_on_the_same_directory_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = Gateway::dev(dir.path());
    let path = dir.path().to_str().unwrap();
    let (code, _, log) = run(
        &["serve", "--listen", "127.0.0.1:0", "--data-dir", path],
        &[],
    );
    assert_eq!(code, Some(1));
    assert!(log.contains("another gateway is running on"), "{log}");
    assert_eq!(
        publish(&gateway, "still").await,
        Some(201),
        "the first one is not disturbed"
    );
}

#[tokio::test]
async fn without_a_server_program_it_says_what_to_install() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let (code, _, log) = run(
        &["serve", "--listen", "127.0.0.1:0", "--data-dir", path],
        &[("PATH", path)],
    );
    assert_eq!(code, Some(1));
    assert!(
        log.contains("neither redis-server nor valkey-server is on PATH"),
        "{log}"
    );
    let deep = dir.path().join("x".repeat(100));
    let (code, _, log) = run(
        &[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
            deep.to_str().unwrap(),
        ],
        &[],
    );
    assert_eq!(code, Some(1));
    assert!(log.contains("too long for a unix socket"), "{log}");
}
