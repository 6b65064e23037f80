//! `CloudEvents` as the official SDK writes and reads them, and events that it would never write.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Request};
use cloudevents::binding::http::to_event;
use cloudevents::{Event, EventBuilder as _, EventBuilderV10};
use deadpool_redis::redis::Value as Redis;

use crate::support::redis::shared;
use crate::support::{Answer, PATIENCE, TestApp, unique};

const JSON: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn entries(stream: &str) -> String {
    format!("/v1/streams/{stream}/entries")
}

async fn post(app: &TestApp, path: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Answer {
    let request = app
        .client
        .post(app.url(path))
        .header("content-type", content_type);
    app.send(request.body(body.into())).await
}

/// Posts in binary mode, with the four required attributes and these headers.
async fn post_binary(app: &TestApp, path: &str, more: &[(&str, &str)], body: &[u8]) -> Answer {
    let request = app
        .client
        .post(app.url(path))
        .header("ce-specversion", "1.0");
    let request = request
        .header("ce-id", "1")
        .header("ce-source", "/s")
        .header("ce-type", "t");
    let add = |request: reqwest::RequestBuilder, (name, value): &(&str, &str)| {
        request.header(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap())
    };
    app.send(more.iter().fold(request, add).body(body.to_vec()))
        .await
}

/// Returns the fields of all entries, as stored in Redis.
async fn stored(stream: &str) -> Vec<Pairs> {
    let bytes = |value: &Redis| match value {
        Redis::BulkString(bytes) => bytes.clone(),
        other => panic!("{other:?}"),
    };
    let list = |value: &Redis| match value {
        Redis::Array(list) => list.clone(),
        other => panic!("{other:?}"),
    };
    let range = shared().await.command(&["XRANGE", stream, "-", "+"]).await;
    let of = |entry: &Redis| {
        let flat = list(&list(entry)[1]);
        flat.chunks(2)
            .map(|pair| (bytes(&pair[0]), bytes(&pair[1])))
            .collect()
    };
    list(&range).iter().map(of).collect()
}

fn pairs(expected: &[(&str, &[u8])]) -> Pairs {
    expected
        .iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec()))
        .collect()
}

/// Returns what the SDK sends in binary mode.
fn in_binary(event: &Event) -> (HeaderMap, Vec<u8>) {
    let request = Request::<Option<Vec<u8>>>::try_from(event.clone()).unwrap();
    let (parts, body) = request.into_parts();
    (parts.headers, body.unwrap_or_default())
}

/// Restores an event like a consumer: fields become headers and body as in the HTTP binding, and
/// the SDK reads them.
fn again(fields: &Pairs) -> Event {
    let (mut headers, mut data) = (HeaderMap::new(), Vec::new());
    for (name, value) in fields {
        let name = String::from_utf8(name.clone()).unwrap();
        if name == "data" {
            data.clone_from(value);
            continue;
        }
        let header = HeaderName::try_from(name.replace("ce_", "ce-")).unwrap();
        headers.insert(header, HeaderValue::from_bytes(value).unwrap());
    }
    to_event(&headers, data).unwrap()
}

fn events() -> Vec<Event> {
    let event = |id: u32| {
        EventBuilderV10::new()
            .id(id.to_string())
            .source("/shop/eu")
            .ty("com.example.order.paid")
    };
    let bytes: Vec<u8> = (0..=255).cycle().take(1000).collect();
    let order = serde_json::json!({"total": 9.5, "lines": [null, {"sku": "ä\u{2028}"}], "a": {}});
    let full = event(1)
        .subject("order/4711")
        .time("2026-11-21T10:35:07.123456Z");
    let full = full
        .extension("count", -5)
        .extension("urgent", true)
        .extension("zone", "eu-1");
    let built = [
        event(0).build(),
        full.data_with_schema("application/json", "http://schemas.example/order", order)
            .build(),
        event(2).data("application/octet-stream", bytes).build(),
        event(3)
            .data("text/plain; charset=utf-8", "a\r\n\"b\"\u{85}🎈")
            .build(),
        event(4)
            .data("application/vnd.example+json", serde_json::json!("text"))
            .build(),
    ];
    built.into_iter().map(Result::unwrap).collect()
}

