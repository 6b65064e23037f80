//! Redis outages: it goes away, comes back, comes back empty, or is slow.

use std::time::{Duration, Instant};

use deadpool_redis::redis::Value as Redis;

use crate::support::proxy::Proxy;
use crate::support::redis::Server;
use crate::support::{TestApp, elapse, eventually, unique};

/// Maximum time a publisher may wait for an error.
const BAD_NEWS: Duration = Duration::from_secs(2);

#[tokio::test]
async fn publishing_while_redis_is_down_fails_soon_and_does_nothing() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let stream = unique("down");
    let path = format!("/v1/streams/{stream}/entries");
    app.publish(&stream, "before").await;
    server.written().await;
    server.kill();
    for _ in 0..3 {
        let began = Instant::now();
        let answer = app.post_form(&path, "n=lost").await;
        assert!(began.elapsed() < BAD_NEWS, "{:?}", began.elapsed());
        let problem = answer.is_problem(503, "redis-unavailable");
        assert_eq!(problem["retryable"], true);
        assert_eq!(answer.header("retry-after"), "1");
        assert!(!answer.body.contains("127.0.0.1"), "{}", answer.body);
    }
    let problem = app.post_form(&path, "n=lost").await.json();
    assert_eq!(problem["side_effects"], "none", "nothing was sent");
    assert_eq!(
        app.get("/readyz").await.json(),
        serde_json::json!({"ready": true, "redis": "down"})
    );
    assert_eq!(app.get("/livez").await.status, 200);
    server.start_again().await;
    eventually("it can be published again", async || {
        app.post_form(&path, "n=after").await.status == 201
    })
    .await;
    let kept = app.get(&format!("{path}?after=0")).await.json();
    let values: Vec<_> = kept["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["fields"]["n"].clone())
        .collect();
    assert_eq!(values, ["before", "after"]);
}

#[tokio::test]
async fn an_answer_that_was_cut_off_is_told_as_unknown() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port).await;
    let app = TestApp::on(&proxy.url(), |_| {}).await;
    let stream = unique("cut");
    app.publish(&stream, "before").await;
    proxy.cut_answers();
    let problem = app
        .post_form(&format!("/v1/streams/{stream}/entries"), "n=cut")
        .await
        .is_problem(503, "redis-unavailable");
    assert_eq!(problem["side_effects"], "unknown");
    assert_eq!(
        server.command(&["XLEN", &stream]).await,
        Redis::Int(2),
        "and indeed it was appended"
    );
    proxy.restore();
    eventually("reading works again", async || {
        app.get(&format!("/v1/streams/{stream}")).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_does_not_answer_is_a_timeout_and_then_an_outage() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port).await;
    let app = TestApp::on(&proxy.url(), |settings| {
        settings.pool.response_timeout = Duration::from_millis(400);
    })
    .await;
    let path = format!("/v1/streams/{}/entries", unique("slow"));
    assert_eq!(app.post_form(&path, "n=1").await.status, 201);
    proxy.stall();
    let began = Instant::now();
    let problem = app
        .post_form(&path, "n=2")
        .await
        .is_problem(504, "redis-timeout");
    assert_eq!(
        (&problem["side_effects"], &problem["retryable"]),
        (&"unknown".into(), &true.into())
    );
    assert!(began.elapsed() < BAD_NEWS);
    assert_eq!(
        app.get(&path).await.json()["side_effects"],
        "none",
        "reading changes nothing"
    );
    proxy.restore();
    eventually("it answers again", async || {
        app.post_form(&path, "n=3").await.status == 201
    })
    .await;
}

