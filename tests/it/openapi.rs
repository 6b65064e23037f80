//! The OpenAPI document: as committed, whole, and true.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::TestApp;

pub fn document() -> Value {
    serde_json::from_str(&streamgate::http::openapi::text()).unwrap()
}

pub fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let of = |(path, item): (&String, &Value)| -> Vec<(String, String, Value)> {
        let item = item.as_object().unwrap().clone();
        item.into_iter()
            .map(|(method, operation)| (path.clone(), method, operation))
            .collect()
    };
    paths.iter().flat_map(of).collect()
}

#[test]
fn the_committed_document_is_the_one_the_code_makes() {
    let committed = include_str!("../../openapi/openapi.json");
    assert!(
        committed == streamgate::http::openapi::text(),
        "it has changed: run `make openapi` and commit the result"
    );
}

#[tokio::test]
async fn the_served_document_is_the_committed_one() {
    let app = TestApp::start().await;
    let served = app.get("/openapi.json").await;
    assert_eq!(served.header("content-type"), "application/json");
    assert!(served.body == include_str!("../../openapi/openapi.json"));
}

#[test]
fn every_reference_points_at_something() {
    fn walk(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| walk(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| walk(value, found)),
            _ => {}
        }
    }
    let document = document();
    let mut references = BTreeSet::new();
    walk(&document, &mut references);
    assert!(references.len() > 10);
    for reference in references {
        let pointer = reference
            .strip_prefix('#')
            .expect("a reference within the document");
        assert!(
            document.pointer(pointer).is_some(),
            "{reference} points at nothing"
        );
    }
}

