//! Schemas of inlined types, without the wrappers that utoipa puts around them. From a wrapper,
//! generators make a union or a type of its own in place of a text.

use serde_json::{Map, Value, json};

/// Replaces a wrapper by the schema inside it.
pub fn unwrap(schema: &mut Map<String, Value>) {
    if let Some(plain) = nullable(schema).or_else(|| described(schema)) {
        schema.retain(|name, _| name != "oneOf" && name != "allOf");
        for (name, value) in plain {
            schema.entry(name).or_insert(value);
        }
    }
}

/// Returns the schema of a choice between null and a plain type, as one schema with two types.
fn nullable(schema: &Map<String, Value>) -> Option<Map<String, Value>> {
    let [one, other] = two(schema, "oneOf")?;
    let null = json!({"type": "null"});
    let plain = if *one == null { other } else { one };
    if (*one != null && *other != null) || !plain["type"].is_string() {
        return None;
    }
    let mut plain = plain.as_object()?.clone();
    plain["type"] = json!([plain["type"], "null"]);
    Some(plain)
}

/// Returns the schema of a type that has a description beside it.
fn described(schema: &Map<String, Value>) -> Option<Map<String, Value>> {
    let [plain, Value::Object(words)] = two(schema, "allOf")? else {
        return None;
    };
    let mut words = words.clone();
    let kind = words.shift_remove("type")?;
    let only_words = kind == "object" && words.keys().eq(["description"]);
    if !only_words || plain.get("type").is_none() {
        return None;
    }
    words.extend(plain.as_object()?.clone());
    Some(words)
}

fn two<'a>(schema: &'a Map<String, Value>, choice: &str) -> Option<&'a [Value; 2]> {
    schema.get(choice)?.as_array()?.as_slice().try_into().ok()
}

/// Removes null from the types of a parameter, because a given parameter is not null, and the
/// example of its type, because an optional parameter is often better left out.
pub fn finish_parameter(schema: &mut Map<String, Value>) {
    schema.shift_remove("example");
    if let Some(types) = schema.get_mut("type")
        && let Value::Array(all) = types
    {
        all.retain(|kind| kind != "null");
        if let [one] = all.as_slice() {
            *types = one.clone();
        }
    }
}
