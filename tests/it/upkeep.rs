//! Background jobs for groups and schedules: their speed follows the backlog, and foreign data in
//! their keys does not stop them.

use std::time::{Duration, Instant};

use deadpool_redis::redis::Value as Redis;

use crate::support::redis::{Server, json as plain};
use crate::support::{TestApp, elapse, eventually};

fn group(stream: &str, rest: &str) -> String {
    format!("/v1/streams/{stream}/groups/g{rest}")
}

/// Returns how many scripts the server has run.
async fn scripts(server: &Server) -> u64 {
    let Redis::BulkString(stats) = server.command(&["INFO", "commandstats"]).await else {
        panic!("no figures")
    };
    let stats = String::from_utf8(stats).unwrap();
    let calls = |line: &str| {
        line.split("calls=")
            .nth(1)?
            .split(',')
            .next()?
            .parse::<u64>()
            .ok()
    };
    stats
        .lines()
        .filter(|line| line.starts_with("cmdstat_eval"))
        .filter_map(calls)
        .sum()
}

#[tokio::test]
async fn entries_of_native_consumers_are_enrolled_as_fast_as_they_are_many() {
    let server = Server::start().await;
    let app = TestApp::on(&server.url(), |settings| {
        settings.jobs.sweep_every = Duration::from_secs(2);
        settings.jobs.sweep_limit = 50;
    })
    .await;
    let fill = "for i = 1, 10000 do redis.call('XADD', KEYS[1], i .. '-0', 'n', i) end";
    server.command(&["EVAL", fill, "1", "s"]).await;
    app.put_json(&group("s", ""), r#"{"policy":{"lease":"12h"}}"#)
        .await;
    // The first half of the entries has leases.
    let leases = "streamgate:{s}:leases:1:s:g";
    for _ in 0..5 {
        app.post_form(&group("s", "/read"), "consumer=w&count=1000")
            .await;
    }
    assert_eq!(plain(&server.command(&["ZCARD", leases]).await), 5000);
    let native = [
        "XREADGROUP",
        "GROUP",
        "g",
        "native",
        "COUNT",
        "5000",
        "STREAMS",
        "s",
        ">",
    ];
    server.command(&native).await;
    // At 50 per round, this would take 400 s.
    eventually("all have leases", async || {
        plain(&server.command(&["ZCARD", leases]).await) == 10_000
    })
    .await;
    assert_eq!(app.metric("enrolled_entries_total").await, 5000);
    eventually("nothing is left to do", async || {
        app.metric("unenrolled_entries").await == 0
    })
    .await;
    let before = scripts(&server).await;
    let began = Instant::now();
    elapse(3000, "scripts are counted meanwhile").await;
    let rounds = began.elapsed().as_secs() / 2 + 1;
    let ran = scripts(&server).await - before;
    assert!(
        ran <= 8 * rounds,
        "a list without a backlog is swept once a round: {ran} scripts"
    );
}

#[tokio::test]
async fn leases_that_are_over_and_left_behind_are_cleared_as_fast_as_they_are_many() {
    let server = Server::start().await;
    let app = TestApp::on(&server.url(), |settings| {
        settings.jobs.sweep_every = Duration::from_secs(2);
        settings.jobs.sweep_limit = 50;
    })
    .await;
    let fill = "for i = 1, 5000 do redis.call('XADD', KEYS[1], i .. '-0', 'n', i) end";
    server.command(&["EVAL", fill, "1", "s"]).await;
    app.put_json(
        &group("s", ""),
        r#"{"policy":{"lease":"100ms","max_deliveries":1}}"#,
    )
    .await;
    for _ in 0..5 {
        app.post_form(&group("s", "/read"), "consumer=w&count=1000")
            .await;
    }
    eventually("all are dead letters", async || {
        plain(&server.command(&["XLEN", "{s}.dead"]).await) == 5000
    })
    .await;
    assert_eq!(
        plain(
            &server
                .command(&["EXISTS", "streamgate:{s}:leases:1:s:g"])
                .await
        ),
        0
    );
}

#[tokio::test]
async fn names_that_no_stream_can_have_neither_stop_nor_spin_what_is_scheduled() {
    let server = Server::start().await;
    let app = TestApp::on(&server.url(), |settings| {
        // Rounds of these jobs run scripts, too.
        settings.jobs.retention_every = Duration::from_secs(3600);
        settings.jobs.sweep_every = Duration::from_secs(3600);
    })
    .await;
    let junk = "\
for i = 1, 150 do redis.call('ZADD', KEYS[1], i, 'a{b}{c}' .. i) end
redis.call('ZADD', KEYS[1], 0, '\\255', 0, '', 0, 'unknown', '-inf', 'streamgate:x')";
    server
        .command(&["EVAL", junk, "1", "streamgate:{scheduled}:index"])
        .await;
    let answer = app
        .post_form("/v1/streams/s/entries?delay=200ms", "n=1")
        .await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    eventually("it is appended", async || {
        app.get("/v1/streams/s").await.status == 200
    })
    .await;
    elapse(500, "the rounds after the append end").await;
    let before = scripts(&server).await;
    elapse(2000, "scripts are counted meanwhile").await;
    let ran = scripts(&server).await - before;
    assert!(
        ran < 20,
        "{ran} scripts in two seconds without anything to do"
    );
}

#[tokio::test]
async fn names_that_no_stream_can_have_do_not_keep_others_from_being_swept() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let junk = "\
for i = 1, 300 do redis.call('SADD', KEYS[1], 'a{b}{c}' .. i .. '\\0g', 'no group' .. i, '\\255\\0' .. i) end
redis.call('SADD', KEYS[1], 'unknown\\0g', '')
redis.call('SADD', KEYS[2], 'a{b}{c}', '\\255', '', 'unknown')";
    let keys = [
        "streamgate:{policies}:index",
        "streamgate:{retention}:index",
    ];
    // One script uses keys of two slots, which a single server allows.
    server.command(&["EVAL", junk, "2", keys[0], keys[1]]).await;
    app.fill("s", 1).await;
    app.put_json(
        &group("s", ""),
        r#"{"policy":{"lease":"100ms","max_deliveries":1}}"#,
    )
    .await;
    app.post_form(&group("s", "/read"), "consumer=w").await;
    eventually("it is a dead letter", async || {
        plain(&server.command(&["EXISTS", "{s}.dead"]).await) == 1
    })
    .await;
    eventually("what is unknown is taken out", async || {
        plain(&server.command(&["SISMEMBER", keys[1], "unknown"]).await) == 0
    })
    .await;
}
