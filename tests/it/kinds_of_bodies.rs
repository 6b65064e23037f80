//! Bodies as programs and people send them, each with its expected response:
//! `tests/bodies/cases.json`.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::Value;

use crate::support::{TestApp, unique};

/// Words of a parser, of Rust or of Redis that no response may contain.
const WORDS: [&str; 14] = [
    "u64",
    "u32",
    "u16",
    "i64",
    "usize",
    "sequence",
    "invalid type",
    "expected value",
    "expected one of",
    "struct ",
    "column 0",
    "EOF",
    "trailing characters",
    "redis::",
];

#[track_caller]
fn is_plain(text: &str) {
    for word in WORDS {
        assert!(!text.contains(word), "{word:?} in {text}");
    }
}

fn bytes(case: &Value) -> Vec<u8> {
    match case["base64"].as_str() {
        Some(encoded) => BASE64_STANDARD.decode(encoded).unwrap(),
        None => case["text"].as_str().unwrap().as_bytes().to_vec(),
    }
}

/// Returns the difference between the response and the expected one, if any.
async fn fault(app: &TestApp, case: &Value) -> Option<String> {
    let stream = unique("kinds");
    let path = format!("/v1/streams/{stream}/entries");
    let query = case["query"].as_str().unwrap_or("_");
    let mut post = app
        .client
        .post(app.url(&format!("{path}?{query}")))
        .body(bytes(case));
    post = post.header("content-type", case["type"].as_str().unwrap());
    if let Some(encoding) = case["encoding"].as_str() {
        post = post.header("content-encoding", encoding);
    }
    let answer = app.send(post).await;
    let wrong = |what: &str| {
        Some(format!(
            "{}: {what}: {} {}",
            case["name"], answer.status, answer.body
        ))
    };
    if u64::from(answer.status) != case["status"].as_u64().unwrap() {
        return wrong("another status");
    }
    is_plain(&answer.body);
    let told = answer.json();
    for count in ["appended", "failed"] {
        if case.get(count).is_some() && told[count] != case[count] {
            return wrong("another count");
        }
    }
    let detail = told["detail"].as_str().unwrap_or_default();
    for part in case["told"].as_array().into_iter().flatten() {
        if !detail.contains(part.as_str().unwrap()) {
            return wrong("something is not told");
        }
    }
    if case["pointer"].is_string() && told["errors"][0]["pointer"] != case["pointer"] {
        return wrong("another pointer");
    }
    if case["fields"].is_array() {
        let read = app.get(&format!("{path}?after=0&pairs=true")).await.json();
        if read["entries"][0]["pairs"] != case["fields"] {
            return wrong(&format!("stored as {read}"));
        }
    }
    let there = app.get(&format!("/v1/streams/{stream}")).await.status == 200;
    let appended = matches!(answer.status, 200 | 201 | 207) && case["appended"] != 0;
    (there != appended).then(|| format!("{}: stored: {there}", case["name"]))
}

