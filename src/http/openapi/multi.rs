//! Bodies of calls on several streams. The handlers read the same members as in calls on one stream,
//! but each id and each receipt names its stream.

use serde_json::{Map, Value, json};

use crate::http::openapi::text::{STREAM_ID, STREAM_RECEIPT};

/// Beginning of the paths of these calls.
const PATHS: &str = "/v1/groups/";
/// Beginning of a reference to a schema.
const SCHEMAS: &str = "#/components/schemas/";
/// Lists of the bodies, with the pattern and an example of an item.
const LISTS: [(&str, &str, &str); 2] = [
    ("ids", STREAM_ID, "orders@1795232709004-0"),
    ("receipts", STREAM_RECEIPT, ""),
];

/// Gives the bodies of these calls schemas of their own: `AckMultiCall` for `AckCall`.
pub fn finish(document: &mut Value) {
    let mut added = Map::new();
    let schemas = document["components"]["schemas"].clone();
    let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) else {
        return;
    };
    for (_, item) in paths.iter_mut().filter(|(path, _)| path.starts_with(PATHS)) {
        if let Some(body) = item.pointer_mut("/post/requestBody") {
            point_to_own(body, &schemas, &mut added);
        }
    }
    if let Some(Value::Object(schemas)) = document.pointer_mut("/components/schemas") {
        schemas.append(&mut added);
        schemas.sort_keys();
    }
}

fn point_to_own(value: &mut Value, schemas: &Value, added: &mut Map<String, Value>) {
    match value {
        Value::Object(map) => {
            let reference = map.get("$ref").and_then(Value::as_str);
            let name = reference.and_then(|text| text.strip_prefix(SCHEMAS));
            if let Some(name) = name
                && !schemas[name]["properties"]["receipts"].is_null()
            {
                let own = format!("{}MultiCall", name.trim_end_matches("Call"));
                added.insert(own.clone(), of_several(&schemas[name]));
                map.insert("$ref".to_owned(), format!("{SCHEMAS}{own}").into());
            }
            map.values_mut()
                .for_each(|value| point_to_own(value, schemas, added));
        }
        Value::Array(list) => list
            .iter_mut()
            .for_each(|value| point_to_own(value, schemas, added)),
        _ => {}
    }
}

/// Returns the schema whose ids and receipts name their streams.
fn of_several(schema: &Value) -> Value {
    let mut schema = schema.clone();
    for (name, pattern, example) in LISTS {
        let list = &mut schema["properties"][name];
        list["items"]["pattern"] = pattern.into();
        if !example.is_empty() {
            list["example"] = json!([example]);
        }
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        // Entries are appended only in the slot of the group, so in calls on one stream.
        properties.remove("publish");
    }
    schema
}
