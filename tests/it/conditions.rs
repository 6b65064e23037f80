//! Batches, conditional appends and idempotency keys.

use std::time::Duration;

use deadpool_redis::redis::Value as Redis;
use serde_json::json;

use crate::support::gateway::Gateway;
use crate::support::proxy::Proxy;
use crate::support::redis::{Server, all_shared, shared};
use crate::support::{Answer, TestApp, elapse, unique};

fn entries(stream: &str) -> String {
    format!("/v1/streams/{stream}/entries")
}

async fn length(app: &TestApp, stream: &str) -> u64 {
    let seen = app.get(&format!("/v1/streams/{stream}")).await.json();
    seen["length"].as_u64().unwrap_or(0)
}

/// Appends `n=<value>` with headers.
async fn post(
    app: &TestApp,
    stream: &str,
    value: &str,
    headers: &[(&'static str, &str)],
) -> Answer {
    let mut request = app.client.post(app.url(&entries(stream)));
    for (name, text) in headers {
        request = request.header(*name, *text);
    }
    let form = request.header("content-type", "application/x-www-form-urlencoded");
    app.send(form.body(format!("n={value}"))).await
}

#[tokio::test]
async fn a_batch_is_appended_whole_in_its_order() {
    let app = TestApp::start().await;
    let stream = unique("batch");
    let body = r#"{"entries":[{"fields":{"n":1},"id":"1-0"},{"pairs":[["n","2"],["n","3"]],"id":"1-*"},{"fields":{"n":4}}]}"#;
    let answer = app.post_json(&entries(&stream), body).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let json = answer.json();
    assert_eq!(
        (
            &json["appended"],
            &json["results"][0]["id"],
            &json["results"][1]["id"]
        ),
        (&3.into(), &"1-0".into(), &"1-1".into())
    );
    let last = json["results"][2]["id"].as_str().unwrap();
    assert_eq!(answer.header("etag"), format!("\"{last}\""));
    let read = app.get(&format!("{}?after=0", entries(&stream))).await;
    assert_eq!(read.ids(), ["1-0", "1-1", last]);
    assert_eq!(
        read.json()["entries"][1]["pairs"],
        json!([["n", "2"], ["n", "3"]])
    );
    let thousand: Vec<_> = (0..1000).map(|n| json!({"fields": {"n": n}})).collect();
    let body = json!({ "entries": thousand }).to_string();
    let trimmed = app
        .post_json(&format!("{}?maxlen=10&exact=true", entries(&stream)), &body)
        .await;
    assert_eq!(trimmed.json()["appended"], 1000);
    assert_eq!(length(&app, &stream).await, 10);
}

#[tokio::test]
async fn a_batch_with_anything_wrong_appends_nothing() {
    let app = TestApp::start().await;
    let stream = app.stream_of("nothing", 5).await;
    for (body, status, code, pointer) in [
        (
            r#"{"entries":[{"fields":{"n":1}},{"fields":{"n":null}}]}"#,
            422,
            "invalid-fields",
            "/entries/1/fields/n",
        ),
        (r#"{"entries":[]}"#, 422, "invalid-fields", "/entries"),
        (
            r#"{"entries":[{"fields":{"n":1},"id":"6-0"},{"fields":{"n":1},"id":"6-0"}]}"#,
            409,
            "id-not-monotonic",
            "/entries/1/id",
        ),
        (
            r#"{"entries":[{"fields":{"n":1},"id":"9-0"},{"fields":{"n":1},"id":"10-0"},{"fields":{"n":1},"id":"9-*"}]}"#,
            409,
            "id-not-monotonic",
            "/entries/2/id",
        ),
        (
            r#"{"entries":[{"fields":{"n":1}},{"fields":{"n":1},"id":"9-0"}]}"#,
            422,
            "invalid-fields",
            "/entries/1/id",
        ),
        (
            r#"{"entries":[{"fields":{"n":1},"id":"x"}]}"#,
            400,
            "invalid-id",
            "/entries/0/id",
        ),
        (
            r#"{"entries":[{"fields":{"n":1},"key":""}]}"#,
            400,
            "invalid-request",
            "/entries/0/key",
        ),
    ] {
        let problem = app
            .post_json(&entries(&stream), body)
            .await
            .is_problem(status, code);
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
    }
    let many: Vec<_> = (0..10_001).map(|_| json!({"fields": {"n": 1}})).collect();
    let body = json!({ "entries": many }).to_string();
    app.post_json(&entries(&stream), &body)
        .await
        .is_problem(413, "too-large");
    app.post_json(
        &format!("{}?id=*", entries(&stream)),
        r#"{"entries":[{"fields":{"n":1}}]}"#,
    )
    .await
    .is_problem(400, "invalid-request");
    assert_eq!(length(&app, &stream).await, 5);
    let text = unique("text");
    shared().await.command(&["SET", &text, "x"]).await;
    app.post_json(&entries(&text), r#"{"entries":[{"fields":{"n":1}}]}"#)
        .await
        .is_problem(409, "not-a-stream");
    let none = format!("{}?create=false", entries(&unique("none")));
    app.post_json(&none, r#"{"entries":[{"fields":{"n":1}}]}"#)
        .await
        .is_problem(404, "stream-not-found");
}

#[tokio::test]
async fn a_full_redis_takes_all_of_a_batch_or_nothing() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let stream = app.stream_of("full", 1).await;
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let body = r#"{"entries":[{"fields":{"n":1},"key":"a"},{"fields":{"n":2}}]}"#;
    app.post_json(&entries(&stream), body)
        .await
        .is_problem(503, "redis-out-of-memory");
    assert_eq!(length(&app, &stream).await, 1);
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert_eq!(
        app.post_json(&entries(&stream), body).await.json()["appended"],
        2
    );
}

#[tokio::test]
async fn a_repeated_request_appends_once_and_says_so() {
    let app = TestApp::start().await;
    let stream = unique("once");
    let first = post(&app, &stream, "1", &[("idempotency-key", "k1")]).await;
    assert_eq!(
        (first.status, first.header("idempotency-window")),
        (201, "10m")
    );
    let again = post(&app, &stream, "1", &[("idempotency-key", "k1")]).await;
    assert_eq!(
        (again.status, again.header("idempotency-replayed")),
        (200, "true")
    );
    assert_eq!(
        (again.json(), again.header("location")),
        (first.json(), first.header("location"))
    );
    let other = post(&app, &stream, "2", &[("idempotency-key", "k1")]).await;
    other.is_problem(422, "idempotency-key-reused");
    for headers in [
        &[("idempotency-key", "k2")][..],
        &[("idempotency-key", "k1"), ("idempotency-producer", "p")],
    ] {
        assert_eq!(
            post(&app, &stream, "1", headers).await.status,
            201,
            "{headers:?}"
        );
    }
    assert_eq!(length(&app, &stream).await, 3);
    post(&app, &stream, "1", &[("idempotency-key", &"x".repeat(256))])
        .await
        .is_problem(400, "invalid-request");
    // Idempotency keys are deleted with their stream.
    app.delete(&format!("/v1/streams/{stream}")).await;
    assert_eq!(
        post(&app, &stream, "1", &[("idempotency-key", "k1")])
            .await
            .status,
        201
    );
}

#[tokio::test]
async fn a_request_whose_answer_was_lost_can_be_sent_again_to_any_replica() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port).await;
    let (one, other) = (
        TestApp::on(&proxy.url(), |_| {}).await,
        TestApp::on_server(&server).await,
    );
    let stream = unique("lost");
    // The server stores the script, so that the lost answer is that of an append.
    post(&one, &stream, "0", &[("idempotency-key", "first")]).await;
    proxy.cut_answers();
    let lost = post(&one, &stream, "1", &[("idempotency-key", "k")]).await;
    assert_eq!(
        lost.is_problem(503, "redis-unavailable")["side_effects"],
        "unknown"
    );
    assert_eq!(
        server.command(&["XLEN", &stream]).await,
        Redis::Int(2),
        "it was appended"
    );
    drop(one);
    let again = post(&other, &stream, "1", &[("idempotency-key", "k")]).await;
    assert_eq!(
        (again.status, again.header("idempotency-replayed")),
        (200, "true")
    );
    assert_eq!(server.command(&["XLEN", &stream]).await, Redis::Int(2));
}

#[tokio::test]
async fn a_request_whose_gateway_was_killed_can_be_sent_again() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port).await;
    let args = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--redis-url",
        &proxy.url(),
    ];
    let gateway = Gateway::start(&args);
    let other = TestApp::on_server(&server).await;
    let stream = unique("killed");
    let url = format!("http://{}{}", gateway.address, entries(&stream));
    let post = |key: &str| {
        other
            .client
            .post(&url)
            .header("idempotency-key", key)
            .body("once")
    };
    assert_eq!(post("before").send().await.unwrap().status(), 201);
    // Long enough for the entry to exist while its response is still in transit.
    proxy.delay(std::time::Duration::from_secs(1));
    let sent = tokio::spawn(post("k").send());
    let length = async || server.command(&["XLEN", &stream]).await;
    crate::support::eventually("it was appended", async || length().await == Redis::Int(2)).await;
    gateway.signal("KILL");
    assert!(sent.await.unwrap().is_err(), "nobody was told");
    let again = other
        .client
        .post(other.url(&entries(&stream)))
        .header("idempotency-key", "k");
    let again = other.send(again.body("once")).await;
    assert_eq!(
        (again.status, again.header("idempotency-replayed")),
        (200, "true")
    );
    assert_eq!(length().await, Redis::Int(2));
}

