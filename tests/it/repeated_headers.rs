//! Headers that may occur only once, and headers that a page of a listed origin may set.

use reqwest::Method;

use crate::support::{TestApp, unique};

#[tokio::test]
async fn a_header_with_one_meaning_is_not_taken_twice() {
    let app = TestApp::start().await;
    let stream = unique("twice");
    let entries = format!("/v1/streams/{stream}/entries");
    let form = "application/x-www-form-urlencoded";
    for (name, first, second) in [
        ("idempotency-key", "a", "b"),
        ("idempotency-key", "a", "a"),
        ("idempotency-producer", "a", "b"),
        ("if-match", "\"1-0\"", "\"2-0\""),
        ("if-none-match", "*", "*"),
        ("content-type", form, "text/plain"),
        ("origin", "http://localhost", "https://evil.example"),
    ] {
        let post = app
            .client
            .post(app.url(&entries))
            .header(name, first)
            .header(name, second);
        let problem = app
            .send(post.body("n=1"))
            .await
            .is_problem(400, "invalid-request");
        let detail = problem["detail"].as_str().unwrap().to_ascii_lowercase();
        assert!(
            detail.contains(&format!("`{name}` is given more than once")),
            "{detail}"
        );
    }
    let lines = app
        .client
        .post(app.url(&entries))
        .header("content-type", "application/x-ndjson");
    let lines = lines.header("content-type", "text/plain").body("{}");
    app.send(lines).await.is_problem(400, "invalid-request");
    app.get(&format!("/v1/streams/{stream}"))
        .await
        .is_problem(404, "stream-not-found");
    app.publish(&stream, "1").await;
    let events = app
        .client
        .get(app.url(&format!("/v1/streams/{stream}/events")));
    let events = events
        .header("last-event-id", "1-0")
        .header("last-event-id", "2-0");
    app.send(events).await.is_problem(400, "invalid-request");
    let group = app
        .client
        .put(app.url(&format!("/v1/streams/{stream}/groups/g")));
    let group = group
        .header("if-none-match", "*")
        .header("if-none-match", "*");
    app.send(group).await.is_problem(400, "invalid-request");
    for path in [
        format!("/v1/streams/{stream}/groups"),
        "/v1/tickets".to_owned(),
    ] {
        let method = if path == "/v1/tickets" {
            Method::POST
        } else {
            Method::GET
        };
        let call = app.client.request(method, app.url(&path));
        let twice = call.header("x-request-id", "a").header("x-request-id", "b");
        let id = app.send(twice).await.header("x-request-id").to_owned();
        assert!(id != "a" && id != "b", "of two ids none is the id");
    }
}

#[tokio::test]
async fn a_listed_page_may_set_what_traces_and_events_need() {
    let app = TestApp::start_with(|settings| {
        settings.api.origins = vec!["https://app.example".to_owned()];
    })
    .await;
    let allowed = async |asked: &str| {
        let path = app.url(&format!("/v1/streams/{}/entries", unique("page")));
        let ask = app
            .client
            .request(Method::OPTIONS, path)
            .header("origin", "https://app.example");
        let ask = ask.header("access-control-request-method", "POST");
        let answer = app
            .send(ask.header("access-control-request-headers", asked))
            .await;
        assert_eq!(answer.status, 200);
        answer.header("access-control-allow-headers").to_owned()
    };
    for asked in [
        "traceparent",
        "baggage,traceparent,tracestate",
        "ce-id,ce-myextension,ce-source,ce-specversion,ce-type,content-type",
        "authorization,content-encoding,idempotency-key,if-match,last-event-id,x-api-key,x-request-id",
    ] {
        assert_eq!(allowed(asked).await, asked);
    }
    assert_eq!(
        allowed("X-Evil, Traceparent, cookie,ce-x").await,
        "traceparent,ce-x"
    );
    assert_eq!(allowed("x-forwarded-for").await, "");
}
