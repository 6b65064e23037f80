//! A real browser: a page of another, allowed origin follows a stream while the gateway stops and
//! restarts.

use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::support::auth::{AuthFile, key, record};
use crate::support::chromium::Browser;
use crate::support::gateway::Gateway;
use crate::support::redis::{Server, free_port};
use crate::support::{encode, eventually, unique};

const PAGE: &str = r#"<!doctype html><title>follower</title><script>
const report = (line) => { queue = queue.then(() => fetch("/report", { method: "POST", body: line })); };
let queue = Promise.resolve();
const { url, tickets, key, stream } = Object.fromEntries(new URLSearchParams(location.search));
const cookie = async () => {
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
  const body = JSON.stringify({ streams: [stream], cookie: true });
  const made = await fetch(tickets, { method: "POST", credentials: "include", headers, body });
  report("made " + (await made.json()).ticket);
};
const begin = tickets ? cookie() : Promise.resolve();
begin.catch((error) => report("failed " + error)).then(() => {
const source = new EventSource(url, { withCredentials: Boolean(tickets) });
source.onopen = () => report("open");
source.onerror = () => report("error " + source.readyState);
source.onmessage = (event) => report("entry " + JSON.parse(event.data).fields.n);
for (const name of ["$open", "$end", "$gap", "$reset"]) source.addEventListener(name, (event) => report(name + " " + event.data));
});
</script>"#;

/// Returns the example page, modified to report what it shows.
fn example() -> String {
    let spy = r#"<script>
const shown = (line) => { told = told.then(() => fetch("/report", { method: "POST", body: line })); };
let told = Promise.resolve();
new MutationObserver((changes) => {
  for (const change of changes) for (const node of change.addedNodes) shown((node.className || "shown") + " " + node.textContent);
}).observe(document.querySelector("body"), { childList: true, subtree: true });
</script>"#;
    let page = std::fs::read_to_string("examples/follow.html").unwrap();
    // This script comes first, so that it sees everything the page shows.
    page.replacen("<script>", &format!("{spy}<script>"), 1)
}

/// Serves the pages and stores their reports.
struct PageServer {
    origin: String,
    reports: Arc<Mutex<Vec<String>>>,
    _task: AbortOnDropHandle<()>,
}

impl PageServer {
    async fn start() -> Self {
        let reports: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = reports.clone();
        let app = axum::Router::new()
            .route(
                "/",
                axum::routing::get(|| async { axum::response::Html(PAGE) }),
            )
            .route(
                "/follow.html",
                axum::routing::get(|| async { axum::response::Html(example()) }),
            )
            .route(
                "/report",
                axum::routing::post(async move |line: String| kept.lock().unwrap().push(line)),
            );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            origin,
            reports,
            _task: AbortOnDropHandle::new(task),
        }
    }

    fn lines(&self) -> Vec<String> {
        self.reports.lock().unwrap().clone()
    }

    fn entries(&self) -> Vec<String> {
        self.lines()
            .iter()
            .filter_map(|line| line.strip_prefix("entry ").map(str::to_owned))
            .collect()
    }
}

