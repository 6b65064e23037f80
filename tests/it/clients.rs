//! Widely used clients that follow awkward entries while connections are cut, the gateway restarts
//! and new entries arrive. Each client receives every entry once, in order and unchanged.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{get, post};
use deadpool_redis::redis::{Client as RedisClient, Cmd};
use eventsource_client::{Client as _, ClientBuilder, ReconnectOptions, SSE};
use futures_util::StreamExt as _;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::awkward::{self, Fields, LARGE, MIDDLE};
use crate::support::chromium::Browser;
use crate::support::cutting::{Cut, Cutting};
use crate::support::gateway::Gateway;
use crate::support::process::{Process, start_tied, tied};
use crate::support::redis::{Server, free_port};
use crate::support::{TestApp, elapse, encode, eventually, unique};

/// Each client waits up to three seconds before a reconnect, six times.
const PATIENCE: Duration = Duration::from_secs(60);

/// Connection cuts for each client. The third is in the middle of an entry of 1 MiB.
const CUTS: [Cut; 6] = [
    Cut::After(1 + 4),
    Cut::Within(1 + 4, "id: 1"),
    Cut::Within(1 + 3, MIDDLE),
    // These follow the restart of the gateway.
    Cut::Within(1 + 3, "\"stream\":"),
    Cut::After(1),
    Cut::BeforeEnd(1 + 4),
];

/// Connection cuts for a client that stores an id as soon as it has read the id line. For such a
/// client, a cut before the last byte of an event comes too late.
const CUTS_BEFORE_ID: [Cut; 6] = [
    CUTS[0],
    CUTS[1],
    CUTS[2],
    CUTS[3],
    CUTS[4],
    Cut::Within(1 + 4, "id: 1"),
];

/// An event as a client reports it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Seen {
    event: String,
    #[serde(default)]
    id: Option<String>,
    data: String,
}

type Reports = Arc<Mutex<BTreeMap<String, Vec<Seen>>>>;

fn report(reports: &Reports, client: &str, seen: Seen) {
    reports
        .lock()
        .unwrap()
        .entry(client.to_owned())
        .or_default()
        .push(seen);
}

/// Returns the directory where `make test-clients` installs the clients.
fn installed() -> PathBuf {
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/clients"));
    assert!(
        dir.join("pins").exists(),
        "the clients are not installed: run `make test-clients` (`make test` does)"
    );
    dir
}

/// Starts a client in its own process, which prints what it receives.
fn start_client(
    client: &'static str,
    program: &str,
    script: &str,
    url: &str,
    reports: &Reports,
) -> Process {
    let script = format!("{}/tests/clients/{script}", env!("CARGO_MANIFEST_DIR"));
    let mut command = tied(program);
    command
        .args([&script, url])
        .current_dir(installed())
        .stdout(Stdio::piped());
    let mut process = start_tied(command);
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let reports = reports.clone();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            report(&reports, client, serde_json::from_str(&line).unwrap());
        }
    });
    process
}

/// Follows a stream with the crate `eventsource-client`.
fn follow_by_crate(url: &str, reports: &Reports) -> AbortOnDropHandle<()> {
    let again = ReconnectOptions::reconnect(true)
        .retry_initial(true)
        .backoff_factor(1)
        .build();
    let client = ClientBuilder::for_url(url)
        .unwrap()
        .reconnect(again)
        .build_http();
    let reports = reports.clone();
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut events = client.stream();
        while let Some(event) = events.next().await {
            if let Ok(SSE::Event(event)) = event {
                let seen = Seen {
                    event: event.event_type,
                    id: event.id,
                    data: event.data,
                };
                report(&reports, "eventsource-client", seen);
            }
        }
    }))
}

/// Serves the page with the browser clients and stores their reports.
struct PageServer {
    origin: String,
    /// Another page, served under `/own`.
    own: Arc<Mutex<String>>,
    _task: AbortOnDropHandle<()>,
}

impl PageServer {
    async fn start(reports: &Reports) -> Self {
        let page = || async { Html(include_str!("../clients/follow.html")) };
        let keep =
            async |State(reports): State<Reports>, Path(client): Path<String>, body: String| {
                report(&reports, &client, serde_json::from_str(&body).unwrap());
            };
        let own = Arc::<Mutex<String>>::default();
        let shown = own.clone();
        let app = axum::Router::new()
            .route("/", get(page))
            .route(
                "/own",
                get(|| async move { Html(shown.lock().unwrap().clone()) }),
            )
            .route("/modules/{*path}", get(module))
            .route("/report/{client}", post(keep))
            .layer(DefaultBodyLimit::disable())
            .with_state(reports.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            origin,
            own,
            _task: AbortOnDropHandle::new(task),
        }
    }
}

