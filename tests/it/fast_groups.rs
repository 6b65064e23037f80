//! Reads and acknowledgments on the fast path answer as on the normal path, and leave the same.
//!
//! Each request goes to two gateways, of which one has no fast path. `FAST_SEED=…` repeats the draws.

use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value, json};
use streamgate::config::Settings;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::fast_path::{Both, seeded, with_headers};
use crate::support::auth::{AuthFile, record};
use crate::support::redis::{self, Server};
use crate::support::{TestApp, elapse, eventually};

const STREAMS: [&str; 7] = ["orders", "a", "missing", "text", "%6Frders", "{a}b", "."];
const GROUPS: [&str; 7] = ["g", "leased", "missing", "a b", "%67", "", "."];
// `nack` would make entries available again at a time that differs.
const ACTIONS: [&str; 8] = [
    "read", "ack", "read", "ack", "reject", "claim", "Read", "read/",
];
const QUERIES: [&str; 6] = ["", "?", "?delete=true", "?refs=keep", "?x=1", "?name64=YQ"];
const FORM: &str = "application/x-www-form-urlencoded";
const TYPES: [&str; 6] = [
    FORM,
    "application/json",
    "application/json;charset=utf-8",
    "text/plain",
    "",
    "application/merge-patch+json",
];
const FORMS: [&str; 30] = [
    "consumer=w&count=3",
    "ids=ID",
    "consumer=w&count=1&wait=60ms",
    "ids=ID&ids=ID",
    "consumer=v",
    "receipts=x",
    "consumer=w&history=0",
    "consumer=w&no_ack=true&count=1",
    "consumer=w&lease=1h&count=1",
    "consumer=w&payload=n",
    "consumer=w&payload=n&json=true",
    "consumer=w&max_bytes=1",
    "consumer=w&create=true",
    "consumer=w&start=0",
    "consumer=w&policy={}",
    "consumer=w&count=0",
    "consumer=w&count=x",
    "consumer=w&count=1&count=2",
    "consumer=w&wait=61s",
    "consumer=w&history=0&wait=1s",
    "consumer=",
    "count=1",
    "",
    "ids=x",
    "ids=",
    "ids=ID&receipts=x",
    "consumer=w&ids=ID",
    "ids=ID&publish=[]",
    "ids=%zz",
    "{}",
];
const JSON: [&str; 20] = [
    r#"{"consumer":"w","count":3}"#,
    r#"{"ids":["ID"]}"#,
    r#"{"consumer":"w","count":1,"wait":"60ms"}"#,
    r#"{"ids":["ID","ID","999-9"]}"#,
    r#"{"receipts":["x"]}"#,
    r#"{"consumer":"\u00e4"}"#,
    r#"{"consumer":"w","lease":"1h"}"#,
    r#"{"consumer":"w","create":true,"policy":{}}"#,
    r#"{"consumer":"w","policy":{}}"#,
    r#"{"consumer":1}"#,
    r#"{"consumer":"w","other":1}"#,
    r#"{"ids":["ID"],"publish":[{"stream":"{orders}x","fields":{"a":"1"}}]}"#,
    r#"{"ids":["ID"],"publish":[]}"#,
    r#"{"ids":"ID"}"#,
    r#"{"ids":[]}"#,
    "{}",
    "null",
    "",
    "{",
    "\u{feff}{\"ids\":[\"ID\"]}",
];

/// Returns a call that is mostly, but not quite, a usual one.
fn drawn(rng: &mut Rng, always: &[&str]) -> Vec<u8> {
    let pick = |rng: &mut Rng, usual: usize, all: &[&'static str]| {
        let most = if rng.u8(..8) == 0 { all.len() } else { usual };
        all[rng.usize(..most)]
    };
    let (stream, group) = (pick(rng, 2, &STREAMS), pick(rng, 2, &GROUPS));
    let (action, query) = (pick(rng, 4, &ACTIONS), pick(rng, 1, &QUERIES));
    let is_form = rng.bool();
    let media_type = match rng.u8(..8) {
        0 => TYPES[rng.usize(..TYPES.len())],
        _ => TYPES[usize::from(!is_form)],
    };
    let bodies: &[&str] = if is_form { &FORMS } else { &JSON };
    let mut body = bodies[rng.usize(..bodies.len())];
    if rng.bool() {
        // A body that fits.
        let at = usize::from(action == "ack") + 2 * rng.usize(..2);
        body = bodies[at];
    }
    let body = body.replace("ID", &format!("{}-0", 1 + rng.u8(..60)));
    let line = format!("POST /v1/streams/{stream}/groups/{group}/{action}{query} HTTP/1.1");
    let headers = [
        "host: localhost:8080".to_owned(),
        format!("content-type: {media_type}"),
    ];
    with_headers(rng, &line, headers, &body, always)
}