#[tokio::test]
async fn a_gateway_without_redis_starts_is_not_ready_and_becomes_so() {
    let server = Server::start().await;
    server.kill();
    let app = TestApp::on_server(&server).await;
    app.get("/readyz")
        .await
        .is_problem(503, "redis-unavailable");
    app.get("/v1/streams")
        .await
        .is_problem(503, "redis-unavailable");
    let mut sse = app.follow("/v1/streams/a/events").await;
    assert_eq!(sse.status, 200, "an EventSource must come back");
    let end = sse.expect("$end").await;
    assert_eq!(end.json()["reason"], "redis-unavailable");
    assert!(end.retry.is_some_and(|ms| ms >= 1000));
    assert_eq!(sse.next().await, None);
    app.get("/v1/streams/a/events")
        .await
        .is_problem(503, "redis-unavailable");
    server.start_again().await;
    eventually("it is ready", async || {
        app.get("/readyz").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn a_subscription_outlives_an_outage_and_gets_what_was_written_meanwhile_once() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port).await;
    let app = TestApp::on(&proxy.url(), |settings| {
        settings.limits.heartbeat = Duration::from_millis(200);
    })
    .await;
    let direct = TestApp::on_server(&server).await;
    let stream = unique("outlives");
    let mut sse = app
        .follow(&format!("/v1/streams/{stream}/events?after=0"))
        .await;
    sse.expect("$open").await;
    let mut expected = Vec::new();
    for round in 0..4 {
        match round % 2 {
            0 => proxy.cut(),
            _ => proxy.stall(),
        }
        for n in 0..3 {
            let value = format!("{round}.{n}");
            direct.publish(&stream, &value).await;
            expected.push(value);
        }
        let before = sse.heartbeats;
        if let Some(event) = sse.soon(Duration::from_millis(600)).await {
            panic!("{event:?} came through a connection that is cut");
        }
        assert!(sse.heartbeats > before, "the connection is kept alive");
        // A stalled connection never recovers: the server behind it is gone.
        if round % 2 == 1 {
            proxy.cut();
        }
        proxy.restore();
        direct.publish(&stream, &format!("{round}.live")).await;
        expected.push(format!("{round}.live"));
        assert_eq!(sse.values(4).await, expected[expected.len() - 4..]);
    }
    assert_eq!(
        sse.soon(Duration::from_millis(400)).await,
        None,
        "nothing comes twice"
    );
}

#[tokio::test]
async fn a_subscription_outlives_a_crash_of_redis() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let stream = unique("crash");
    let mut sse = app
        .follow(&format!("/v1/streams/{stream}/events?after=0"))
        .await;
    sse.expect("$open").await;
    app.publish(&stream, "before").await;
    assert_eq!(sse.values(1).await, ["before"]);
    server.written().await;
    server.kill();
    server.start_again().await;
    server.command(&["XADD", &stream, "*", "n", "after"]).await;
    assert_eq!(sse.values(1).await, ["after"]);
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_is_a_reset_to_subscribers_and_pollers() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let stream = app.stream_of("empty", 3).await;
    let mut sse = app
        .follow(&format!("/v1/streams/{stream}/events?after=0"))
        .await;
    sse.expect("$open").await;
    sse.values(3).await;
    let path = format!("/v1/streams/{stream}/entries?after=3-0:3&wait=15s");
    let restart = async {
        eventually("it waits", async || server.blocked().await == 1).await;
        server.kill();
        server.start_empty().await;
    };
    let (poll, ()) = tokio::join!(app.get(&path), restart);
    assert_eq!(poll.is_problem(410, "entries-trimmed")["reset"], true);
    assert_eq!(sse.expect("$reset").await.id.unwrap(), "0-0:0");
    server.command(&["XADD", &stream, "1-0", "n", "new"]).await;
    let event = sse.expect("message").await;
    assert_eq!(
        (event.id.as_deref(), &event.json()["fields"]["n"]),
        (Some("1-0:1"), &"new".into())
    );
    // More entries than before and with greater ids, so that only the counters can tell.
    server.kill();
    server.start_empty().await;
    for n in 2..=6 {
        server
            .command(&["XADD", &stream, &format!("{n}-0"), "n", &n.to_string()])
            .await;
    }
    sse.expect("$reset").await;
    assert_eq!(sse.values(5).await, ["2", "3", "4", "5", "6"]);
}

#[tokio::test]
async fn a_redis_slower_than_the_heartbeat_still_gets_its_entries_through() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port).await;
    let app = TestApp::on(&proxy.url(), |settings| {
        settings.limits.heartbeat = Duration::from_millis(20);
        settings.live.join_timeout = Duration::from_secs(10);
        settings.pool.response_timeout = Duration::from_secs(5);
    })
    .await;
    let stream = app.stream_of("slower", 3).await;
    // Each response takes as long as several heartbeats.
    proxy.delay(Duration::from_millis(120));
    let mut sse = app
        .follow(&format!("/v1/streams/{stream}/events?after=0"))
        .await;
    sse.expect("$open").await;
    assert_eq!(sse.values(3).await, ["1", "1", "1"]);
    assert!(sse.heartbeats >= 2, "{}", sse.heartbeats);
}

#[tokio::test]
async fn a_long_poll_outlives_an_outage() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port).await;
    let app = TestApp::on(&proxy.url(), |_| {}).await;
    let stream = unique("poll");
    let path = format!("/v1/streams/{stream}/entries?after=0&wait=20s");
    let outage = async {
        eventually("it waits", async || server.blocked().await == 1).await;
        proxy.cut();
        server.command(&["XADD", &stream, "1-0", "n", "1"]).await;
        elapse(500, "Redis stays unreachable").await;
        proxy.restore();
    };
    let (answer, ()) = tokio::join!(app.get(&path), outage);
    assert_eq!(answer.ids(), ["1-0"]);
    proxy.cut();
    let path = format!("/v1/streams/{stream}/entries?after=1-0&wait=500ms");
    app.get(&path).await.is_problem(503, "redis-unavailable");
}

