//! Acknowledging and deleting entries in one step.

use deadpool_redis::redis::Value as Redis;
use serde_json::{Value, json};

use crate::support::redis::shared;
use crate::support::{Answer, TestApp, skipped, unique};

fn group(stream: &str, group: &str, call: &str) -> String {
    format!("/v1/streams/{stream}/groups/{group}/{call}")
}

/// Creates a group and reads `count` entries in it.
async fn read(app: &TestApp, stream: &str, name: &str, count: u32) {
    let made = app
        .put_json(&format!("/v1/streams/{stream}/groups/{name}"), "{}")
        .await;
    assert_eq!(made.status, 201, "{}", made.body);
    app.post_form(
        &group(stream, name, "read"),
        &format!("consumer=w&count={count}"),
    )
    .await;
}

/// Creates a stream of six entries with two groups. `g` has read five. `h` has read four and
/// acknowledged the first two.
async fn shared_by_two(app: &TestApp) -> String {
    let stream = app.stream_of("two", 6).await;
    read(app, &stream, "g", 5).await;
    read(app, &stream, "h", 4).await;
    app.post_form(&group(&stream, "h", "ack"), "ids=1-0&ids=2-0")
        .await;
    stream
}

async fn ack(app: &TestApp, stream: &str, query: &str, ids: &[&str]) -> Answer {
    let path = group(stream, "g", &format!("ack?{query}"));
    let answer = app
        .post_json(&path, &json!({ "ids": ids }).to_string())
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer
}

