//! Every documented operation, called as a tenant: no response contains the tenant's prefix.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::auth::{AuthFile, Caller, record};
use crate::support::{Answer, unique};
use crate::webhooks;

/// Calls operations as one tenant and collects the responses.
struct Walk<'a> {
    caller: Caller<'a>,
    /// Distinctive part of the prefix, which no encoding changes.
    stem: String,
    called: BTreeSet<String>,
}

impl Walk<'_> {
    fn check(&self, what: &str, text: &str) {
        assert!(!text.contains(&self.stem), "{what}: {text}");
    }

    /// Calls `path`, an instance of the documented `template`.
    async fn call(&mut self, method: &str, template: &str, path: &str, body: Value) -> Answer {
        self.called.insert(format!("{method} {template}"));
        let answer = match body {
            Value::Null => {
                let method = Method::from_bytes(method.as_bytes()).unwrap();
                let request = self.caller.request(method, path);
                crate::support::app::answer(request).await.unwrap()
            }
            body => self.caller.call(method, path, body).await,
        };
        self.check(path, &format!("{:?} {}", answer.headers, answer.body));
        answer
    }

    /// Calls an operation under `/v1/streams/orders` and expects it to succeed.
    async fn stream(&mut self, method: &str, rest: &str, path: &str, body: Value) -> Answer {
        let template = format!("/v1/streams/{{stream}}{rest}");
        let answer = self
            .call(
                method,
                &template,
                &format!("/v1/streams/orders{path}"),
                body,
            )
            .await;
        assert!(answer.status < 300, "{method} {path}: {answer:?}");
        answer
    }

    /// Calls an operation of the group `g` and expects it to succeed.
    async fn group(&mut self, method: &str, rest: &str, path: &str, body: Value) -> Answer {
        self.stream(
            method,
            &format!("/groups/{{group}}{rest}"),
            &format!("/groups/g{path}"),
            body,
        )
        .await
    }

    /// Reads one entry and returns its receipt.
    async fn receipt(&mut self) -> Value {
        let read = json!({"consumer": "w", "count": 1});
        self.group("POST", "/read", "/read", read).await.json()["entries"][0]["receipt"].clone()
    }

    /// Follows events until one has data that `is_last` accepts.
    async fn events(&mut self, template: &str, path: &str, is_last: impl Fn(&str) -> bool) {
        self.called.insert(format!("GET {template}"));
        let mut events = self.caller.follow(path).await;
        assert_eq!(events.status, 200, "{path}");
        loop {
            let event = events.next().await.expect("an event");
            self.check(path, &format!("{event:?}"));
            if is_last(&event.data) {
                return;
            }
        }
    }
}

/// Returns method and path of every documented operation.
pub fn documented() -> BTreeSet<String> {
    let text = std::fs::read_to_string("openapi/openapi.json").unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let paths = document["paths"].as_object().unwrap().clone();
    let of = |(path, item): (String, Value)| {
        let methods: Vec<String> = item.as_object().unwrap().keys().cloned().collect();
        methods
            .into_iter()
            .map(move |method| format!("{} {path}", method.to_uppercase()))
    };
    paths.into_iter().flat_map(of).collect()
}

