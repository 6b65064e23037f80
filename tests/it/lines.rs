//! NDJSON requests and responses.

use serde_json::{Value, json};

use crate::support::auth::{AuthFile, key, record};
use crate::support::gateway::Gateway;
use crate::support::lines::Lines;
use crate::support::redis::{Server, shared};
use crate::support::{TestApp, elapse, eventually, memory, unique};

fn entries(stream: &str) -> String {
    format!("/v1/streams/{stream}/entries")
}

fn post(app: &TestApp, path: &str) -> reqwest::RequestBuilder {
    app.client
        .post(app.url(path))
        .header("content-type", "application/x-ndjson")
}

fn get(app: &TestApp, path: &str) -> reqwest::RequestBuilder {
    app.client
        .get(app.url(path))
        .header("accept", "application/x-ndjson")
}

/// Returns a body that is sent as it is written. It ends when the sender is dropped.
fn body() -> (tokio::sync::mpsc::Sender<String>, reqwest::Body) {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let parts = futures_util::stream::unfold(receiver, |mut receiver| async {
        let part: String = receiver.recv().await?;
        Some((Ok::<_, std::io::Error>(part), receiver))
    });
    (sender, reqwest::Body::wrap_stream(parts))
}

#[tokio::test]
async fn every_line_is_an_entry_and_what_is_none_is_told_by_its_number() {
    let app = TestApp::start().await;
    let stream = unique("lines");
    let text = concat!(
        "{\"fields\":{\"n\":1},\"id\":\"5-0\"}\n",
        "\r\n",
        "{\"fields\":{\"n\":null}}\r\n",
        "not json\n",
        "{\"fields\":{\"n\":2},\"id\":\"4-0\"}\n",
        "{\"fields\":{\"n\":3},\"key\":\"k\"}\n",
        "{\"fields\":{\"n\":3},\"key\":\"k\"}\n",
        "{\"pairs\":[[\"n\",\"4\"],[\"n\",\"5\"]]}",
    );
    let answer = app.send(post(&app, &entries(&stream)).body(text)).await;
    assert_eq!(answer.status, 207, "{}", answer.body);
    let told = answer.json();
    let counts = ["appended", "replayed", "failed"].map(|name| told[name].as_u64().unwrap());
    assert_eq!(counts, [3, 1, 3], "{told:#}");
    assert_eq!(
        (&told["stream"], &told["first_id"]),
        (&json!(stream), &json!("5-0"))
    );
    let errors: Vec<_> = told["errors"].as_array().unwrap().iter().collect();
    let lines: Vec<_> = errors
        .iter()
        .map(|error| error["line"].as_u64().unwrap())
        .collect();
    assert_eq!(lines, [3, 4, 5]);
    assert_eq!(errors[0]["error"]["errors"][0]["pointer"], "/fields/n");
    assert_eq!(errors[2]["error"]["code"], "id-not-monotonic");
    let read = app.get(&format!("{}?after=0", entries(&stream))).await;
    assert_eq!(read.ids().len(), 3);
    assert_eq!(read.ids()[2], told["last_id"].as_str().unwrap());
}

#[tokio::test]
async fn lines_are_appended_as_they_come_and_answered_line_by_line_if_wanted() {
    let app = TestApp::start().await;
    let stream = unique("receipts");
    let (sender, body) = body();
    let path = format!("{}?receipts=stream", entries(&stream));
    sender
        .send("{\"fields\":{\"n\":1}}\n{\"fiel".to_owned())
        .await
        .unwrap();
    let mut receipts = Lines::of(post(&app, &path).body(body)).await;
    assert_eq!(receipts.status, 200);
    let first = receipts.next().await.unwrap();
    let id = app
        .get(&format!("{}?after=0", entries(&stream)))
        .await
        .ids()[0]
        .clone();
    assert_eq!(
        first,
        json!({"line": 1, "id": id}),
        "told while the body is still being sent"
    );
    sender
        .send("ds\":{\"n\":[]}}\n{\"fields\":{\"n\":3}}".to_owned())
        .await
        .unwrap();
    drop(sender);
    let rest = receipts.rest().await;
    assert_eq!(
        (&rest[0]["line"], &rest[0]["error"]["status"]),
        (&json!(2), &json!(422))
    );
    assert_eq!(rest[1]["line"], 3);
    let last = rest.last().unwrap();
    assert_eq!(
        (&last["appended"], &last["failed"]),
        (&json!(2), &json!(1)),
        "{rest:#?}"
    );
    assert_eq!(rest.len(), 3);
}

