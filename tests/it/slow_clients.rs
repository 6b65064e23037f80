//! Slow clients as made by slowhttptest, a tool for testing servers. It sends heads and bodies and
//! reads responses a few bytes at a time, over hundreds of connections. Meanwhile it checks whether
//! others are served.
//!
//! These tests are not part of the suite, because the tool is not available on every platform:
//! `make test-slow`.

use std::time::{Duration, Instant};

use tokio::process::Command;

use crate::support::{TestApp, eventually, unique};

async fn gateway() -> TestApp {
    TestApp::start_with(|settings| {
        settings.server.header_timeout = Duration::from_secs(2);
        settings.api.body_timeout = Duration::from_secs(2);
        settings.server.write_timeout = Duration::from_secs(2);
        // In an unoptimized build, a page of 3 MiB occupies a thread for about 50 ms.
        settings.pool.large_reads = 8 << 20;
    })
    .await
}

/// Returns what the tool recorded each second: open connections, and whether others were served.
async fn trial(app: &TestApp, path: &str, connections: &str, kind: &[&str]) -> Vec<(usize, bool)> {
    let dir = tempfile::tempdir().unwrap();
    let prefix = dir.path().join("trial");
    let run = Command::new("slowhttptest")
        .args(kind)
        .args(["-c", connections, "-r", connections, "-p", "2", "-g", "-o"])
        .args([prefix.to_str().unwrap(), "-u", &app.url(path)])
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .status();
    let ended = tokio::time::timeout(Duration::from_secs(60), run)
        .await
        .unwrap();
    assert!(
        ended
            .expect("slowhttptest is installed by make test-slow")
            .success()
    );
    let noted = std::fs::read_to_string(prefix.with_extension("csv")).unwrap();
    let row = |line: &str| {
        let numbers: Vec<usize> = line.split(',').map(|word| word.parse().unwrap()).collect();
        let [_, _, _, open, available] = numbers[..] else {
            panic!("{line}")
        };
        (open, available > 0)
    };
    noted.lines().skip(1).map(row).collect()
}

#[tokio::test]
#[ignore = "needs slowhttptest: make test-slow"]
async fn slow_heads_and_slow_bodies_are_closed_in_time_and_others_are_served() {
    let app = gateway().await;
    let entries = format!("/v1/streams/{}/entries", unique("slow"));
    let (heads, bodies) = (
        ["-H", "-i", "1", "-l", "20"],
        ["-B", "-s", "100000", "-i", "1", "-l", "20"],
    );
    for (path, kind) in [("/livez", &heads[..]), (&entries, &bodies[..])] {
        let noted = trial(&app, path, "300", kind).await;
        assert!(
            noted.iter().any(|(open, _)| *open > 0),
            "{kind:?} had nothing open: {noted:?}"
        );
        assert!(
            noted.iter().all(|(_, available)| *available),
            "others waited: {noted:?}"
        );
        // The tool ends early when no connection is left.
        assert!(noted.len() < 12, "some were open to the end: {noted:?}");
        eventually("all are closed", async || {
            app.metric("connections").await <= 1
        })
        .await;
    }
}

#[tokio::test]
#[ignore = "needs slowhttptest: make test-slow"]
async fn those_who_do_not_read_what_they_asked_for_are_cut_and_others_are_served() {
    let app = gateway().await;
    let stream = unique("unread");
    for _ in 0..3 {
        app.publish(&stream, &"x".repeat(1 << 20)).await;
    }
    let path = format!("/v1/streams/{stream}/entries?start=0&max_bytes=16777216");
    // Two such pages are made at a time, and a request may have to wait for one of them on its thread.
    // All hundred at once would take fifty times as long. How long one takes depends on the machine.
    let mut bound = Duration::from_secs(1);
    for _ in 0..3 {
        let began = Instant::now();
        assert_eq!(app.get(&path).await.status, 200);
        bound = bound.max(10 * began.elapsed());
    }
    let kind = [
        "-X", "-n", "1", "-w", "1", "-y", "512", "-z", "5", "-l", "15",
    ];
    // The tool's own check requests the same large response, which may have to wait for others like
    // it. Therefore this check makes small requests.
    let served = async {
        let mut slowest = Duration::ZERO;
        loop {
            let asked = Instant::now();
            assert_eq!(app.get("/v1/streams?limit=1").await.status, 200);
            slowest = slowest.max(asked.elapsed());
            assert!(slowest < bound, "others waited {slowest:?} of {bound:?}");
        }
    };
    tokio::select! {
        _ = trial(&app, &path, "100", &kind) => {}
        () = served => {}
    }
    // The tool's end of a connection notices a close only after it has read the data sent before.
    eventually("all are cut", async || app.metric("connections").await <= 1).await;
    assert!(app.metric_if_any("refused_total{bound=\"unread\"}").await > Some(0));
    eventually("all is given back", async || {
        app.metric("answer_bytes").await == 0
    })
    .await;
}