#[tokio::test]
async fn an_event_source_of_an_allowed_origin_gets_every_entry_once_across_restarts_of_gateway_and_redis()
 {
    let (server, page) = (Server::start().await, PageServer::start().await);
    let (stream, listen) = (unique("browser"), format!("127.0.0.1:{}", free_port()));
    let start = || {
        Gateway::start(&[
            "serve",
            "--listen",
            &listen,
            "--redis-url",
            &server.url(),
            "--allow-origin",
            &page.origin,
        ])
    };
    let mut gateway = start();
    let url = format!("http://{listen}/v1/streams/{stream}/events?after=0");
    let query = percent_encoding::utf8_percent_encode(&url, percent_encoding::NON_ALPHANUMERIC);
    let _browser = Browser::open(&format!("{}/?url={query}", page.origin));
    eventually("the page follows", async || {
        page.lines().iter().any(|line| line.starts_with("$open"))
    })
    .await;
    let mut count = 0;
    let mut publish = async || {
        for _ in 0..5 {
            count += 1;
            // Written directly to Redis: the gateway can be down.
            server
                .command(&["XADD", &stream, "*", "n", &count.to_string()])
                .await;
        }
        (1..=count).map(|n: u32| n.to_string()).collect::<Vec<_>>()
    };
    for round in 0..2 {
        let expected = publish().await;
        eventually("all entries came", async || page.entries() == expected).await;
        // A graceful shutdown, then a crash.
        if round == 0 {
            gateway.signal("TERM");
            assert!(gateway.wait().success());
        } else {
            gateway.signal("KILL");
            gateway.wait();
        }
        publish().await;
        gateway = start();
        let expected = publish().await;
        eventually("all entries came", async || {
            page.entries().len() >= expected.len()
        })
        .await;
        assert_eq!(page.entries(), expected);
    }
    // Redis is down when the browser reconnects, and the browser must keep retrying.
    server.kill();
    gateway.signal("KILL");
    gateway.wait();
    let _gateway = start();
    let ends = |line: &String| line.starts_with("$end") && line.contains("redis-unavailable");
    eventually("the page is told why", async || {
        page.lines().iter().any(ends)
    })
    .await;
    server.start_again().await;
    let expected = publish().await;
    eventually("all entries came", async || {
        page.entries().len() >= expected.len()
    })
    .await;
    assert_eq!(page.entries(), expected);
    assert!(
        page.lines().iter().any(|line| line.contains("draining")),
        "the stop was told"
    );
    assert!(
        !page.lines().iter().any(|line| line == "error 2"),
        "the browser never gave up: {:?}",
        page.lines()
    );
    assert!(
        !page
            .lines()
            .iter()
            .any(|line| line.starts_with("$gap") || line.starts_with("$reset"))
    );
}

/// A subscription opened with a ticket survives its connection, but not the ticket.
#[tokio::test]
async fn a_browser_with_a_ticket_comes_back_until_it_ends() {
    let (server, page) = (Server::start().await, PageServer::start().await);
    let (stream, listen) = (unique("ticket"), format!("127.0.0.1:{}", free_port()));
    let file = AuthFile::new(&record("root", &["* *"]));
    let path = file.path();
    let arguments = [
        "serve",
        "--listen",
        &listen,
        "--redis-url",
        &server.url(),
        "--allow-origin",
        &page.origin,
    ];
    let start =
        || Gateway::start(&[&arguments[..], &["--auth-file", path.to_str().unwrap()]].concat());
    let mut gateway = start();
    let client = crate::support::app::client();
    let ticket = async |cookie: bool| {
        let body = json!({"streams": [stream], "ttl": "12s", "cookie": cookie}).to_string();
        let request = client
            .post(format!("http://{listen}/v1/tickets"))
            .bearer_auth(key("root"));
        let request = request
            .header("content-type", "application/json")
            .body(body);
        crate::support::app::answer(request).await.unwrap()
    };
    eventually("tickets are made", async || {
        ticket(false).await.status == 200
    })
    .await;
    let ticket = ticket(false).await.json()["ticket"]
        .as_str()
        .unwrap()
        .to_owned();
    let url = format!("http://{listen}/v1/streams/{stream}/events?after=0&ticket={ticket}");
    let _browser = Browser::open(&format!("{}/?url={}", page.origin, encode(&url)));
    let add = async |n: &str| {
        server.command(&["XADD", &stream, "*", "n", n]).await;
    };
    add("1").await;
    eventually("the first came", async || page.entries() == ["1"]).await;
    gateway.signal("TERM");
    assert!(gateway.wait().success());
    add("2").await;
    let _gateway = start();
    eventually("the second came", async || page.entries() == ["1", "2"]).await;
    eventually("it has ended", async || {
        page.lines()
            .contains(&r#"$end {"reason":"expired"}"#.to_owned())
    })
    .await;
    eventually("the browser gives up", async || {
        page.lines().contains(&"error 2".to_owned())
    })
    .await;
}

#[tokio::test]
async fn a_browser_with_a_cookie_follows_what_that_is_for() {
    let (server, page) = (Server::start().await, PageServer::start().await);
    let stream = unique("cookie");
    let file = AuthFile::new(&record("root", &["* *"]));
    let path = file.path();
    let arguments = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--redis-url",
        &server.url(),
        "--allow-origin",
        &page.origin,
    ];
    let gateway =
        Gateway::start(&[&arguments[..], &["--auth-file", path.to_str().unwrap()]].concat());
    server.command(&["XADD", &stream, "*", "n", "1"]).await;
    let base = format!("http://{}/v1", gateway.address);
    let url = encode(&format!("{base}/streams/{stream}/events?after=0"));
    let (tickets, key) = (encode(&format!("{base}/tickets")), key("root"));
    let query = format!("url={url}&tickets={tickets}&key={key}&stream={stream}");
    let _browser = Browser::open(&format!("{}/?{query}", page.origin));
    eventually("the entry came", async || page.entries() == ["1"]).await;
    assert!(
        page.lines().contains(&"made null".to_owned()),
        "no script sees the ticket: {:?}",
        page.lines()
    );
}