#[tokio::test]
async fn a_waiting_group_reader_outlives_an_outage_but_not_the_loss_of_its_group() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let stream = unique("group");
    let group = format!("/v1/streams/{stream}/groups/g");
    app.put_json(&group, "{}").await;
    app.publish(&stream, "first").await;
    let read = format!("{group}/read");
    assert_eq!(app.post_form(&read, "consumer=w").await.ids().len(), 1);
    server.written().await;
    let outage = async {
        eventually("it waits", async || server.blocked().await == 1).await;
        server.kill();
        server.start_again().await;
        server.command(&["XADD", &stream, "*", "n", "second"]).await;
    };
    let (answer, ()) = tokio::join!(app.post_form(&read, "consumer=w&wait=20s"), outage);
    assert_eq!(
        answer.json()["entries"][0]["fields"]["n"],
        "second",
        "{}",
        answer.body
    );
    let before = server.calls("xreadgroup").await;
    let loss = async {
        // The stream is already followed, so `blocked` would not show that the read waits. It does
        // once it has read in vain, at first and again in its turn.
        eventually("it waits", async || {
            server.calls("xreadgroup").await >= before + 2
        })
        .await;
        elapse(200, "the reply of the last read arrives").await;
        server.kill();
        server.start_empty().await;
    };
    let (answer, ()) = tokio::join!(app.post_form(&read, "consumer=w&wait=20s"), loss);
    answer.is_problem(404, "group-not-found");
}

#[tokio::test]
async fn refusals_of_redis_are_told_apart() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let stream = app.stream_of("refusals", 1).await;
    let path = format!("/v1/streams/{stream}/entries");
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    app.post_form(&path, "n=1")
        .await
        .is_problem(503, "redis-out-of-memory");
    assert_eq!(app.get(&path).await.status, 200, "reading goes on");
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    server.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    app.post_form(&path, "n=1")
        .await
        .is_problem(503, "redis-read-only");
    server.command(&["REPLICAOF", "NO", "ONE"]).await;
    server
        .command(&["ACL", "SETUSER", "default", "-xadd"])
        .await;
    let problem = app
        .post_form(&path, "n=1")
        .await
        .is_problem(503, "redis-unavailable");
    assert_eq!(
        (&problem["retryable"], &problem["side_effects"]),
        (&true.into(), &"none".into())
    );
    server
        .command(&["ACL", "SETUSER", "default", "+xadd"])
        .await;
    assert_eq!(app.post_form(&path, "n=1").await.status, 201);
}

#[tokio::test]
async fn a_redis_that_reads_its_data_is_told_from_one_that_is_away() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let path = format!("/v1/streams/{}/entries", unique("loading"));
    let batch = vec![r#"{"fields":{"n":1}}"#; 10_000].join(",");
    for _ in 0..3 {
        let sent = app
            .post_json(&path, &format!("{{\"entries\":[{batch}]}}"))
            .await;
        assert_eq!(sent.status, 201, "{}", sent.body);
    }
    server.written().await;
    server.kill();
    // A tenth of a millisecond for each command. Redis answers after every 1024 of them, so a gateway
    // that asks several questions gets its answers within its timeout.
    let load = server.start_again_with(&["--key-load-delay", "100"]);
    let ask = eventually("it is told", async || {
        let answer = app.post_form(&path, "n=1").await;
        answer.status == 503 && answer.json()["code"] == "redis-loading"
    });
    tokio::join!(load, ask);
    eventually("it is there again", async || {
        app.post_form(&path, "n=1").await.status == 201
    })
    .await;
}

#[tokio::test]
async fn stopping_ends_subscriptions_answers_polls_and_is_done_within_the_grace() {
    let app = TestApp::start().await;
    let stream = app.stream_of("stop", 1).await;
    let mut sse = app
        .follow(&format!("/v1/streams/{stream}/events?after=0"))
        .await;
    sse.expect("$open").await;
    sse.values(1).await;
    let group = format!("/v1/streams/{stream}/groups/g");
    app.put_json(&group, r#"{"start":"$"}"#).await;
    let poll = format!("/v1/streams/{stream}/entries?after=1-0&wait=30s");
    let read = format!("{group}/read");
    let began = Instant::now();
    let stop = async {
        eventually("both wait", async || app.metric("waiting_reads").await == 2).await;
        app.drain();
    };
    let (poll, read, ()) = tokio::join!(
        app.get(&poll),
        app.post_form(&read, "consumer=w&wait=30s"),
        stop
    );
    assert_eq!((poll.status, poll.ids().len()), (200, 0));
    assert_eq!(poll.json()["next"], "1-0:1");
    assert_eq!((read.status, read.ids().len()), (200, 0));
    let end = sse.expect("$end").await;
    assert_eq!(
        (end.json()["reason"].as_str(), end.id.as_deref()),
        (Some("draining"), Some("1-0:1"))
    );
    assert_eq!(sse.next().await, None);
    app.stop().await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}