#[tokio::test]
async fn a_line_that_is_too_long_is_refused_alone() {
    let app = TestApp::start_with(|settings| settings.api.max_body = 1000).await;
    let stream = unique("long");
    let long = "x".repeat(5000);
    let text = format!("{{\"fields\":{{\"n\":1}}}}\n{long}\n{{\"fields\":{{\"n\":2}}}}\n");
    let told = app
        .send(post(&app, &entries(&stream)).body(text))
        .await
        .json();
    assert_eq!((&told["appended"], &told["failed"]), (&json!(2), &json!(1)));
    assert_eq!(
        (
            &told["errors"][0]["line"],
            &told["errors"][0]["error"]["code"]
        ),
        (&json!(2), &json!("too-large"))
    );
}

#[tokio::test]
async fn what_does_not_go_with_lines_is_refused() {
    let app = TestApp::start().await;
    let path = entries(&unique("refused"));
    for (name, value) in [
        ("idempotency-key", "k"),
        ("if-match", "\"1-0\""),
        ("if-none-match", "*"),
    ] {
        let answer = app
            .send(post(&app, &path).header(name, value).body("{}"))
            .await;
        answer.is_problem(400, "invalid-request");
    }
    app.send(post(&app, &format!("{path}?id=5-0")).body("{}"))
        .await
        .is_problem(400, "invalid-request");
    app.send(post(&app, &format!("{path}?atomic=true")).body("{}"))
        .await
        .is_problem(400, "invalid-request");
    let packed = post(&app, &path)
        .header("content-encoding", "br")
        .body("{}");
    app.send(packed)
        .await
        .is_problem(415, "unsupported-media-type");
    app.post_form(&format!("{path}?receipts=stream"), "n=1")
        .await
        .is_problem(400, "invalid-request");
    let whole = app
        .send(post(&app, &format!("{path}?payload=raw")).body("{}"))
        .await;
    assert_eq!(
        whole.status, 201,
        "a payload is stored whole, whatever it is"
    );
    let none = app.send(post(&app, &path).body("\n\n")).await;
    assert_eq!((none.status, &none.json()["appended"]), (200, &json!(0)));
}

#[tokio::test]
async fn what_keeps_all_lines_out_is_a_problem_that_tells_how_far_it_got() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let stream = unique("away");
    let (sender, body) = body();
    sender
        .send("{\"fields\":{\"n\":1}}\n".to_owned())
        .await
        .unwrap();
    let answer = tokio::spawn(post(&app, &entries(&stream)).body(body).send());
    crate::support::eventually("the first line is answered", async || {
        app.metric("published_entries_total").await == 1
    })
    .await;
    server.kill();
    // More than any buffer holds, from a client that reads nothing before it has sent everything.
    for n in 0..2000 {
        let line = format!(
            "{{\"fields\":{{\"n\":{n},\"x\":\"{}\"}}}}\n",
            "x".repeat(2000)
        );
        // A client that already has the response stops sending.
        if sender.send(line).await.is_err() {
            break;
        }
    }
    drop(sender);
    let answer = answer.await.unwrap().unwrap();
    assert_eq!(answer.status(), 503);
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(
        (&problem["appended"], &problem["line"]),
        (&json!(1), &json!(2)),
        "{problem:#}"
    );
    assert_eq!(problem["side_effects"], "unknown");
}

