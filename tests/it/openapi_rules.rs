//! The rules in the OpenAPI document for parameters and members that exclude or need each other.

use serde_json::Value;

use crate::openapi::{document, operations};
use crate::support::TestApp;

/// A value of a parameter that is taken where it is alone.
fn sample(parameter: &str) -> String {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    let value = match (name, value) {
        (_, value) if !value.is_empty() => value,
        ("id" | "If-None-Match", _) => "*",
        ("If-Match", _) => "\"1-1\"",
        ("durability", _) => "fsync",
        ("refs", _) => "keep",
        ("receipts" | "stream", _) => "stream",
        ("start" | "minid" | "after" | "before" | "end" | "cursor", _) => "1-1",
        ("last" | "maxlen" | "trim_limit" | "count", _) => "1",
        ("match", _) => "a*",
        ("filter", _) => "a:b",
        _ => "1s",
    };
    format!("{name}={}", crate::support::encode(value))
}

#[tokio::test]
async fn parameters_that_are_declared_to_exclude_each_other_are_refused_together() {
    let app = TestApp::start().await;
    let refused = async |path: &str, method: &str, given: &[&str]| {
        let path = path
            .replace("{stream}", "orders")
            .replace("{group}", "billing");
        let given: Vec<&str> = given.iter().flat_map(|name| name.split('&')).collect();
        let (headers, query): (Vec<&str>, Vec<&str>) = given
            .iter()
            .filter(|name| !name.starts_with("body."))
            .partition(|name| name.starts_with(char::is_uppercase));
        let query: Vec<String> = query.into_iter().map(sample).collect();
        let method = reqwest::Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let url = app.url(&format!("{path}?{}", query.join("&")));
        let mut request = app.client.request(method.clone(), url);
        let lines = "Content-Type: application/x-ndjson";
        for header in headers.iter().filter(|header| **header != lines) {
            let value = if *header == "If-Match" {
                "\"1-1\""
            } else {
                "*"
            };
            request = request.header(*header, value);
        }
        if method == "POST" {
            let body = match given.iter().find_map(|name| name.strip_prefix("body.")) {
                Some("entries") => r#"{"entries":[{"fields":{"a":1}}]}"#,
                Some("id") => r#"{"fields":{"a":1},"id":"5-5"}"#,
                Some("key") => r#"{"fields":{"a":1},"key":"k"}"#,
                _ => r#"{"fields":{"a":1}}"#,
            };
            let kind = match headers.contains(&lines) {
                true => "application/x-ndjson",
                false => "application/json",
            };
            request = request.header("content-type", kind).body(body);
        }
        let answer = app.send(request).await;
        assert!(
            matches!(answer.status, 400 | 422),
            "{method} {path} {given:?}: {}",
            answer.body
        );
    };
    let mut count = 0;
    for (path, method, operation) in operations(&document()) {
        let rules = &operation["x-parameter-rules"];
        let texts = |value: &Value| -> Vec<String> {
            let list = value.as_array().cloned().unwrap_or_default();
            list.iter()
                .map(|text| text.as_str().unwrap().to_owned())
                .collect()
        };
        for names in rules["at_most_one"]
            .as_array()
            .into_iter()
            .flatten()
            .map(texts)
        {
            for pair in names.windows(2) {
                refused(&path, &method, &[&pair[0], &pair[1]]).await;
                count += 1;
            }
        }
        for (name, others) in rules["excludes"].as_object().into_iter().flatten() {
            for other in texts(others) {
                refused(&path, &method, &[name, &other]).await;
                count += 1;
            }
        }
        for (name, _) in rules["needs"].as_object().into_iter().flatten() {
            refused(&path, &method, &[name]).await;
            count += 1;
        }
        if rules["at_least_one"].is_array() {
            refused(&path, &method, &[]).await;
            count += 1;
        }
    }
    assert!(count > 20, "{count} rules");
}

