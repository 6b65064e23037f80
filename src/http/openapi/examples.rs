//! Example bodies of operations. The gateway accepts each example as it is, so that readers can try
//! a call by editing only names and ids.

use serde_json::{Map, Value, json};

/// Media type of the bodies with examples.
const JSON: &str = "application/json";

/// Operations whose body is optional.
const OPTIONAL: [&str; 2] = ["create_group", "create_stream"];

/// Adds an example to a path parameter, and `x-opaque` to a parameter whose values come only from
/// earlier responses or have a form that no schema of a string describes.
pub fn add_to_parameter(parameter: &mut Map<String, Value>) {
    let text = |name: &str| {
        let value = parameter.get(name).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    let (name, place) = (text("name"), text("in"));
    if matches!(&*name, "cursor" | "Last-Event-ID" | "policy") {
        parameter.insert("x-opaque".to_owned(), true.into());
        return;
    }
    if name == "name64"
        && let Some(Value::Object(schema)) = parameter.get_mut("schema")
    {
        schema.insert("contentEncoding".to_owned(), "base64url".into());
        return;
    }
    if place == "path"
        && let Some(example) = of_path(&name)
    {
        parameter.insert("example".to_owned(), example.into());
    }
}

fn of_path(name: &str) -> Option<&'static str> {
    match name {
        "stream" => Some("orders"),
        "group" => Some("billing"),
        "consumer" => Some("w1"),
        "name" => Some("shop"),
        "id" => Some("1795232709004-0"),
        "key" => Some("c1"),
        _ => None,
    }
}

/// Adds the example of an operation to its JSON body.
pub fn add(body: &mut Map<String, Value>, operation: &str) {
    if OPTIONAL.contains(&operation) {
        body.insert("required".to_owned(), false.into());
    }
    let Some(example) = of(operation) else { return };
    if let Some(Value::Object(json)) = body.get_mut("content").and_then(|all| all.get_mut(JSON)) {
        json.insert("example".to_owned(), example);
    }
}

fn of(operation: &str) -> Option<Value> {
    let id = "1795232709004-0";
    let of_many = format!("orders@{id}");
    Some(match operation {
        "append_entries" => json!({"fields": {"user": "alice", "total": 9.5}}),
        "create_stream" | "patch_stream" => json!({"retention": {"maxlen": 100_000}}),
        "trim_stream" => json!({"maxlen": 100_000}),
        "create_group" => json!({"start": "0", "policy": {"lease": "30s"}}),
        "move_group" => json!({"last_delivered_id": "0"}),
        "read_as_consumer" => json!({"consumer": "w1", "count": 10}),
        "read_many_as_consumer" => json!({"streams": ["orders"], "consumer": "w1", "count": 10}),
        "ack_entries" | "nack_entries" | "reject_entries" | "extend_entries" => {
            json!({"ids": [id]})
        }
        "ack_entries_of_many"
        | "nack_entries_of_many"
        | "reject_entries_of_many"
        | "extend_entries_of_many" => json!({"ids": [of_many]}),
        "claim_entries" => json!({"consumer": "w1", "min_idle": "0ms", "ids": [id]}),
        "autoclaim_entries" => json!({"consumer": "w1", "min_idle": "30s"}),
        "redrive_dead_letters" => json!({"all": true}),
        "receive_delivery" => json!({"ref": "refs/heads/main"}),
        "make_ticket" => json!({"streams": ["orders"], "ttl": "1h"}),
        _ => return None,
    })
}