#[tokio::test]
async fn an_upload_that_cannot_go_on_is_told_so_and_not_swallowed() {
    let app = TestApp::start().await;
    let path = format!("{}?create=false", entries(&unique("endless")));
    let (sender, body) = body();
    let endless = async {
        while sender
            .send("{\"fields\":{\"n\":1}}\n".to_owned())
            .await
            .is_ok()
        {
            elapse(50, "the next line").await;
        }
    };
    let answer = tokio::select! {
        answer = app.send(post(&app, &path).body(body)) => answer,
        () = endless => panic!("the body does not end by itself"),
    };
    let problem = answer.is_problem(404, "stream-not-found");
    assert_eq!(
        (&problem["line"], &problem["appended"]),
        (&json!(1), &json!(0))
    );
}

#[tokio::test]
async fn lines_go_by_more_than_one_name() {
    let app = TestApp::start().await;
    let path = entries(&unique("names"));
    for name in [
        "application/ndjson",
        "application/jsonl",
        "Application/X-NDJSON; charset=utf-8",
    ] {
        let post = app.client.post(app.url(&path)).header("content-type", name);
        let told = app.send(post.body("{\"fields\":{\"n\":1}}\n")).await.json();
        assert_eq!(told["appended"], 1, "{name}: {told:#}");
    }
    let accept = app
        .client
        .get(app.url(&path))
        .header("accept", "application/jsonl");
    assert_eq!(Lines::of(accept).await.rest().await.len(), 3);
}

#[tokio::test]
async fn a_long_upload_takes_little_memory() {
    const LINES: usize = 200_000;
    let server = Server::start().await;
    let gateway = Gateway::start(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--redis-url",
        &server.url(),
    ]);
    let url = format!(
        "http://{}/v1/streams/long/entries?maxlen=1000",
        gateway.address
    );
    let client = crate::support::app::client();
    client.post(&url).body("n=1").send().await.unwrap();
    let idle = memory(gateway.child.id(), "VmRSS");
    let parts = futures_util::stream::iter((0..LINES / 100).map(|part| {
        let line = |n: usize| {
            format!(
                "{{\"fields\":{{\"n\":{n},\"note\":\"{}\"}}}}\n",
                "x".repeat(40)
            )
        };
        Ok::<_, std::io::Error>((part * 100..part * 100 + 100).map(line).collect::<String>())
    }));
    let sent = client
        .post(&url)
        .header("content-type", "application/x-ndjson");
    let sent = tokio::spawn(sent.body(reqwest::Body::wrap_stream(parts)).send());
    let mut most = 0;
    while !sent.is_finished() {
        most = most.max(memory(gateway.child.id(), "VmRSS"));
        elapse(20, "before the next look").await;
    }
    let told: Value = sent.await.unwrap().unwrap().json().await.unwrap();
    assert_eq!(
        (&told["appended"], &told["failed"]),
        (&json!(LINES), &json!(0))
    );
    assert!(most < idle + (64 << 10), "{most} KiB, {idle} KiB when idle");
}