#[tokio::test]
async fn a_key_sent_by_many_at_once_appends_once() {
    let (one, other) = (TestApp::start().await, TestApp::start().await);
    let stream = unique("race");
    let all = futures_util::future::join_all((0..40).map(|n| {
        let (app, stream) = (if n % 2 == 0 { &one } else { &other }, &stream);
        async move { post(app, stream, "1", &[("idempotency-key", "k")]).await }
    }))
    .await;
    assert_eq!(all.iter().filter(|answer| answer.status == 201).count(), 1);
    assert!(
        all.iter()
            .all(|answer| answer.json()["id"] == all[0].json()["id"])
    );
    assert_eq!(length(&one, &stream).await, 1);
}

#[tokio::test]
async fn keys_are_forgotten_after_the_window_and_leave_nothing_behind() {
    let app = TestApp::start_with(|settings| {
        settings.api.idempotency_window = Duration::from_millis(300);
    })
    .await;
    let stream = unique("window");
    assert_eq!(
        post(&app, &stream, "1", &[("idempotency-key", "k")])
            .await
            .header("idempotency-window"),
        "300ms"
    );
    elapse(350, "the window ends").await;
    assert_eq!(
        post(&app, &stream, "1", &[("idempotency-key", "k")])
            .await
            .status,
        201
    );
    let kept = async || {
        let pattern = format!("streamgate:*{stream}");
        let mut count = 0;
        for server in all_shared().await {
            let Redis::Array(keys) = server.command(&["KEYS", &pattern]).await else {
                panic!()
            };
            count += keys.len();
        }
        count
    };
    assert_eq!(kept().await, 2);
    crate::support::eventually("nothing is left", async || kept().await == 0).await;
}

