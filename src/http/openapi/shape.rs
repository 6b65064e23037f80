//! Last pass over the document as JSON: order and structure that client generators depend on, and
//! that the typed document cannot represent.

use serde_json::{Map, Value, json};

use crate::http::openapi::{answers, examples, forms, inlined, multi, rules};

/// Schemas whose values may match several members: an event of one kind may have the required
/// members of another kind.
const ANY_OF: [&str; 2] = ["StreamEvent", "PushEvent"];

/// Media type to list first. Many generators use only the first one.
const FIRST: &str = "application/json";

/// Extension with the media types besides JSON, in the form of `content`.
const OTHERS: &str = "x-content";

/// Operation whose body keeps several media types in `content`, because its body is data.
const OF_DATA: &str = "append_entries";

/// Completes a serialized document.
pub fn finish(document: &mut Value) {
    simplify(document);
    if let Some(Value::Object(schemas)) = document.pointer_mut("/components/schemas") {
        for name in ANY_OF {
            if let Some(Value::Object(schema)) = schemas.get_mut(name) {
                rename(schema, "oneOf", "anyOf");
            }
        }
    }
    if let Some(Value::Object(paths)) = document.get_mut("paths") {
        let items = paths.values_mut().filter_map(Value::as_object_mut);
        let successes = answers::successes();
        items
            .flat_map(Map::values_mut)
            .filter_map(Value::as_object_mut)
            .for_each(|operation| finish_operation(operation, &successes));
    }
    inline_unshared(document);
    inline_equal_values(document);
    rename_inputs(document);
    if let Some(Value::Object(schemas)) = document.pointer_mut("/components/schemas") {
        for (name, schema) in schemas {
            if let Value::Object(schema) = schema {
                rules::add_to_schema(schema, name);
            }
        }
    }
    multi::finish(document);
    answers::add_components(document);
}

/// Renames schemas `NewX` to `XInput`. For each schema `X`, Go generators create a function `NewX`.
fn rename_inputs(document: &mut Value) {
    let schemas = document
        .pointer_mut("/components/schemas")
        .and_then(Value::as_object_mut);
    let Some(schemas) = schemas else { return };
    let input = |name: &str| name.strip_prefix("New").map(|rest| format!("{rest}Input"));
    let old: Vec<String> = schemas
        .keys()
        .filter(|name| input(name).is_some())
        .cloned()
        .collect();
    for name in &old {
        rename(schemas, name, &input(name).unwrap_or_default());
    }
    for name in &old {
        let reference = |name: &str| format!("#/components/schemas/{name}");
        let renamed = json!({ "$ref": reference(&input(name).unwrap_or_default()) });
        point_elsewhere(document, &reference(name), &renamed["$ref"]);
    }
}

fn point_elsewhere(value: &mut Value, from: &str, to: &Value) {
    match value {
        Value::Object(map) => {
            if let Some(reference) = map.get_mut("$ref")
                && reference.as_str() == Some(from)
            {
                *reference = to.clone();
            }
            map.values_mut()
                .for_each(|value| point_elsewhere(value, from, to));
        }
        Value::Array(list) => list
            .iter_mut()
            .for_each(|value| point_elsewhere(value, from, to)),
        _ => {}
    }
}

fn finish_operation(operation: &mut Map<String, Value>, successes: &Value) {
    let id = operation
        .get("operationId")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    rules::add(operation, &id);
    if let Some(Value::Array(parameters)) = operation.get_mut("parameters") {
        let all = parameters.iter_mut().filter_map(Value::as_object_mut);
        all.for_each(|parameter| {
            if let Some(Value::Object(schema)) = parameter.get_mut("schema") {
                inlined::finish_parameter(schema);
            }
            examples::add_to_parameter(parameter);
        });
    }
    if let Some(Value::Object(body)) = operation.get_mut("requestBody") {
        examples::add(body, &id);
        forms::bound_names(body);
        json_alone(body, |other| {
            id != OF_DATA || other.pointer("/schema/type") == Some(&json!("array"))
        });
    }
    if let Some(Value::Object(responses)) = operation.get_mut("responses") {
        let all = responses.values_mut().filter_map(Value::as_object_mut);
        all.for_each(|response| json_alone(response, |_| true));
        answers::add(responses, &successes[&id]);
    }
}

/// Moves media types besides JSON to an extension. Generators that support one media type then use
/// JSON. Generators that support several would merge all of them into one type. A client that
/// accepts several would receive lines where it parses JSON.
fn json_alone(holder: &mut Map<String, Value>, beside: impl Fn(&Value) -> bool) {
    let Some(Value::Object(content)) = holder.get_mut("content") else {
        return;
    };
    if !content.contains_key(FIRST) {
        return;
    }
    let (kept, moved): (Map<_, _>, Map<_, _>) = std::mem::take(content)
        .into_iter()
        .partition(|(name, media_type)| name == FIRST || !beside(media_type));
    *content = kept;
    if !moved.is_empty() {
        holder.insert(OTHERS.to_owned(), moved.into());
    }
}