#[tokio::test]
async fn a_whole_range_comes_as_lines_that_can_be_sent_back() {
    let app = TestApp::start().await;
    let stream = app.stream_of("out", 2).await;
    let batch: Vec<Value> = (0..2500).map(|n| json!({"fields": {"n": n}})).collect();
    let sent = app
        .post_json(&entries(&stream), &json!({"entries": batch}).to_string())
        .await;
    assert_eq!(sent.status, 201);
    let mut lines = Lines::of(get(&app, &entries(&stream))).await;
    let all = lines.rest().await;
    assert_eq!(all.len(), 2502, "no limit unless given");
    assert_eq!(
        all[0],
        json!({"id": "1-0", "position": "1-0:1", "fields": {"n": "1"}})
    );
    assert_eq!(all[2501]["fields"]["n"], "2499");

    let copy = unique("copy");
    let text = all
        .iter()
        .map(Value::to_string)
        .collect::<Vec<_>>()
        .join("\n");
    let told = app
        .send(post(&app, &entries(&copy)).body(text))
        .await
        .json();
    assert_eq!(
        (&told["appended"], &told["last_id"]),
        (&json!(2502), &all[2501]["id"])
    );

    let ids = |lines: Vec<Value>| -> Vec<String> {
        lines
            .iter()
            .map(|line| line["id"].as_str().unwrap().to_owned())
            .collect()
    };
    for (query, expected) in [
        ("?limit=1", &["1-0"][..]),
        ("?end=2-0", &["1-0", "2-0"]),
        ("?order=desc&end=2-0", &["2-0", "1-0"]),
        ("?after=1-0&end=2", &["2-0"]),
    ] {
        let mut lines = Lines::of(get(&app, &format!("{}{query}", entries(&stream)))).await;
        assert_eq!(ids(lines.rest().await), expected, "{query}");
    }
    let last = Lines::of(get(&app, &format!("{}?last=1500", entries(&stream)))).await;
    assert_eq!(last.status, 400, "as many as a page holds");
    let down = format!("{}?order=desc&limit=2001", entries(&stream));
    assert_eq!(Lines::of(get(&app, &down)).await.rest().await.len(), 2001);
}

#[tokio::test]
async fn a_range_as_lines_is_refused_like_any_other() {
    let app = TestApp::start().await;
    let missing = get(&app, &entries(&unique("missing")));
    app.send(missing).await.is_problem(404, "stream-not-found");
    let stream = app.stream_of("trimmed", 5).await;
    shared()
        .await
        .command(&["XTRIM", &stream, "MAXLEN", "=", "2"])
        .await;
    let path = format!("{}?after=1-0:1", entries(&stream));
    let problem = app
        .send(get(&app, &path))
        .await
        .is_problem(410, "entries-trimmed");
    assert_eq!(problem["lost"], 2);
    let lines = Lines::of(get(&app, &format!("{path}&gap=skip")))
        .await
        .rest()
        .await;
    assert_eq!(
        lines[0]["gap"],
        json!({"after": "1-0:1", "lost": 2, "reset": false})
    );
    assert_eq!((&lines[1]["id"], lines.len()), (&json!("4-0"), 3));
    for query in [
        "?wait=5s",
        "?follow=true&limit=5",
        "?follow=true&order=desc",
        "?follow=true&start=(5-0&end=(0-0",
    ] {
        let answer = app
            .send(get(&app, &format!("{}{query}", entries(&stream))))
            .await;
        answer.is_problem(400, "invalid-request");
    }
    app.get(&format!("{}?follow=true", entries(&stream)))
        .await
        .is_problem(400, "invalid-request");
}

#[tokio::test]
async fn lines_can_go_on_with_what_comes() {
    let app = TestApp::start_with(|settings| {
        settings.limits.heartbeat = std::time::Duration::from_millis(50);
    })
    .await;
    let stream = app.stream_of("follow", 2).await;
    let path = entries(&stream);
    let mut all = Lines::of(get(&app, &format!("{path}?follow=true"))).await;
    let mut new = Lines::of(get(&app, &format!("{path}?follow=true&after=$"))).await;
    let mut last = Lines::of(get(&app, &format!("{path}?follow=true&last=1"))).await;
    assert_eq!(all.next().await.unwrap()["id"], "1-0");
    assert_eq!(all.next().await.unwrap()["id"], "2-0");
    assert_eq!(last.next().await.unwrap()["id"], "2-0");
    elapse(200, "some heartbeats").await;
    app.post_form(&format!("{path}?id=3-0"), "n=3").await;
    for lines in [&mut all, &mut new, &mut last] {
        let line = json!({"id": "3-0", "position": "3-0:3", "fields": {"n": "3"}});
        assert_eq!(lines.next().await.unwrap(), line);
    }
    shared()
        .await
        .command(&["XTRIM", &stream, "MAXLEN", "=", "1"])
        .await;
    let mut behind = Lines::of(get(&app, &format!("{path}?follow=true&after=1-0:1"))).await;
    let gap = behind.next().await.unwrap();
    assert_eq!(
        (&gap["gap"]["lost"], &gap["gap"]["oldest"]),
        (&json!(1), &json!("3-0"))
    );
    assert_eq!(behind.next().await.unwrap()["id"], "3-0");
    app.drain();
    let end = new.rest().await;
    assert_eq!(
        end,
        [json!({"end": {"reason": "draining"}, "position": "3-0:3"})]
    );
}