/// Two streams with entries `1-0` to `60-0` and two groups each.
async fn filled(change: impl Fn(&mut Settings)) -> Both {
    let both = Both::start(change).await;
    for (server, app) in &both.0 {
        let app = app.as_key("root");
        for stream in ["orders", "a"] {
            for (group, policy) in [("g", json!(null)), ("leased", json!({"lease": "10m"}))] {
                let path = format!("/v1/streams/{stream}/groups/{group}");
                let made = app.call("PUT", &path, json!({"policy": policy}));
                assert_eq!(made.await.status, 201);
            }
            for n in 1..=60 {
                let (id, n) = (format!("{n}-0"), n.to_string());
                server.command(&["XADD", stream, &id, "n", &n]).await;
            }
        }
    }
    both
}

/// Returns what each consumer of each group holds.
async fn held(server: &Server) -> Vec<Value> {
    let mut all = Vec::new();
    for stream in ["orders", "a"] {
        for group in ["g", "leased"] {
            let pending = ["XPENDING", stream, group, "-", "+", "1000"];
            let pending = redis::json(&server.command(&pending).await);
            let entries = pending.as_array().unwrap().iter();
            // Without the time since the delivery.
            let entries = entries.map(|entry| json!([entry[0], entry[1], entry[3]]));
            all.push(entries.collect());
        }
    }
    all
}

/// Sends many calls both ways, with these settings. Returns the number on the fast path.
async fn compare_many(count: usize, always: &[&str], change: impl Fn(&mut Settings)) -> usize {
    let (both, mut rng) = (filled(change).await, seeded());
    for _ in 0..count {
        both.send(&drawn(&mut rng, always)).await;
    }
    let [(one, _), (two, _)] = &both.0;
    assert_eq!(held(one).await, held(two).await);
    both.compare().await
}

#[tokio::test]
async fn both_paths_read_and_acknowledge_the_same() {
    let fast = compare_many(1000, &[], |_| {}).await;
    assert!((150..800).contains(&fast), "{fast} of 1000");
}

#[tokio::test]
async fn both_paths_admit_the_same_workers() {
    let file = AuthFile::new(
        &(record("a", &["consume a*", "publish orders"]) + &record("root", &["* *"])),
    );
    let fast = compare_many(400, &["authorization: Bearer KEY"], |settings| {
        settings.auth = file.auth();
    })
    .await;
    assert!(fast > 20, "{fast} of 400");
}

#[tokio::test]
async fn both_paths_give_workers_the_same_complete_answers() {
    // A slow request is logged, with a record of its own.
    let fast = compare_many(300, &[], |settings| {
        settings.api.slow_request = Duration::ZERO;
        settings.limits.max_consumers = 1;
        settings.limits.max_waiting = 0;
    })
    .await;
    assert!(fast > 20, "{fast} of 300");
}

