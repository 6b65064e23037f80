//! Groups with `order_by`: entries of one key are handed out one after the other.

use serde_json::{Value, json};

use crate::support::redis::{Server, shared};
use crate::support::{Answer, TestApp, eventually, unique};

fn group(stream: &str, rest: &str) -> String {
    format!("/v1/streams/{stream}/groups/g{rest}")
}

/// Creates a stream with the entries `1-0`, `2-0` and so on, of these keys, and an ordered group.
async fn ordered(app: &TestApp, keys: &[&str], policy: &str) -> String {
    let stream = unique("ordered");
    for (at, key) in keys.iter().enumerate() {
        add(app, &stream, at + 1, key).await;
    }
    let body = format!(r#"{{"policy":{{"order_by":"k"{policy}}}}}"#);
    let made = app.put_json(&group(&stream, ""), &body).await;
    assert!(made.status == 201, "{}", made.body);
    stream
}

async fn add(app: &TestApp, stream: &str, at: usize, key: &str) {
    let body = json!({"id": format!("{at}-0"), "fields": if key.is_empty() { json!({"n": "1"}) } else { json!({"k": key}) }});
    let path = format!("/v1/streams/{stream}/entries");
    let added = app.post_json(&path, &body.to_string()).await;
    assert_eq!(added.status, 201, "{}", added.body);
}

async fn call(app: &TestApp, stream: &str, verb: &str, form: &str) -> Answer {
    let path = group(stream, &format!("/{verb}"));
    let answer = app.post_form(&path, form).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer
}

/// Reads entries and returns their ids with their receipts.
async fn read(app: &TestApp, stream: &str, form: &str) -> Vec<(String, String)> {
    let answer = call(app, stream, "read", &format!("consumer=w&{form}")).await;
    let entries = answer.json()["entries"].as_array().unwrap().clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let one = |entry: &Value| (text(&entry["id"]), text(&entry["receipt"]));
    entries.iter().map(one).collect()
}

fn ids(entries: &[(String, String)]) -> Vec<&str> {
    entries.iter().map(|(id, _)| id.as_str()).collect()
}

async fn ack(app: &TestApp, stream: &str, entry: &(String, String)) {
    let acked = call(app, stream, "ack", &format!("receipts={}", entry.1)).await;
    assert_eq!(acked.json()["acknowledged"], 1, "{}", acked.body);
}

async fn patch(app: &TestApp, stream: &str, policy: &str) -> Answer {
    let request = app.client.patch(app.url(&group(stream, "")));
    let request = request.header("content-type", "application/json");
    app.send(request.body(format!(r#"{{"policy":{policy}}}"#)))
        .await
}

#[tokio::test]
async fn entries_of_a_key_come_one_after_the_other_and_others_beside_them() {
    let app = TestApp::start().await;
    let stream = ordered(&app, &["a", "a", "b", "", "a", "b", ""], "").await;
    let first = read(&app, &stream, "count=10").await;
    assert_eq!(ids(&first), ["1-0", "3-0", "4-0", "7-0"]);
    assert!(read(&app, &stream, "count=10").await.is_empty());
    ack(&app, &stream, &first[0]).await;
    let second = read(&app, &stream, "count=10").await;
    assert_eq!(ids(&second), ["2-0"]);
    let by_id = call(&app, &stream, "ack", "ids=3-0").await;
    assert_eq!(by_id.json()["acknowledged"], 1);
    assert_eq!(ids(&read(&app, &stream, "count=10").await), ["6-0"]);
    ack(&app, &stream, &second[0]).await;
    add(&app, &stream, 8, "a").await;
    let third = read(&app, &stream, "count=10").await;
    assert_eq!(ids(&third), ["5-0"], "8-0 waits for 5-0");
    let deleted = call(
        &app,
        &stream,
        "ack?delete=true",
        &format!("receipts={}", third[0].1),
    )
    .await;
    assert_eq!(deleted.json()["deleted"], 1, "{}", deleted.body);
    assert_eq!(ids(&read(&app, &stream, "count=10").await), ["8-0"]);
}

#[tokio::test]
async fn a_nacked_or_expired_entry_comes_again_before_later_ones_of_its_key() {
    let app = TestApp::start().await;
    let stream = ordered(&app, &["a", "a", "b", "b"], r#","lease":"100ms""#).await;
    let first = read(&app, &stream, "count=4&lease=1m").await;
    assert_eq!(ids(&first), ["1-0", "3-0"]);
    let nack = format!("receipts={}&delay=0ms", first[0].1);
    call(&app, &stream, "nack", &nack).await;
    let again = read(&app, &stream, "count=4").await;
    assert_eq!(ids(&again), ["1-0"]);
    let (app, stream) = (&app, stream.as_str());
    let mut last = Vec::new();
    eventually("the lease of 100ms has ended", async || {
        last = read(app, stream, "count=4&lease=1m").await;
        !last.is_empty()
    })
    .await;
    assert_eq!(ids(&last), ["1-0"]);
    ack(app, stream, &last[0]).await;
    assert_eq!(ids(&read(app, stream, "count=4").await), ["2-0"]);
}

#[tokio::test]
async fn a_small_read_leaves_free_keys_to_the_next_one() {
    let app = TestApp::start().await;
    let keys: Vec<String> = (0..60)
        .map(|at| {
            if at < 40 {
                "hot".to_owned()
            } else {
                at.to_string()
            }
        })
        .collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let stream = ordered(&app, &keys, "").await;
    let mut all = Vec::new();
    for _ in 0..21 {
        all.extend(read(&app, &stream, "count=1").await);
    }
    let mut got = ids(&all);
    got.sort_unstable();
    let mut expected = vec!["1-0".to_owned()];
    expected.extend((41..=60).map(|at| format!("{at}-0")));
    expected.sort_unstable();
    assert_eq!(got, expected);
    assert!(read(&app, &stream, "count=9").await.is_empty());
}

#[tokio::test]
async fn a_read_bounded_in_bytes_keeps_the_order() {
    let app = TestApp::start().await;
    let stream = ordered(&app, &["a", "a", "b", "c", "a", "d"], "").await;
    let mut got = Vec::new();
    for _ in 0..4 {
        let some = read(&app, &stream, "count=10&max_bytes=4").await;
        assert!(some.len() <= 2, "{some:?}");
        got.extend(some);
    }
    let mut of_keys = ids(&got);
    of_keys.sort_unstable();
    assert_eq!(of_keys, ["1-0", "3-0", "4-0", "6-0"]);
}

#[tokio::test]
async fn several_entries_of_a_key_may_be_in_flight() {
    let app = TestApp::start().await;
    let policy = r#","max_in_flight_per_key":2"#;
    let stream = ordered(&app, &["a", "a", "a", "a"], policy).await;
    let first = read(&app, &stream, "count=10").await;
    assert_eq!(ids(&first), ["1-0", "2-0"]);
    ack(&app, &stream, &first[1]).await;
    assert_eq!(ids(&read(&app, &stream, "count=10").await), ["3-0"]);
    assert!(read(&app, &stream, "count=10").await.is_empty());
}

#[tokio::test]
async fn a_dead_letter_blocks_its_key_until_it_is_deleted_redriven_or_freed() {
    let app = TestApp::start().await;
    let stream = ordered(&app, &["a", "a", "a", "a"], "").await;
    for expected in ["1-0", "2-0", "3-0"] {
        let got = read(&app, &stream, "count=1").await;
        assert_eq!(ids(&got), [expected]);
        call(&app, &stream, "reject", &format!("receipts={}", got[0].1)).await;
        let key = app.get(&group(&stream, "/keys/a")).await.json();
        assert_eq!(
            (&key["state"], &key["blocked_by"]),
            (&json!("blocked"), &json!(expected))
        );
        match expected {
            "1-0" => {
                let gone = app.delete(&group(&stream, "/dead-letters")).await;
                assert_eq!(gone.json()["deleted"], 1);
            }
            "2-0" => {
                call(&app, &stream, "dead-letters/redrive", "all=true").await;
                let again = read(&app, &stream, "count=1").await;
                assert_eq!(ids(&again), ["2-0"], "before later ones");
                ack(&app, &stream, &again[0]).await;
            }
            _ => {
                let listed = app.get(&group(&stream, "/keys")).await.json();
                let listed = listed["keys"].as_array().unwrap().clone();
                assert_eq!(listed[0]["key"], "a", "{listed:?}");
                let freed = app.delete(&group(&stream, "/keys/a")).await;
                assert_eq!(freed.json()["freed"], 1, "{}", freed.body);
            }
        }
    }
    assert_eq!(ids(&read(&app, &stream, "count=9").await), ["4-0"]);
    let unknown = app.get(&group(&stream, "/keys/zz")).await;
    unknown.is_problem(404, "key-not-found");
}

#[tokio::test]
async fn a_key_that_skips_its_dead_letters_takes_a_redriven_entry_next() {
    let app = TestApp::start().await;
    let stream = ordered(&app, &["a", "a", "a"], r#","on_failure":"skip""#).await;
    let first = read(&app, &stream, "count=9").await;
    call(&app, &stream, "reject", &format!("receipts={}", first[0].1)).await;
    let second = read(&app, &stream, "count=9").await;
    assert_eq!(ids(&second), ["2-0"]);
    call(&app, &stream, "dead-letters/redrive", "all=true").await;
    assert!(read(&app, &stream, "count=9").await.is_empty());
    ack(&app, &stream, &second[0]).await;
    assert_eq!(ids(&read(&app, &stream, "count=9").await), ["1-0"]);
}

#[tokio::test]
async fn a_deleted_entry_frees_its_key() {
    let app = TestApp::start().await;
    let stream = ordered(&app, &["a", "a", "a"], r#","lease":"100ms""#).await;
    assert_eq!(ids(&read(&app, &stream, "count=9").await), ["1-0"]);
    for id in ["1-0", "2-0"] {
        let path = format!("/v1/streams/{stream}/entries/{id}");
        assert_eq!(app.delete(&path).await.status, 204);
    }
    let (app, stream) = (&app, stream.as_str());
    eventually("the lease of 1-0 has ended", async || {
        ids(&read(app, stream, "count=9&lease=1m").await) == ["3-0"]
    })
    .await;
}

#[tokio::test]
async fn the_order_is_built_again_when_its_keys_are_lost() {
    let app = TestApp::start().await;
    let server = shared().await;
    let stream = ordered(&app, &["a", "a", "b", "a", "b"], "").await;
    let first = read(&app, &stream, "count=9").await;
    assert_eq!(ids(&first), ["1-0", "3-0"]);
    let length = stream.len();
    let lost = format!("streamgate:{{{stream}}}:order:{length}:{stream}:g");
    let turns = lost.replace(":order:", ":turns:");
    server.command(&["DEL", &lost, &turns]).await;
    assert!(read(&app, &stream, "count=9").await.is_empty());
    ack(&app, &stream, &first[0]).await;
    let second = read(&app, &stream, "count=9").await;
    assert_eq!(ids(&second), ["2-0"]);
    server.command(&["DEL", &lost, &turns]).await;
    ack(&app, &stream, &second[0]).await;
    ack(&app, &stream, &first[1]).await;
    assert_eq!(ids(&read(&app, &stream, "count=9").await), ["4-0", "5-0"]);
}

#[tokio::test]
async fn without_the_order_waiting_entries_are_due_in_the_order_of_their_ids() {
    let app = TestApp::start().await;
    let stream = ordered(&app, &["a", "a", "a", "a"], "").await;
    assert_eq!(ids(&read(&app, &stream, "count=9").await), ["1-0"]);
    let changed = patch(&app, &stream, r#"{"order_by":null}"#).await;
    assert_eq!(changed.status, 200, "{}", changed.body);
    assert!(changed.json()["policy"]["order_by"].is_null());
    let (app, stream) = (&app, stream.as_str());
    let mut got = Vec::new();
    eventually("the sweeper has made the entries due", async || {
        got.extend(read(app, stream, "count=9").await);
        got.len() == 3
    })
    .await;
    assert_eq!(ids(&got), ["2-0", "3-0", "4-0"]);
}

#[tokio::test]
async fn at_the_bound_of_entries_read_ahead_nothing_new_is_read() {
    let app = TestApp::start().await;
    let stream = ordered(&app, &["a", "a", "a", "a", "b"], r#","read_ahead":2"#).await;
    let first = read(&app, &stream, "count=9").await;
    assert_eq!(ids(&first), ["1-0"]);
    assert!(read(&app, &stream, "count=9").await.is_empty());
    let shown = app.get(&group(&stream, "")).await.json();
    assert_eq!(shown["keys"]["waiting"], 2, "{shown}");
    ack(&app, &stream, &first[0]).await;
    assert_eq!(ids(&read(&app, &stream, "count=9").await), ["2-0"]);
}

#[tokio::test]
async fn keys_may_be_any_bytes_and_the_first_of_repeated_fields_counts() {
    let app = TestApp::start().await;
    let server = shared().await;
    let stream = ordered(&app, &[], "").await;
    let long = "x".repeat(65536);
    server
        .command(&["XADD", &stream, "1-0", "k", "a", "k", "b"])
        .await;
    server.command(&["XADD", &stream, "2-0", "k", "b"]).await;
    server.command(&["XADD", &stream, "3-0", "k", "a"]).await;
    server.command(&["XADD", &stream, "4-0", "k", &long]).await;
    server.command(&["XADD", &stream, "5-0", "k", &long]).await;
    server.command(&["XADD", &stream, "6-0", "k", ""]).await;
    let script = "return redis.call('XADD', KEYS[1], '*', 'k', '\\255')";
    server.command(&["EVAL", script, "1", &stream]).await;
    server.command(&["EVAL", script, "1", &stream]).await;
    let got = read(&app, &stream, "count=9").await;
    assert_eq!(ids(&got)[..4], ["1-0", "2-0", "4-0", "6-0"]);
    assert_eq!(got.len(), 5);
    let keys = app.get(&group(&stream, "/keys?limit=2")).await.json();
    let next = keys["next"].as_str().unwrap().to_owned();
    let rest = app
        .get(&group(&stream, &format!("/keys?cursor={next}")))
        .await
        .json();
    let all = [
        keys["keys"].as_array().unwrap().as_slice(),
        rest["keys"].as_array().unwrap(),
    ]
    .concat();
    assert_eq!(all.len(), 5, "{all:?}");
    let raw = all.iter().find(|key| key["key"].is_object()).unwrap();
    assert_eq!(raw["key"], json!({"base64": "/w=="}));
    let path = format!("/keys/hash:{}", raw["hash"].as_str().unwrap());
    let one = app.get(&group(&stream, &path)).await.json();
    assert_eq!(
        (&one["state"], &one["waiting"]),
        (&json!("in-flight"), &json!(1))
    );
}

#[tokio::test]
async fn calls_that_break_the_order_are_refused_and_lose_nothing() {
    let app = TestApp::start().await;
    let stream = ordered(&app, &["a", "a"], "").await;
    for (verb, form) in [
        ("read", "consumer=w&no_ack=true"),
        ("claim", "consumer=w&ids=1-0"),
        ("autoclaim", "consumer=w&min_idle=0ms"),
    ] {
        let refused = app
            .post_form(&group(&stream, &format!("/{verb}")), form)
            .await;
        refused.is_problem(409, "group-is-ordered");
    }
    assert_eq!(ids(&read(&app, &stream, "count=9").await), ["1-0"]);
    for (policy, at) in [
        (r#"{"order_by":""}"#.to_owned(), "/policy/order_by"),
        (
            format!(r#"{{"order_by":"{}"}}"#, "x".repeat(1025)),
            "/policy/order_by",
        ),
        (
            r#"{"max_in_flight_per_key":0}"#.to_owned(),
            "/policy/max_in_flight_per_key",
        ),
        (r#"{"read_ahead":200001}"#.to_owned(), "/policy/read_ahead"),
        (
            r#"{"order_by":null,"on_failure":"skip"}"#.to_owned(),
            "/policy/on_failure",
        ),
        (
            r#"{"max_in_flight":1000001}"#.to_owned(),
            "/policy/max_in_flight",
        ),
        (r#"{"rate":"fast"}"#.to_owned(), "/policy/rate"),
        (r#"{"rate":"1/1ms"}"#.to_owned(), "/policy/rate"),
    ] {
        let problem = patch(&app, &stream, &policy)
            .await
            .is_problem(422, "invalid-policy");
        assert_eq!(problem["errors"][0]["pointer"], at, "{problem}");
    }
    let plain = unique("unordered");
    app.fill(&plain, 1).await;
    app.put_json(&group(&plain, ""), r#"{"policy":{}}"#).await;
    let refused = app.get(&group(&plain, "/keys")).await;
    refused.is_problem(409, "group-is-unordered");
    app.get(&group(&stream, "/keys?cursor=x"))
        .await
        .is_problem(400, "invalid-request");
}

#[tokio::test]
async fn own_consumers_of_an_ordered_group_are_hidden() {
    let app = TestApp::start().await;
    let stream = ordered(&app, &["a", "a"], "").await;
    read(&app, &stream, "count=9").await;
    let shown = app.get(&group(&stream, "")).await.json();
    assert_eq!(shown["consumer_count"], 1, "{shown}");
    assert_eq!(shown["pending"], 2, "waiting entries are pending");
    let groups = app
        .get(&format!("/v1/streams/{stream}/groups"))
        .await
        .json();
    assert_eq!(groups["groups"][0]["consumer_count"], 1);
    let pending = app.get(&group(&stream, "/pending")).await;
    assert!(!pending.body.contains("streamgate:"), "{}", pending.body);
}

#[tokio::test]
async fn a_change_of_the_field_applies_to_entries_read_after_it() {
    let app = TestApp::start().await;
    let server = shared().await;
    let stream = ordered(&app, &["a", "a"], "").await;
    let first = read(&app, &stream, "count=9").await;
    assert_eq!(ids(&first), ["1-0"]);
    patch(&app, &stream, r#"{"order_by":"other"}"#).await;
    server
        .command(&["XADD", &stream, "3-0", "k", "a", "other", "x"])
        .await;
    server
        .command(&["XADD", &stream, "4-0", "k", "b", "other", "x"])
        .await;
    assert_eq!(ids(&read(&app, &stream, "count=9").await), ["3-0"]);
    ack(&app, &stream, &first[0]).await;
    assert_eq!(ids(&read(&app, &stream, "count=9").await), ["2-0"]);
}

#[tokio::test]
async fn a_paused_group_hands_out_nothing_and_limits_hold_over_all_gateways() {
    let server = Server::start().await;
    let (one, two) = (
        TestApp::on_server(&server).await,
        TestApp::on_server(&server).await,
    );
    let stream = one.stream_of("limits", 9).await;
    let made = one
        .put_json(
            &group(&stream, ""),
            r#"{"policy":{"paused":true,"max_in_flight":3}}"#,
        )
        .await;
    assert_eq!(
        (made.status, &made.json()["policy"]["paused"]),
        (201, &json!(true))
    );
    assert!(read(&two, &stream, "count=9").await.is_empty());
    patch(&one, &stream, r#"{"paused":null}"#).await;
    let first = read(&two, &stream, "count=2").await;
    assert_eq!(ids(&first), ["1-0", "2-0"]);
    assert_eq!(ids(&read(&one, &stream, "count=9").await), ["3-0"]);
    let (waiting, ()) = tokio::join!(read(&one, &stream, "count=9&wait=20s"), async {
        eventually("the reader waits", async || {
            one.metric("waiting_reads").await == 1
        })
        .await;
        ack(&two, &stream, &first[0]).await;
    });
    assert_eq!(ids(&waiting), ["4-0"]);
    patch(&one, &stream, r#"{"max_in_flight":null,"rate":"2/1h"}"#).await;
    assert_eq!(ids(&read(&one, &stream, "count=1").await), ["5-0"]);
    assert_eq!(ids(&read(&two, &stream, "count=9").await), ["6-0"]);
    assert!(read(&two, &stream, "count=9").await.is_empty());
}

#[tokio::test]
async fn without_the_policy_waiting_and_nacked_entries_come_to_plain_reads() {
    let app = TestApp::start().await;
    let stream = ordered(&app, &["a", "a", "a", "b"], "").await;
    let first = read(&app, &stream, "count=9").await;
    assert_eq!(ids(&first), ["1-0", "4-0"]);
    let nack = format!("receipts={}&delay=1h", first[1].1);
    call(&app, &stream, "nack", &nack).await;
    let request = app.client.patch(app.url(&group(&stream, "")));
    let request = request.header("content-type", "application/json");
    let changed = app.send(request.body(r#"{"policy":null}"#)).await;
    assert_eq!(changed.status, 200, "{}", changed.body);
    let mut got = Vec::new();
    let (app, stream) = (&app, stream.as_str());
    eventually("plain reads get what was held", async || {
        let answer = call(app, stream, "read", "consumer=v&count=9").await;
        got.extend(answer.ids());
        got.len() >= 3
    })
    .await;
    got.sort_unstable();
    assert_eq!(got, ["2-0", "3-0", "4-0"], "1-0 is with its worker");
    let groups = app.get(&format!("/v1/streams/{stream}/groups")).await;
    let acked = call(app, stream, "ack", &format!("receipts={}", first[0].1)).await;
    assert_eq!(
        acked.json()["acknowledged"],
        1,
        "{} {}",
        acked.body,
        groups.body
    );
}
