//! The examples of the OpenAPI document: complete, valid, and of the shape of real responses.

use regex::Regex;
use reqwest::Method;
use serde_json::{Value, json};

use crate::docs_page::{ID, authorized, lay};
use crate::openapi::{document, operations};
use crate::support::redis::Server;
use crate::support::{Answer, TestApp};
use crate::webhooks::{Delivery, SECRET};

/// Returns the first violation of a schema by a value, as a path into the value and the rule.
fn violation(document: &Value, schema: &Value, value: &Value) -> Option<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.strip_prefix('#').unwrap());
        return violation(document, target.unwrap(), value);
    }
    let of = |schema: &Value, value: &Value| violation(document, schema, value);
    for choice in ["oneOf", "anyOf"] {
        if let Some(choices) = schema[choice].as_array()
            && choices.iter().all(|schema| of(schema, value).is_some())
        {
            return Some(format!(": none of {} schemas fits {value}", choices.len()));
        }
    }
    let is = |name: &str| match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("unknown type {other}"),
    };
    let kinds = match &schema["type"] {
        Value::Null => vec![],
        Value::Array(kinds) => kinds.iter().map(|kind| kind.as_str().unwrap()).collect(),
        kind => vec![kind.as_str().unwrap()],
    };
    if !kinds.is_empty() && !kinds.into_iter().any(is) {
        return Some(format!(": {value} is not {}", schema["type"]));
    }
    if let Some(values) = schema["enum"].as_array()
        && !values.contains(value)
    {
        return Some(format!(": {value} is not one of {values:?}"));
    }
    // The regular expressions of this crate have no lookahead.
    if let (Some(text), Some(pattern)) = (value.as_str(), schema["pattern"].as_str())
        && let Ok(pattern) = Regex::new(&pattern.replace("(?!\\.\\.?$)(?!streamgate:)", ""))
        && !pattern.is_match(text)
    {
        return Some(format!(": {text:?} does not match {pattern}"));
    }
    if let Some(items) = value.as_array() {
        let found = items.iter().enumerate().find_map(|(index, item)| {
            let found = of(&schema["items"], item)?;
            Some(format!("/{index}{found}"))
        });
        return found.filter(|_| !schema["items"].is_null());
    }
    let members = value.as_object()?;
    for name in schema["required"].as_array().into_iter().flatten() {
        if !members.contains_key(name.as_str().unwrap()) {
            return Some(format!(": {name} is missing"));
        }
    }
    members.iter().find_map(|(name, member)| {
        let found = match (&schema["properties"][name], &schema["additionalProperties"]) {
            (Value::Null, Value::Bool(false)) => Some(": not a member".to_owned()),
            (Value::Null, rest @ Value::Object(_)) => of(rest, member),
            (Value::Null, _) => None,
            (own, _) => of(own, member),
        };
        found.map(|found| format!("/{name}{found}"))
    })
}

/// Returns the examples of a media type, with references resolved.
fn examples_of(document: &Value, body: &Value) -> Vec<Value> {
    let named = body["examples"].as_object().into_iter().flatten();
    let named = named.map(|(_, example)| {
        let reference = example["$ref"].as_str().unwrap();
        let target = document.pointer(reference.strip_prefix('#').unwrap());
        target.unwrap()["value"].clone()
    });
    let alone = body.get("example").cloned();
    alone.into_iter().chain(named).collect()
}

#[test]
fn every_operation_and_every_answer_has_an_example_that_its_schema_accepts() {
    let document = document();
    let mut count = 0;
    for (path, method, operation) in operations(&document) {
        let request = ("request", &operation["requestBody"]);
        let responses = operation["responses"].as_object().unwrap().iter();
        let responses = responses.map(|(status, response)| (status.as_str(), response));
        for (status, holder) in responses.chain([request]) {
            for (media_type, body) in holder["content"].as_object().into_iter().flatten() {
                let what = format!("{method} {path} {status} {media_type}");
                let examples = examples_of(&document, body);
                let is_needed = status != "request" || media_type == "application/json";
                assert!(!examples.is_empty() || !is_needed, "{what} has no example");
                for example in examples {
                    let found = violation(&document, &body["schema"], &example);
                    assert_eq!(found, None, "{what}: {example}");
                    count += 1;
                }
            }
        }
    }
    assert!(count > 300, "{count} examples");
}

#[test]
fn a_violation_of_a_schema_is_found() {
    let document =
        json!({"components": {"schemas": {"Id": {"type": "string", "pattern": "^[0-9]+-0$"}}}});
    let id = json!({"$ref": "#/components/schemas/Id"});
    let schema = json!({"type": "object", "required": ["id"], "additionalProperties": false, "properties": {
        "id": id, "next": {"oneOf": [{"type": "null"}, id]}, "all": {"type": "array", "items": {"enum": [1, 2]}}}});
    let found = |value: Value| violation(&document, &schema, &value);
    assert_eq!(
        found(json!({"id": "5-0", "next": null, "all": [1, 2]})),
        None
    );
    for wrong in [
        json!([]),
        json!({}),
        json!({"id": "5"}),
        json!({"id": "5-0", "other": 1}),
        json!({"id": "5-0", "next": 5}),
        json!({"id": "5-0", "all": [1, 3]}),
    ] {
        assert!(found(wrong.clone()).is_some(), "{wrong}");
    }
}