#[tokio::test]
async fn what_the_sdk_sends_the_sdk_can_read_again() {
    let app = TestApp::start().await;
    for event in events() {
        let (headers, body) = in_binary(&event);
        // Attributes are text in headers and in fields, so the event comes back in this form.
        let expected = to_event(&headers, body.clone()).unwrap();

        let stream = unique("binary");
        let request = app
            .client
            .post(app.url(&entries(&stream)))
            .headers(headers)
            .body(body);
        let answer = app.send(request).await;
        assert_eq!(answer.status, 201, "{event:?}: {}", answer.body);
        let binary = stored(&stream).await;
        assert_eq!(again(&binary[0]), expected);

        let stream = unique("structured");
        let json = serde_json::to_string(&event).unwrap();
        let answer = post(&app, &entries(&stream), JSON, json).await;
        assert_eq!(answer.status, 201, "{event:?}: {}", answer.body);
        assert_eq!(again(&stored(&stream).await[0]), expected);
    }
}

#[tokio::test]
async fn a_batch_of_the_sdk_is_appended_in_order() {
    let app = TestApp::start().await;
    let stream = unique("batch");
    let json = serde_json::to_string(&events()).unwrap();
    let answer = post(&app, &entries(&stream), BATCH, json).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    assert_eq!(answer.json()["appended"], 5);
    let stored = stored(&stream).await;
    let expected = events()
        .into_iter()
        .map(|event| in_binary(&event))
        .map(|(headers, body)| to_event(&headers, body));
    let expected: Vec<Event> = expected.map(Result::unwrap).collect();
    assert_eq!(stored.iter().map(again).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_batch_is_refused_whole_and_pointed_into() {
    let app = TestApp::start().await;
    let stream = unique("whole");
    let good = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
    for (body, pointer) in [
        (format!("[{good},{{}}]"), "/1/specversion"),
        (format!("[{good},{}]", good.replace("/s", "")), "/1/source"),
        (format!("[{good},1]"), "/1"),
        (good.to_owned(), ""),
        ("[]".to_owned(), ""),
    ] {
        let problem = post(&app, &entries(&stream), BATCH, body.clone()).await;
        let problem = problem.is_problem(422, "invalid-fields");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
        assert_eq!(problem["side_effects"], "none");
    }
    app.get(&format!("/v1/streams/{stream}"))
        .await
        .is_problem(404, "stream-not-found");
}

#[tokio::test]
async fn json_data_is_stored_as_it_was_written_and_shown_as_payload() {
    let app = TestApp::start().await;
    let stream = unique("written");
    let data = r#"{ "z":1.50, "a":[1e400, "\u00e4"] }"#;
    let json = format!(
        r#"{{"data" : {data} ,"type":"t","id":"1","source":"/s","specversion":"1.0","a1":null}}"#
    );
    let charset = format!("{JSON}; charset=UTF-8");
    assert_eq!(
        post(&app, &entries(&stream), &charset, json).await.status,
        201
    );
    let expected: [(&str, &[u8]); 6] = [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"1"),
        ("ce_source", b"/s"),
        ("ce_type", b"t"),
        ("content-type", b"application/json"),
        ("data", data.as_bytes()),
    ];
    assert_eq!(stored(&stream).await, [pairs(&expected)]);
    let read = app
        .get(&format!("{}?after=0&payload=data", entries(&stream)))
        .await
        .json();
    assert_eq!(read["entries"][0]["payload"], data);
}

#[tokio::test]
async fn headers_are_decoded_and_any_body_is_data() {
    let app = TestApp::start().await;
    let stream = unique("headers");
    let more = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("ce-subject", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
        ("CE-Quoted", "\"a \\\"b\\\"\""),
        ("ce-raw", "ümläut"),
        ("x-other", "is none"),
    ];
    assert_eq!(
        post_binary(&app, &entries(&stream), &more, b"{}\xff=1&")
            .await
            .status,
        201
    );
    // Without a body and a type, the entry gets neither.
    assert_eq!(
        post_binary(&app, &entries(&stream), &[], b"").await.status,
        201
    );
    let of_event: [(&str, &[u8]); 4] = [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"1"),
        ("ce_source", b"/s"),
        ("ce_type", b"t"),
    ];
    let first: [(&str, &[u8]); 5] = [
        ("ce_quoted", b"a \"b\""),
        ("ce_raw", "ümläut".as_bytes()),
        ("ce_subject", "Euro € 😀".as_bytes()),
        ("content-type", b"application/x-www-form-urlencoded"),
        ("data", b"{}\xff=1&"),
    ];
    let first = pairs(&[&of_event[..], &first].concat());
    assert_eq!(stored(&stream).await, [first, pairs(&of_event)]);
}

