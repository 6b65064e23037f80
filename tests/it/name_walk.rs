//! Every documented operation on a stream, a group and a consumer whose names only native clients
//! can create: everything but creating works.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::redis::{Server, json as plain};
use crate::support::{Answer, TestApp, encode};
use crate::tenant_walk::documented;

/// Calls operations on one stream, named in the path or by `name64`.
struct Walk<'a> {
    app: &'a TestApp,
    /// The stream in the path, and the parameter to add to a query.
    place: (String, String),
    group: String,
    consumer: String,
    called: BTreeSet<String>,
}

impl Walk<'_> {
    /// Returns the URL of a path like `/groups/{group}?count=1`, below the stream.
    fn url(&mut self, method: &str, path: &str) -> String {
        let (template, query) = path.split_once('?').unwrap_or((path, ""));
        self.called
            .insert(format!("{method} /v1/streams/{{stream}}{template}"));
        let path = template
            .replace("{group}", &self.group)
            .replace("{consumer}", &self.consumer)
            .replace("{id}", "1-0")
            .replace("{token}", "x");
        let (stream, name64) = &self.place;
        format!("/v1/streams/{stream}{path}?{query}&{name64}")
            .replace("?&", "?")
            .trim_end_matches(['?', '&'])
            .to_owned()
    }

    async fn call(&mut self, method: &str, path: &str, body: Value, status: u16) -> Answer {
        let url = self.url(method, path);
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.app.client.request(method.clone(), self.app.url(&url));
        if !body.is_null() {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        let answer = self.app.send(request).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        answer
    }

    /// Calls an operation that would create something for a stream of this name.
    async fn refused(&mut self, method: &str, path: &str, body: Value) {
        let answer = self.call(method, path, body, 400).await;
        answer.is_problem(400, "invalid-name");
    }
}

