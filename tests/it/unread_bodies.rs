//! Bodies of requests that are not appends: some routes read a body, others do not.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::redis::shared;
use crate::support::{Answer, TestApp, unique};

async fn call(app: &TestApp, method: Method, path: &str, kind: &str, body: &'static str) -> Answer {
    app.send(
        app.client
            .request(method, app.url(path))
            .header("content-type", kind)
            .body(body),
    )
    .await
}

const JSON: &str = "application/json";

#[tokio::test]
async fn every_operation_without_a_body_in_the_document_refuses_one() {
    let app = TestApp::start().await;
    let document = app.get("/openapi.json").await.json();
    let stream = app.stream_of("unread", 1).await;
    app.put_json(&format!("/v1/streams/{stream}/groups/g"), "{}")
        .await;
    let mut looked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path.replace("{stream}", &stream).replace("{group}", "g");
        let path = path
            .replace("{consumer}", "c")
            .replace("{id}", "1-0")
            .replace("{token}", "t");
        for (method, operation) in item.as_object().unwrap() {
            let method: Method = match method.to_uppercase().parse() {
                Ok(method) if operation["responses"].is_object() => method,
                _ => continue,
            };
            if operation.get("requestBody").is_some() || method == Method::HEAD {
                continue;
            }
            let answer = call(&app, method.clone(), &path, JSON, "{}").await;
            let problem = answer.is_problem(400, "invalid-request");
            let detail = problem["detail"].as_str().unwrap();
            assert!(
                detail.contains("takes no body"),
                "{method} {path}: {detail}"
            );
            // An empty body is accepted, whatever its declared type.
            let chunks = futures_util::stream::iter([Ok::<_, std::io::Error>(String::new())]);
            let empty = app.client.request(method.clone(), app.url(&path));
            let empty = empty
                .header("content-type", JSON)
                .body(reqwest::Body::wrap_stream(chunks));
            let answer = empty.send().await.unwrap();
            if answer.status() == 400 {
                // This 400 is about a missing parameter.
                let text = answer.text().await.unwrap();
                assert!(!text.contains("takes no body"), "{method} {path}: {text}");
            }
            looked += 1;
        }
    }
    assert!(looked > 20, "{looked}");
    assert_eq!(
        app.get(&format!("/v1/streams/{stream}")).await.status,
        404,
        "the empty DELETE was taken"
    );
}