#[tokio::test]
async fn every_body_is_stored_as_what_it_is_or_refused_with_the_remedy() {
    let app = TestApp::start().await;
    let cases: Vec<Value> = serde_json::from_str(include_str!("../bodies/cases.json")).unwrap();
    let mut faults = Vec::new();
    for case in &cases {
        faults.extend(fault(&app, case).await);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Bodies that few or no operations accept.
const WRONG: [&str; 40] = [
    "",
    "{",
    "[]",
    "5",
    "null",
    "\"x\"",
    "{a:1}",
    "{\"a\":1}{\"a\":2}",
    "\u{feff}{",
    "{\"ids\":5}",
    "{\"ids\":[5]}",
    "{\"ids\":{}}",
    "{\"consumer\":5}",
    "{\"consumer\":\"w\",\"count\":\"x\"}",
    "{\"consumer\":\"w\",\"count\":-1}",
    "{\"consumer\":\"w\",\"count\":1.5}",
    "{\"consumer\":\"w\",\"count\":1e400}",
    "{\"consumer\":null}",
    "{\"receipts\":[null]}",
    "{\"maxlen\":\"x\"}",
    "{\"maxlen\":[]}",
    "{\"refs\":\"all\"}",
    "{\"refs\":5}",
    "{\"policy\":5}",
    "{\"policy\":{\"lease\":5}}",
    "{\"policy\":{\"backoff\":\"1s\"}}",
    "{\"retention\":[]}",
    "{\"retention\":{\"mode\":\"x\"}}",
    "{\"retention\":{\"maxlen\":-1}}",
    "{\"since\":true}",
    "{\"delay\":[]}",
    "{\"streams\":\"a\"}",
    "{\"streams\":[1]}",
    "{\"ttl\":5}",
    "{\"cookie\":\"yes\"}",
    "{\"wait\":20}",
    "{\"consumer\":\"w\",\"consumer\":\"w\"}",
    "{\"fields\":{\"a\":nul}}",
    "{\"entries\":5}",
    "{\"last_id\":5}",
];

#[tokio::test]
async fn no_answer_about_json_or_a_parameter_has_the_words_of_a_parser() {
    let app = TestApp::start().await;
    let stream = app.stream_of("words", 1).await;
    let group = format!("/v1/streams/{stream}/groups/g");
    app.put_json(&group, "{\"policy\":{}}").await;
    let posts = [
        "read",
        "ack",
        "nack",
        "reject",
        "extend",
        "claim",
        "autoclaim",
        "dead-letters/redrive",
    ];
    let mut calls: Vec<(&str, String)> =
        posts.map(|call| ("POST", format!("{group}/{call}"))).into();
    calls.extend(
        ["read", "ack", "nack", "reject", "extend"]
            .map(|call| ("POST", format!("/v1/groups/g/{call}"))),
    );
    calls.push(("POST", format!("/v1/streams/{stream}/trim")));
    calls.push(("POST", format!("/v1/streams/{stream}/entries")));
    calls.push(("POST", "/v1/tickets".to_owned()));
    for method in ["PUT", "PATCH"] {
        calls.push((method, format!("/v1/streams/{stream}")));
        calls.push((method, format!("{group}x")));
    }
    let mut refused = 0;
    for (method, path) in &calls {
        for body in WRONG {
            let request = app.client.request(method.parse().unwrap(), app.url(path));
            let answer = app
                .send(
                    request
                        .header("content-type", "application/json")
                        .body(body),
                )
                .await;
            assert!(
                answer.status < 500 && answer.status != 415,
                "{method} {path} {body}: {answer:?}"
            );
            refused += usize::from(answer.status >= 400);
            is_plain(&answer.body);
        }
        for body in [
            "count=x",
            "ids",
            "maxlen=-1",
            "refs=all",
            "since=x",
            "wait=5",
            "consumer=%ff",
            "create=maybe",
        ] {
            let request = app.client.request(method.parse().unwrap(), app.url(path));
            let form = request.header("content-type", "application/x-www-form-urlencoded");
            is_plain(&app.send(form.body(body)).await.body);
        }
    }
    assert!(refused > 500, "{refused}");
    for query in [
        "limit=x",
        "limit=-1",
        "limit=99999999999999999999",
        "order=up",
        "gap=no",
        "pairs=maybe",
        "since=x",
        "wait=5",
        "after=x",
        "max_bytes=1.5",
        "limit=1&limit=2",
        "after=%ff",
    ] {
        let answer = app
            .get(&format!("/v1/streams/{stream}/entries?{query}"))
            .await;
        assert_eq!(answer.status, 400, "{query}");
        is_plain(&answer.body);
    }
    for (name, value) in [
        ("if-match", "1"),
        ("if-none-match", "1"),
        ("idempotency-key", ""),
        ("if-match", "\"x\""),
    ] {
        let path = app.url(&format!("/v1/streams/{stream}/entries"));
        let form = app
            .client
            .post(path)
            .header("content-type", "application/x-www-form-urlencoded");
        let answer = app.send(form.header(name, value).body("a=1")).await;
        assert_eq!(answer.status, 400, "{name}: {value}");
        is_plain(&answer.body);
    }
}
