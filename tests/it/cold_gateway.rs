//! Gateways that have not seen a change made elsewhere respond as if they had. Cached groups,
//! consumers and retention never make a response wrong.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::redis::{Server, json as plain, shared};
use crate::support::{TestApp, elapse, eventually};

fn group(stream: &str, rest: &str) -> String {
    format!("/v1/streams/{stream}/groups/g{rest}")
}

/// Creates a stream with two entries, both delivered with leases that have ended.
async fn due(app: &TestApp) -> String {
    let stream = app.stream_of("due", 2).await;
    let policy = r#"{"policy":{"lease":"100ms"}}"#;
    assert_eq!(app.put_json(&group(&stream, ""), policy).await.status, 201);
    let read = app
        .post_form(&group(&stream, "/read"), "consumer=dead&count=1")
        .await;
    assert_eq!(read.ids(), ["1-0"]);
    let before = app
        .post_form(&group(&stream, "/read"), "consumer=dead&count=1")
        .await;
    assert_eq!(before.ids().len(), 1);
    elapse(150, "the lease ends").await;
    stream
}

#[tokio::test]
async fn a_gateway_that_does_not_know_a_group_hands_out_what_is_due_at_its_first_read() {
    let app = TestApp::start().await;
    for form in ["", "&max_bytes=1000", "&lease=1s", "&wait=20s"] {
        let stream = due(&app).await;
        let cold = TestApp::start().await;
        let began = Instant::now();
        let read = cold
            .post_form(&group(&stream, "/read"), &format!("consumer=w{form}"))
            .await;
        assert_eq!(read.ids(), ["1-0", "2-0"], "{form}: {}", read.body);
        assert_eq!(read.json()["entries"][0]["deliveries"], 2);
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{form}: {:?}",
            began.elapsed()
        );
    }
    let streams = [due(&app).await, due(&app).await];
    let cold = TestApp::start().await;
    let call = json!({"consumer": "w", "streams": streams}).to_string();
    let read = cold.post_json("/v1/groups/g/read", &call).await;
    for stream in 0..2 {
        let entries = &read.json()["streams"][stream]["entries"];
        assert_eq!(entries.as_array().unwrap().len(), 2, "{}", read.body);
    }
    let stream = due(&app).await;
    let cold = TestApp::start().await;
    let mut sse = cold.follow(&group(&stream, "/events?consumer=w")).await;
    sse.expect("$open").await;
    for _ in 0..2 {
        sse.expect("message").await;
    }
}

#[tokio::test]
async fn a_policy_that_was_set_elsewhere_holds_at_the_next_read() {
    let (app, other) = (TestApp::start().await, TestApp::start().await);
    let stream = app.stream_of("set", 1).await;
    app.put_json(&group(&stream, ""), "{}").await;
    let native = [
        "XREADGROUP",
        "GROUP",
        "g",
        "native",
        "STREAMS",
        &stream,
        ">",
    ];
    shared().await.command(&native).await;
    for _ in 0..2 {
        let read = other
            .post_form(&group(&stream, "/read"), "consumer=w")
            .await;
        assert_eq!(read.ids().len(), 0, "the group is plain");
    }
    app.put_json(&group(&stream, ""), r#"{"policy":{"lease":"100ms"}}"#)
        .await;
    let leases = format!("streamgate:{{{stream}}}:leases:{}:{stream}:g", stream.len());
    eventually("the sweeper enrols it", async || {
        plain(&shared().await.command(&["ZCARD", &leases]).await) == 1
    })
    .await;
    elapse(150, "the lease ends").await;
    let new = app.publish(&stream, "2").await;
    let read = other
        .post_form(&group(&stream, "/read"), "consumer=w")
        .await;
    let mut ids = read.ids();
    ids.sort();
    assert_eq!(ids, ["1-0".to_owned(), new], "{}", read.body);
    for entry in read.json()["entries"].as_array().unwrap() {
        assert!(entry["receipt"].is_string(), "{entry}");
    }
}

#[tokio::test]
async fn a_consumer_that_was_deleted_elsewhere_takes_no_place_beyond_the_bound() {
    let server = Server::start().await;
    let few = |settings: &mut streamgate::config::Settings| settings.limits.max_consumers = 2;
    let (app, other) = (
        TestApp::on(&server.url(), few).await,
        TestApp::on(&server.url(), few).await,
    );
    app.fill("s", 20).await;
    app.put_json(&group("s", ""), "{}").await;
    let read = async |app: &TestApp, name: &str| {
        let form = format!("consumer={name}&count=1");
        app.post_form(&group("s", "/read"), &form).await.status
    };
    for name in ["a", "b"] {
        assert_eq!(
            (read(&app, name).await, read(&other, name).await),
            (200, 200)
        );
    }
    other.delete(&group("s", "/consumers/a?pending=drop")).await;
    assert_eq!(read(&other, "c").await, 200);
    assert_eq!(
        read(&other, "a").await,
        503,
        "the gateway that deleted it knows at once"
    );
    // A read before the cached admission expires would admit the consumer again.
    elapse(2100, "the cached admission expires").await;
    assert_eq!(
        read(&app, "a").await,
        503,
        "the other one asks again after a second"
    );
    assert_eq!(read(&app, "b").await, 200);
}

#[tokio::test]
async fn a_retention_that_was_set_elsewhere_holds_for_appends_right_after_it() {
    let server = Server::start().await;
    // Retention rounds would hide what appends leave.
    let seldom = |settings: &mut streamgate::config::Settings| {
        settings.jobs.retention_every = Duration::from_secs(3600);
    };
    let app = TestApp::on(&server.url(), seldom).await;
    let other = TestApp::on(&server.url(), seldom).await;
    let length = async |stream: &str| {
        app.get(&format!("/v1/streams/{stream}")).await.json()["length"]
            .as_u64()
            .unwrap()
    };
    let keep = async |stream: &str, mode: &str| {
        let body = format!(r#"{{"retention":{{"maxlen":3,"mode":"{mode}"}}}}"#);
        let patch = app.client.patch(app.url(&format!("/v1/streams/{stream}")));
        let patch = patch.header("content-type", "application/json").body(body);
        assert_eq!(app.send(patch).await.status, 200);
    };
    for stream in ["a", "b", "c"] {
        app.fill(stream, 1).await;
        if stream == "c" {
            keep(stream, "approximate").await;
            elapse(300, "the other gateway learns of the retention").await;
            other.publish(stream, "1").await;
        }
        keep(stream, "exact").await;
        for _ in 0..10 {
            other.publish(stream, "1").await;
        }
        eventually("it is trimmed, though nobody appends", async || {
            length(stream).await == 3
        })
        .await;
    }
    for _ in 0..5 {
        let cold = TestApp::on(&server.url(), seldom).await;
        cold.publish("a", "1").await;
        assert_eq!(
            length("a").await,
            3,
            "a gateway that has just started trims, too"
        );
    }
}