/// Serves a file of a package. The path may omit `.js`, as bundlers allow.
async fn module(Path(path): Path<String>) -> Response {
    let name = format!("{}.js", path.strip_suffix(".js").unwrap_or(&path));
    let text = std::fs::read_to_string(installed().join("node_modules").join(name)).unwrap();
    ([(CONTENT_TYPE, "text/javascript")], text).into_response()
}

/// Appends entries as a native client and returns their representation in events.
async fn append(server: &Server, stream: &str, entries: &[Fields]) -> Vec<String> {
    let client = RedisClient::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut told = Vec::new();
    for fields in entries {
        let mut command = Cmd::new();
        command.arg("XADD").arg(stream).arg("*");
        for (name, value) in fields {
            command.arg(name.as_slice()).arg(value.as_slice());
        }
        let id: String = command.query_async(&mut connection).await.unwrap();
        told.push(awkward::shown(stream, &id, fields));
    }
    told
}

/// Returns the entries a client received, in order of arrival.
fn entries(reports: &Reports, client: &str) -> Vec<Seen> {
    let seen = reports
        .lock()
        .unwrap()
        .get(client)
        .cloned()
        .unwrap_or_default();
    seen.into_iter()
        .filter(|seen| !seen.event.starts_with('$'))
        .collect()
}

