//! Memory limits for request bodies, each and in total.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::{TestApp, eventually, unique};

/// Sends the head and the first `sent` bytes of a body that never ends.
async fn unfinished(app: &TestApp, path: &str, kind: &str, sent: usize) -> TcpStream {
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let length = 8 << 20;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; sent]).await.unwrap();
    stream
}

#[tokio::test]
async fn bodies_that_never_end_take_no_more_memory_than_there_is_for_all_of_them() {
    let app = TestApp::start_with(|settings| settings.api.body_memory = 10 << 20).await;
    let path = format!("/v1/streams/{}/entries", unique("bodies"));
    // The first half of these requests announces large bodies but sends little.
    let mut held = Vec::new();
    for _ in 0..50 {
        held.push(unfinished(&app, &path, "text/plain", 64 << 10).await);
    }
    assert_eq!(app.metric("body_bytes").await, 0);
    for kind in ["text/plain", "application/x-ndjson"] {
        for _ in 0..2 {
            held.push(unfinished(&app, &path, kind, 4 << 20).await);
        }
        let most = 2 * ((4 << 20) - (64 << 10));
        eventually("they have come", async || {
            app.metric("body_bytes").await == most
        })
        .await;
        let more = app.client.post(app.url(&path)).body("x".repeat(4 << 20));
        let problem = app.send(more).await.is_problem(503, "overloaded");
        assert_eq!(problem["retryable"], true);
        assert_eq!(app.metric("body_bytes").await, most);
        assert_eq!(
            app.post_form(&path, "n=1").await.status,
            201,
            "small bodies go on"
        );
        held.clear();
        eventually("all is given back", async || {
            app.metric("body_bytes").await == 0
        })
        .await;
        let large = app.client.post(app.url(&path)).body("x".repeat(8 << 20));
        assert_eq!(app.send(large).await.status, 201);
        assert_eq!(app.metric("body_bytes").await, 0);
    }
    assert_eq!(app.metric("refused_total{bound=\"bodies\"}").await, 2);
}

#[tokio::test]
async fn an_upload_of_lines_appends_what_it_has_where_there_is_no_room_for_more() {
    let app = TestApp::start_with(|settings| settings.api.body_memory = 1).await;
    let path = format!("/v1/streams/{}/entries", unique("lines"));
    let lines = format!("{{\"fields\":{{\"a\":\"{}\"}}}}\n", "x".repeat(1000)).repeat(2000);
    let post = |body: String| {
        app.send(
            app.client
                .post(app.url(&path))
                .header("content-type", "application/x-ndjson")
                .body(body),
        )
    };
    assert_eq!(post(lines.clone()).await.json()["appended"], 2000);
    let long = format!("{{\"fields\":{{\"a\":\"{}\"}}}}\n", "x".repeat(1 << 20));
    let problem = post(format!("{lines}{long}"))
        .await
        .is_problem(503, "overloaded");
    assert_eq!(problem["appended"], 2000, "{problem:#}");
    assert_eq!(app.metric("body_bytes").await, 0);
}

#[tokio::test]
async fn calls_without_data_have_small_bodies() {
    let app = TestApp::start().await;
    let stream = unique("calls");
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20));
    for path in [
        "/v1/tickets".to_owned(),
        format!("/v1/streams/{stream}/groups/g/read"),
        format!("/v1/streams/{stream}/groups/g/ack"),
        "/v1/groups/g/read".to_owned(),
    ] {
        let problem = app
            .post_json(&path, &large)
            .await
            .is_problem(413, "too-large");
        assert_eq!(problem["max_bytes"], 1 << 20, "{path}");
    }
    let narrow = TestApp::start_with(|settings| settings.api.max_body = 100).await;
    let call = format!("{{\"a\":\"{}\"}}", "x".repeat(100));
    let problem = narrow
        .post_json("/v1/tickets", &call)
        .await
        .is_problem(413, "too-large");
    assert_eq!(problem["max_bytes"], 100);
}