/// Inlines schemas that only the extension refers to. Linters do not look there and would report
/// the schemas as unused.
fn inline_unshared(document: &mut Value) {
    let mut told = Vec::new();
    collect(document, &mut told, false);
    let shared: Vec<String> = told
        .iter()
        .filter(|(_, other)| !other)
        .map(|(name, _)| name.clone())
        .collect();
    let alone = told
        .into_iter()
        .filter(|(name, other)| *other && !shared.contains(name));
    for (name, _) in alone.collect::<Vec<_>>() {
        let schemas = document
            .pointer_mut("/components/schemas")
            .and_then(Value::as_object_mut);
        let Some(schema) = schemas.and_then(|schemas| schemas.shift_remove(&name)) else {
            continue;
        };
        replace(document, &format!("#/components/schemas/{name}"), &schema);
    }
}

/// Inlines enumerations that share a value with an earlier one. Go generators create a constant for
/// each value, named by the value alone.
fn inline_equal_values(document: &mut Value) {
    let mut seen = Vec::new();
    let mut equal = Vec::new();
    let schemas = document.pointer("/components/schemas");
    for (name, schema) in schemas.and_then(Value::as_object).into_iter().flatten() {
        let values = schema.get("enum").and_then(Value::as_array);
        let values = values.cloned().unwrap_or_default();
        match values.iter().any(|value| seen.contains(value)) {
            true => equal.push((name.clone(), schema.clone())),
            false => seen.extend(values),
        }
    }
    for (name, schema) in equal {
        replace(document, &format!("#/components/schemas/{name}"), &schema);
        let schemas = document.pointer_mut("/components/schemas");
        if let Some(schemas) = schemas.and_then(Value::as_object_mut) {
            schemas.shift_remove(&name);
        }
    }
}

/// Collects the names of referenced schemas, with whether the reference is within the extension.
fn collect(value: &Value, told: &mut Vec<(String, bool)>, within: bool) {
    match value {
        Value::Object(map) => {
            let reference = map.get("$ref").and_then(Value::as_str);
            if let Some(name) = reference.and_then(|text| text.rsplit('/').next()) {
                told.push((name.to_owned(), within));
            }
            map.iter()
                .for_each(|(name, value)| collect(value, told, within || name == OTHERS));
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, told, within)),
        _ => {}
    }
}

fn replace(value: &mut Value, reference: &str, schema: &Value) {
    match value {
        Value::Object(map) if map.get("$ref").and_then(Value::as_str) == Some(reference) => {
            *value = schema.clone();
        }
        Value::Object(map) => map
            .values_mut()
            .for_each(|value| replace(value, reference, schema)),
        Value::Array(list) => list
            .iter_mut()
            .for_each(|value| replace(value, reference, schema)),
        _ => {}
    }
}

/// Puts JSON first in each list of media types, replaces an alternative of one schema by that
/// schema, and removes descriptions next to references in alternatives: from such a pair,
/// generators make a schema that nothing imports.
fn simplify(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::Object(content)) = map.get_mut("content")
                && let Some(json) = content.shift_remove(FIRST)
            {
                content.shift_insert(0, FIRST.to_owned(), json);
            }
            if let Some(Value::Array(choice)) = map.get_mut("oneOf")
                && choice.len() == 1
                && let Some(Value::Object(one)) = choice.pop()
            {
                map.shift_remove("oneOf");
                for (name, member) in one {
                    map.entry(name).or_insert(member);
                }
            }
            inlined::unwrap(map);
            for name in ["oneOf", "anyOf", "allOf"] {
                let members = map
                    .get_mut(name)
                    .and_then(Value::as_array_mut)
                    .into_iter()
                    .flatten();
                members.filter_map(Value::as_object_mut).for_each(bare);
            }
            map.values_mut().for_each(simplify);
        }
        Value::Array(list) => list.iter_mut().for_each(simplify),
        _ => {}
    }
}

/// Removes all members of a reference except `$ref`.
fn bare(member: &mut Map<String, Value>) {
    if member.contains_key("$ref") {
        member.retain(|name, _| name == "$ref");
    }
}

/// Renames a member and keeps its position.
fn rename(map: &mut Map<String, Value>, from: &str, to: &str) {
    let renamed = |(name, value): (String, Value)| match name == from {
        true => (to.to_owned(), value),
        false => (name, value),
    };
    *map = std::mem::take(map).into_iter().map(renamed).collect();
}