fn call(action: &str, body: &str) -> String {
    format!(
        "POST /v1/streams/orders/groups/g/{action} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {FORM}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn a_large_answer_is_whole_and_counted() {
    let both = Both::start(|_| {}).await;
    let value = "x".repeat(1 << 20);
    for (server, app) in &both.0 {
        app.put_json("/v1/streams/orders/groups/g", "{}").await;
        for n in 1..=8 {
            let id = format!("{n}-0");
            server.command(&["XADD", "orders", &id, "n", &value]).await;
        }
    }
    let answer = both.send(call("read", "consumer=w").as_bytes()).await;
    assert_eq!(answer.matches(&value).count(), 8);
    for (_, app) in &both.0 {
        let mut socket = TcpStream::connect(app.address).await.unwrap();
        let again = call("read", "consumer=w&history=0");
        socket.write_all(again.as_bytes()).await.unwrap();
        eventually("it is counted until it is read", async || {
            app.metric("answer_bytes").await > 8 << 20
        })
        .await;
        drop(socket);
        eventually("it is given up", async || {
            app.metric("answer_bytes").await == 0
        })
        .await;
    }
    assert_eq!(both.compare().await, 2);
}

/// A gateway and a connection to it, with an empty group.
async fn connected() -> (Server, TestApp, TcpStream) {
    let server = Server::start().await;
    let app = TestApp::on(&server.url(), |settings| {
        settings.server.header_timeout = Duration::from_millis(500);
        settings.server.idle_timeout = Duration::from_millis(500);
    })
    .await;
    app.put_json("/v1/streams/orders/groups/g", r#"{"policy":{}}"#)
        .await;
    let socket = TcpStream::connect(app.address).await.unwrap();
    (server, app, socket)
}

async fn waits(app: &TestApp) {
    eventually("it waits", async || app.metric("waiting_reads").await == 1).await;
}

/// Reads answers until as many have come.
async fn answers(socket: &mut TcpStream, count: usize) -> String {
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if text.matches("\r\n\r\n{").count() >= count && text.ends_with("}\n") {
            return text;
        }
        assert!(socket.read_buf(&mut answer).await.unwrap() > 0, "{text}");
    }
}

#[tokio::test]
async fn a_read_that_waits_lasts_longer_than_an_idle_connection() {
    let (_server, app, mut socket) = connected().await;
    let read = call("read", "consumer=w&wait=20s");
    socket.write_all(read.as_bytes()).await.unwrap();
    waits(&app).await;
    elapse(1200, "the connection would be idle for too long").await;
    app.publish("orders", "x").await;
    let answer = answers(&mut socket, 1).await;
    assert!(answer.contains("\"receipt\":"), "{answer}");
    // With the append.
    assert_eq!(app.metric("fast_requests_total").await, 2);
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_is_noticed() {
    let (_server, app, mut socket) = connected().await;
    let read = call("read", "consumer=w&wait=20s");
    socket.write_all(read.as_bytes()).await.unwrap();
    waits(&app).await;
    drop(socket);
    eventually("it has left", async || {
        app.metric("waiting_reads").await == 0
    })
    .await;
    app.publish("orders", "x").await;
    let read = app.post_form("/v1/streams/orders/groups/g/read", "consumer=v");
    let entry = read.await.json()["entries"][0].clone();
    assert_eq!(entry["deliveries"], 1, "nobody has got it before: {entry}");
}

#[tokio::test]
async fn requests_behind_a_read_that_waits_are_answered_after_it() {
    let (_server, app, mut socket) = connected().await;
    let read = call("read", "consumer=w&wait=20s");
    socket.write_all(read.as_bytes()).await.unwrap();
    waits(&app).await;
    let ack = call("ack", "ids=1-0");
    let (first, second) = ack.split_at(30);
    socket.write_all(first.as_bytes()).await.unwrap();
    elapse(50, "the part is on its way alone").await;
    app.publish("orders", "x").await;
    let answer = answers(&mut socket, 1).await;
    assert!(answer.contains("\"receipt\":"), "{answer}");
    let rest = format!("{second}{}", call("ack", "ids=2-0"));
    socket.write_all(rest.as_bytes()).await.unwrap();
    let answer = answers(&mut socket, 2).await;
    assert_eq!(answer.matches("not-pending").count(), 2, "{answer}");
}

#[tokio::test]
async fn a_read_that_waits_ends_when_the_gateway_stops() {
    let (_server, app, mut socket) = connected().await;
    let read = call("read", "consumer=w&wait=60s");
    socket.write_all(read.as_bytes()).await.unwrap();
    waits(&app).await;
    let began = Instant::now();
    app.stop().await;
    assert!(began.elapsed().as_secs() < 6, "{:?}", began.elapsed());
    let mut rest = String::new();
    socket.read_to_string(&mut rest).await.unwrap();
    assert!(rest.contains("{\"entries\":[]}"), "{rest}");
}
