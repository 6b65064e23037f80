//! Retention of streams: set once and enforced by every gateway, also for entries of native
//! clients.

use std::time::Duration;

use deadpool_redis::redis::Value as Redis;
use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::redis::{Server, shared};
use crate::support::{Answer, TestApp, app, eventually, unique};

async fn patch(app: &TestApp, stream: &str, body: &str) -> Answer {
    let request = app.client.patch(app.url(&format!("/v1/streams/{stream}")));
    app.send(
        request
            .header("content-type", "application/json")
            .body(body.to_owned()),
    )
    .await
}

/// Sets the retention of a stream and returns it as shown in the response.
async fn keep(app: &TestApp, stream: &str, retention: &str) -> Value {
    let answer = patch(app, stream, &format!(r#"{{"retention":{retention}}}"#)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["retention"].clone()
}

async fn look(app: &TestApp, stream: &str) -> Value {
    app.get(&format!("/v1/streams/{stream}")).await.json()
}

async fn length(app: &TestApp, stream: &str) -> u64 {
    look(app, stream).await["length"].as_u64().unwrap()
}

/// Creates a stream without entries.
async fn empty(app: &TestApp, name: &str) -> String {
    let stream = unique(name);
    assert_eq!(
        app.put_json(&format!("/v1/streams/{stream}"), "")
            .await
            .status,
        201
    );
    stream
}

async fn write_natively(server: &Server, stream: &str, count: usize) {
    let script = "for i = 1, tonumber(ARGV[1]) do redis.call('XADD', KEYS[1], '*', 'n', i) end";
    server
        .command(&["EVAL", script, "1", stream, &count.to_string()])
        .await;
}

fn group(stream: &str, group: &str, rest: &str) -> String {
    format!("/v1/streams/{stream}/groups/{group}{rest}")
}

#[tokio::test]
async fn what_is_kept_is_shown_merged_and_taken_back() {
    let app = TestApp::start().await;
    let stream = empty(&app, "shown").await;
    assert_eq!(look(&app, &stream).await["retention"], Value::Null);
    let shown = |maxlen: Value, age: Value, mode: &str, hard: Value| json!({"maxlen": maxlen, "max_age": age, "mode": mode, "hard_maxlen": hard, "blocked_by": null});
    for (change, expected) in [
        (
            r#"{"maxlen":10}"#,
            shown(json!(10), Value::Null, "approximate", Value::Null),
        ),
        (
            r#"{"max_age":"48h","mode":"exact"}"#,
            shown(json!(10), json!("2d"), "exact", Value::Null),
        ),
        (
            r#"{"mode":"acked","hard_maxlen":20}"#,
            shown(json!(10), json!("2d"), "acked", json!(20)),
        ),
        (
            r#"{"maxlen":null}"#,
            shown(Value::Null, json!("2d"), "acked", json!(20)),
        ),
        (
            r#"{"maxlen":5,"mode":null,"hard_maxlen":null}"#,
            shown(json!(5), json!("2d"), "approximate", Value::Null),
        ),
        ("null", Value::Null),
    ] {
        assert_eq!(keep(&app, &stream, change).await, expected, "{change}");
        assert_eq!(look(&app, &stream).await["retention"], expected, "{change}");
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let app = TestApp::start().await;
    let stream = empty(&app, "nonsense").await;
    let before = keep(&app, &stream, r#"{"maxlen":10}"#).await;
    for (retention, status, code, at) in [
        (
            r#"{"maxlen":0}"#,
            422,
            "invalid-retention",
            "/retention/maxlen",
        ),
        (
            r#"{"maxlen":9223372036854775808}"#,
            422,
            "invalid-retention",
            "/retention/maxlen",
        ),
        (
            r#"{"maxlen":-1}"#,
            400,
            "invalid-request",
            "/retention/maxlen",
        ),
        (
            r#"{"maxlen":"many"}"#,
            400,
            "invalid-request",
            "/retention/maxlen",
        ),
        (
            r#"{"max_age":"0"}"#,
            422,
            "invalid-retention",
            "/retention/max_age",
        ),
        (
            r#"{"max_age":"999999d"}"#,
            422,
            "invalid-retention",
            "/retention/max_age",
        ),
        (
            r#"{"max_age":"1ms"}"#,
            422,
            "invalid-retention",
            "/retention/max_age",
        ),
        (
            r#"{"max_age":7}"#,
            400,
            "invalid-request",
            "/retention/max_age",
        ),
        (
            r#"{"max_age":"soon"}"#,
            400,
            "invalid-request",
            "/retention/max_age",
        ),
        (
            r#"{"mode":"sometimes"}"#,
            400,
            "invalid-request",
            "/retention/mode",
        ),
        (r#"{"maxlen":null}"#, 422, "invalid-retention", "/retention"),
        (
            r#"{"hard_maxlen":20}"#,
            422,
            "invalid-retention",
            "/retention/hard_maxlen",
        ),
        (
            r#"{"mode":"acked","hard_maxlen":10}"#,
            422,
            "invalid-retention",
            "/retention/hard_maxlen",
        ),
        (r#"{"max":1}"#, 400, "invalid-request", "/retention/max"),
        ("7", 400, "invalid-request", "/retention"),
    ] {
        let body = format!(r#"{{"last_id":"9-0","retention":{retention}}}"#);
        let answer = patch(&app, &stream, &body).await;
        let problem = answer.is_problem(status, code);
        assert_eq!(
            problem["errors"][0]["pointer"], at,
            "{retention}: {problem:#}"
        );
    }
    let after = look(&app, &stream).await;
    assert_eq!(
        (&after["retention"], &after["last_id"]),
        (&before, &json!("0-0"))
    );
    let missing = patch(&app, &unique("none"), r#"{"retention":{"maxlen":1}}"#).await;
    missing.is_problem(404, "stream-not-found");
    let list = unique("list");
    shared().await.command(&["RPUSH", &list, "x"]).await;
    patch(&app, &list, r#"{"retention":{"maxlen":1}}"#)
        .await
        .is_problem(409, "not-a-stream");
}

#[tokio::test]
async fn counters_and_retention_are_set_together_or_not_at_all() {
    let app = TestApp::start().await;
    let stream = app.stream_of("together", 3).await;
    let both = r#"{"last_id":"9-0","retention":{"maxlen":2,"mode":"exact"}}"#;
    let set = patch(&app, &stream, both).await;
    assert_eq!((set.status, set.header("etag")), (200, "\"9-0\""));
    assert_eq!(
        (&set.json()["length"], &set.json()["oldest_id"]),
        (&json!(2), &json!("2-0"))
    );
    let wrong = r#"{"last_id":"1-0","retention":null}"#;
    patch(&app, &stream, wrong)
        .await
        .is_problem(409, "id-not-monotonic");
    assert_eq!(look(&app, &stream).await["retention"]["maxlen"], 2);
}

#[tokio::test]
async fn an_append_keeps_the_stream_to_the_letter_in_whatever_way_it_comes() {
    let app = TestApp::start().await;
    let stream = empty(&app, "exact").await;
    keep(&app, &stream, r#"{"maxlen":3,"mode":"exact"}"#).await;
    let path = format!("/v1/streams/{stream}/entries");
    let batch = r#"{"entries":[{"fields":{"n":"1"}},{"fields":{"n":"2"}},{"fields":{"n":"3"}},{"fields":{"n":"4"}}]}"#;
    for query in ["", "?atomic=false"] {
        let answer = app.post_json(&format!("{path}{query}"), batch).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        assert_eq!(app.get(&path).await.ids().len(), 3, "{query}");
    }
    for _ in 0..5 {
        let id = app.publish(&stream, "1").await;
        let ids = app.get(&path).await.ids();
        assert_eq!((ids.len(), ids.last()), (3, Some(&id)));
    }
    let lines = app
        .client
        .post(app.url(&path))
        .header("content-type", "application/x-ndjson");
    app.send(lines.body("{\"fields\":{\"n\":\"1\"}}\n".repeat(50)))
        .await;
    assert_eq!(app.get(&path).await.ids().len(), 3);
}

#[tokio::test]
async fn an_append_to_a_stream_that_keeps_everything_runs_no_script() {
    let server = Server::start().await;
    let app = TestApp::on(&server.url(), |settings| {
        // Rounds of the background jobs run scripts, too.
        settings.jobs.retention_every = Duration::from_secs(3600);
        settings.jobs.sweep_every = Duration::from_secs(3600);
    })
    .await;
    app.fill("other", 1).await;
    keep(&app, "other", r#"{"maxlen":1}"#).await;
    let scripts = async || {
        let Redis::BulkString(stats) = server.command(&["INFO", "commandstats"]).await else {
            panic!("no figures")
        };
        String::from_utf8(stats)
            .unwrap()
            .matches("cmdstat_eval")
            .count()
    };
    server.command(&["CONFIG", "RESETSTAT"]).await;
    for _ in 0..20 {
        app.publish("plain", "1").await;
    }
    assert_eq!(scripts().await, 0);
    app.publish("other", "1").await;
    assert_eq!(scripts().await, 1, "or this would prove nothing");
}

#[tokio::test]
async fn what_native_clients_write_is_trimmed_by_length_and_by_age() {
    let (app, redis) = (TestApp::start().await, shared().await);
    for (retention, left) in [
        (r#"{"maxlen":7,"mode":"exact"}"#, 7..=7),
        (r#"{"maxlen":7}"#, 7..=106),
        (r#"{"maxlen":7,"mode":"acked"}"#, 7..=7),
    ] {
        let stream = empty(&app, "native").await;
        keep(&app, &stream, retention).await;
        write_natively(redis, &stream, 25_000).await;
        eventually("it was trimmed", async || {
            left.contains(&length(&app, &stream).await)
        })
        .await;
    }
    for mode in ["exact", "acked"] {
        let stream = app.stream_of("aged", 250).await;
        write_natively(redis, &stream, 5).await;
        keep(
            &app,
            &stream,
            &format!(r#"{{"max_age":"1h","mode":"{mode}"}}"#),
        )
        .await;
        assert_eq!(length(&app, &stream).await, 5, "{mode}");
        keep(&app, &stream, r#"{"max_age":"1s"}"#).await;
        eventually("all are too old", async || length(&app, &stream).await == 0).await;
    }
}

#[tokio::test]
async fn every_gateway_heeds_what_one_was_told() {
    let (here, there) = (TestApp::start().await, TestApp::start().await);
    let stream = empty(&here, "replicas").await;
    keep(&here, &stream, r#"{"maxlen":5,"mode":"exact"}"#).await;
    eventually("the other one trims with an append", async || {
        for _ in 0..10 {
            there.publish(&stream, "1").await;
        }
        length(&there, &stream).await == 5
    })
    .await;
    keep(&here, &stream, r#"{"maxlen":20}"#).await;
    for n in 6..=20 {
        there.publish(&stream, "1").await;
        assert_eq!(
            length(&there, &stream).await,
            n,
            "nothing goes by what held before"
        );
    }
    keep(&here, &stream, "null").await;
    for _ in 0..5 {
        there.publish(&stream, "1").await;
    }
    assert_eq!(length(&there, &stream).await, 25);
}

#[tokio::test]
async fn another_gateway_goes_on_when_the_one_that_sweeps_is_killed() {
    let server = Server::start().await;
    let start = || {
        Gateway::start(&[
            "serve",
            "--redis-url",
            &server.url(),
            "--listen",
            "127.0.0.1:0",
            "--retention-every",
            "200ms",
        ])
    };
    let mut gateways = [start(), start()];
    let client = app::client();
    let url = |gateway: &Gateway, path: &str| format!("http://{}{path}", gateway.address);
    client
        .put(url(&gateways[0], "/v1/streams/s"))
        .send()
        .await
        .unwrap();
    let body = r#"{"retention":{"maxlen":2,"mode":"exact"}}"#;
    let request = client.patch(url(&gateways[0], "/v1/streams/s"));
    let set = request
        .header("content-type", "application/json")
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(set.status(), 200);
    let sweeps = async |gateway: &Gateway| {
        let text = client
            .get(url(gateway, "/metrics"))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        let line = "streamgate_retention_sweeps_total ";
        let count = text
            .lines()
            .find_map(|one| one.strip_prefix(line))
            .unwrap()
            .to_owned();
        count.parse::<u64>().unwrap()
    };
    eventually("one of them sweeps", async || {
        sweeps(&gateways[0]).await + sweeps(&gateways[1]).await > 2
    })
    .await;
    let counts = [sweeps(&gateways[0]).await, sweeps(&gateways[1]).await];
    let (holder, other) = if counts[0] > 0 { (0, 1) } else { (1, 0) };
    assert_eq!(counts[other], 0, "only one of them does");
    gateways[holder].child.kill().unwrap();
    write_natively(&server, "s", 10).await;
    eventually("the other one has trimmed", async || {
        server.command(&["XLEN", "s"]).await == Redis::Int(2)
    })
    .await;
    // A round counts at its end, after its trims.
    eventually("its round has ended", async || {
        sweeps(&gateways[other]).await > 0
    })
    .await;
}

#[tokio::test]
async fn a_group_keeps_what_it_has_not_acknowledged_and_is_named() {
    let server = Server::start().await; // The metrics are those of the gateway that sweeps.
    let app = TestApp::on_server(&server).await;
    let stream = app.stream_of("blocked", 10).await;
    for (name, start) in [("fast", "$"), ("slow", "2-0")] {
        app.put_json(
            &group(&stream, name, ""),
            &format!(r#"{{"start":"{start}"}}"#),
        )
        .await;
    }
    let shown = keep(&app, &stream, r#"{"maxlen":1,"mode":"acked"}"#).await;
    let by = |id: &str, reason: &str| json!({"group": "slow", "id": id, "reason": reason});
    assert_eq!(shown["blocked_by"], by("3-0", "unread"));
    eventually("the metric tells", async || {
        app.metric("retention_blocked_streams").await > 0
    })
    .await;
    app.post_form(&group(&stream, "slow", "/read"), "consumer=w&count=5")
        .await;
    assert_eq!(
        look(&app, &stream).await["retention"]["blocked_by"],
        by("3-0", "pending")
    );
    app.post_form(&group(&stream, "slow", "/ack"), "ids=3-0&ids=5-0&ids=6-0")
        .await;
    eventually("it goes up to the next", async || {
        look(&app, &stream).await["retention"]["blocked_by"] == by("4-0", "pending")
    })
    .await;
    let ids = app
        .get(&format!("/v1/streams/{stream}/entries"))
        .await
        .ids();
    assert_eq!(
        ids,
        ["4-0", "5-0", "6-0", "7-0", "8-0", "9-0", "10-0"],
        "no holes"
    );
    app.post_form(&group(&stream, "slow", "/ack"), "ids=4-0&ids=7-0")
        .await;
    eventually("8-0 was never read", async || {
        look(&app, &stream).await["retention"]["blocked_by"] == by("8-0", "unread")
    })
    .await;
    app.delete(&group(&stream, "slow", "")).await;
    eventually("nobody needs them", async || {
        length(&app, &stream).await == 1
    })
    .await;
    assert_eq!(
        look(&app, &stream).await["retention"]["blocked_by"],
        Value::Null
    );
}

#[tokio::test]
async fn the_record_of_an_entry_that_is_gone_holds_nothing_back() {
    let app = TestApp::start().await;
    let stream = app.stream_of("gone", 6).await;
    app.put_json(&group(&stream, "g", ""), "{}").await;
    app.post_form(&group(&stream, "g", "/read"), "consumer=w&count=6")
        .await;
    app.post_form(
        &group(&stream, "g", "/ack"),
        "ids=1-0&ids=3-0&ids=4-0&ids=5-0&ids=6-0",
    )
    .await;
    app.delete(&format!("/v1/streams/{stream}/entries/2-0"))
        .await;
    let shown = keep(&app, &stream, r#"{"maxlen":1,"mode":"acked"}"#).await;
    assert_eq!(
        (length(&app, &stream).await, &shown["blocked_by"]),
        (1, &Value::Null)
    );
}

#[tokio::test]
async fn the_hard_cap_goes_over_groups_and_what_it_cost_is_counted() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    app.fill("s", 10).await;
    for name in ["g", "done"] {
        app.put_json(&group("s", name, ""), "{}").await;
        app.post_form(&group("s", name, "/read"), "consumer=w&count=6")
            .await;
    }
    app.post_form(
        &group("s", "done", "/ack"),
        "ids=1-0&ids=2-0&ids=3-0&ids=4-0&ids=5-0",
    )
    .await;
    app.post_form(&group("s", "g", "/ack"), "ids=1-0&ids=3-0&ids=4-0")
        .await;
    let shown = keep(&app, "s", r#"{"maxlen":1,"mode":"acked","hard_maxlen":6}"#).await;
    assert_eq!(
        shown["blocked_by"],
        json!({"group": "g", "id": "5-0", "reason": "pending"})
    );
    // 1-0 could be trimmed. The cap trimmed 2-0 to 4-0, of which only 2-0 was not acknowledged.
    assert_eq!(
        (
            length(&app, "s").await,
            app.metric("retention_forced_entries_total").await
        ),
        (6, 1)
    );
    assert_eq!(app.metric("retention_trimmed_entries_total").await, 4);
    write_natively(&server, "s", 2500).await;
    eventually("it is held", async || length(&app, "s").await == 6).await;
    // 5-0 was pending and the rest unread in both groups. 6 of 2506 are left.
    assert_eq!(app.metric("retention_forced_entries_total").await, 1 + 2500);
}

#[tokio::test]
async fn retention_goes_with_its_stream() {
    let (app, redis) = (TestApp::start().await, shared().await);
    for natively in [false, true] {
        let stream = app.stream_of("deleted", 2).await;
        keep(&app, &stream, r#"{"maxlen":1,"mode":"exact"}"#).await;
        match natively {
            true => drop(redis.command(&["DEL", &stream]).await),
            false => assert_eq!(
                app.delete(&format!("/v1/streams/{stream}")).await.status,
                204
            ),
        }
        eventually("it is out of the index", async || {
            let words = ["SISMEMBER", "streamgate:{retention}:index", &stream];
            redis.command(&words).await == Redis::Int(0)
        })
        .await;
        app.fill(&stream, 5).await;
        let found = look(&app, &stream).await;
        assert_eq!(
            (&found["length"], &found["retention"]),
            (&json!(5), &Value::Null)
        );
    }
}

#[tokio::test]
async fn a_redis_that_comes_back_keeps_its_retentions_or_takes_new_ones() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let set = async || {
        eventually("there is a stream", async || {
            app.put_json("/v1/streams/s", "").await.status / 100 == 2
        })
        .await;
        keep(&app, "s", r#"{"maxlen":2,"mode":"exact"}"#).await;
    };
    let trimmed = async |what: &str| {
        write_natively(&server, "s", 10).await;
        eventually(what, async || look(&app, "s").await["length"] == 2).await;
    };
    set().await;
    server.written().await;
    server.kill();
    server.start_again().await;
    trimmed("it was kept").await;
    server.kill();
    server.start_empty().await;
    write_natively(&server, "s", 5).await;
    eventually("Redis is back", async || {
        app.get("/v1/streams/s").await.status == 200
    })
    .await;
    let found = look(&app, "s").await;
    assert_eq!(
        (&found["length"], &found["retention"]),
        (&json!(5), &Value::Null)
    );
    set().await;
    trimmed("it was set anew").await;
}
