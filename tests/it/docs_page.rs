//! The page of all calls in a real browser: each call is executed as it stands, and succeeds.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, HOST, IF_NONE_MATCH, ORIGIN, TRANSFER_ENCODING,
};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::support::app::client_with;
use crate::support::auth::{AuthFile, key, record};
use crate::support::chromium::Browser;
use crate::support::redis::Server;
use crate::support::{PATIENCE, TestApp, elapse, eventually};
use crate::webhooks::{SECRET, github_signature, source};

pub const ID: &str = "1795232709004-0";
const NEXT_ID: &str = "1795232710480-0";

/// Executes the calls in `ONLY`, or all, each on the state that `/reset` makes. Reports the status of
/// each call, or the step that was not over in time.
const DRIVER: &str = r#"
(async () => {
  const report = (line) => fetch("/report", { method: "POST", body: line });
  const until = async (what, find, most = 15000) => {
    for (const end = performance.now() + most; performance.now() < end;) {
      const found = find();
      if (found) return found;
      await new Promise((go) => setTimeout(go, 20));
    }
    throw new Error("no " + what);
  };
  const walk = async (block, call) => {
    const token = await (await fetch("/reset")).text();
    block.querySelector(".opblock-summary-control").click();
    // The button is there before the operation is loaded.
    await until("operation", () => block.querySelector(".responses-table .response"));
    const execute = await until("button", () => block.querySelector(".execute"));
    for (const input of block.querySelectorAll("tr[data-param-name=token] input")) {
      Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(input, token);
      input.dispatchEvent(new Event("input", { bubbles: true }));
      // The page takes the value 350 ms later, or when the input loses the focus.
      input.dispatchEvent(new FocusEvent("focusout", { bubbles: true }));
    }
    execute.click();
    const status = await until("status", () => block.querySelector(".live-responses-table .response .response-col_status"));
    const body = block.querySelector(".live-responses-table .microlight")?.textContent ?? "";
    await report([call, parseInt(status.textContent), body.slice(0, 300)].join(" "));
    if (call.endsWith("/events")) {
      const log = await until("live view", () => block.querySelector(".live pre"));
      await until("opening", () => log.textContent.includes("$open"));
      await fetch("/append");
      await until("entry", () => log.textContent.includes("dave"));
      await report("live " + call);
      block.querySelector(".live button").click();
      await until("end", () => block.querySelector(".live h4").textContent === "Ended");
    }
  };
  const blocks = await until("calls", () => {
    const all = [...document.querySelectorAll(".opblock")];
    return all.length > 40 && all;
  }, 30000);
  let count = 0;
  for (const block of blocks) {
    const text = (name) => block.querySelector(name).textContent.replaceAll("\u200b", "");
    const call = text(".opblock-summary-method") + " " + text(".opblock-summary-path");
    if (ONLY.length && !ONLY.includes(call)) continue;
    count += 1;
    await walk(block, call).catch((error) => report(call + " failed: " + error));
    block.querySelector(".opblock-summary-control").click();
  }
  await report("done " + count);
})().catch((error) => fetch("/report", { method: "POST", body: "done failed " + error }));
"#;

/// Serves the gateway under an origin of its own, with the driver behind the script of the page.
struct Front {
    origin: String,
    lines: Arc<Mutex<Vec<String>>>,
    _task: AbortOnDropHandle<()>,
}

impl Front {
    async fn start(app: Arc<TestApp>, server: Arc<Server>, only: &[&str]) -> Self {
        let driver = format!("const ONLY = {};\n{DRIVER}", json!(only));
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let (kept, of_append, of_reset) = (lines.clone(), server.clone(), app.clone());
        let add = async move || {
            of_append
                .command(&["XADD", "orders", "*", "user", "dave"])
                .await;
        };
        let router = axum::Router::new()
            .route(
                "/report",
                post(async move |line: String| kept.lock().unwrap().push(line)),
            )
            .route("/reset", get(async move || lay(&of_reset, &server).await))
            .route("/append", get(add))
            .fallback(async move |request: Request| forward(&app, request, &driver).await);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            origin,
            lines,
            _task: AbortOnDropHandle::new(task),
        }
    }
}

/// Starts a gateway whose client may do everything. Tickets exist only with authentication.
pub async fn authorized(server: &Server) -> TestApp {
    let file = AuthFile::new(&(record("docs", &["* *"]) + &source("shop", "orders", "github", "")));
    file.beside("shop.secret", SECRET);
    let auth = file.auth();
    let mut app = TestApp::on(&server.url(), |settings| settings.auth = auth.clone()).await;
    eventually("tickets can be made", async || auth.signs_tickets()).await;
    let bearer = HeaderValue::from_str(&format!("Bearer {}", key("docs"))).unwrap();
    app.client = client_with(|builder| {
        builder.default_headers(HeaderMap::from_iter([(AUTHORIZATION, bearer)]))
    });
    app
}

