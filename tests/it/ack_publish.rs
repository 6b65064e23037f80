//! `publish` of an acknowledgement: results are appended and entries acknowledged, all or nothing.

use serde_json::{Value, json};

use crate::support::auth::{AuthFile, record};
use crate::support::redis::shared;
use crate::support::{Answer, TestApp, unique};

fn group(stream: &str, rest: &str) -> String {
    format!("/v1/streams/{stream}/groups/g{rest}")
}

async fn lent(app: &TestApp, count: u32) -> (String, Vec<String>) {
    let stream = app.stream_of("step", count).await;
    let made = app.put_json(&group(&stream, ""), r#"{"policy":{}}"#).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let receipts = read(app, &stream).await;
    (stream, receipts)
}

async fn read(app: &TestApp, stream: &str) -> Vec<String> {
    let read = app.post_form(&group(stream, "/read"), "consumer=w").await;
    let entries = read.json()["entries"].as_array().unwrap().clone();
    let receipt = |entry: &Value| entry["receipt"].as_str().unwrap().to_owned();
    entries.iter().map(receipt).collect()
}

async fn step(app: &TestApp, stream: &str, receipts: &[String], publish: Value) -> Answer {
    let body = json!({"receipts": receipts, "publish": publish});
    app.post_json(&group(stream, "/ack"), &body.to_string())
        .await
}

async fn length(stream: &str) -> i64 {
    let reply = shared().await.command(&["XLEN", stream]).await;
    crate::support::redis::json(&reply).as_i64().unwrap()
}

#[tokio::test]
async fn entries_are_published_and_acknowledged_in_one_step() {
    let app = TestApp::start().await;
    let (stream, receipts) = lent(&app, 3).await;
    let (bills, mails) = (format!("{{{stream}}}.bills"), format!("{{{stream}}}.mails"));
    let publish = json!([
        {"stream": bills, "fields": {"n": 1}},
        {"stream": mails, "pairs": [["to", "a"], ["to", "b"]]},
        {"stream": bills, "fields": {"n": {"base64": "AP8="}}},
    ]);
    let done = step(&app, &stream, &receipts[..2], publish).await;
    assert_eq!(done.status, 200, "{}", done.body);
    let done = done.json();
    assert_eq!(done["acknowledged"], 2);
    assert_eq!(done["published"].as_array().unwrap().len(), 3);
    assert!(done["replayed"].is_null());
    let entry = format!(
        "/v1/streams/{bills}/entries/{}",
        done["published"][2].as_str().unwrap()
    );
    assert_eq!(
        app.get(&entry).await.json()["fields"]["n"],
        json!({"base64": "AP8="})
    );
    assert_eq!((length(&bills).await, length(&mails).await), (2, 1));
    let left = app.get(&group(&stream, "")).await.json();
    assert_eq!(left["pending"], 1);
}

#[tokio::test]
async fn one_lost_or_invalid_receipt_undoes_the_whole_step() {
    let app = TestApp::start().await;
    let (stream, receipts) = lent(&app, 3).await;
    let bills = format!("{{{stream}}}.bills");
    let publish = json!([{"stream": bills, "fields": {"n": 1}}]);
    let nack = format!("receipts={}", receipts[1]);
    app.post_form(&group(&stream, "/nack"), &nack).await;
    for third in [receipts[1].clone(), "nonsense".to_owned()] {
        let lost = [receipts[0].clone(), third];
        let problem = step(&app, &stream, &lost, publish.clone()).await;
        let problem = problem.is_problem(409, "lease-lost");
        assert_eq!(problem["results"].as_array().unwrap().len(), 1, "{problem}");
        assert_eq!(length(&bills).await, 0);
    }
    let left = app.get(&group(&stream, "")).await.json();
    assert_eq!(left["pending"], 3);
    let done = step(&app, &stream, &receipts[..1], publish).await;
    assert_eq!(done.json()["acknowledged"], 1, "{}", done.body);
}

#[tokio::test]
async fn a_step_with_keys_can_be_repeated() {
    let app = TestApp::start().await;
    let (stream, receipts) = lent(&app, 2).await;
    let bills = format!("{{{stream}}}.bills");
    let publish = json!([
        {"stream": bills, "fields": {"n": 1}, "key": "a"},
        {"stream": bills, "fields": {"n": 1}, "key": "a"},
    ]);
    let done = step(&app, &stream, &receipts[..1], publish.clone())
        .await
        .json();
    assert_eq!(done["published"][0], done["published"][1], "{done}");
    let again = step(&app, &stream, &receipts[..1], publish.clone()).await;
    assert_eq!(
        (again.status, &again.json()["replayed"]),
        (200, &json!(true)),
        "{}",
        again.body
    );
    assert_eq!(again.json()["published"], done["published"]);
    assert_eq!(again.json()["results"][0]["outcome"], "not-pending");
    let other = json!([{"stream": bills, "fields": {"n": 2}, "key": "a"}]);
    let reused = step(&app, &stream, &receipts[1..], other).await;
    let reused = reused.is_problem(422, "idempotency-key-reused");
    assert_eq!(reused["errors"][0]["pointer"], "/publish/0/key");
    let second = step(&app, &stream, &receipts[1..], publish).await.json();
    assert_eq!(
        (&second["acknowledged"], &second["published"]),
        (&json!(1), &done["published"])
    );
    assert_eq!(length(&bills).await, 1);
    let batch = json!([{"fields": {"n": 1}, "key": "a"}]).to_string();
    let appended = app
        .post_json(&format!("/v1/streams/{bills}/entries"), &batch)
        .await;
    assert_eq!(
        length(&bills).await,
        1,
        "the same keys as in a batch: {}",
        appended.body
    );
}

#[tokio::test]
async fn invalid_steps_are_refused_and_lose_nothing() {
    let app = TestApp::start().await;
    let (stream, receipts) = lent(&app, 1).await;
    let bills = format!("{{{stream}}}.bills");
    let entry = json!({"stream": bills, "fields": {"n": 1}});
    for (publish, status, code, pointer) in [
        (
            json!([{"stream": "bills", "fields": {"n": 1}}]),
            422,
            "other-slot",
            "/publish/0/stream",
        ),
        (
            json!([entry, {"fields": {"n": 1}}]),
            422,
            "invalid-fields",
            "/publish/1/stream",
        ),
        (
            json!([{"stream": bills}]),
            422,
            "invalid-fields",
            "/publish/0",
        ),
        (
            json!([{"stream": bills, "fields": {"n": 1}, "id": "1-0"}]),
            422,
            "invalid-fields",
            "/publish/0",
        ),
        (
            json!([{"stream": bills, "fields": {"n": 1}, "key": ""}]),
            400,
            "invalid-request",
            "/publish/0/key",
        ),
        (
            json!([{"stream": bills, "fields": {"n": null}}]),
            422,
            "invalid-fields",
            "/publish/0/fields/n",
        ),
    ] {
        let problem = step(&app, &stream, &receipts, publish)
            .await
            .is_problem(status, code);
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    let hint = step(
        &app,
        &stream,
        &receipts,
        json!([{"stream": "bills", "fields": {"n": 1}}]),
    )
    .await;
    assert!(
        hint.body.contains(&format!("{{{stream}}}.bills")),
        "{}",
        hint.body
    );
    let many: Vec<&Value> = std::iter::repeat_n(&entry, 1001).collect();
    step(&app, &stream, &receipts, json!(many))
        .await
        .is_problem(413, "too-large");
    let string = format!("{{{stream}}}.string");
    shared().await.command(&["SET", &string, "x"]).await;
    let publish = json!([entry, {"stream": string, "fields": {"n": 1}}]);
    step(&app, &stream, &receipts, publish)
        .await
        .is_problem(409, "not-a-stream");
    let body = json!({"receipts": receipts, "publish": [entry]}).to_string();
    app.post_json(&group(&stream, "/ack?delete=true"), &body)
        .await
        .is_problem(400, "invalid-request");
    app.post_json("/v1/groups/g/ack", &body)
        .await
        .is_problem(400, "invalid-request");
    assert_eq!(length(&bills).await, 0);
    let thousand: Vec<&Value> = std::iter::repeat_n(&entry, 1000).collect();
    let done = step(&app, &stream, &receipts, json!(thousand)).await;
    assert_eq!(done.json()["acknowledged"], 1, "{}", done.body);
    assert_eq!(length(&bills).await, 1000);
}

#[tokio::test]
async fn a_full_target_stream_undoes_the_entries_before_it() {
    let app = TestApp::start().await;
    let (stream, receipts) = lent(&app, 1).await;
    let (bills, full) = (format!("{{{stream}}}.bills"), format!("{{{stream}}}.full"));
    let last = "18446744073709551615-18446744073709551615";
    shared()
        .await
        .command(&["XADD", &full, last, "n", "1"])
        .await;
    let publish = json!([
        {"stream": bills, "fields": {"n": 1}, "key": "k"},
        {"stream": full, "fields": {"n": 1}},
    ]);
    let refused = step(&app, &stream, &receipts, publish).await;
    assert_eq!(refused.status, 409, "{}", refused.body);
    assert_eq!(length(&bills).await, 0);
    let publish = json!([{"stream": bills, "fields": {"n": 2}, "key": "k"}]);
    let done = step(&app, &stream, &receipts, publish).await;
    assert_eq!(done.json()["acknowledged"], 1, "{}", done.body);
}

#[tokio::test]
async fn publishing_in_a_step_requires_the_right_to_publish() {
    let name = unique("step");
    let file = AuthFile::new(&format!(
        "{}{}",
        record("all", &["* *"]),
        record(
            "worker",
            &[
                &format!("consume {name}"),
                &format!("publish {{{name}}}.bills")
            ]
        ),
    ));
    let app = file.app().await;
    let (all, worker) = (app.as_key("all"), app.as_key("worker"));
    all.publish(&name, "1").await;
    all.call("PUT", &group(&name, ""), json!({"policy": {}}))
        .await;
    let read = worker
        .call("POST", &group(&name, "/read"), json!({"consumer": "w"}))
        .await;
    let receipt = read.json()["entries"][0]["receipt"].clone();
    let publish = |stream: String| {
        json!({"receipts": [receipt], "publish": [
            {"stream": format!("{{{name}}}.bills"), "fields": {"n": 1}},
            {"stream": stream, "fields": {"n": 1}},
        ]})
    };
    let path = group(&name, "/ack");
    let refused = worker
        .call("POST", &path, publish(format!("{{{name}}}.other")))
        .await;
    refused.is_problem(403, "forbidden");
    assert_eq!(length(&format!("{{{name}}}.bills")).await, 0);
    let done = worker
        .call("POST", &path, publish(format!("{{{name}}}.bills")))
        .await;
    assert_eq!(done.json()["acknowledged"], 1, "{}", done.body);
}

#[tokio::test]
async fn a_step_frees_the_key_of_an_ordered_group() {
    let app = TestApp::start().await;
    let stream = unique("step");
    for _ in 0..2 {
        let path = format!("/v1/streams/{stream}/entries");
        app.post_json(&path, r#"{"fields":{"k":"a"}}"#).await;
    }
    let policy = r#"{"policy":{"order_by":"k"}}"#;
    app.put_json(&group(&stream, ""), policy).await;
    let first = read(&app, &stream).await;
    assert_eq!(first.len(), 1);
    let publish = json!([{"stream": stream, "fields": {"k": "b"}}]);
    let done = step(&app, &stream, &first, publish).await;
    assert_eq!(done.json()["acknowledged"], 1, "{}", done.body);
    assert_eq!(read(&app, &stream).await.len(), 2);
}

#[tokio::test]
async fn the_trace_of_the_call_is_kept_with_the_published_entries_if_wanted() {
    let app = TestApp::start_with(|settings| settings.api.trace_context = true).await;
    let (stream, receipts) = lent(&app, 1).await;
    let target = format!("{{{stream}}}.traced");
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let publish = json!([
        {"stream": target, "fields": {"n": 1}},
        {"stream": target, "fields": {"n": 2, "traceparent": "mine"}},
    ]);
    let call = app.client.post(app.url(&group(&stream, "/ack")));
    let call = call
        .header("traceparent", parent)
        .header("content-type", "application/json");
    let body = json!({"receipts": receipts, "publish": publish});
    let done = app.send(call.body(body.to_string())).await;
    assert_eq!(done.status, 200, "{}", done.body);
    let read = app.get(&format!("/v1/streams/{target}/entries")).await;
    let stored = |index: usize| read.json()["entries"][index]["fields"]["traceparent"].clone();
    assert_eq!((stored(0), stored(1)), (json!(parent), json!("mine")));
}