#[tokio::test]
async fn putting_a_stream_reads_its_body() {
    let app = TestApp::start().await;
    let stream = unique("put");
    let path = format!("/v1/streams/{stream}");
    for (kind, body, status, code) in [
        (JSON, "{", 400, "invalid-request"),
        (
            JSON,
            r#"{"retentoin":{"maxlen":5}}"#,
            400,
            "invalid-request",
        ),
        (
            JSON,
            r#"{"retention":{"maxlen":0}}"#,
            422,
            "invalid-retention",
        ),
        (JSON, r#"{"entries_added":5}"#, 400, "invalid-request"),
        (JSON, r#"{"last_id":"x"}"#, 400, "invalid-id"),
        // Impossible counters: the greatest deleted id is above the last id.
        (
            JSON,
            r#"{"last_id":"1-0","entries_added":1,"max_deleted_id":"9-0"}"#,
            400,
            "invalid-request",
        ),
        ("text/plain", "maxlen=5", 415, "unsupported-media-type"),
        (
            "application/merge-patch+json",
            "{}",
            415,
            "unsupported-media-type",
        ),
    ] {
        let answer = call(&app, Method::PUT, &path, kind, body).await;
        assert_eq!(
            answer.is_problem(status, code)["side_effects"],
            "none",
            "{body}"
        );
        app.get(&path).await.is_problem(404, "stream-not-found");
    }
    let body =
        r#"{"retention":{"maxlen":5},"last_id":"7-0","entries_added":9,"max_deleted_id":"6-0"}"#;
    assert_eq!(call(&app, Method::PUT, &path, JSON, body).await.status, 201);
    let made = app.get(&path).await.json();
    assert_eq!(made["retention"]["maxlen"], 5);
    assert_eq!(
        (&made["last_id"], &made["entries_added"]),
        (&json!("7-0"), &json!(9))
    );
    assert_eq!((&made["length"], &made["groups"]), (&json!(0), &json!(0)));
    // The stream exists, so only the settings in the body change.
    let body = r#"{"retention":{"max_age":"1h"}}"#;
    assert_eq!(call(&app, Method::PUT, &path, JSON, body).await.status, 200);
    assert_eq!(app.send(app.client.put(app.url(&path))).await.status, 200);
    let seen = app.get(&path).await.json();
    assert_eq!(
        (&seen["retention"]["maxlen"], &seen["retention"]["max_age"]),
        (&json!(5), &json!("1h"))
    );
    assert_eq!(seen["last_id"], "7-0");
    let form = "application/x-www-form-urlencoded";
    assert_eq!(
        call(&app, Method::PUT, &path, form, "last_id=8-0")
            .await
            .status,
        200
    );
    assert_eq!(app.get(&path).await.json()["last_id"], "8-0");
    let text = unique("text");
    shared().await.command(&["SET", &text, "x"]).await;
    let body = r#"{"retention":{"maxlen":5}}"#;
    let answer = call(
        &app,
        Method::PUT,
        &format!("/v1/streams/{text}"),
        JSON,
        body,
    )
    .await;
    answer.is_problem(409, "not-a-stream");
}

#[tokio::test]
async fn a_patch_is_taken_by_its_own_type_which_answers_name() {
    let app = TestApp::start().await;
    let stream = app.stream_of("patch", 1).await;
    let group = format!("/v1/streams/{stream}/groups/g");
    app.put_json(&group, "{}").await;
    for (path, body) in [
        (
            format!("/v1/streams/{stream}"),
            r#"{"retention":{"maxlen":5}}"#,
        ),
        (group.clone(), r#"{"policy":{"lease":"5s"}}"#),
    ] {
        for kind in [
            "application/merge-patch+json",
            JSON,
            "application/merge-patch+json; charset=utf-8",
        ] {
            let answer = call(&app, Method::PATCH, &path, kind, body).await;
            assert_eq!(answer.status, 200, "{kind}: {}", answer.body);
            assert!(
                answer
                    .header("accept-patch")
                    .contains("application/merge-patch+json"),
                "{path}"
            );
        }
        let other = call(
            &app,
            Method::PATCH,
            &path,
            "application/json-patch+json",
            "[]",
        )
        .await;
        let problem = other.is_problem(415, "unsupported-media-type");
        assert!(
            problem["detail"]
                .as_str()
                .unwrap()
                .contains("merge-patch+json"),
            "{problem:#}"
        );
        assert!(
            other
                .header("accept-patch")
                .contains("application/merge-patch+json")
        );
        call(&app, Method::PATCH, &path, JSON, "{}")
            .await
            .is_problem(400, "invalid-request");
    }
    let seen: Value = app.get(&format!("/v1/streams/{stream}")).await.json();
    assert_eq!(seen["retention"]["maxlen"], 5);
    assert_eq!(app.get(&group).await.json()["policy"]["lease"], "5s");
}

#[tokio::test]
async fn a_body_does_not_hide_that_there_is_no_such_route_or_method() {
    let app = TestApp::start().await;
    for method in [Method::GET, Method::DELETE] {
        let answer = call(&app, method.clone(), "/v1/none", JSON, "{}").await;
        answer.is_problem(404, "route-not-found");
        let path = "/v1/streams/orders/groups/g/ack";
        let answer = call(&app, method, path, JSON, "{}").await;
        answer.is_problem(405, "method-not-allowed");
        assert_eq!(answer.header("allow"), "POST");
    }
}
