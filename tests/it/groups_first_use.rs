//! `create=true`: reads and push sessions that create their group, and create it again when it is lost.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::auth::{AuthFile, record};
use crate::support::redis::Server;
use crate::support::{Answer, TestApp, encode, eventually, unique};

fn group(stream: &str, rest: &str) -> String {
    format!("/v1/streams/{stream}/groups/g{rest}")
}

async fn read(app: &TestApp, stream: &str, body: Value) -> Answer {
    app.post_json(&group(stream, "/read"), &body.to_string())
        .await
}

/// Waits until a read waits in the queue of its group.
async fn waits(app: &TestApp) {
    eventually("it waits", async || app.metric("waiting_reads").await == 1).await;
}

#[tokio::test]
async fn a_read_creates_the_group_and_the_stream() {
    let app = TestApp::start().await;
    let stream = unique("first");
    let call = json!({"consumer": "w", "create": true, "start": "$", "policy": {"lease": "7s"}});
    assert_eq!(read(&app, &stream, call.clone()).await.status, 200);
    let made = app.get(&group(&stream, "")).await.json();
    assert_eq!(made["policy"]["lease"], "7s", "{made}");
    app.publish(&stream, "1").await;
    let entries = read(&app, &stream, call).await;
    assert!(
        entries.json()["entries"][0]["receipt"].is_string(),
        "{entries:?}"
    );
}

#[tokio::test]
async fn a_new_group_starts_where_the_call_says_and_is_plain_by_default() {
    let app = TestApp::start().await;
    let stream = app.stream_of("start", 3).await;
    for (name, start, ids) in [
        ("a", json!({}), vec!["1-0", "2-0", "3-0"]),
        ("b", json!({"start": "2-0"}), vec!["3-0"]),
        ("c", json!({"start": "$"}), vec![]),
    ] {
        let mut call = json!({"consumer": "w", "create": true});
        call.as_object_mut()
            .unwrap()
            .extend(start.as_object().unwrap().clone());
        let path = format!("/v1/streams/{stream}/groups/{name}");
        let answer = app
            .post_json(&format!("{path}/read"), &call.to_string())
            .await;
        assert_eq!(answer.ids(), ids, "{}", answer.body);
        assert_eq!(app.get(&path).await.json()["policy"], Value::Null);
    }
}