#[tokio::test]
async fn who_asks_for_receipts_and_reads_none_is_cut() {
    use tokio::io::AsyncWriteExt as _;
    let patience = std::time::Duration::from_millis(300);
    let app = TestApp::start_with(|settings| settings.server.write_timeout = patience).await;
    let path = format!("{}?receipts=stream&maxlen=100", entries(&unique("unread")));
    let mut stream = tokio::net::TcpStream::connect(app.address).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\
         Content-Type: application/x-ndjson\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let lines = "{\"fields\":{\"n\":1}}\n".repeat(1000);
    let part = format!("{:x}\r\n{lines}\r\n", lines.len());
    let sending = async { while stream.write_all(part.as_bytes()).await.is_ok() {} };
    tokio::time::timeout(crate::support::PATIENCE, sending)
        .await
        .expect("it is cut");
    let metrics = app.get("/metrics").await.body;
    assert!(
        metrics.contains("streamgate_refused_total{bound=\"unread\"} 1"),
        "{metrics}"
    );
}

#[tokio::test]
async fn what_takes_long_ends_with_the_credential_that_it_was_asked_with() {
    let stream = unique("ended");
    let file = AuthFile::new(&(record("root", &["* *"]) + &record("a", &["* *"])));
    let app = file.app().await;
    for _ in 0..12 {
        assert_eq!(
            app.as_key("root")
                .publish(&stream, &"x".repeat(1 << 20))
                .await
                .status,
            201
        );
    }
    let (sender, body) = body();
    let by_key = |request: reqwest::RequestBuilder| request.header("x-api-key", key("a"));
    let upload = by_key(post(&app, &format!("{}?receipts=stream", entries(&stream)))).body(body);
    sender
        .send("{\"fields\":{\"n\":1}}\n".to_owned())
        .await
        .unwrap();
    let mut receipts = Lines::of(upload).await;
    assert_eq!(receipts.next().await.unwrap()["line"], 1);
    let mut range = Lines::of(by_key(get(&app, &format!("{}?after=0", entries(&stream))))).await;
    assert!(range.next().await.unwrap()["id"].is_string());

    file.write(&record("root", &["* *"]));
    eventually("the key is gone", async || {
        app.as_key("a").get("/v1/streams").await.status == 401
    })
    .await;
    sender
        .send("{\"fields\":{\"n\":2}}\n".to_owned())
        .await
        .unwrap();
    let end = receipts.rest().await.pop().unwrap();
    assert_eq!(
        (&end["error"]["code"], &end["error"]["appended"]),
        (&json!("unauthenticated"), &json!(1))
    );
    let lines = range.rest().await;
    assert_eq!(lines.last().unwrap()["error"]["code"], "unauthenticated");
    assert!(lines.len() < 12, "all was told before");
    let page = app
        .as_key("root")
        .get(&format!("{}?last=1&payload=n", entries(&stream)))
        .await;
    assert_eq!(
        page.json()["entries"][0]["payload"],
        "1",
        "what came after was not appended"
    );
}
