//! JSON payloads, embedded as JSON.

use serde_json::{Value, json};

use crate::support::lines::Lines;
use crate::support::{TestApp, unique};

/// A document with every character that could break a line of an event.
const DOCUMENT: &str = "{\r\n \"n\": 1.50,\n \"s\": \"\u{2028}\u{85}\"\r}";

/// Appends a document, text, bytes, and an entry without a payload.
async fn stream(app: &TestApp) -> String {
    let stream = unique("payloads");
    let path = format!("/v1/streams/{stream}/entries");
    for (content_type, body) in [
        ("application/json", DOCUMENT.as_bytes()),
        ("text/plain", b"no {JSON"),
        ("image/png", b"\xff"),
    ] {
        let request = app.client.post(app.url(&format!("{path}?payload=data")));
        let request = request
            .header("content-type", content_type)
            .body(body.to_vec());
        assert_eq!(app.send(request).await.status, 201);
    }
    assert_eq!(app.post_form(&path, "a=1").await.status, 201);
    stream
}

/// Returns the expected members of each entry, besides its id.
fn expected() -> [Value; 4] {
    [
        json!({"payload": {"n": 1.5, "s": "\u{2028}\u{85}"}}),
        json!({"payload": "no {JSON", "json": false}),
        json!({"payload": {"base64": "/w=="}, "json": false}),
        json!({"payload": null, "json": false}),
    ]
}

/// Keeps only the compared members.
fn shown(entry: &Value) -> Value {
    let members = entry.as_object().unwrap().iter();
    members
        .filter(|(name, _)| *name == "payload" || *name == "json")
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect()
}

fn all_shown(entries: &Value) -> Vec<Value> {
    entries.as_array().unwrap().iter().map(shown).collect()
}

#[tokio::test]
async fn json_is_embedded_wherever_entries_are_read_and_anything_else_is_marked() {
    let app = TestApp::start().await;
    let stream = stream(&app).await;
    let path = format!("/v1/streams/{stream}/entries");
    let page = app.get(&format!("{path}?after=0&json=true")).await;
    assert_eq!(all_shown(&page.json()["entries"]), expected());
    assert!(
        page.body.contains("1.50"),
        "numbers keep their text: {}",
        page.body
    );
    assert!(page.header("link").contains("json=true"));
    let first = page.ids()[0].clone();
    let named = app
        .get(&format!("{path}?after=0&payload=content-type&json=true"))
        .await
        .json();
    assert_eq!(
        shown(&named["entries"][0]),
        json!({"payload": "application/json", "json": false})
    );
    let one = app.get(&format!("{path}/{first}?json=true")).await.json();
    assert_eq!(shown(&one), expected()[0]);
    let many = app
        .get(&format!("/v1/entries?stream={stream}@0&json=true"))
        .await
        .json();
    assert_eq!(all_shown(&many["streams"][0]["entries"]), expected());
    for follow in [false, true] {
        let path = format!("{path}?after=0&json=true&follow={follow}");
        let request = app
            .client
            .get(app.url(&path))
            .header("accept", "application/x-ndjson");
        let mut lines = Lines::of(request).await;
        for expected in expected() {
            assert_eq!(shown(&lines.next().await.unwrap()), expected, "{follow}");
        }
    }
    for path in [
        format!("/v1/streams/{stream}/events?after=0&json=true"),
        format!("/v1/events?stream={stream}@0&json=true"),
    ] {
        let mut sse = app.follow(&path).await;
        sse.expect("$open").await;
        for expected in expected() {
            let event = sse.expect("message").await;
            assert!(
                !event.data.contains(['\u{2028}', '\u{85}']),
                "{}",
                event.data
            );
            assert_eq!(shown(&event.json()), expected);
        }
    }
    app.get(&format!("{path}?json=true&pairs=true"))
        .await
        .is_problem(400, "invalid-request");
}

#[tokio::test]
async fn json_is_embedded_in_what_groups_hand_out() {
    let app = TestApp::start().await;
    let stream = stream(&app).await;
    let group = format!("/v1/streams/{stream}/groups/g");
    app.put_json(&group, r#"{"policy":{"lease":"30s"}}"#).await;
    let read = app
        .post_form(&format!("{group}/read"), "consumer=w&json=true")
        .await
        .json();
    assert_eq!(all_shown(&read["entries"]), expected());
    assert!(read["entries"][0]["receipt"].is_string() && read["entries"][0]["fields"].is_null());
    app.put_json(&format!("/v1/streams/{stream}/groups/many"), "{}")
        .await;
    let body = format!(r#"{{"streams":["{stream}"],"consumer":"w","json":true}}"#);
    let read = app.post_json("/v1/groups/many/read", &body).await.json();
    assert_eq!(all_shown(&read["streams"][0]["entries"]), expected());
    let group = format!("/v1/streams/{stream}/groups/push");
    app.put_json(&group, r#"{"policy":{"lease":"30s"}}"#).await;
    let mut sse = app
        .follow(&format!("{group}/events?consumer=w&json=true"))
        .await;
    sse.expect("$open").await;
    for expected in expected() {
        assert_eq!(shown(&sse.expect("message").await.json()), expected);
    }
}