#[tokio::test]
async fn an_existing_group_stays_as_it_is() {
    let app = TestApp::start().await;
    let stream = app.stream_of("there", 3).await;
    app.put_json(&group(&stream, ""), r#"{"start":"2-0"}"#)
        .await;
    let call = json!({"consumer": "w", "create": true, "start": "0", "policy": {}});
    assert_eq!(read(&app, &stream, call).await.ids(), ["3-0"]);
    let seen = app.get(&group(&stream, "")).await.json();
    assert_eq!(seen["policy"], Value::Null, "{seen}");
    let push = app
        .get(&group(&stream, "/events?consumer=w&create=true"))
        .await;
    push.is_problem(409, "group-has-no-policy");
}

#[tokio::test]
async fn a_form_has_the_policy_as_json_text() {
    let app = TestApp::start().await;
    let stream = unique("form");
    let policy = encode(r#"{"max_deliveries":3}"#);
    let form = format!("consumer=w&create=true&policy={policy}");
    let answer = app.post_form(&group(&stream, "/read"), &form).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let made = app.get(&group(&stream, "")).await.json();
    assert_eq!(made["policy"]["max_deliveries"], 3);
}

#[tokio::test]
async fn wrong_parameters_are_told_with_a_pointer_and_create_nothing() {
    let app = TestApp::start().await;
    let stream = unique("wrong");
    let of = |members: Value| {
        let mut call = json!({"consumer": "w", "create": true});
        let call_members = call.as_object_mut().unwrap();
        call_members.extend(members.as_object().unwrap().clone());
        call
    };
    for (members, status, code, pointer) in [
        (
            json!({"create": false, "start": "0"}),
            400,
            "invalid-request",
            "/start",
        ),
        (
            json!({"create": false, "policy": {}}),
            400,
            "invalid-request",
            "/policy",
        ),
        (json!({"start": "+"}), 400, "invalid-id", "/start"),
        (json!({"start": "x"}), 400, "invalid-id", "/start"),
        (
            json!({"policy": {"leese": "1s"}}),
            400,
            "invalid-request",
            "/policy/leese",
        ),
        (json!({"policy": "{"}), 400, "invalid-request", "/policy"),
        (
            json!({"policy": "{\"lease\":1}"}),
            400,
            "invalid-request",
            "/policy/lease",
        ),
        (json!({"policy": 1}), 400, "invalid-request", "/policy"),
        (
            json!({"policy": {"lease": "1ms"}}),
            422,
            "invalid-policy",
            "/policy/lease",
        ),
    ] {
        let answer = read(&app, &stream, of(members.clone())).await;
        let problem = answer.is_problem(status, code);
        assert_eq!(
            problem["errors"][0]["pointer"], pointer,
            "{members} {problem}"
        );
    }
    let events = group(&stream, "/events?consumer=w&create=true&policy=%7B");
    let problem = app.get(&events).await.is_problem(400, "invalid-request");
    assert_eq!(problem["errors"][0]["pointer"], "policy", "{problem}");
    assert_eq!(app.get(&format!("/v1/streams/{stream}")).await.status, 404);
}

#[tokio::test]
async fn creating_needs_the_right_that_put_needs() {
    let auth = AuthFile::new(&format!(
        "{}{}",
        record("worker", &["consume jobs*"]),
        record("owner", &["consume jobs*", "manage jobs*"])
    ));
    let app = auth.app().await;
    let stream = unique("x").replace('-', "");
    let path = group(&format!("jobs{stream}"), "/read");
    let call = json!({"consumer": "w", "create": true});
    let refused = app.as_key("worker").call("POST", &path, call.clone()).await;
    assert_eq!(refused.is_problem(403, "forbidden")["right"], "manage");
    let many = json!({"consumer": "w", "create": true, "streams": [format!("jobs{stream}")]});
    let worker = app.as_key("worker");
    let refused = worker.call("POST", "/v1/groups/g/read", many.clone()).await;
    refused.is_problem(403, "forbidden");
    let events = group(&format!("jobs{stream}"), "/events?consumer=w&create=true");
    worker.get(&events).await.is_problem(403, "forbidden");
    let owner = app.as_key("owner");
    assert_eq!(owner.call("POST", &path, call).await.status, 200);
    assert_eq!(
        owner.call("POST", "/v1/groups/g/read", many).await.status,
        200
    );
}

#[tokio::test]
async fn a_waiting_read_goes_on_after_a_flush() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    for policy in [Value::Null, json!({"lease": "1h"})] {
        let stream = unique("flushed");
        let call = json!({"consumer": "w", "create": true, "policy": policy, "wait": "20s"});
        app.publish(&stream, "before").await;
        read(&app, &stream, call.clone()).await;
        let (waiting, ()) = tokio::join!(read(&app, &stream, call), async {
            waits(&app).await;
            server.command(&["FLUSHALL"]).await;
            app.publish(&stream, "after").await;
        });
        let entries = waiting.json();
        assert_eq!(entries["entries"][0]["fields"]["n"], "after", "{entries}");
        let made = app.get(&group(&stream, "")).await.json();
        assert_eq!(made["policy"].is_null(), policy.is_null(), "{made}");
    }
}

#[tokio::test]
async fn without_create_a_waiting_read_ends_after_a_flush() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let stream = app.stream_of("gone", 0).await;
    app.put_json(&group(&stream, ""), "{}").await;
    let call = json!({"consumer": "w", "wait": "20s"});
    let (waiting, ()) = tokio::join!(read(&app, &stream, call), async {
        waits(&app).await;
        server.command(&["FLUSHALL"]).await;
        app.publish(&stream, "after").await;
    });
    waiting.is_problem(404, "group-not-found");
}

#[tokio::test]
async fn a_read_of_several_streams_creates_what_is_missing_and_goes_on_after_a_flush() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let (there, new) = (app.stream_of("there", 1).await, unique("new"));
    app.put_json(&group(&there, ""), r#"{"start":"$"}"#).await;
    let call = |wait: &str| {
        let streams = [&there, &new];
        json!({"streams": streams, "consumer": "w", "create": true, "policy": {}, "wait": wait})
            .to_string()
    };
    let first = app.post_json("/v1/groups/g/read", &call("0ms")).await;
    assert_eq!(first.status, 200, "{}", first.body);
    assert_eq!(first.json()["streams"][0]["entries"], json!([]));
    assert_eq!(
        app.get(&group(&new, "")).await.json()["policy"]["lease"],
        "30s"
    );
    assert!(app.get(&group(&there, "")).await.json()["policy"].is_null());
    let body = call("20s");
    let (waiting, ()) = tokio::join!(app.post_json("/v1/groups/g/read", &body), async {
        waits(&app).await;
        server.command(&["FLUSHALL"]).await;
        app.publish(&new, "after").await;
    });
    let streams = waiting.json();
    assert_eq!(
        streams["streams"][1]["entries"][0]["fields"]["n"], "after",
        "{streams}"
    );
    let made = app.get(&group(&there, "")).await.json();
    assert_eq!(made["policy"]["lease"], "30s", "it was lost too: {made}");
}