/// Waits until every client has `count` entries.
async fn all_have(reports: &Reports, proxies: &BTreeMap<&'static str, Cutting>, count: usize) {
    let behind = || -> Vec<String> {
        let all = proxies
            .iter()
            .map(|(client, proxy)| (client, entries(reports, client).len(), proxy));
        let behind = all.filter(|(_, seen, _)| *seen < count);
        behind
            .map(|(client, seen, proxy)| {
                format!("{client} has {seen}, with {} cuts left", proxy.left())
            })
            .collect()
    };
    let deadline = Instant::now() + PATIENCE;
    while !behind().is_empty() {
        assert!(
            Instant::now() < deadline,
            "not all have {count} entries: {:#?}",
            behind()
        );
        elapse(20, "before the next look").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_people_use_get_every_awkward_entry_once_and_in_order_though_connections_break()
 {
    let (server, reports) = (Server::start().await, Reports::default());
    let (stream, listen) = (unique("clients"), format!("127.0.0.1:{}", free_port()));
    let page = PageServer::start(&reports).await;
    let start = || {
        let arguments = ["serve", "--listen", &listen, "--redis-url", &server.url()];
        Gateway::start(&[&arguments[..], &["--allow-origin", &page.origin]].concat())
    };
    let awkward = awkward::entries();
    let (before, after) = awkward.split_at(LARGE + 2);

    let gateway = start();
    let mut expected = append(&server, &stream, before).await;
    let mut proxies = BTreeMap::new();
    for client in [
        "chromium",
        "event-source-polyfill",
        "eventsource",
        "eventsource-client",
        "fetch-event-source",
        "httpx-sse",
        "sseclient-py",
    ] {
        let cuts = if client == "fetch-event-source" {
            &CUTS_BEFORE_ID
        } else {
            &CUTS
        };
        proxies.insert(client, Cutting::to(gateway.address, cuts).await);
    }
    let url = |client: &str| {
        format!(
            "http://{}/v1/streams/{stream}/events?after=0",
            proxies[client].address
        )
    };
    let query: Vec<String> = ["chromium", "event-source-polyfill", "fetch-event-source"]
        .map(|client| format!("{client}={}", encode(&url(client))))
        .into();
    let python = installed().join("python/bin/python");
    let process = |client, program: &str, script| {
        start_client(client, program, script, &url(client), &reports)
    };
    let _running = (
        Browser::open(&format!("{}/?{}", page.origin, query.join("&"))),
        process("eventsource", "node", "follow_eventsource.mjs"),
        process("httpx-sse", python.to_str().unwrap(), "follow_httpx_sse.py"),
        process(
            "sseclient-py",
            python.to_str().unwrap(),
            "follow_sseclient_py.py",
        ),
        follow_by_crate(&url("eventsource-client"), &reports),
    );

    all_have(&reports, &proxies, expected.len()).await;
    assert!(gateway.stop().success());
    let _gateway = start();
    expected.extend(append(&server, &stream, after).await);
    all_have(&reports, &proxies, expected.len()).await;
    // A duplicate would arrive before this additional entry.
    expected.extend(
        append(
            &server,
            &stream,
            &[vec![(b"last".to_vec(), b"one".to_vec())]],
        )
        .await,
    );
    all_have(&reports, &proxies, expected.len()).await;

    for (client, proxy) in &proxies {
        assert_eq!(proxy.left(), 0, "{client}: every cut was made");
        let seen = entries(&reports, client);
        for (index, (seen, expected)) in seen.iter().zip(&expected).enumerate() {
            assert!(
                seen.data == *expected,
                "{client}: entry {index} is {:.300}",
                seen.data
            );
            let id = format!("{}:{}", id_in(expected), index + 1);
            assert_eq!(seen.id.as_ref(), Some(&id), "{client}: entry {index}");
        }
        assert_eq!(seen.len(), expected.len(), "{client}");
        let told = reports.lock().unwrap()[*client].clone();
        let signals: Vec<&str> = told.iter().map(|seen| seen.event.as_str()).collect();
        assert!(
            signals.contains(&"$open") && signals.contains(&"$end"),
            "{client}: {signals:?}"
        );
        for never in ["$gap", "$reset", "$error"] {
            assert!(!signals.contains(&never), "{client}: {signals:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_stop_when_a_finished_stream_has_been_read() {
    let reports = Reports::default();
    let page = PageServer::start(&reports).await;
    let origins = vec![page.origin.clone()];
    let app = TestApp::start_with(|settings| settings.api.origins = origins).await;
    let stream = app.stream_of("finished", 3).await;
    let url = app.url(&format!("/v1/streams/{stream}/events?after=0&end=2-0"));
    let clients = ["chromium", "event-source-polyfill", "fetch-event-source"];
    let query = clients.map(|client| format!("{client}={}", encode(&url)));
    let _running = (
        Browser::open(&format!("{}/?{}", page.origin, query.join("&"))),
        start_client(
            "eventsource",
            "node",
            "follow_eventsource.mjs",
            &url,
            &reports,
        ),
    );
    for client in clients.into_iter().chain(["eventsource"]) {
        let told = || {
            let seen = reports
                .lock()
                .unwrap()
                .get(client)
                .cloned()
                .unwrap_or_default();
            seen.into_iter().map(|seen| seen.event).collect::<Vec<_>>()
        };
        let is_over = async || told().last().is_some_and(|last| last == "closed");
        eventually(&format!("{client} stops"), is_over).await;
        assert_eq!(
            told(),
            ["$open", "message", "message", "$end", "closed"],
            "{client}"
        );
    }
}

/// A script that resumes after the last event that this tab saw, also when the page is loaded again.
const RESUMING: &str = r#"const seen = sessionStorage.getItem("orders");
const events = new EventSource("/v1/streams/orders/events?after=0" + (seen ? "&last_event_id=" + seen : ""));
events.onmessage = (event) => {
  console.log(event.lastEventId, JSON.parse(event.data));
  sessionStorage.setItem("orders", event.lastEventId);
};"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_keeps_the_last_id_goes_on_after_a_reload() {
    let reports = Reports::default();
    let page = PageServer::start(&reports).await;
    let origins = vec![page.origin.clone()];
    let app = TestApp::start_with(|settings| settings.api.origins = origins).await;
    let stream = app.stream_of("snippet", 2).await;
    let events = app.url(&format!("/v1/streams/{stream}/events"));
    let snippet = RESUMING.replace("/v1/streams/orders/events", &events);
    let script = format!(
        "<script>console.log = async (id) => {{\n\
           const body = JSON.stringify({{ event: \"message\", id, data: \"\" }});\n\
           await fetch(\"/report/snippet\", {{ method: \"POST\", body }});\n\
           if (id.startsWith(\"2-0\")) location.reload();\n}};\n\
         fetch(\"/report/snippet\", {{ method: \"POST\", body: '{{\"event\":\"$loaded\",\"data\":\"\"}}' }});\n\
         {snippet}</script>"
    );
    *page.own.lock().unwrap() = script;
    let _browser = Browser::open(&format!("{}/own", page.origin));
    let seen = || -> Vec<String> {
        entries(&reports, "snippet")
            .into_iter()
            .filter_map(|seen| seen.id)
            .collect()
    };
    // A page that is reloading can receive an entry without reporting it.
    let loaded = || {
        let told = reports
            .lock()
            .unwrap()
            .get("snippet")
            .cloned()
            .unwrap_or_default();
        told.iter().filter(|seen| seen.event == "$loaded").count()
    };
    eventually("it is reloaded", async || loaded() == 2).await;
    let id = app.publish(&stream, "3").await;
    eventually("the third is seen", async || seen().len() >= 3).await;
    // Reports are requests of their own and can arrive in another order.
    let mut ids = seen();
    ids.sort_unstable();
    assert_eq!(
        ids,
        ["1-0:1".to_owned(), format!("{id}:3"), "2-0:2".to_owned()]
    );
}

/// Returns the id of an entry in the representation of `shown`.
fn id_in(shown: &str) -> &str {
    shown.split('"').nth(7).unwrap()
}