#[tokio::test]
async fn entries_of_a_batch_can_carry_keys_of_their_own() {
    let app = TestApp::start().await;
    let stream = unique("keys");
    let send = async |body: &str| app.post_json(&entries(&stream), body).await;
    let first = send(r#"{"entries":[{"fields":{"n":1},"key":"a"},{"fields":{"n":2},"key":"b"}]}"#)
        .await
        .json();
    let second = send(r#"{"entries":[{"fields":{"n":2},"key":"b"},{"fields":{"n":3},"key":"c"},{"fields":{"n":3},"key":"c"}]}"#).await;
    assert_eq!(
        (second.status, &second.json()["appended"]),
        (201, &1.into()),
        "{}",
        second.body
    );
    let results = second.json()["results"].clone();
    assert_eq!(
        (&results[0]["id"], &results[0]["replayed"]),
        (&first["results"][1]["id"], &true.into())
    );
    assert_eq!(results[1]["id"], results[2]["id"]);
    let one = send(r#"{"fields":{"n":1},"key":"a"}"#).await;
    assert_eq!(
        (one.status, &one.json()["id"]),
        (200, &first["results"][0]["id"])
    );
    let reused = send(r#"{"entries":[{"fields":{"n":9}},{"fields":{"n":9},"key":"a"}]}"#).await;
    assert_eq!(
        reused.is_problem(422, "idempotency-key-reused")["errors"][0]["pointer"],
        "/entries/1/key"
    );
    assert_eq!(length(&app, &stream).await, 3);
    // A single key for the whole batch returns all its ids again.
    let whole = r#"{"entries":[{"fields":{"n":4}},{"fields":{"n":5}}]}"#;
    let request = || {
        app.client
            .post(app.url(&entries(&stream)))
            .header("idempotency-key", "whole")
    };
    let post = async || {
        app.send(
            request()
                .header("content-type", "application/json")
                .body(whole),
        )
        .await
    };
    let (first, again) = (post().await.json(), post().await);
    assert_eq!((again.status, &again.json()["appended"]), (200, &0.into()));
    assert_eq!(again.json()["results"][1]["id"], first["results"][1]["id"]);
    assert_eq!(length(&app, &stream).await, 5);
}

#[tokio::test]
async fn a_stale_writer_is_refused_and_told_the_last_id() {
    let app = TestApp::start().await;
    let stream = unique("versions");
    let first = post(&app, &stream, "1", &[("if-none-match", "*")]).await;
    assert_eq!(first.status, 201);
    let etag = first.header("etag").to_owned();
    post(&app, &stream, "1", &[("if-none-match", "*")])
        .await
        .is_problem(412, "precondition-failed");
    let second = post(
        &app,
        &stream,
        "2",
        &[("if-match", &etag), ("idempotency-key", "k")],
    )
    .await;
    assert_eq!(second.status, 201, "{}", second.body);
    let stale = post(&app, &stream, "3", &[("if-match", &etag)]).await;
    let problem = stale.is_problem(412, "precondition-failed");
    assert_eq!(
        (stale.header("etag"), &problem["last_id"]),
        (second.header("etag"), &second.json()["id"])
    );
    // The key is checked before the condition: a replay succeeds even if the condition is stale.
    let replay = post(
        &app,
        &stream,
        "2",
        &[("if-match", &etag), ("idempotency-key", "k")],
    )
    .await;
    assert_eq!(replay.status, 200);
    let head = app
        .send(app.client.head(app.url(&format!("/v1/streams/{stream}"))))
        .await;
    assert_eq!(head.header("etag"), second.header("etag"));
    post(&app, &stream, "4", &[("if-match", "1-0")])
        .await
        .is_problem(400, "invalid-request");
    post(&app, &stream, "4", &[("if-match", "\"x\"")])
        .await
        .is_problem(400, "invalid-id");
    post(&app, &stream, "4", &[("if-none-match", "\"1-0\"")])
        .await
        .is_problem(400, "invalid-request");
    // Deleting the last entry does not make a stale writer fresh.
    let last = second.json()["id"].as_str().unwrap().to_owned();
    app.delete(&format!("{}/{last}", entries(&stream))).await;
    // The form in which a compressing proxy returns the ETag.
    let weak = format!("W/{}", second.header("etag"));
    assert_eq!(
        post(&app, &stream, "5", &[("if-match", &weak)])
            .await
            .status,
        201
    );
    post(&app, &stream, "6", &[("if-match", &weak)])
        .await
        .is_problem(412, "precondition-failed");
}

#[tokio::test]
async fn of_fifty_racing_writers_exactly_one_wins_each_step() {
    let app = TestApp::start().await;
    let stream = unique("racing");
    let mut etag = post(&app, &stream, "start", &[])
        .await
        .header("etag")
        .to_owned();
    for step in 0..5 {
        let all = futures_util::future::join_all((0..50).map(|writer| {
            let (app, stream, etag) = (&app, &stream, &etag);
            async move {
                post(
                    app,
                    stream,
                    &format!("{step}.{writer}"),
                    &[("if-match", etag)],
                )
                .await
            }
        }))
        .await;
        let won: Vec<&Answer> = all.iter().filter(|answer| answer.status == 201).collect();
        assert_eq!(won.len(), 1, "step {step}");
        assert!(
            all.iter()
                .filter(|answer| answer.status == 412)
                .all(|answer| answer.header("etag") == won[0].header("etag"))
        );
        assert_eq!(all.iter().filter(|answer| answer.status == 412).count(), 49);
        etag = won[0].header("etag").to_owned();
    }
    assert_eq!(length(&app, &stream).await, 6);
}