#[tokio::test]
async fn a_push_session_creates_its_group_and_goes_on_after_a_flush_and_a_deletion() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let stream = unique("push");
    let policy = encode(r#"{"lease":"1h","max_deliveries":4}"#);
    let query = format!("/events?consumer=w&create=true&prefetch=2&policy={policy}");
    let mut sse = app.follow(&group(&stream, &query)).await;
    sse.expect("$open").await;
    app.publish(&stream, "1").await;
    let value = async |sse: &mut crate::support::sse::Sse| {
        let entry = sse.expect("message").await.json();
        assert!(entry["receipt"].is_string());
        entry["fields"]["n"].as_str().unwrap().to_owned()
    };
    assert_eq!(value(&mut sse).await, "1");
    // The entry is not acknowledged: its lease is lost, and its credit returns.
    server.command(&["FLUSHALL"]).await;
    app.publish(&stream, "2").await;
    assert_eq!(value(&mut sse).await, "2");
    server.command(&["XGROUP", "DESTROY", &stream, "g"]).await;
    app.publish(&stream, "3").await;
    // The new group starts at the oldest entry.
    let again = [value(&mut sse).await, value(&mut sse).await];
    assert_eq!(again, ["2", "3"]);
    assert_eq!(
        sse.soon(Duration::from_millis(300)).await,
        None,
        "no credit"
    );
    let made = app.get(&group(&stream, "")).await.json();
    assert_eq!(made["policy"]["max_deliveries"], 4, "{made}");
}

#[tokio::test]
async fn a_push_session_creates_a_group_with_the_default_policy() {
    let app = TestApp::start().await;
    let stream = unique("default");
    let mut sse = app
        .follow(&group(&stream, "/events?consumer=w&create=true"))
        .await;
    sse.expect("$open").await;
    let made = app.get(&group(&stream, "")).await.json();
    assert_eq!(made["policy"]["lease"], "30s", "{made}");
}

#[tokio::test]
async fn a_key_of_another_type_is_refused() {
    let app = TestApp::start().await;
    let key = unique("text");
    let shared = crate::support::redis::shared().await;
    shared.command(&["SET", &key, "x"]).await;
    let call = json!({"consumer": "w", "create": true});
    read(&app, &key, call).await.is_problem(409, "not-a-stream");
}

#[tokio::test]
async fn a_tenant_creates_a_group_in_its_own_part() {
    let prefix = format!("{}:", unique("tenant"));
    let tenant = record("tenant", &["* *"]) + &format!("prefix = {prefix:?}\n");
    let auth = AuthFile::new(&(record("root", &["* *"]) + &tenant));
    let app = auth.app().await;
    let call = json!({"consumer": "w", "create": true, "policy": {}});
    let path = group("orders", "/read");
    let answer = app.as_key("tenant").call("POST", &path, call).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let own = app.as_key("tenant").get(&group("orders", "")).await.json();
    assert_eq!(own["policy"]["dead_letter"], "{orders}.dead");
    let path = group(&encode(&format!("{prefix}orders")), "");
    let seen = app.as_key("root").get(&path).await.json();
    assert_eq!(
        seen["policy"]["dead_letter"],
        format!("{{{prefix}orders}}.dead")
    );
}

#[tokio::test]
async fn a_stream_with_a_name_that_is_invalid_for_new_streams_is_read_but_not_created() {
    let app = TestApp::start().await;
    let odd = format!("{}{{", unique("odd"));
    let shared = crate::support::redis::shared().await;
    let create = ["XGROUP", "CREATE", &odd, "g", "0", "MKSTREAM"];
    shared.command(&create).await;
    let path = encode(&odd);
    let plain = read(&app, &path, json!({"consumer": "w"})).await;
    assert_eq!(plain.status, 200, "{}", plain.body);
    let call = json!({"consumer": "w", "create": true});
    read(&app, &path, call)
        .await
        .is_problem(400, "invalid-name");
}