/// Lays out what the examples of the document name; answers the token of a delayed append.
pub async fn lay(app: &TestApp, server: &Server) -> String {
    server.command(&["FLUSHALL"]).await;
    server
        .command(&["XADD", "orders", ID, "user", "alice", "total", "9.5"])
        .await;
    let group = "/v1/streams/orders/groups/billing";
    let made = app.put_json(group, r#"{"policy":{}}"#).await.json();
    app.post_json(&format!("{group}/read"), r#"{"consumer":"w0"}"#)
        .await;
    app.put_json(&format!("{group}/consumers/w1"), "").await;
    let dead = made["policy"]["dead_letter"].as_str().unwrap();
    let mut letter = vec!["XADD", dead, ID, "user", "alice", "total", "9.5"];
    for (name, value) in [
        ("streamgate-stream", "orders"),
        ("streamgate-id", ID),
        ("streamgate-group", "billing"),
        ("streamgate-consumer", "w0"),
        ("streamgate-deliveries", "1"),
        ("streamgate-reason", "rejected"),
        ("streamgate-time", "1795271400250"),
    ] {
        letter.extend([name, value]);
    }
    server.command(&letter).await;
    server
        .command(&["XADD", "orders", NEXT_ID, "user", "bob", "total", "3.5"])
        .await;
    let later = json!({"fields": {"user": "carol"}}).to_string();
    let later = app
        .post_json("/v1/streams/orders/entries?delay=1h", &later)
        .await
        .json();
    later["scheduled"].as_str().unwrap().to_owned()
}

async fn forward(app: &TestApp, request: Request, driver: &str) -> Response {
    let path = request.uri().path_and_query().unwrap().to_string();
    let (parts, body) = request.into_parts();
    let mut sent = app.client.request(parts.method, app.url(&path));
    for (name, value) in &parts.headers {
        if ![HOST, ORIGIN, ACCEPT_ENCODING, IF_NONE_MATCH, CONTENT_LENGTH].contains(name) {
            sent = sent.header(name, value);
        }
    }
    let body = to_bytes(body, 1 << 20).await.unwrap();
    if path.starts_with("/v1/sources/") {
        // The page has no secret to sign a delivery with.
        sent = sent.header("x-hub-signature-256", github_signature(&body, SECRET));
    }
    let answer = sent.body(body).send().await.unwrap();
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        if ![CONTENT_LENGTH, TRANSFER_ENCODING].contains(name) {
            response = response.header(name, value);
        }
    }
    let body = match path.as_str() {
        "/docs/docs.js" => Body::from(answer.text().await.unwrap() + driver),
        _ => Body::from_stream(answer.bytes_stream()),
    };
    response.body(body).unwrap()
}

/// Walks through calls of the page, for at most so long. Returns what the driver reported.
async fn walk(only: &[&str], most: Duration) -> Vec<String> {
    let server = Arc::new(Server::start().await);
    let app = Arc::new(authorized(&server).await);
    let front = Front::start(app, server, only).await;
    let _browser = Browser::open(&format!("{}/docs/", front.origin));
    let lines = || front.lines.lock().unwrap().clone();
    let is_done = async || {
        while !lines().iter().any(|line| line.starts_with("done")) {
            elapse(50, "before the next look").await;
        }
    };
    let in_time = tokio::time::timeout(most, is_done()).await;
    let lines = lines();
    assert!(in_time.is_ok(), "not done after {lines:#?}");
    let failed: Vec<&String> = lines
        .iter()
        .filter(|line| {
            let status = line.split(' ').nth(2).unwrap_or_default();
            !line.starts_with("live ") && !line.starts_with("done ") && !status.starts_with('2')
        })
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
    lines
}

fn live(lines: &[String]) -> usize {
    lines
        .iter()
        .filter(|line| line.starts_with("live "))
        .count()
}

#[tokio::test]
async fn calls_of_the_docs_page_succeed_as_they_stand_and_a_stream_is_shown_as_it_comes() {
    let group = "/v1/streams/{stream}/groups/{group}";
    let calls = [
        "POST /v1/streams/{stream}/entries",
        "GET /v1/streams/{stream}/entries",
        "GET /v1/streams/{stream}/events",
        &format!("PUT {group}"),
        &format!("POST {group}/read"),
        &format!("POST {group}/ack"),
        "POST /v1/tickets",
    ];
    let lines = walk(&calls, 6 * PATIENCE).await;
    assert_eq!(lines.last().unwrap(), "done 7", "{lines:#?}");
    assert_eq!(live(&lines), 1, "streams shown as they come: {lines:#?}");
}

#[tokio::test]
#[ignore = "takes some minutes: run it after a change of the docs page"]
async fn every_call_of_the_docs_page_succeeds_as_it_stands_and_streams_are_shown_as_they_come() {
    let lines = walk(&[], Duration::from_secs(400)).await;
    assert_eq!(live(&lines), 3, "streams shown as they come: {lines:#?}");
    let count = crate::openapi::operations(&crate::openapi::document()).len();
    assert_eq!(
        lines.last().unwrap(),
        &format!("done {count}"),
        "{lines:#?}"
    );
}