#[tokio::test]
async fn every_operation_takes_names_of_native_clients_and_only_creating_refuses_them() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let long = "x".repeat(600);
    for name in ["a{b}{c}", "a\nb", &long, "{}"] {
        let path = (encode(name), String::new());
        let name64 = {
            let listed = list_one(&app, &server, name).await;
            ("-".to_owned(), format!("name64={listed}"))
        };
        for place in [path, name64] {
            let mut walk = Walk {
                app: &app,
                place,
                group: encode(r#"{"base64":"Z/8="}"#),
                consumer: encode(r#"{"base64":"Y/4="}"#),
                called: BTreeSet::new(),
            };
            fill(&server, name).await;
            all_operations(&mut walk, name).await;
            let all = documented();
            let of_streams = all.into_iter().filter(|one| one.contains("{stream}"));
            let missing: Vec<_> = of_streams
                .filter(|one| !walk.called.contains(one))
                .collect();
            assert!(missing.is_empty(), "not called: {missing:?}");
            let left = plain(&server.command(&["KEYS", "*"]).await);
            let left = left.as_array().unwrap().iter();
            let of_it = |key: &&Value| key.as_str().unwrap().contains(name);
            assert_eq!(left.filter(of_it).count(), 0, "{name:?}");
        }
    }
}

/// Creates the stream, returns the `name64` under which it is listed, and deletes the stream.
async fn list_one(app: &TestApp, server: &Server, name: &str) -> String {
    fill(server, name).await;
    let listed = app.get("/v1/streams").await.json()["streams"].clone();
    let item = &listed.as_array().unwrap()[0];
    assert_eq!(
        (&item["stream"], &item["creatable"]),
        (&json!(name), &json!(false))
    );
    server.command(&["DEL", name]).await;
    item["name64"].as_str().unwrap().to_owned()
}

/// Creates a stream with entries `1-0` to `6-0` and a group whose name is not UTF-8.
async fn fill(server: &Server, name: &str) {
    for id in ["1-0", "2-0", "3-0", "4-0", "5-0", "6-0"] {
        server.command(&["XADD", name, id, "n", "1"]).await;
    }
    let create = "return redis.call('XGROUP', 'CREATE', KEYS[1], 'g\\255', '0')";
    server.command(&["EVAL", create, "1", name]).await;
}

async fn all_operations(walk: &mut Walk<'_>, name: &str) {
    let none = Value::Null;
    let (group, consumer) = (json!({"base64": "Z/8="}), json!({"base64": "Y/4="}));

    let shown = walk.call("GET", "", none.clone(), 200).await.json();
    assert_eq!(
        (&shown["stream"], &shown["length"]),
        (&json!(name), &json!(6))
    );
    let read = walk
        .call("GET", "/entries?limit=2", none.clone(), 200)
        .await;
    assert_eq!(read.ids(), ["1-0", "2-0"]);
    let one = walk.call("GET", "/entries/{id}", none.clone(), 200).await;
    assert_eq!(one.json()["id"], "1-0");
    let url = walk.url("GET", "/events?after=5-0");
    let mut events = walk.app.follow(&url).await;
    assert_eq!(
        events.expect("$open").await.json()["streams"],
        json!([name])
    );
    assert_eq!(events.expect("message").await.json()["id"], "6-0");
    drop(events);
    for (method, path, body) in [
        ("PUT", "", none.clone()),
        ("PATCH", "", json!({"retention": {"maxlen": 5}})),
        ("POST", "/entries", json!({"fields": {"n": "1"}})),
        ("GET", "/scheduled", none.clone()),
        ("GET", "/scheduled/{token}", none.clone()),
        ("DELETE", "/scheduled/{token}", none.clone()),
        ("PUT", "/groups/{group}", json!({})),
        (
            "PATCH",
            "/groups/{group}",
            json!({"policy": {"lease": "1s"}}),
        ),
    ] {
        walk.refused(method, path, body).await;
    }

    let groups = walk.call("GET", "/groups", none.clone(), 200).await.json();
    assert_eq!(groups["groups"][0]["group"], group);
    let of_group = "/groups/{group}";
    let at = |rest: &str| format!("{of_group}{rest}");
    assert_eq!(
        walk.call("GET", of_group, none.clone(), 200).await.json()["lag"],
        6
    );
    let moved = json!({"last_delivered_id": "1-0"});
    walk.call("PATCH", of_group, moved, 200).await;
    let moved = json!({"last_delivered_id": "0-0"});
    walk.call("PATCH", of_group, moved, 200).await;
    let read = json!({"consumer": consumer, "count": 4});
    let read = walk.call("POST", &at("/read"), read, 200).await;
    assert_eq!(read.ids(), ["1-0", "2-0", "3-0", "4-0"]);
    walk.call("PUT", &at("/consumers/{consumer}"), none.clone(), 200)
        .await;
    let seen = walk
        .call("GET", &at("/consumers/{consumer}"), none.clone(), 200)
        .await
        .json();
    assert_eq!(
        (&seen["consumer"], &seen["pending"]),
        (&consumer, &json!(4))
    );
    let listed = walk
        .call("GET", &at("/consumers"), none.clone(), 200)
        .await
        .json();
    assert_eq!(listed["consumers"][0]["consumer"], consumer);
    let pending = walk
        .call("GET", &at("/pending"), none.clone(), 200)
        .await
        .json();
    assert_eq!(pending["entries"][0]["consumer"], consumer);
    let claim = json!({"consumer": "other", "ids": ["4-0"], "min_idle": "0ms"});
    assert_eq!(
        walk.call("POST", &at("/claim"), claim, 200).await.ids(),
        ["4-0"]
    );
    let claim = json!({"consumer": consumer, "min_idle": "0ms"});
    assert_eq!(
        walk.call("POST", &at("/autoclaim"), claim, 200)
            .await
            .ids()
            .len(),
        4
    );
    let acked = walk
        .call("POST", &at("/ack"), json!({"ids": ["2-0"]}), 200)
        .await
        .json();
    assert_eq!(acked["results"][0]["outcome"], "acknowledged");
    // The group has no policy, and a stream of this name cannot be given one.
    let ids = json!({"ids": ["1-0"]});
    for (method, path, body) in [
        ("POST", "/nack", &ids),
        ("POST", "/extend", &ids),
        ("POST", "/reject", &ids),
        ("GET", "/events?consumer=w", &none),
        ("GET", "/dead-letters", &none),
        ("GET", "/dead-letters/{id}", &none),
        ("DELETE", "/dead-letters/{id}", &none),
        ("DELETE", "/dead-letters", &none),
        ("POST", "/dead-letters/redrive", &json!({"all": true})),
        ("GET", "/keys", &none),
        ("GET", "/keys/{key}", &none),
        ("DELETE", "/keys/{key}", &none),
    ] {
        let answer = walk.call(method, &at(path), body.clone(), 409).await;
        answer.is_problem(409, "group-has-no-policy");
    }
    let path = at("/consumers/{consumer}?pending=transfer:other");
    let deleted = walk.call("DELETE", &path, none.clone(), 200).await.json();
    assert_eq!(deleted["pending"], 3);
    walk.call("DELETE", of_group, none.clone(), 204).await;

    walk.call("DELETE", "/entries/{id}", none.clone(), 204)
        .await;
    walk.call("DELETE", "/entries?id=2-0", none.clone(), 200)
        .await;
    walk.call("POST", "/trim", json!({"maxlen": 1, "exact": true}), 200)
        .await;
    assert_eq!(
        walk.call("GET", "/entries", none.clone(), 200).await.ids(),
        ["6-0"]
    );
    walk.call("DELETE", "", none.clone(), 204).await;
    walk.refused("GET", "", none).await;
}

#[tokio::test]
async fn a_group_with_a_policy_is_worked_under_names_that_are_no_text() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    fill(&server, "s").await;
    let consumer = json!({"base64": "Y/4="});
    let mut walk = Walk {
        app: &app,
        place: ("s".to_owned(), String::new()),
        group: encode(r#"{"base64":"Z/8="}"#),
        consumer: encode(&consumer.to_string()),
        called: BTreeSet::new(),
    };
    let at = |rest: &str| format!("/groups/{{group}}{rest}");
    walk.call("PUT", &at(""), json!({"policy": {"lease": "1h"}}), 200)
        .await;
    let read = json!({"consumer": consumer, "count": 3});
    let read = walk.call("POST", &at("/read"), read, 200).await.json();
    let receipt = |n: usize| json!({"receipts": [read["entries"][n]["receipt"]]});
    for (n, (verb, outcome)) in [
        ("nack", "released"),
        ("extend", "extended"),
        ("reject", "dead-lettered"),
    ]
    .into_iter()
    .enumerate()
    {
        let done = walk
            .call("POST", &at(&format!("/{verb}")), receipt(n), 200)
            .await
            .json();
        assert_eq!(done["results"][0]["outcome"], outcome, "{verb}: {done}");
    }
    let url = walk.url("GET", &at("/events?consumer={consumer}&prefetch=1"));
    let url = url.replace("{consumer}", &walk.consumer);
    let mut pushed = app.follow(&url).await;
    pushed.expect("$open").await;
    assert!(pushed.expect("message").await.json()["receipt"].is_string());
    drop(pushed);
    let letters = walk
        .call("GET", &at("/dead-letters"), Value::Null, 200)
        .await
        .json();
    let letter = &letters["dead_letters"][0];
    assert_eq!(letter["consumer"], consumer);
    let one = at(&format!("/dead-letters/{}", letter["id"].as_str().unwrap()));
    walk.call("GET", &one, Value::Null, 200).await;
    let given = walk
        .call(
            "POST",
            &at("/dead-letters/redrive"),
            json!({"all": true}),
            200,
        )
        .await;
    assert_eq!(given.json()["redriven"], 1, "{}", given.body);
    let path = at("/consumers/{consumer}?pending=drop");
    walk.call("DELETE", &path, Value::Null, 200).await;
    walk.call("DELETE", &at(""), Value::Null, 204).await;
}