/// Returns a body with these members, as the names of rules give them, beside required ones.
fn body_with(document: &Value, schema: &str, given: &[String]) -> Value {
    let mut body = serde_json::Map::new();
    let schema = &document["components"]["schemas"][schema];
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().unwrap();
        let value = match name {
            "min_idle" => "1s".into(),
            "ids" | "streams" => serde_json::json!(["1-1"]),
            _ => "x".into(),
        };
        body.insert(name.to_owned(), value);
    }
    for rule in given {
        let (name, value) = rule.split_once('=').unwrap_or((rule, ""));
        let value = match (name, value) {
            (_, "null") => Value::Null,
            (_, "true") => true.into(),
            ("mode", mode) => mode.into(),
            ("ids", _) => serde_json::json!(["1-1"]),
            ("receipts", _) => serde_json::json!(["r"]),
            ("maxlen" | "hard_maxlen" | "limit" | "entries_added", _) => 5.into(),
            ("wait" | "lease" | "idle" | "since" | "time" | "max_age", _) => "1s".into(),
            ("fields", _) => serde_json::json!({"a": 1}),
            ("pairs", _) => serde_json::json!([["a", 1]]),
            _ => "1-1".into(),
        };
        body.insert(name.to_owned(), value);
    }
    body.into()
}

#[tokio::test]
async fn members_that_are_declared_to_exclude_or_need_each_other_are_refused() {
    let app = TestApp::start().await;
    let group = "/v1/streams/orders/groups/billing";
    app.put_json(group, r#"{"policy":{}}"#).await;
    let calls = [
        ("AckCall", "POST", "/ack"),
        ("NackCall", "POST", "/nack"),
        ("RejectCall", "POST", "/reject"),
        ("ExtendCall", "POST", "/extend"),
        ("ClaimCall", "POST", "/claim"),
        ("ReadCall", "POST", "/read"),
        ("RedriveCall", "POST", "/dead-letters/redrive"),
        ("GroupPatch", "PATCH", ""),
        ("GroupInput", "PUT", ""),
        ("StreamPatch", "PUT", "stream"),
        ("RetentionInput", "PUT", "retention"),
        ("EntryInput", "POST", "entries"),
        ("TrimCall", "POST", "trim"),
    ];
    let document = document();
    let mut count = 0;
    for (schema, method, path) in calls {
        let rules = &document["components"]["schemas"][schema]["x-member-rules"];
        assert!(rules.is_object(), "{schema} has no rules");
        let refused = async |given: &[String]| {
            let body = body_with(&document, schema, given);
            let (url, body) = match path {
                "stream" => ("/v1/streams/new".to_owned(), body),
                "retention" => (
                    "/v1/streams/new".to_owned(),
                    serde_json::json!({"retention": body}),
                ),
                "entries" | "trim" => (format!("/v1/streams/orders/{path}"), body),
                path => (format!("{group}{path}"), body),
            };
            let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
            let request = app.client.request(method, app.url(&url));
            let request = request.header("content-type", "application/json");
            let answer = app.send(request.body(body.to_string())).await;
            assert!(
                matches!(answer.status, 400 | 422),
                "{schema} {body}: {} {}",
                answer.status,
                answer.body
            );
        };
        let lists = |name: &str| -> Vec<Vec<String>> {
            serde_json::from_value(rules[name].clone()).unwrap_or_default()
        };
        for names in [lists("at_most_one"), lists("exactly_one")].concat() {
            for pair in names.windows(2) {
                refused(pair).await;
                count += 1;
            }
        }
        for names in lists("together") {
            refused(&["last_id".to_owned(), names[0].clone()]).await;
            count += 1;
        }
        if !lists("at_least_one").is_empty() || !lists("exactly_one").is_empty() {
            refused(&[]).await;
            count += 1;
        }
        for name in rules["needs"].as_object().into_iter().flatten() {
            let more = lists("at_least_one").concat().into_iter().take(1);
            refused(&more.chain([name.0.clone()]).collect::<Vec<_>>()).await;
            count += 1;
        }
    }
    assert!(count > 20, "{count} rules");
}
