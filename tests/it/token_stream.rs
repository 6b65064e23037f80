//! `examples/token-stream` in a real browser: the page is reloaded while an answer is written, the
//! gateway restarts, and the whole text is compared.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::http::{StatusCode, Uri};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::support::app::client;
use crate::support::auth::{AuthFile, key, record};
use crate::support::chromium::Browser;
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::process::{Process, start_tied, tied};
use crate::support::redis::{Server, free_port};

/// Asks, reloads the page when a part of the answer is there, and reports what each load shows.
const SPY: &str = r#"<script>
addEventListener("load", () => {
  const loads = Number(sessionStorage.getItem("loads") ?? 0) + 1;
  sessionStorage.setItem("loads", loads);
  const shown = () => document.getElementById("answer").textContent;
  const state = () => document.getElementById("state").textContent;
  const report = (what) => fetch("/report", { method: "POST", keepalive: true,
    body: JSON.stringify({ loads, what, text: shown(), hash: location.hash }) });
  if (!location.hash) document.getElementById("ask").requestSubmit();
  let first = true;
  const timer = setInterval(async () => {
    if (first && shown()) { first = false; await report("first"); }
    if (loads < 3 && shown().length > 150 * loads && state() === "writing") {
      clearInterval(timer);
      await report("reload");
      location.reload();
    } else if (state() && state() !== "writing") {
      clearInterval(timer);
      await report(state());
    }
  }, 20);
});
</script>"#;

/// The example server as a process.
struct Example {
    child: Process,
    url: String,
}

impl Example {
    fn start(gateway: &str, token: Option<&str>) -> Self {
        let mut command = tied("python3");
        command
            .args(["examples/token-stream/server.py", gateway, "0"])
            .stdout(Stdio::piped());
        if let Some(token) = token {
            command.env("STREAMGATE_TOKEN", token);
        }
        let mut child = start_tied(command);
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let url = line.trim().trim_end_matches('/').to_owned();
        Self { child, url }
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves the page of the example with the spy, forwards its calls, and keeps the reports.
struct Front {
    reports: Arc<Mutex<Vec<Value>>>,
    _task: AbortOnDropHandle<()>,
}

impl Front {
    async fn start(port: u16, example: &str) -> Self {
        let reports: Arc<Mutex<Vec<Value>>> = Arc::default();
        let kept = reports.clone();
        let report = async move |body: String| {
            let report = serde_json::from_str(&body).unwrap();
            kept.lock().unwrap().push(report);
        };
        let page = std::fs::read_to_string("examples/token-stream/page.html").unwrap();
        let page = page.replacen("<script>", &format!("{SPY}<script>"), 1);
        let example = example.to_owned();
        let forward = async move |uri: Uri, body: Bytes| -> Response {
            let request = client().post(format!("{example}{}", uri.path())).body(body);
            let answer = request.send().await.unwrap();
            let status = StatusCode::from_u16(answer.status().as_u16()).unwrap();
            (status, answer.bytes().await.unwrap()).into_response()
        };
        let app = axum::Router::new()
            .route("/", get(async move || Html(page)))
            .route("/report", post(report))
            .route("/answers", post(forward.clone()))
            .route("/tickets", post(forward));
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            reports,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Returns the report of this kind, when it comes.
    async fn report(&self, loads: u32, what: &str) -> Value {
        let find = || {
            let reports = self.reports.lock().unwrap();
            let found = reports
                .iter()
                .find(|report| report["loads"] == loads && report["what"] == what);
            found.cloned()
        };
        eventually(&format!("load {loads} reports {what}"), async || {
            find().is_some()
        })
        .await;
        find().unwrap()
    }

    fn forget(&self) {
        self.reports.lock().unwrap().clear();
    }
}

fn text(report: &Value) -> String {
    report["text"].as_str().unwrap().to_owned()
}

fn whole_answer() -> String {
    let words: Vec<String> = (1..=40)
        .map(|n| format!("Word {n} of the answer. "))
        .collect();
    format!("You asked: What is a stream? {}", words.concat())
}

#[tokio::test]
async fn a_reloaded_page_goes_on_where_it_was_and_the_text_is_whole() {
    let server = Server::start().await;
    let (port, listen) = (free_port(), format!("127.0.0.1:{}", free_port()));
    let origin = format!("http://127.0.0.1:{port}");
    let start = || {
        let arguments = ["serve", "--listen", &listen, "--redis-url", &server.url()];
        Gateway::start(&[&arguments[..], &["--allow-origin", &origin]].concat())
    };
    let gateway = start();
    let example = Example::start(&format!("http://{listen}"), None);
    let front = Front::start(port, &example.url).await;
    let browser = Browser::open(&format!("{origin}/"));
    let before = front.report(1, "reload").await;
    let after = front.report(2, "first").await;
    assert_eq!(before["hash"], after["hash"]);
    let whole = whole_answer();
    assert!(text(&before).len() < whole.len(), "in the middle");
    assert!(text(&after).starts_with(&text(&before)), "{before} {after}");
    drop(gateway);
    let _gateway = start();
    let last = front.report(3, "complete").await;
    assert_eq!(text(&last), whole);
    // Another browser has nothing and gets the whole answer, which is complete by then.
    drop(browser);
    front.forget();
    let hash = last["hash"].as_str().unwrap();
    let _browser = Browser::open(&format!("{origin}/{hash}"));
    assert_eq!(text(&front.report(1, "complete").await), whole);
}

#[tokio::test]
async fn with_an_auth_file_the_page_gets_a_ticket_for_its_answer_alone() {
    let server = Server::start().await;
    let auth = AuthFile::new(&record("site", &["publish answer:*", "subscribe answer:*"]));
    let port = free_port();
    let origin = format!("http://127.0.0.1:{port}");
    let file = auth.path().display().to_string();
    let gateway = Gateway::start(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--redis-url",
        &server.url(),
        "--allow-origin",
        &origin,
        "--auth-file",
        &file,
    ]);
    let example = Example::start(&format!("http://{}", gateway.address), Some(&key("site")));
    let front = Front::start(port, &example.url).await;
    let _browser = Browser::open(&format!("{origin}/"));
    let last = front.report(3, "complete").await;
    assert_eq!(text(&last), whole_answer());
    let other = json!({"stream": "orders"}).to_string();
    let refused = client()
        .post(format!("{}/tickets", example.url))
        .body(other);
    assert_eq!(refused.send().await.unwrap().status(), 404);
}