#[tokio::test]
async fn what_is_no_event_is_pointed_at_and_nothing_is_appended() {
    let app = TestApp::start().await;
    let stream = unique("refused");
    let path = entries(&stream);
    for (members, pointer) in [
        (r#""specversion":"0.3""#, "/specversion"),
        (r#""specversion":1.0"#, "/specversion"),
        (r#""specversion":null"#, "/specversion"),
        (r#""specversion":"1.0","id":"""#, "/id"),
        (
            r#""specversion":"1.0","data":1,"data_base64":"MQ==""#,
            "/data_base64",
        ),
        (r#""specversion":"1.0","data_base64":"!""#, "/data_base64"),
        (
            r#""specversion":"1.0","data":{},"datacontenttype":"text/plain""#,
            "/data",
        ),
        (
            r#""specversion":"1.0","time":"2026-02-30T00:00:00Z""#,
            "/time",
        ),
        (r#""specversion":"1.0","Upper":"x""#, "/Upper"),
        (r#""specversion":"1.0","a~/b":"x""#, "/a~0~1b"),
        (r#""specversion":"1.0","x":1.5"#, "/x"),
        (r#""specversion":"1.0","x":{"deep":[]}"#, "/x"),
        (r#""specversion":"1.0","x":"1","x":"2""#, "/x"),
    ] {
        let body = format!(r#"{{"type":"t","source":"/s",{members}}}"#);
        let body = match members.contains("\"id\"") {
            true => body,
            false => body.replacen('{', r#"{"id":"1","#, 1),
        };
        let problem = post(&app, &path, JSON, body)
            .await
            .is_problem(422, "invalid-fields");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{members}");
    }
    for (name, value) in [
        ("ce-type", "another"),
        ("ce-time", "now"),
        ("ce-datacontenttype", "text/plain"),
        ("ce-snake_case", "x"),
        ("ce-x", "%C0%A0"),
        ("ce-x", "%0A"),
        ("content-type", "text"),
    ] {
        let problem = post_binary(&app, &path, &[(name, value)], b"data").await;
        let problem = problem.is_problem(422, "invalid-fields");
        assert_eq!(problem["errors"][0]["pointer"], name, "{value}");
    }
    for (version, header) in [
        ("0.3", "ce-specversion"),
        ("", "ce-specversion"),
        ("1.0", "ce-id"),
    ] {
        let request = app
            .client
            .post(app.url(&path))
            .header("ce-specversion", version);
        let problem = app
            .send(request.body("data"))
            .await
            .is_problem(422, "invalid-fields");
        assert_eq!(problem["errors"][0]["pointer"], header, "{version:?}");
    }
    for not_json in ["", "{", "\u{feff}{"] {
        post(&app, &path, JSON, not_json)
            .await
            .is_problem(400, "invalid-request");
        post(&app, &path, BATCH, not_json)
            .await
            .is_problem(400, "invalid-request");
    }
    for other in ["application/cloudevents", "application/cloudevents+avro"] {
        // The headers of binary mode do not help: this type says that the body is the event.
        let answer = post_binary(&app, &path, &[("content-type", other)], b"data").await;
        answer.is_problem(415, "unsupported-media-type");
    }
    app.get(&format!("/v1/streams/{stream}"))
        .await
        .is_problem(404, "stream-not-found");
}

#[tokio::test]
async fn a_payload_stays_a_payload_whatever_it_is() {
    let app = TestApp::start().await;
    let stream = unique("payload");
    let path = format!("{}?payload=doc", entries(&stream));
    for content_type in [JSON, BATCH, "application/cloudevents+avro"] {
        assert_eq!(
            post(&app, &path, content_type, "no event").await.status,
            201
        );
    }
    let answer = post_binary(&app, &path, &[("ce-time", "no time")], b"no event").await;
    assert_eq!(answer.status, 201);
    let of = |content_type: &str| {
        pairs(&[
            ("doc", b"no event"),
            ("content-type", content_type.as_bytes()),
        ])
    };
    let untyped = pairs(&[("doc", b"no event")]);
    let expected = [
        of(JSON),
        of(BATCH),
        of("application/cloudevents+avro"),
        untyped,
    ];
    assert_eq!(stored(&stream).await, expected);
}

#[tokio::test]
async fn ids_conditions_and_keys_hold_for_events_too() {
    let app = TestApp::start().await;
    let stream = unique("keys");
    let path = entries(&stream);
    let json = r#"{"data":"x","zone":"eu","specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
    let with = |name: &'static str, value: &'static str| {
        let request = app.client.post(app.url(&path)).header("content-type", JSON);
        app.send(request.header(name, value).body(json))
    };
    let keyed = with("idempotency-key", "k").await;
    assert_eq!(keyed.status, 201);
    // The same event in another mode is the same entry.
    let more = [
        ("ce-zone", "eu"),
        ("content-type", "application/json"),
        ("idempotency-key", "k"),
    ];
    let again = post_binary(&app, &path, &more, b"\"x\"").await;
    assert_eq!((again.status, &again.body), (200, &keyed.body));
    post_binary(&app, &path, &more, b"\"y\"")
        .await
        .is_problem(422, "idempotency-key-reused");

    with("if-match", "\"1-0\"")
        .await
        .is_problem(412, "precondition-failed");
    let chosen = post(&app, &format!("{path}?id=9999999999999-7"), JSON, json).await;
    assert_eq!(chosen.json()["id"], "9999999999999-7");
    assert_eq!(stored(&stream).await.len(), 2);
}

/// Headers that browsers ask for: the attributes of the specification, and an extension.
const ATTRIBUTES: &str = "ce-dataschema,ce-id,ce-myextension,ce-source,ce-specversion,ce-subject,ce-time,ce-type,content-type";

#[tokio::test]
async fn pages_of_listed_origins_may_send_the_attributes_in_headers() {
    let app = TestApp::start_with(|settings| {
        settings.api.origins = vec!["https://app.example".to_owned()];
    })
    .await;
    let request = app
        .client
        .request(reqwest::Method::OPTIONS, app.url(&entries("s")));
    let request = request
        .header("origin", "https://app.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", ATTRIBUTES);
    let answer = app.send(request).await;
    assert_eq!(answer.header("access-control-allow-headers"), ATTRIBUTES);
}

/// Runs a client that checks what it reads back.
async fn round_trip(program: &str, script: &str) {
    let app = TestApp::start().await;
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/target/clients");
    let script = format!("{}/tests/clients/{script}", env!("CARGO_MANIFEST_DIR"));
    let run = tokio::process::Command::new(program)
        .args([&script, &app.url(""), &unique("sdk")])
        .current_dir(dir)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(3 * PATIENCE, run)
        .await
        .expect("it ends")
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn the_sdk_for_javascript_reads_what_it_sent_in_every_mode_and_of_every_type() {
    round_trip("node", "cloudevents.mjs").await;
}

#[tokio::test]
async fn the_sdk_for_python_reads_what_it_sent_in_every_mode_and_of_every_type() {
    let python = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/target/clients/python/bin/python"
    );
    round_trip(python, "cloudevents.py").await;
}

async fn get_as(app: &TestApp, path: &str, accept: &str) -> Answer {
    app.send(app.client.get(app.url(path)).header("accept", accept))
        .await
}

#[tokio::test]
async fn what_was_not_appended_as_an_event_is_read_as_an_event_about_an_entry() {
    let app = TestApp::start().await;
    let stream = unique("plain/stream");
    let name = crate::support::encode(&stream);
    let path = entries(&name);
    app.post_form(&format!("{path}?id=1795232709004-0"), "user=alice&n=1")
        .await;
    post(&app, &path, "image/png", b"\x89PNG".to_vec()).await;
    post(
        &app,
        &format!("{path}?payload=data"),
        "application/json",
        r#"{"a":1}"#,
    )
    .await;
    let answer = get_as(&app, &format!("{path}?after=0&limit=2"), BATCH).await;
    assert_eq!(answer.header("content-type"), BATCH);
    let events = answer.json();
    let expected = serde_json::json!({
        "specversion": "1.0", "id": "1795232709004-0", "source": format!("/v1/streams/{}", stream.replace('/', "%2F")),
        "type": "streamgate.entry", "time": "2026-11-21T03:45:09.004Z",
        "datacontenttype": "application/json", "data": {"user": "alice", "n": "1"},
    });
    assert_eq!(events[0], expected);
    assert_eq!(
        (&events[1]["datacontenttype"], &events[1]["data_base64"]),
        (&"image/png".into(), &"iVBORw==".into())
    );
    // `Link` leads to the next page.
    let link = answer
        .header("link")
        .split(['<', '>'])
        .nth(1)
        .unwrap()
        .to_owned();
    let rest = get_as(&app, &link, BATCH).await.json();
    assert_eq!(
        (rest.as_array().unwrap().len(), &rest[0]["data"]),
        (1, &serde_json::json!({"a": 1}))
    );
    let one = get_as(&app, &format!("{path}/1795232709004-0"), JSON).await;
    assert_eq!((one.header("content-type"), one.json()), (JSON, expected));
    // Events of several streams carry the name of their stream.
    let path = format!("/v1/events?stream={name}@0&as=cloudevents");
    let mut sse = app.follow(&path).await;
    sse.expect("$open").await;
    let first = sse.expect("message").await;
    assert_eq!(first.json()["streamgatestream"], stream);
    assert!(first.id.is_some());
}

#[tokio::test]
async fn deliveries_of_several_streams_are_events_that_can_be_settled() {
    let app = TestApp::start().await;
    let (a, b) = (unique("a"), unique("b"));
    let group = unique("g");
    for stream in [&a, &b] {
        app.publish(stream, "1").await;
        let made = app
            .put_json(
                &format!("/v1/streams/{stream}/groups/{group}"),
                r#"{"policy":{"lease":"30s"}}"#,
            )
            .await;
        assert_eq!(made.status, 201);
    }
    let read = app
        .client
        .post(app.url(&format!("/v1/groups/{group}/read")));
    let read = read
        .header("accept", BATCH)
        .header("content-type", "application/json");
    let body = format!(r#"{{"consumer":"w","streams":["{a}","{b}"]}}"#);
    let events = app.send(read.body(body)).await.json();
    let of = |name: &str| -> Vec<String> {
        let events = events.as_array().unwrap().iter();
        events
            .map(|event| event[name].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(of("streamgatestream"), [a, b]);
    let body = serde_json::json!({"receipts": of("streamgatereceipt")}).to_string();
    let acked = app
        .post_json(&format!("/v1/groups/{group}/ack"), &body)
        .await
        .json();
    assert!(
        acked.to_string().matches("\"acknowledged\"").count() >= 2,
        "{acked}"
    );
}

#[tokio::test]
async fn an_event_has_its_own_form() {
    let app = TestApp::start().await;
    let stream = app.stream_of("form", 1).await;
    for query in ["payload=n", "json=true", "pairs=true", "gap=skip"] {
        let path = format!("{}?after=0&{query}", entries(&stream));
        get_as(&app, &path, BATCH)
            .await
            .is_problem(400, "invalid-request");
    }
    let path = format!("/v1/streams/{stream}/events?as=cloudevents&json=true");
    app.get(&path).await.is_problem(400, "invalid-request");
    app.get(&format!("/v1/streams/{stream}/events?as=avro"))
        .await
        .is_problem(400, "invalid-request");
}