/// Returns each outcome, and whether the entry was deleted.
fn results(answer: &Answer) -> Vec<(String, bool)> {
    let json = answer.json();
    let one = |result: &Value| {
        (
            result["outcome"].as_str().unwrap().to_owned(),
            result["deleted"].as_bool().unwrap(),
        )
    };
    json["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(one)
        .collect()
}

async fn entries(app: &TestApp, stream: &str) -> Vec<String> {
    app.get(&format!("/v1/streams/{stream}/entries"))
        .await
        .ids()
}

async fn pending(app: &TestApp, stream: &str, name: &str) -> Vec<String> {
    app.get(&group(stream, name, "pending")).await.ids()
}

#[tokio::test]
async fn an_entry_is_deleted_once_every_group_has_acknowledged_it() {
    let app = TestApp::start().await;
    let stream = shared_by_two(&app).await;
    // In `h`, the first entry is acknowledged, the second pending, and the third unread.
    let answer = ack(&app, &stream, "delete=true", &["1-0", "3-0", "5-0"]).await;
    let expected = json!({"acknowledged": 3, "deleted": 1, "results": [
        {"id": "1-0", "outcome": "acknowledged", "deleted": true},
        {"id": "3-0", "outcome": "acknowledged", "deleted": false},
        {"id": "5-0", "outcome": "acknowledged", "deleted": false},
    ]});
    assert_eq!(answer.json(), expected);
    assert_eq!(
        entries(&app, &stream).await,
        ["2-0", "3-0", "4-0", "5-0", "6-0"]
    );
    assert_eq!(pending(&app, &stream, "h").await, ["3-0", "4-0"]);
    let last = app
        .post_form(&group(&stream, "h", "ack?delete&refs=acked"), "ids=3-0")
        .await;
    assert_eq!(results(&last), [("acknowledged".to_owned(), true)]);
    assert_eq!(entries(&app, &stream).await, ["2-0", "4-0", "5-0", "6-0"]);
    let plain = ack(&app, &stream, "", &["2-0"]).await.json();
    assert_eq!(
        plain["results"],
        json!([{"id": "2-0", "outcome": "acknowledged"}])
    );
    assert_eq!(
        entries(&app, &stream).await.len(),
        4,
        "nothing goes unless it is asked for"
    );
}

#[tokio::test]
async fn what_is_not_pending_is_left_alone() {
    let app = TestApp::start().await;
    for refs in ["acked", "keep", "delete"] {
        let stream = shared_by_two(&app).await;
        ack(&app, &stream, "", &["2-0"]).await;
        shared().await.command(&["XDEL", &stream, "4-0"]).await;
        let query = format!("delete=true&refs={refs}");
        // In order: acknowledged by all; pending but deleted; unread; never existed; named twice.
        let ids = ["2-0", "4-0", "6-0", "9-0", "1-0", "1-0"];
        let answer = results(&ack(&app, &stream, &query, &ids).await);
        let not_pending = || ("not-pending".to_owned(), false);
        let acked = |deleted| ("acknowledged".to_owned(), deleted);
        let expected = [
            not_pending(),
            acked(false),
            not_pending(),
            not_pending(),
            acked(true),
            not_pending(),
        ];
        assert_eq!(answer, expected, "{refs}");
        assert_eq!(
            entries(&app, &stream).await,
            ["2-0", "3-0", "5-0", "6-0"],
            "{refs}"
        );
    }
}

#[tokio::test]
async fn records_of_other_groups_are_kept_or_go_with_the_entry() {
    let app = TestApp::start().await;
    for (refs, left) in [("keep", vec!["3-0", "4-0"]), ("delete", vec!["4-0"])] {
        let stream = shared_by_two(&app).await;
        let answer = ack(
            &app,
            &stream,
            &format!("delete=true&refs={refs}"),
            &["3-0", "5-0"],
        )
        .await;
        assert_eq!(answer.json()["deleted"], 2, "{refs}");
        assert_eq!(
            entries(&app, &stream).await,
            ["1-0", "2-0", "4-0", "6-0"],
            "{refs}"
        );
        assert_eq!(pending(&app, &stream, "h").await, left, "{refs}");
        assert_eq!(
            pending(&app, &stream, "g").await,
            ["1-0", "2-0", "4-0"],
            "{refs}"
        );
    }
}

#[tokio::test]
async fn acknowledging_means_what_the_native_command_means_where_there_is_one() {
    let app = TestApp::start().await;
    let redis = shared().await;
    let Redis::Array(info) = redis.command(&["COMMAND", "INFO", "XACKDEL"]).await else {
        panic!()
    };
    if info == [Redis::Nil] {
        return skipped("this server has no XACKDEL");
    }
    for (refs, word) in [
        ("keep", "KEEPREF"),
        ("delete", "DELREF"),
        ("acked", "ACKED"),
    ] {
        for moved_back in [false, true] {
            let (ours, native) = (shared_by_two(&app).await, shared_by_two(&app).await);
            for stream in [&ours, &native] {
                if moved_back {
                    redis.command(&["XGROUP", "SETID", stream, "g", "0"]).await;
                }
            }
            let ids = ["1-0", "3-0", "5-0", "6-0", "9-0", "0-7", "1-0", "2-0"];
            let answer = ack(&app, &ours, &format!("delete=true&refs={refs}"), &ids).await;
            let mut command = vec!["XACKDEL", native.as_str(), "g", word, "IDS", "8"];
            command.extend(ids);
            let Redis::Array(replies) = redis.command(&command).await else {
                panic!()
            };
            let named = |reply: &Redis| match reply {
                Redis::Int(1) => ("acknowledged".to_owned(), true),
                Redis::Int(2) => ("acknowledged".to_owned(), false),
                _ => ("not-pending".to_owned(), false),
            };
            let what = format!("{refs}, moved back: {moved_back}");
            assert_eq!(
                results(&answer),
                replies.iter().map(named).collect::<Vec<_>>(),
                "{what}"
            );
            assert_eq!(
                entries(&app, &ours).await,
                entries(&app, &native).await,
                "{what}"
            );
            for name in ["g", "h"] {
                let (ours, native) = (
                    pending(&app, &ours, name).await,
                    pending(&app, &native, name).await,
                );
                assert_eq!(ours, native, "{what}, {name}");
            }
        }
    }
}

#[tokio::test]
async fn whoever_acknowledges_last_deletes_however_close_together() {
    let app = TestApp::start().await;
    let stream = app.stream_of("close", 40).await;
    read(&app, &stream, "g", 40).await;
    read(&app, &stream, "h", 40).await;
    let one = async |name: &str, n: u32| {
        let path = group(&stream, name, "ack?delete=true");
        app.post_form(&path, &format!("ids={n}-0")).await.json()["deleted"]
            .as_u64()
            .unwrap()
    };
    let both = (1..=40).map(async |n| {
        let (g, h) = tokio::join!(one("g", n), one("h", n));
        g + h
    });
    let deleted = futures_util::future::join_all(both).await;
    assert_eq!(deleted, [1; 40], "each once");
    assert_eq!(entries(&app, &stream).await, Vec::<String>::new());
}

#[tokio::test]
async fn entries_of_several_streams_are_acknowledged_and_deleted() {
    let app = TestApp::start().await;
    let (a, b) = (shared_by_two(&app).await, shared_by_two(&app).await);
    let form = format!("ids={b}@1-0&ids={a}@1-0&ids={a}@3-0&ids={b}@9-0");
    let answer = app.post_form("/v1/groups/g/ack?delete=true", &form).await;
    let expected = json!({"acknowledged": 3, "deleted": 2, "results": [
        {"stream": b, "id": "1-0", "outcome": "acknowledged", "deleted": true},
        {"stream": a, "id": "1-0", "outcome": "acknowledged", "deleted": true},
        {"stream": a, "id": "3-0", "outcome": "acknowledged", "deleted": false},
        {"stream": b, "id": "9-0", "outcome": "not-pending", "deleted": false},
    ]});
    assert_eq!(answer.json(), expected);
    let form = format!("ids={a}@4-0&ids={b}@4-0");
    let answer = app
        .post_form("/v1/groups/g/ack?delete=true&refs=delete", &form)
        .await;
    assert_eq!(answer.json()["deleted"], 2);
    assert_eq!(pending(&app, &a, "h").await, ["3-0"]);
}

#[tokio::test]
async fn what_cannot_be_acknowledged_and_deleted_is_told() {
    let app = TestApp::start().await;
    let stream = shared_by_two(&app).await;
    let post = async |path: String| app.post_form(&path, "ids=1-0").await;
    for (query, code) in [
        ("refs=acked", "invalid-request"),
        ("delete=false&refs=keep", "invalid-request"),
        ("delete=true&refs=all", "invalid-request"),
        ("delete=yes", "invalid-request"),
        ("delet=true", "unknown-parameter"),
    ] {
        post(group(&stream, "g", &format!("ack?{query}")))
            .await
            .is_problem(400, code);
        let (path, form) = (
            format!("/v1/groups/g/ack?{query}"),
            format!("ids={stream}@1-0"),
        );
        app.post_form(&path, &form).await.is_problem(400, code);
    }
    let text = unique("text");
    shared().await.command(&["SET", &text, "x"]).await;
    for (stream, status, code) in [
        (stream.as_str(), 404, "group-not-found"),
        (&unique("none"), 404, "group-not-found"),
        (&text, 409, "not-a-stream"),
    ] {
        post(group(stream, "nobody", "ack?delete=true"))
            .await
            .is_problem(status, code);
    }
    assert_eq!(
        pending(&app, &stream, "g").await.len(),
        5,
        "nothing was acknowledged"
    );
    assert_eq!(entries(&app, &stream).await.len(), 6, "nothing was deleted");
}
