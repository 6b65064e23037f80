//! Entries are read as they were written: any bytes, in any order, with repeated names, through
//! every write and read operation, and also by native clients.

use std::sync::OnceLock;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use deadpool_redis::redis::Value as Redis;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::redis::shared;
use crate::support::{TestApp, unique};

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// One gateway for all cases. Starting one for each would take most of the time.
struct Place {
    runtime: tokio::runtime::Runtime,
    app: TestApp,
    stream: String,
}

fn place() -> &'static Place {
    static PLACE: OnceLock<Place> = OnceLock::new();
    PLACE.get_or_init(|| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let app = runtime.block_on(TestApp::start());
        Place {
            runtime,
            app,
            stream: unique("bytes"),
        }
    })
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let awkward = prop::sample::select(vec![
        "", "a", "b", "0", "{", "[1]", "null", "\"", "\\", "\r\n", "\0", "+ %", "&=", "\u{85}",
        "\u{2028}", "\u{feff}", "base64", "payload", "💧",
    ]);
    prop_oneof![
        3 => awkward.prop_map(|text| text.as_bytes().to_vec()),
        2 => any::<String>().prop_map(String::into_bytes),
        2 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::collection::vec(any::<u8>(), 1000..5000),
    ]
}

fn fields() -> impl Strategy<Value = Fields> {
    prop::collection::vec((bytes(), bytes()), 1..12)
}

fn base64(bytes: &[u8]) -> Value {
    json!({ "base64": BASE64_STANDARD.encode(bytes) })
}

/// Returns a JSON string if possible, else base64.
fn text(bytes: &[u8]) -> Value {
    std::str::from_utf8(bytes).map_or_else(|_| base64(bytes), Value::from)
}

fn pairs(fields: &Fields, show: fn(&[u8]) -> Value) -> String {
    let list: Value = fields
        .iter()
        .map(|(name, value)| json!([show(name), show(value)]))
        .collect();
    format!(r#""pairs":{list}"#)
}

/// Returns `"fields":{…}`, or `None` if an object cannot hold the fields.
fn object(fields: &Fields) -> Option<String> {
    let mut members = Vec::new();
    for (index, (name, value)) in fields.iter().enumerate() {
        if fields[..index].iter().any(|(earlier, _)| earlier == name) {
            return None;
        }
        let name = std::str::from_utf8(name).ok()?;
        members.push(format!("{}:{}", Value::from(name), text(value)));
    }
    Some(format!(r#""fields":{{{}}}"#, members.join(",")))
}

fn form(fields: &Fields) -> String {
    let encode = |bytes: &[u8]| percent_encode(bytes, NON_ALPHANUMERIC).to_string();
    let pair = |(name, value): &(Vec<u8>, Vec<u8>)| format!("{}={}", encode(name), encode(value));
    fields.iter().map(pair).collect::<Vec<_>>().join("&")
}

/// Returns whether a form can hold the fields: UTF-8, and names of 1 to 256 bytes.
fn is_of_forms(fields: &Fields) -> bool {
    let is_text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
    fields
        .iter()
        .all(|(name, value)| (1..=256).contains(&name.len()) && is_text(name) && is_text(value))
}

/// Writes the fields in every supported way and returns the ids.
async fn write(app: &TestApp, path: &str, fields: &Fields) -> Vec<String> {
    let entries: Vec<String> = [pairs(fields, base64), pairs(fields, text)]
        .into_iter()
        .chain(object(fields))
        .map(|members| format!("{{{members}}}"))
        .collect();
    let mut ids = Vec::new();
    for entry in &entries {
        let answer = app.post_json(path, entry).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        ids.push(answer.json()["id"].as_str().unwrap().to_owned());
    }
    let answer = app.post_form(path, &form(fields)).await;
    if is_of_forms(fields) {
        assert_eq!(answer.status, 201, "{}", answer.body);
        ids.push(answer.json()["id"].as_str().unwrap().to_owned());
    } else {
        answer.is_problem(415, "unsupported-media-type");
    }
    let batch = app
        .post_json(path, &format!(r#"{{"entries":[{}]}}"#, entries.join(",")))
        .await;
    assert_eq!(batch.status, 201, "{}", batch.body);
    let results = batch.json()["results"].as_array().unwrap().clone();
    ids.extend(
        results
            .iter()
            .map(|result| result["id"].as_str().unwrap().to_owned()),
    );
    ids
}

/// Returns an entry as a native client reads it.
async fn raw(stream: &str, id: &str) -> Fields {
    let reply = shared().await.command(&["XRANGE", stream, id, id]).await;
    let Redis::Array(mut entries) = reply else {
        panic!("{reply:?}")
    };
    let Some(Redis::Array(mut entry)) = entries.pop() else {
        panic!("{id} is not there")
    };
    let Some(Redis::Array(flat)) = entry.pop() else {
        panic!("{id} has no fields")
    };
    let bytes = |value: &Redis| match value {
        Redis::BulkString(bytes) => bytes.clone(),
        other => panic!("{other:?}"),
    };
    flat.chunks(2)
        .map(|pair| (bytes(&pair[0]), bytes(&pair[1])))
        .collect()
}

async fn check(fields: Fields) {
    let Place { app, stream, .. } = place();
    let path = format!("/v1/streams/{stream}/entries");
    let (as_pairs, as_shown) = {
        let pairs = pairs(&fields, text);
        (pairs.clone(), object(&fields).unwrap_or(pairs))
    };
    let ids = write(app, &path, &fields).await;
    for id in &ids {
        assert_eq!(raw(stream, id).await, fields, "{id}");
        let shown = app.get(&format!("{path}/{id}")).await.body;
        assert_eq!(shown, format!("{{\"id\":\"{id}\",{as_shown}}}\n"));
        let shown = app.get(&format!("{path}/{id}?pairs=true")).await.body;
        assert_eq!(shown, format!("{{\"id\":\"{id}\",{as_pairs}}}\n"));
    }
    let page = app.get(&format!("{path}?last={}", ids.len())).await;
    let entries: Vec<String> = ids
        .iter()
        .map(|id| format!(r#"{{"id":"{id}",{as_shown}}}"#))
        .collect();
    assert!(
        page.body
            .starts_with(&format!(r#"{{"entries":[{}],"next""#, entries.join(","))),
        "{}",
        page.body
    );
    let mut events = app
        .follow(&format!("/v1/streams/{stream}/events?last={}", ids.len()))
        .await;
    events.expect("$open").await;
    for id in &ids {
        let expected = format!(r#"{{"stream":"{stream}","id":"{id}",{as_shown}}}"#);
        let expected: Value = serde_json::from_str(&expected).unwrap();
        assert_eq!(events.expect("message").await.json(), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn every_entry_is_read_as_it_was_written(fields in fields()) {
        place().runtime.block_on(check(fields));
    }
}
