//! Traces: spans that a gateway exports to a small collector, and a collector that is away or slow.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::StatusCode;
use serde_json::{Value, json};
use streamgate::trace::TraceSettings;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::support::redis::free_port;
use crate::support::{TestApp, eventually, unique};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// A collector that keeps all spans.
struct Collector {
    port: u16,
    spans: Arc<Mutex<Vec<Value>>>,
    _task: AbortOnDropHandle<()>,
}

impl Collector {
    async fn start() -> Self {
        let spans: Arc<Mutex<Vec<Value>>> = Arc::default();
        let kept = spans.clone();
        let receive = async move |body: Bytes| {
            let export: Value = serde_json::from_slice(&body).unwrap();
            let all = &export["resourceSpans"][0];
            let name = &all["resource"]["attributes"][0];
            assert_eq!(
                name,
                &json!({"key": "service.name", "value": {"stringValue": "streamgate"}})
            );
            let new = all["scopeSpans"][0]["spans"].as_array().unwrap();
            kept.lock().unwrap().extend(new.iter().cloned());
            "{}"
        };
        let router = axum::Router::new().route("/v1/traces", axum::routing::post(receive));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            port,
            spans,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Returns the spans with this name, once there are as many.
    async fn named(&self, name: &str, count: usize) -> Vec<Value> {
        let named = || -> Vec<Value> {
            let all = self.spans.lock().unwrap();
            all.iter()
                .filter(|span| span["name"] == name)
                .cloned()
                .collect()
        };
        eventually(&format!("{count} spans named {name}"), async || {
            named().len() >= count
        })
        .await;
        assert_eq!(named().len(), count, "{name}");
        named()
    }
}

async fn traced(port: u16, sampling: usize) -> TestApp {
    TestApp::start_with(|settings| {
        settings.api.trace_context = true;
        let endpoint = format!("http://127.0.0.1:{port}").parse().unwrap();
        settings.traces = Some(TraceSettings { endpoint, sampling });
    })
    .await
}

async fn append(app: &TestApp, stream: &str, parent: Option<&str>) {
    let path = app.url(&format!("/v1/streams/{stream}/entries"));
    let mut request = app.client.post(path).body("n");
    if let Some(parent) = parent {
        request = request.header("traceparent", parent);
    }
    assert_eq!(app.send(request).await.status, 201);
}

async fn spans(app: &TestApp, outcome: &str) -> usize {
    let name = format!("spans_total{{outcome=\"{outcome}\"}}");
    app.metric_if_any(&name).await.unwrap()
}

fn attribute(span: &Value, key: &str) -> Value {
    let all = span["attributes"].as_array().unwrap();
    let found = all.iter().find(|one| one["key"] == key);
    found.unwrap_or_else(|| panic!("no {key}: {span:#}"))["value"].clone()
}

#[tokio::test]
async fn a_request_its_append_and_its_commands_are_one_trace_to_which_a_consumer_links() {
    let collector = Collector::start().await;
    let app = traced(collector.port, 0).await;
    let stream = unique("traced");
    append(&app, &stream, Some(PARENT)).await;
    let requests = collector
        .named("POST /v1/streams/{stream}/entries", 1)
        .await;
    let request = &requests[0];
    assert_eq!(request["traceId"], TRACE);
    assert_eq!(request["parentSpanId"], "b7ad6b7169203331");
    assert_eq!(request["kind"], 2);
    assert_eq!(
        attribute(request, "http.response.status_code"),
        json!({"intValue": "201"})
    );
    let appends = collector.named(&format!("send {stream}"), 1).await;
    assert_eq!(appends[0]["parentSpanId"], request["spanId"]);
    assert_eq!(
        (&appends[0]["kind"], &appends[0]["traceId"]),
        (&json!(4), &request["traceId"])
    );
    let commands = collector.named("XADD", 1).await;
    assert_eq!(commands[0]["parentSpanId"], appends[0]["spanId"]);
    assert_eq!(
        attribute(&commands[0], "db.system.name"),
        json!({"stringValue": "redis"})
    );
    let time = |span: &Value, end: &str| -> u64 { span[end].as_str().unwrap().parse().unwrap() };
    let (began, ended) = ("startTimeUnixNano", "endTimeUnixNano");
    assert!(time(request, began) <= time(&appends[0], began));
    assert!(time(&appends[0], began) <= time(&commands[0], began));
    assert!(time(&commands[0], ended) <= time(&appends[0], ended));
    assert!(time(&appends[0], ended) <= time(request, ended));

    // The entry names the request, so a consumer's span links to it, in a trace of its own.
    let path = format!("/v1/streams/{stream}/groups/g");
    app.put_json(&path, "{}").await;
    let other = PARENT.replace("0af7", "ffff");
    let read = app.client.post(app.url(&format!("{path}/read")));
    let read = read
        .header("traceparent", &other)
        .header("content-type", "application/json");
    let read = app.send(read.body(r#"{"consumer":"w"}"#)).await.json();
    let stored = &read["entries"][0]["fields"]["traceparent"];
    let span = request["spanId"].as_str().unwrap();
    assert_eq!(stored, &format!("00-{TRACE}-{span}-01"));
    let reads = collector
        .named("POST /v1/streams/{stream}/groups/{group}/read", 1)
        .await;
    assert_eq!(reads[0]["traceId"], other[3..35]);
    assert_eq!(
        reads[0]["links"],
        json!([{"traceId": TRACE, "spanId": span}])
    );

    // A caller that does not trace, and a request without a caller's decision, have no spans here.
    append(&app, &stream, Some(&PARENT.replace("-01", "-00"))).await;
    append(&app, &stream, None).await;
    append(&app, &stream, Some(PARENT)).await;
    collector
        .named("POST /v1/streams/{stream}/entries", 2)
        .await;
    let sent = collector.spans.lock().unwrap().len();
    eventually("all spans are counted", async || {
        spans(&app, "exported").await == sent
    })
    .await;
    assert_eq!(spans(&app, "dropped").await, 0);
    app.stop().await;
}

#[tokio::test]
async fn a_stop_exports_the_last_spans_and_failed_requests_are_marked() {
    let collector = Collector::start().await;
    let app = traced(collector.port, 100).await;
    let missing = format!("/v1/streams/{}", unique("missing"));
    assert_eq!(app.get(&missing).await.status, 404);
    app.stop().await;
    let spans = collector.named("GET /v1/streams/{stream}", 1).await;
    assert_eq!(
        attribute(&spans[0], "http.response.status_code"),
        json!({"intValue": "404"})
    );
    assert_eq!(
        (&spans[0]["status"], &spans[0]["parentSpanId"]),
        (&Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    let app = traced(free_port(), 100).await;
    let stream = unique("away");
    for _ in 0..10 {
        append(&app, &stream, None).await;
    }
    eventually("the spans are dropped", async || {
        spans(&app, "dropped").await >= 30
    })
    .await;
    assert_eq!(spans(&app, "exported").await, 0);
    app.stop().await;
}

#[tokio::test]
async fn a_collector_that_is_slow_holds_up_no_request_and_the_queue_is_bounded() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // Accepts connections and never responds.
    let silent = AbortOnDropHandle::new(tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    }));
    let app = traced(port, 100).await;
    let stream = unique("slow");
    let began = Instant::now();
    // Three spans for each append, more than the queue and a batch hold.
    futures_util::future::join_all((0..16).map(|_| async {
        for _ in 0..100 {
            append(&app, &stream, None).await;
        }
    }))
    .await;
    assert!(spans(&app, "dropped").await > 0, "the queue is full");
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(spans(&app, "exported").await, 0);
    drop(silent);
    app.stop().await;
}

#[tokio::test]
async fn a_collector_that_refuses_is_told_apart() {
    let router = axum::Router::new().fallback(async || StatusCode::TOO_MANY_REQUESTS);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let _task = AbortOnDropHandle::new(tokio::spawn(async move {
        axum::serve(listener, router).await.unwrap();
    }));
    let app = traced(port, 100).await;
    append(&app, &unique("refused"), None).await;
    eventually("the spans are dropped", async || {
        spans(&app, "dropped").await >= 3
    })
    .await;
    app.stop().await;
}