#[tokio::test]
async fn the_prefix_of_a_tenant_stands_in_no_answer_of_any_operation() {
    let stem = unique("walk");
    let keys = record("a", &["* *"]) + &format!("prefix = \"{stem}:\"\n");
    // A caller with access to a single stream, because rejections name streams, too.
    let few = record("few", &["subscribe other"]) + &format!("prefix = \"{stem}:\"\n");
    let stream = format!("{stem}:orders");
    let shop = webhooks::source("shop", &stream, "github", "");
    let file = AuthFile::new(&(keys + &few + &shop));
    file.beside("shop.secret", webhooks::SECRET);
    let app = file.app().await;
    let mut walk = Walk {
        caller: app.as_key("a"),
        stem,
        called: BTreeSet::new(),
    };

    for path in [
        "/",
        "/livez",
        "/readyz",
        "/openapi.json",
        "/metrics",
        "/v1/capabilities",
    ] {
        walk.call("GET", path, path, Value::Null).await;
    }
    walk.stream("PUT", "", "", Value::Null).await;
    walk.stream("PATCH", "", "", json!({"retention": {"maxlen": 1000}}))
        .await;
    let entry = json!({"fields": {"n": 1}});
    let first = walk
        .stream("POST", "/entries", "/entries", entry.clone())
        .await;
    let place = first.header("location").to_owned();
    let one = walk
        .call(
            "GET",
            "/v1/streams/{stream}/entries/{id}",
            &place,
            Value::Null,
        )
        .await;
    assert_eq!(one.status, 200, "{one:?}");
    let entries: Vec<&Value> = vec![&entry; 12];
    walk.stream("POST", "/entries", "/entries", json!({"entries": entries}))
        .await;
    walk.stream("GET", "", "?full=true", Value::Null).await;
    walk.stream("GET", "/entries", "/entries?after=0&limit=2", Value::Null)
        .await;
    walk.stream(
        "DELETE",
        "/entries/{id}",
        place.split_once("orders").unwrap().1,
        Value::Null,
    )
    .await;
    walk.stream("DELETE", "/entries", "/entries?id=1-0", Value::Null)
        .await;
    let later = walk
        .stream("POST", "/entries", "/entries?delay=1h", entry.clone())
        .await;
    let place = later.header("location").to_owned();
    walk.stream("GET", "/scheduled", "/scheduled", Value::Null)
        .await;
    for method in ["GET", "DELETE"] {
        let template = "/v1/streams/{stream}/scheduled/{token}";
        let kept = walk.call(method, template, &place, Value::Null).await;
        assert!(kept.status < 300, "{method} {place}: {kept:?}");
    }
    walk.call(
        "GET",
        "/v1/streams",
        "/v1/streams?match=*&limit=1",
        Value::Null,
    )
    .await;
    walk.call(
        "GET",
        "/v1/entries",
        "/v1/entries?stream=orders@0&stream=none@$",
        Value::Null,
    )
    .await;
    walk.events(
        "/v1/streams/{stream}/events",
        "/v1/streams/orders/events?after=0",
        |data| data.contains("fields"),
    )
    .await;
    walk.events(
        "/v1/events",
        "/v1/events?match=*&stream=none@0&after=0",
        |data| data.contains("fields"),
    )
    .await;

    walk.group(
        "PUT",
        "",
        "",
        json!({"policy": {"lease": "1m", "max_deliveries": 5}}),
    )
    .await;
    walk.group("PATCH", "", "", json!({"policy": {"lease": "2m"}}))
        .await;
    walk.group("GET", "", "", Value::Null).await;
    walk.stream("GET", "/groups", "/groups", Value::Null).await;
    walk.group("PUT", "/consumers/{consumer}", "/consumers/c", Value::Null)
        .await;
    walk.group("GET", "/consumers/{consumer}", "/consumers/c", Value::Null)
        .await;
    walk.group("GET", "/consumers", "/consumers", Value::Null)
        .await;
    walk.group(
        "DELETE",
        "/consumers/{consumer}",
        "/consumers/c",
        Value::Null,
    )
    .await;
    for verb in ["ack", "nack", "extend", "reject"] {
        let receipt = walk.receipt().await;
        let (rest, body) = (format!("/{verb}"), json!({"receipts": [receipt]}));
        walk.group("POST", &rest, &rest, body).await;
    }
    for verb in ["ack", "nack", "extend", "reject"] {
        let body = json!({"streams": ["orders"], "consumer": "w", "count": 1});
        let template = "/v1/groups/{group}/read";
        let read = walk.call("POST", template, "/v1/groups/g/read", body).await;
        let receipt = read.json()["streams"][0]["entries"][0]["receipt"].clone();
        let (template, path) = (
            format!("/v1/groups/{{group}}/{verb}"),
            format!("/v1/groups/g/{verb}"),
        );
        let settled = walk
            .call("POST", &template, &path, json!({"receipts": [receipt]}))
            .await;
        assert_eq!(settled.status, 200, "{verb}: {settled:?}");
    }
    walk.group("GET", "/pending", "/pending", Value::Null).await;
    walk.group(
        "POST",
        "/claim",
        "/claim",
        json!({"consumer": "c", "ids": ["1-0"]}),
    )
    .await;
    walk.group(
        "POST",
        "/autoclaim",
        "/autoclaim",
        json!({"consumer": "c", "min_idle": "0ms"}),
    )
    .await;
    let template = "/v1/streams/{stream}/groups/{group}/events";
    walk.events(
        template,
        "/v1/streams/orders/groups/g/events?consumer=p",
        |data| data.contains("receipt"),
    )
    .await;
    let dead = walk
        .group("GET", "/dead-letters", "/dead-letters", Value::Null)
        .await
        .json();
    let id = |index: usize| {
        dead["dead_letters"][index]["id"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let path = format!("/dead-letters/{}", id(0));
    walk.group("GET", "/dead-letters/{id}", &path, Value::Null)
        .await;
    let redrive = json!({"ids": [id(0)]});
    walk.group(
        "POST",
        "/dead-letters/redrive",
        "/dead-letters/redrive",
        redrive,
    )
    .await;
    let path = format!("/dead-letters/{}", id(1));
    walk.group("DELETE", "/dead-letters/{id}", &path, Value::Null)
        .await;
    walk.group("DELETE", "/dead-letters", "/dead-letters", Value::Null)
        .await;
    walk.group("PATCH", "", "", json!({"policy": {"order_by": "n"}}))
        .await;
    walk.stream("POST", "/entries", "/entries", entry.clone())
        .await;
    walk.receipt().await;
    walk.group("GET", "/keys", "/keys", Value::Null).await;
    for method in ["GET", "DELETE"] {
        walk.group(method, "/keys/{key}", "/keys/1", Value::Null)
            .await;
    }
    let body = r#"{"action":"opened"}"#;
    let delivery = walk
        .caller
        .request(Method::POST, "/v1/sources/shop")
        .header("x-github-delivery", "1")
        .header("x-github-event", "issues")
        .header(
            "x-hub-signature-256",
            webhooks::github_signature(body.as_bytes(), webhooks::SECRET),
        );
    let answer = crate::support::app::answer(delivery.body(body)).await;
    let answer = answer.unwrap();
    assert!(answer.status < 300, "{answer:?}");
    walk.check(
        "/v1/sources/shop",
        &format!("{:?} {}", answer.headers, answer.body),
    );
    walk.called.insert("POST /v1/sources/{name}".to_owned());
    walk.call(
        "POST",
        "/v1/tickets",
        "/v1/tickets",
        json!({"streams": ["orders"]}),
    )
    .await;
    walk.stream(
        "POST",
        "/trim",
        "/trim",
        json!({"maxlen": 0, "exact": true}),
    )
    .await;
    walk.group("DELETE", "", "", Value::Null).await;
    walk.stream("DELETE", "", "", Value::Null).await;

    refusals(walk, app.as_key("few")).await;
}

/// Calls every operation for a missing stream, and as a caller with access to another stream only.
async fn refusals(walk: Walk<'_>, few: Caller<'_>) {
    let missing: Vec<_> = documented().difference(&walk.called).cloned().collect();
    assert!(
        missing.is_empty(),
        "operations that were not called: {missing:?}"
    );

    let few = Walk {
        caller: few,
        stem: walk.stem.clone(),
        called: BTreeSet::new(),
    };
    for mut walk in [walk, few] {
        for called in documented() {
            let (method, template) = called.split_once(' ').unwrap();
            let path = template.replace("{stream}", "none").replace("{group}", "g");
            let path = path
                .replace("{consumer}", "c")
                .replace("{id}", "1-0")
                .replace("{token}", "x");
            let body = if method == "GET" {
                Value::Null
            } else {
                json!({"streams": ["none"]})
            };
            if !template.ends_with("/events") {
                walk.call(method, template, &path, body).await;
            }
        }
    }
}
