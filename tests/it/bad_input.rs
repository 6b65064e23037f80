//! Invalid and malicious requests, each with its expected response.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{TestApp, eventually, unique};

fn entries(stream: &str) -> String {
    format!("/v1/streams/{stream}/entries")
}

/// Sends raw bytes and reads the response to its end.
async fn raw(app: &TestApp, request: &str) -> String {
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer))
        .await
        .unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn json_that_is_no_entry_is_pointed_at_and_nothing_is_appended() {
    let app = TestApp::start().await;
    let stream = unique("json");
    for (body, status, code, pointer) in [
        ("{", 400, "invalid-request", None),
        ("", 400, "invalid-request", None),
        ("{\"fields\":{\"a\":1}} x", 400, "invalid-request", None),
        ("\"text\"", 422, "invalid-fields", Some("")),
        ("[]", 422, "invalid-fields", Some("")),
        (r#"{"user":"alice"}"#, 422, "invalid-fields", Some("")),
        (r#"{"fields":{}}"#, 422, "invalid-fields", Some("")),
        (
            r#"{"fields":{"a":null}}"#,
            422,
            "invalid-fields",
            Some("/fields/a"),
        ),
        (
            r#"{"fields":{"a":{"b":1}}}"#,
            422,
            "invalid-fields",
            Some("/fields/a"),
        ),
        (
            r#"{"fields":{"a":[1]}}"#,
            422,
            "invalid-fields",
            Some("/fields/a"),
        ),
        (r#"{"fields":"a"}"#, 422, "invalid-fields", Some("/fields")),
        (
            r#"{"fields":{"a":"1"},"id":"x"}"#,
            400,
            "invalid-id",
            Some("/id"),
        ),
    ] {
        let problem = app
            .post_json(&entries(&stream), body)
            .await
            .is_problem(status, code);
        if let Some(pointer) = pointer {
            assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
        }
        assert_eq!(problem["side_effects"], "none");
    }
    let depth = 100_000;
    let bomb = format!(
        "{{\"fields\":{{\"a\":{}{}}}}}",
        "[".repeat(depth),
        "]".repeat(depth)
    );
    assert!(matches!(
        app.post_json(&entries(&stream), &bomb).await.status,
        400 | 422
    ));
    app.get(&format!("/v1/streams/{stream}"))
        .await
        .is_problem(404, "stream-not-found");
}

#[tokio::test]
async fn json_sent_as_a_form_is_told_what_to_type_instead() {
    let app = TestApp::start().await;
    for body in [r#"{"fields":{"a":1}}"#, "  [1]"] {
        let answer = app.post_form(&entries(&unique("form")), body).await;
        let problem = answer.is_problem(415, "unsupported-media-type");
        assert!(problem["detail"].as_str().unwrap().contains("curl --json"));
    }
}

#[tokio::test]
async fn nothing_at_all_is_no_entry() {
    let app = TestApp::start().await;
    let path = entries(&unique("empty"));
    app.post_form(&path, "")
        .await
        .is_problem(422, "invalid-fields");
    app.post_form(&path, "&&")
        .await
        .is_problem(422, "invalid-fields");
    app.send(app.client.post(app.url(&path)))
        .await
        .is_problem(422, "invalid-fields");
    for reserved in [
        "application/cloudevents+avro",
        "application/cloudevents-batch+protobuf",
    ] {
        let post = app
            .client
            .post(app.url(&path))
            .header("content-type", reserved)
            .body("{}");
        app.send(post)
            .await
            .is_problem(415, "unsupported-media-type");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_however_it_comes() {
    let app = TestApp::start_with(|settings| settings.api.max_body = 1000).await;
    let path = entries(&unique("large"));
    let problem = app
        .post_form(&path, &format!("n={}", "x".repeat(1000)))
        .await
        .is_problem(413, "too-large");
    assert_eq!(problem["max_bytes"], 1000);
    let chunks =
        futures_util::stream::iter((0..100).map(|_| Ok::<_, std::io::Error>("x".repeat(100))));
    let chunked = app
        .client
        .post(app.url(&path))
        .body(reqwest::Body::wrap_stream(chunks));
    app.send(chunked).await.is_problem(413, "too-large");
    assert_eq!(
        app.post_form(&path, &format!("n={}", "x".repeat(998)))
            .await
            .status,
        201
    );
}

#[tokio::test]
async fn an_unknown_parameter_is_told_the_nearest_known_one() {
    let app = TestApp::start().await;
    let stream = app.stream_of("unknown", 1).await;
    for (path, nearest) in [
        (format!("/v1/streams/{stream}/entries?afetr=0"), "after"),
        (
            format!("/v1/streams/{stream}/events?lastEventID=0"),
            "lastEventId",
        ),
        (
            format!("/v1/streams/{stream}/groups/g/pending?min-idle=1s"),
            "min_idle",
        ),
        ("/v1/streams?mtach=a".to_owned(), "match"),
    ] {
        let problem = app.get(&path).await.is_problem(400, "unknown-parameter");
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.contains(&format!("did you mean `{nearest}`")),
            "{path}: {detail}"
        );
    }
    app.post_form(&format!("/v1/streams/{stream}/entries?max_len=5"), "n=1")
        .await
        .is_problem(400, "unknown-parameter");
    app.get(&format!("/v1/streams/{stream}?ful=true"))
        .await
        .is_problem(400, "unknown-parameter");
    app.get(&format!("/v1/streams/{stream}/entries?after=%ff"))
        .await
        .is_problem(400, "invalid-request");
    assert_eq!(
        app.get(&format!("/v1/streams/{stream}/entries?_=123"))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn names_outside_the_rule_are_refused_everywhere() {
    let app = TestApp::start().await;
    let long = "x".repeat(10 << 10);
    for name in [
        "%00",
        "a%0Ab",
        "%7F",
        "%C2%85",
        "%2E",
        "%2E%2E",
        "a%7Bb",
        "%7B%7D",
        "%7Ba%7D%7Bb%7D",
        "streamgate%3Ax",
        &long,
        "%FF",
    ] {
        for path in [
            "",
            "/entries",
            "/entries/1-0",
            "/events",
            "/groups",
            "/groups/g",
        ] {
            // Sent as raw bytes, because clients resolve `..` before sending.
            let request = format!(
                "GET /v1/streams/{name}{path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
            );
            let answer = raw(&app, &request).await;
            assert!(
                answer.starts_with("HTTP/1.1 400 "),
                "{name}{path}: {answer}"
            );
            assert!(
                answer.contains("\"invalid-name\""),
                "{name}{path}: {answer}"
            );
        }
    }
    let stream = unique("names");
    for group in ["%00", "%2E%2E", &"x".repeat(513)] {
        let request = format!(
            "GET /v1/streams/{stream}/groups/{group} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        );
        assert!(
            raw(&app, &request).await.contains("\"invalid-name\""),
            "{group}"
        );
    }
}

#[tokio::test]
async fn routes_and_methods_that_are_not_there_are_problems_too() {
    let app = TestApp::start().await;
    for path in [
        "/nope",
        "/v1",
        "/v1/streams/",
        "/v1/streams/a/b",
        "/docs/nope",
        "/v1/streams//entries",
    ] {
        let answer = app.get(path).await;
        assert!(matches!(answer.status, 400 | 404), "{path}: {answer:?}");
        let code = if answer.status == 404 {
            "route-not-found"
        } else {
            "invalid-name"
        };
        answer.is_problem(answer.status, code);
    }
    let answer = app
        .send(app.client.patch(app.url("/v1/streams/a/entries")))
        .await;
    answer.is_problem(405, "method-not-allowed");
    let mut allowed: Vec<&str> = answer.header("allow").split(',').collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["DELETE", "GET", "HEAD", "POST"]);
}

#[tokio::test]
async fn a_page_of_a_foreign_origin_can_do_nothing_and_a_listed_one_everything() {
    let app = TestApp::start_with(|settings| {
        settings.api.origins = vec!["https://app.example".to_owned()];
    })
    .await;
    let stream = unique("origin");
    let post = |origin: &str| {
        let request = app
            .client
            .post(app.url(&entries(&stream)))
            .header("origin", origin.to_owned());
        request.header("content-type", "text/plain").body("x")
    };
    for foreign in [
        "https://evil.example",
        "null",
        "https://app.example.evil",
        "http://app.example",
    ] {
        app.send(post(foreign))
            .await
            .is_problem(403, "origin-not-allowed");
        let get = app
            .client
            .get(app.url(&entries(&stream)))
            .header("origin", foreign);
        app.send(get).await.is_problem(403, "origin-not-allowed");
    }
    app.get(&format!("/v1/streams/{stream}"))
        .await
        .is_problem(404, "stream-not-found");
    let listed = app.send(post("https://app.example")).await;
    assert_eq!(listed.status, 201);
    assert_eq!(
        listed.header("access-control-allow-origin"),
        "https://app.example"
    );
    assert!(
        listed
            .header("access-control-expose-headers")
            .contains("etag")
    );
    assert_eq!(
        app.send(post(&format!("http://{}", app.address)))
            .await
            .status,
        201,
        "our own pages"
    );
    let preflight = |origin: &'static str| {
        let request = app
            .client
            .request(reqwest::Method::OPTIONS, app.url(&entries(&stream)));
        let request = request
            .header("origin", origin)
            .header("access-control-request-method", "POST");
        app.send(request.header("access-control-request-headers", "content-type"))
    };
    let allowed = preflight("https://app.example").await;
    assert_eq!(
        allowed.header("access-control-allow-origin"),
        "https://app.example"
    );
    assert!(
        allowed
            .header("access-control-allow-methods")
            .contains("POST")
    );
    preflight("https://evil.example")
        .await
        .is_problem(403, "origin-not-allowed");
    // The page that caused an error can read it.
    let get = app
        .client
        .get(app.url("/nope"))
        .header("origin", "https://app.example");
    assert_eq!(
        app.send(get).await.header("access-control-allow-origin"),
        "https://app.example"
    );
}

#[tokio::test]
async fn a_foreign_origin_is_refused_before_its_body_is_read() {
    let app = TestApp::start().await;
    let head = "POST /v1/streams/a/entries HTTP/1.1\r\nhost: localhost\r\norigin: https://evil.example\r\ncontent-length: 5000000\r\n\r\n";
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut first))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&first, b"HTTP/1.1 403");
}

#[tokio::test]
async fn a_foreign_host_is_refused_unless_it_is_listed() {
    let app =
        TestApp::start_with(|settings| settings.api.hosts = vec!["gate.example".to_owned()]).await;
    let get = |path: &str, host: &str| {
        app.send(
            app.client
                .get(app.url(path))
                .header("host", host.to_owned()),
        )
    };
    get("/v1/streams", "evil.example")
        .await
        .is_problem(403, "forbidden");
    get("/v1/streams", "localhost.evil.example:80")
        .await
        .is_problem(403, "forbidden");
    for known in [
        "gate.example",
        "GATE.example:8080",
        "localhost",
        "127.0.0.1:1",
        "[::1]:80",
    ] {
        assert_eq!(get("/v1/streams", known).await.status, 200, "{known}");
    }
    assert_eq!(
        get("/livez", "10.0.0.7:8080").await.status,
        200,
        "probes come under any name"
    );
    assert_eq!(get("/readyz", "10.0.0.7:8080").await.status, 200);
}

#[tokio::test]
async fn request_ids_are_taken_when_fit_and_made_when_not() {
    let app = TestApp::start().await;
    let get = |id: &str| {
        app.send(
            app.client
                .get(app.url("/nope"))
                .header("x-request-id", id.to_owned()),
        )
    };
    let taken = get("abc-123").await;
    assert_eq!(
        (taken.header("x-request-id"), &taken.json()["request_id"]),
        ("abc-123", &"abc-123".into())
    );
    for unfit in ["a b", &"x".repeat(129)] {
        assert_eq!(get(unfit).await.header("x-request-id").len(), 16);
    }
}

#[tokio::test]
async fn a_client_that_sends_its_head_too_slowly_is_let_go() {
    let app =
        TestApp::start_with(|settings| settings.server.header_timeout = Duration::from_millis(300))
            .await;
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    stream
        .write_all(b"GET /livez HTTP/1.1\r\nhost: loc")
        .await
        .unwrap();
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "the connection stays open");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let app =
        TestApp::start_with(|settings| settings.api.body_timeout = Duration::from_millis(300))
            .await;
    let head = "POST /v1/streams/a/entries HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 5\r\n\r\nx";
    assert!(raw(&app, head).await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn connections_beyond_the_bound_are_told_so() {
    let app = TestApp::start_with(|settings| settings.server.max_connections = 3).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .await
            .unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        held.push(stream);
    }
    let plain = raw(&app, "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(
        plain.starts_with("HTTP/1.1 503 ") && plain.contains("\"overloaded\""),
        "{plain}"
    );
    let events =
        "GET /v1/streams/a/events HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n";
    let events = raw(&app, events).await;
    assert!(
        events.starts_with("HTTP/1.1 200 ") && events.contains("event: $end\nretry: "),
        "{events}"
    );
    held.clear();
    eventually("there is room again", async || {
        app.get("/livez").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn reads_beyond_the_bound_do_not_wait() {
    let app = TestApp::start_with(|settings| settings.limits.max_waiting = 1).await;
    let stream = unique("bound");
    let path = format!("/v1/streams/{stream}/entries?after=0&wait=10s");
    let second = async {
        eventually("one waits", async || app.metric("waiting_reads").await == 1).await;
        app.get(&path).await.is_problem(503, "overloaded");
        app.publish(&stream, "x").await;
    };
    let (first, ()) = tokio::join!(app.get(&path), second);
    assert_eq!(first.ids().len(), 1);
    assert!(
        app.get("/metrics")
            .await
            .body
            .contains("streamgate_refused_total{bound=\"waiting_reads\"} 1")
    );
}

#[tokio::test]
async fn streams_beyond_the_bound_are_not_followed() {
    let app = TestApp::start_with(|settings| settings.live.max_streams = 1).await;
    let mut first = app
        .follow(&format!("/v1/streams/{}/events", unique("one")))
        .await;
    first.expect("$open").await;
    let other = unique("two");
    let mut second = app.follow(&format!("/v1/streams/{other}/events")).await;
    assert_eq!(second.expect("$end").await.json()["reason"], "overloaded");
    app.get(&format!("/v1/streams/{other}/entries?after=0&wait=1s"))
        .await
        .is_problem(503, "overloaded");
}