/// Returns the difference in shape between an example and a real response: other members, or values
/// of another type. A null and an empty list have any shape.
fn difference(example: &Value, real: &Value) -> Option<String> {
    match (example, real) {
        (Value::Object(example), Value::Object(real)) => {
            let names = || example.keys().chain(real.keys());
            if let Some(name) =
                names().find(|name| !example.contains_key(*name) || !real.contains_key(*name))
            {
                return Some(format!("/{name} is not in both"));
            }
            real.iter().find_map(|(name, value)| {
                difference(&example[name], value).map(|found| format!("/{name}{found}"))
            })
        }
        (Value::Array(example), Value::Array(real)) => {
            let (example, real) = (example.first()?, real.first()?);
            difference(example, real).map(|found| format!("/0{found}"))
        }
        (Value::Null, _) | (_, Value::Null) => None,
        (example, real) => {
            let same = std::mem::discriminant(example) == std::mem::discriminant(real);
            (!same).then(|| format!(": {example}, but {real}"))
        }
    }
}

/// Returns the responses of an operation to its example requests.
async fn call(app: &TestApp, operation: &Value, method: &str, path: &str) -> Vec<Answer> {
    let name = operation["operationId"].as_str().unwrap();
    let (query, statuses): (&str, &[&str]) = match name {
        "delete_entries" => (&format!("?id={ID}"), &[]),
        "read_many" => ("?stream=orders&after=0", &[]),
        "append_entries" => ("", &["delay=30s", "atomic=false"]),
        _ => ("", &[]),
    };
    let body = &operation["requestBody"]["content"]["application/json"]["example"];
    let send = async |query: &str, body: &Value, key: &str| {
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let mut request = app
            .client
            .request(method, app.url(&format!("{path}{query}")));
        if !body.is_null() {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        if name == "receive_delivery" {
            return Delivery::github("id-1", "{}", SECRET)
                .send(app, "shop")
                .await;
        }
        if !key.is_empty() {
            request = request.header("idempotency-key", key);
        }
        app.send(request).await
    };
    if name == "create_group" {
        app.delete(path).await;
    }
    let mut answers = vec![send(query, body, "").await];
    if name == "create_group" {
        answers.push(send("", body, "").await);
    }
    for query in statuses {
        let batch = json!({"entries": [body, {"fields": {}}]});
        let body = if query.starts_with("atomic") {
            &batch
        } else {
            body
        };
        answers.push(send(&format!("?{query}"), body, "").await);
    }
    if name == "append_entries" {
        send("", body, "order-8209").await;
        answers.push(send("", body, "order-8209").await);
    }
    answers
}

/// Gives the group an order by key, and a key in flight.
async fn order(app: &TestApp) {
    let group = "/v1/streams/orders/groups/billing";
    let patch = app
        .client
        .patch(app.url(group))
        .header("content-type", "application/json");
    let patch = patch.body(r#"{"policy":{"order_by":"customer"}}"#);
    assert_eq!(app.send(patch).await.status, 200);
    app.post_form("/v1/streams/orders/entries", "customer=c1")
        .await;
    app.post_form(&format!("{group}/read"), "consumer=w1&count=9")
        .await;
}

#[tokio::test]
async fn examples_have_the_shape_of_the_answers_of_a_gateway() {
    let server = Server::start().await;
    let app = authorized(&server).await;
    let mut compared = 0;
    for (path, method, operation) in operations(&document()) {
        let what = format!("{method} {path}");
        if path.ends_with("/events") {
            continue;
        }
        let token = lay(&app, &server).await;
        if path.contains("/keys") {
            order(&app).await;
        }
        let path = path
            .replace("{key}", "c1")
            .replace("{stream}", "orders")
            .replace("{group}", "billing")
            .replace("{consumer}", "w1")
            .replace("{id}", ID)
            .replace("{name}", "shop")
            .replace("{token}", &token);
        for answer in call(&app, &operation, &method, &path).await {
            let response = &operation["responses"][answer.status.to_string()];
            assert!(
                answer.status < 300 && response.is_object(),
                "{what}: {answer:?}"
            );
            let example = &response["content"]["application/json"]["example"];
            if example.is_null() || path == "/openapi.json" {
                continue;
            }
            let found = difference(example, &answer.json());
            assert_eq!(found, None, "{what}: {} {}", answer.status, answer.body);
            compared += 1;
        }
    }
    assert!(compared > 40, "{compared} examples compared");
}