#[tokio::test]
async fn a_page_of_a_foreign_origin_gets_nothing() {
    let (server, page) = (Server::start().await, PageServer::start().await);
    let gateway = Gateway::start(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--redis-url",
        &server.url(),
    ]);
    server.command(&["XADD", "secret", "*", "n", "1"]).await;
    let url = format!(
        "http://{}/v1/streams/secret/events?after=0",
        gateway.address
    );
    let query = percent_encoding::utf8_percent_encode(&url, percent_encoding::NON_ALPHANUMERIC);
    let _browser = Browser::open(&format!("{}/?url={query}", page.origin));
    eventually("the browser gives up", async || {
        page.lines().contains(&"error 2".to_owned())
    })
    .await;
    assert_eq!(page.entries(), Vec::<String>::new());
}

#[tokio::test]
async fn the_example_page_shows_entries_and_what_else_there_is_to_know() {
    let (server, page) = (Server::start().await, PageServer::start().await);
    let listen = format!("127.0.0.1:{}", free_port());
    let start = || {
        let arguments = ["serve", "--listen", &listen, "--redis-url", &server.url()];
        Gateway::start(&[&arguments[..], &["--allow-origin", &page.origin]].concat())
    };
    let gateway = start();
    let add = async |user: &str| {
        server.command(&["XADD", "orders", "*", "user", user]).await;
    };
    add("alice").await;
    let query = encode(&format!("http://{listen}"));
    let _browser = Browser::open(&format!("{}/follow.html?gateway={query}", page.origin));
    let shows = async |line: &str| {
        eventually(line, async || {
            page.lines().iter().any(|seen| seen.contains(line))
        })
        .await;
    };
    shows("shown following").await;
    shows(r#"shown {"user":"alice"}"#).await;
    add("bob").await;
    shows(r#"shown {"user":"bob"}"#).await;
    assert!(gateway.stop().success());
    shows(r#"signal $end {"reason":"draining"}"#).await;
    shows("shown reconnecting").await;
    add("carol").await;
    server.command(&["XTRIM", "orders", "MAXLEN", "0"]).await;
    add("dave").await;
    let _gateway = start();
    shows("signal $gap").await;
    shows(r#"shown {"user":"dave"}"#).await;
    server.command(&["DEL", "orders"]).await;
    shows("signal $reset").await;
    let entries = page
        .lines()
        .into_iter()
        .filter(|line| line.starts_with("shown {"));
    assert_eq!(entries.count(), 3, "each entry once: {:?}", page.lines());
}