#[test]
fn every_operation_is_described_named_and_tells_its_problems() {
    let document = document();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut names = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let what = format!("{method} {path}");
        assert!(
            operation["summary"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{what} has no summary"
        );
        assert!(
            operation["description"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{what} has no description"
        );
        assert!(
            names.insert(operation["operationId"].as_str().unwrap().to_owned()),
            "{what} shares its name"
        );
        let responses = operation["responses"].as_object().unwrap();
        for (status, response) in responses {
            assert!(
                response["description"]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
                "{what} {status}"
            );
            if status.starts_with(['4', '5']) {
                let schema = &response["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(schema, "#/components/schemas/Problem", "{what} {status}");
            }
        }
        for status in ["400", "403", "500", "503"] {
            assert!(
                responses.contains_key(status),
                "{what} does not tell its {status}"
            );
        }
        let expected: Vec<&str> = path
            .split('{')
            .skip(1)
            .filter_map(|part| part.split('}').next())
            .collect();
        let parameters = operation["parameters"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        for name in expected {
            let told = parameters
                .iter()
                .any(|p| p["in"] == "path" && p["name"] == name && p["required"] == true);
            assert!(told, "{what} does not tell its {name}");
        }
        for parameter in parameters
            .iter()
            .filter(|parameter| parameter["in"] == "query")
        {
            let needed = matches!(
                (
                    operation["operationId"].as_str().unwrap(),
                    parameter["name"].as_str().unwrap()
                ),
                ("push_entries", "consumer") | ("read_many", "stream") | ("delete_entries", "id")
            );
            assert_eq!(parameter["required"] == true, needed, "{what}: {parameter}");
            assert!(
                parameter["description"]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
                "{what}: {parameter}"
            );
        }
    }
}

#[test]
fn handlers_give_operations_their_names() {
    let sources: String = crate::tidy::sources("src/http")
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    for (path, method, operation) in operations(&document()) {
        let name = operation["operationId"].as_str().unwrap();
        assert!(
            sources.contains(&format!("pub async fn {name}(")),
            "{method} {path}: no handler {name}"
        );
    }
}

#[tokio::test]
async fn every_documented_operation_is_routed() {
    let app = TestApp::start().await;
    for (path, method, _) in operations(&document()) {
        // A name no stream can have: routed calls get as far as refusing it.
        let path = path
            .replace("{stream}", "%7B")
            .replace("{group}", "g")
            .replace("{id}", "1-0")
            .replace("{consumer}", "c");
        let method = reqwest::Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let answer = app
            .send(app.client.request(method.clone(), app.url(&path)))
            .await;
        assert!(
            !matches!(answer.status, 404 | 405),
            "{method} {path}: {}",
            answer.body
        );
        if path.contains("%7B") {
            answer.is_problem(400, "invalid-name");
        }
    }
}

#[tokio::test]
async fn every_problem_that_is_documented_is_one_that_exists() {
    let codes: BTreeSet<&str> = streamgate::http::ErrorCode::ALL
        .iter()
        .map(|code| code.as_str())
        .collect();
    for (path, method, operation) in operations(&document()) {
        for (status, response) in operation["responses"].as_object().unwrap() {
            if !status.starts_with(['4', '5']) {
                continue;
            }
            for part in response["description"].as_str().unwrap().split("; `") {
                let code = part.trim_start_matches('`').split('`').next().unwrap();
                assert!(codes.contains(code), "{method} {path} {status}: {code}");
            }
        }
    }
}

#[tokio::test]
async fn the_docs_page_needs_nothing_from_elsewhere() {
    let app = TestApp::start().await;
    let page = app.get("/docs/").await;
    assert_eq!(page.status, 200);
    let sources = page
        .body
        .split(['"', '\''])
        .filter(|text| text.contains(".js") || text.contains(".css"));
    let mut count = 0;
    for source in sources {
        assert!(!source.contains("//"), "{source} comes from elsewhere");
        let file = app
            .get(&format!("/docs/{}", source.trim_start_matches("./")))
            .await;
        assert_eq!(file.status, 200, "{source}");
        count += 1;
    }
    assert!(count >= 3, "{}", page.body);
    let config = app.get("/docs/docs.js").await.body;
    assert!(config.contains("/openapi.json"), "{config}");
}

#[test]
fn bodies_and_answers_are_such_as_generators_of_clients_can_use() {
    fn walk(value: &Value, what: &str) {
        match value {
            Value::Object(map) => {
                assert_ne!(
                    map.get("uniqueItems"),
                    Some(&Value::Bool(true)),
                    "{what}: forms repeat"
                );
                let choice = map.get("oneOf").and_then(Value::as_array);
                assert!(
                    choice.is_none_or(|choice| choice.len() > 1),
                    "{what}: a choice of one"
                );
                map.iter()
                    .for_each(|(name, value)| walk(value, &format!("{what}/{name}")));
            }
            Value::Array(list) => list.iter().for_each(|value| walk(value, what)),
            _ => {}
        }
    }
    let document = document();
    walk(&document, "");
    assert!(document["servers"][0]["url"].as_str().is_some());
    for (path, method, operation) in operations(&document) {
        let what = format!("{method} {path}");
        if let Some(content) = operation["requestBody"]["content"].as_object() {
            assert_eq!(content.keys().next().unwrap(), "application/json", "{what}");
            for media_type in content.values() {
                assert_ne!(
                    media_type["schema"]["type"], "array",
                    "{what}: a body is no list"
                );
            }
            assert!(
                !content["application/json"]["example"].is_null(),
                "{what} has no example"
            );
        }
        for (status, response) in operation["responses"].as_object().unwrap() {
            let content = response["content"].as_object();
            let mixed = content.is_some_and(|content| {
                content.contains_key("application/json") && content.len() > 1
            });
            assert!(
                !mixed,
                "{what} {status}: a client that accepts all of them gets any"
            );
        }
        let plain = |name: &Value| {
            let name = name.as_str().unwrap().to_lowercase();
            name.chars()
                .filter(char::is_ascii_alphanumeric)
                .collect::<String>()
        };
        let parameters = operation["parameters"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let names: BTreeSet<String> = parameters.iter().map(|p| plain(&p["name"])).collect();
        assert_eq!(
            names.len(),
            parameters.len(),
            "{what}: names that some languages spell alike"
        );
    }
    let binary = &document["components"]["schemas"]["OctetStream"];
    assert_eq!(
        (&binary["type"], &binary["format"]),
        (&"string".into(), &"binary".into())
    );
}
