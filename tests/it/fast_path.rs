//! The fast path answers as the normal path does, and stores the same.
//!
//! Each request goes to two gateways, of which one has no fast path. `FAST_SEED=…` repeats the draws.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use fastrand::Rng;
use serde_json::Value;
use streamgate::config::Settings;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::auth::{AuthFile, key, record};
use crate::support::redis::{Server, json};
use crate::support::{TestApp, elapse, eventually};

/// A gateway with the fast path and one without, each with its own Redis.
pub struct Both(pub [(Server, TestApp); 2]);

const AFTERWARDS: &str = "GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

impl Both {
    pub async fn start(change: impl Fn(&mut Settings)) -> Self {
        let start = async |fast_path: bool| {
            let server = Server::start().await;
            server.command(&["SET", "text", "x"]).await;
            let app = TestApp::on(&server.url(), |settings| {
                settings.api.fast_path = fast_path;
                change(settings);
            })
            .await;
            (server, app)
        };
        Self([start(true).await, start(false).await])
    }

    /// Sends the same bytes to both. Returns what both answer, with times and generated ids replaced.
    pub async fn send(&self, request: &[u8]) -> String {
        let [(_, fast), (_, normal)] = &self.0;
        let answers = tokio::join!(transcript(fast, request), transcript(normal, request));
        let shown = String::from_utf8_lossy(request);
        assert_eq!(answers.0, answers.1, "{shown}");
        answers.0
    }

    /// Checks that both stored and counted the same. Returns the number of requests on the fast path.
    pub async fn compare(self) -> usize {
        let [(one, fast), (two, normal)] = self.0;
        assert_eq!(stored(&one).await, stored(&two).await);
        let ((fast, counted), (normal, same)) = (counts(&fast).await, counts(&normal).await);
        assert_eq!(counted, same);
        assert_eq!(normal, 0);
        fast
    }
}

/// Sends a request, and another one after its response. Returns everything that comes back.
async fn transcript(app: &TestApp, request: &[u8]) -> String {
    let mut socket = TcpStream::connect(app.address).await.unwrap();
    socket.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    while !is_whole(&answer) {
        match socket.read_buf(&mut answer).await {
            Ok(0) | Err(_) => return normalized(&answer),
            Ok(_) => {}
        }
    }
    // The gateway may have closed the connection after its response.
    let _ = socket.write_all(AFTERWARDS.as_bytes()).await;
    while let Ok(1..) = socket.read_buf(&mut answer).await {}
    normalized(&answer)
}

/// Returns whether the bytes are a whole response, or more than one.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let text = text
        .strip_prefix("HTTP/1.1 100 Continue\r\n\r\n")
        .unwrap_or(&text);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.split("\r\ncontent-length: ").nth(1);
    let length = length.and_then(|rest| rest.lines().next());
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}

/// Replaces ids of entries, generated request ids, receipts, and times.
fn normalized(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    let (mut out, mut rest) = (String::new(), &*text);
    'parts: while !rest.is_empty() {
        for (start, end) in [
            ("date: ", "\r\n"),
            ("\"receipt\":\"", "\""),
            ("\"lease_until\":\"", "\""),
            ("\"streamgatereceipt\":\"", "\""),
            ("\"streamgateleaseuntil\":\"", "\""),
        ] {
            if let Some(after) = rest.strip_prefix(start) {
                out.push_str(start);
                rest = &after[after.find(end).unwrap_or(after.len())..];
                continue 'parts;
            }
        }
        let word = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
        let (token, after) = rest.split_at(word);
        let is_hex = |byte: u8| byte.is_ascii_hexdigit();
        if word == 13 && token.bytes().all(|byte| byte.is_ascii_digit()) && after.starts_with('-') {
            out.push_str("ID");
            let digits = after[1..].bytes().take_while(u8::is_ascii_digit).count();
            rest = &after[1 + digits..];
        } else if word == 16 && token.bytes().all(is_hex) {
            out.push_str("REQUEST");
            rest = after;
        } else {
            let first = rest.chars().next().unwrap().len_utf8();
            let (token, after) = rest.split_at(word.max(first));
            out.push_str(token);
            rest = after;
        }
    }
    out
}

/// Returns the fields of all entries, by stream.
async fn stored(server: &Server) -> BTreeMap<String, Vec<Value>> {
    let mut all = BTreeMap::new();
    let keys = json(&server.command(&["KEYS", "*"]).await);
    for name in keys
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key.as_str().unwrap())
    {
        if name == "text" || name.starts_with("streamgate:") {
            continue;
        }
        let entries = json(&server.command(&["XRANGE", name, "-", "+"]).await);
        let fields = entries
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry[1].clone());
        all.insert(name.to_owned(), fields.collect());
    }
    all
}

/// Returns the number of requests on the fast path, and the counters of requests, refusals and
/// appended entries.
async fn counts(app: &TestApp) -> (usize, BTreeSet<String>) {
    let text = app.as_key("root").get("/metrics").await.body;
    let kept = [
        "requests_total{",
        "refused_total{",
        "published_entries_total",
    ];
    let is_kept = |line: &&str| {
        let name = line.strip_prefix("streamgate_");
        name.is_some_and(|name| kept.iter().any(|kept| name.starts_with(kept)))
            && !line.ends_with(" 0")
            // The requests for metrics themselves.
            && !line.contains("/metrics")
    };
    let fast = text.split("\nstreamgate_fast_requests_total ").nth(1);
    let fast = fast.and_then(|rest| rest.lines().next()).unwrap();
    let counters = text.lines().filter(is_kept).map(str::to_owned);
    (fast.parse().unwrap(), counters.collect())
}

const NAMES: [&str; 18] = [
    "orders",
    "a",
    "A.b-c_d:e",
    "%6Frders",
    "..",
    ".",
    "-",
    "_",
    "streamgate:x",
    "{a}b",
    "text",
    "a%20b",
    "a/b",
    "\u{e4}",
    "",
    "entries",
    "0",
    "NAME-OF-300",
];
const QUERIES: [&str; 14] = [
    "",
    "?maxlen=2",
    "?maxlen=0",
    "?maxlen=01",
    "?maxlen=",
    "?maxlen=-1",
    "?maxlen=999999999999999999",
    "?maxlen=9999999999999999999",
    "?maxlen=5&exact=true",
    "?maxlen=%31",
    "?id=*",
    "?create=false",
    "?x=1",
    "?",
];
const METHODS: [&str; 4] = ["PUT", "post", "GET", "POST "];
const VERSIONS: [&str; 3] = ["HTTP/1.0", "HTTP/1.2", "http/1.1"];
const TYPES: [&str; 12] = [
    "application/x-www-form-urlencoded",
    "application/json",
    "Application/JSON",
    "application/json;charset=utf-8",
    "application/x-www-form-urlencoded; charset=latin1",
    "text/plain",
    "application/x-ndjson",
    "application/cloudevents+json",
    "multipart/form-data; boundary=b",
    "application/json, text/plain",
    "",
    "\u{ff}",
];
const FORMS: [&str; 14] = [
    "user=alice",
    "a=1&b=2&a=3",
    "a=%C3%A4+b",
    "a=%FF",
    "a=%zz",
    "a",
    "=x",
    "",
    "&",
    "a=1&&b=",
    "a=\u{e4}",
    "{}",
    "a=1\r\n",
    "a=1;b=2",
];
const JSON: [&str; 24] = [
    r#"{"fields":{"a":"1"}}"#,
    r#"{"fields":{"a":1,"b":true,"c":null}}"#,
    r#"{"pairs":[["a","1"],["a","2"]]}"#,
    r#"{"fields":{}}"#,
    r#"{"fields":{"a":{"b":1}}}"#,
    r#"{"id":"5-5","fields":{"a":"1"}}"#,
    r#"{"id":"0-0","fields":{"a":"1"}}"#,
    r#"{"id":"x","fields":{"a":"1"}}"#,
    r#"{"id":"*","fields":{"a":"1"}}"#,
    r#"{"key":"k","fields":{"a":"1"}}"#,
    r#"{"entries":[{"fields":{"a":"1"}}]}"#,
    r#"[{"fields":{"a":"1"}},{"fields":{"b":"2"}}]"#,
    "[]",
    "{}",
    "null",
    "{",
    "",
    r#"{"fields":{"a":"1"},"other":1}"#,
    r#"{"fields":{"a":"1","a":"2"}}"#,
    r#" {"fields":{"a":"\ud83d\ude00"}} "#,
    r#"{"fields":{"a":"\ud83d"}}"#,
    r#"{"fields":{"":"x"}}"#,
    r#"{"fields":{"a":{"base64":"AAE="}}}"#,
    "\u{feff}{\"fields\":{\"a\":\"1\"}}",
];
const MORE: [&str; 47] = [
    "Accept: */*",
    "accept: text/event-stream",
    "accept: application/json",
    "accept: application/cloudevents-batch+json",
    "accept: application/x-ndjson",
    "accept-encoding: gzip, br",
    "user-agent: curl/8",
    "user-agent: \u{e4}",
    "connection: keep-alive",
    "Connection: Keep-Alive",
    "connection: close",
    "connection: upgrade",
    "x-request-id: given",
    "x-request-id: \u{e4}",
    "x-request-id: a b",
    "x-request-id:",
    "authorization: Bearer KEY",
    "authorization: Bearer  KEY ",
    "authorization: Bearer other",
    "authorization: Basic eDp5",
    "x-api-key: KEY",
    "x-api-key:",
    "origin: http://evil.example",
    "origin: http://localhost",
    "host: localhost",
    "idempotency-key: k",
    "if-match: \"1-0\"",
    "if-none-match: *",
    "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "expect: 100-continue",
    "content-encoding: gzip",
    "x-forwarded-for: 10.0.0.1",
    "x-forwarded-for: 10.0.0.1, 127.0.0.1",
    "forwarded: for=10.0.0.1",
    "x-forwarded-proto: https",
    "x-forwarded-host: example.org",
    "x-forwarded-port: 443",
    "x-real-ip: 10.0.0.1",
    "via: 1.1 proxy",
    "ce-specversion: 1.0",
    "cookie: a=b",
    "te: trailers",
    "x-other: 1",
    "content-type : text/plain",
    "x: y\r\n folded",
    "transfer-encoding: identity",
    "x-forwarded-prefix: /p",
];
const HOSTS: [&str; 8] = [
    "127.0.0.1",
    "evil.example",
    "localhost.",
    "[::1]:80",
    "",
    "a b",
    "localhost:80:80",
    "\u{e4}",
];

/// Returns a request that is mostly, but not quite, the usual one, with these headers.
fn drawn(rng: &mut Rng, always: &[&str]) -> Vec<u8> {
    let rarely = |rng: &mut Rng| rng.u8(..8) == 0;
    let method = if rarely(rng) {
        METHODS[rng.usize(..METHODS.len())]
    } else {
        "POST"
    };
    let version = if rarely(rng) {
        VERSIONS[rng.usize(..VERSIONS.len())]
    } else {
        "HTTP/1.1"
    };
    let host = if rarely(rng) {
        HOSTS[rng.usize(..HOSTS.len())]
    } else {
        "localhost:8080"
    };
    let names = if rarely(rng) { NAMES.len() } else { 3 };
    let name = match NAMES[rng.usize(..names)] {
        "NAME-OF-300" => "n".repeat(300),
        name => name.to_owned(),
    };
    let query = if rarely(rng) {
        QUERIES[rng.usize(..QUERIES.len())]
    } else {
        QUERIES[rng.usize(..2)]
    };
    let is_form = rng.bool();
    let media_type = match rarely(rng) {
        true => TYPES[rng.usize(..TYPES.len())],
        false => TYPES[usize::from(!is_form)],
    };
    let usual = if rng.bool() { 3 } else { usize::MAX };
    let body = match is_form {
        true => FORMS[rng.usize(..FORMS.len().min(usual))],
        false => JSON[rng.usize(..JSON.len().min(usual))],
    };
    let line = format!("{method} /v1/streams/{name}/entries{query} {version}");
    let headers = [
        format!("host: {host}"),
        format!("content-type: {media_type}"),
    ];
    with_headers(rng, &line, headers, body, always)
}

/// Returns a request with these headers and some more, now and then not quite well-formed.
pub fn with_headers(
    rng: &mut Rng,
    line: &str,
    [host, media_type]: [String; 2],
    body: &str,
    always: &[&str],
) -> Vec<u8> {
    let length = format!("Content-Length: {}", body.len());
    let mut headers = vec![host, media_type, length];
    headers.extend(always.iter().map(|header| header.replace("KEY", &key("a"))));
    for _ in 0..rng.usize(..4) {
        let at = if rng.bool() {
            rng.usize(..MORE.len())
        } else {
            0
        };
        headers.push(MORE[at].replace("KEY", &key("a")));
    }
    if rng.u8(..16) == 0 {
        let again = headers[rng.usize(..headers.len())].clone();
        headers.push(again);
    }
    if rng.u8(..16) == 0 {
        headers.swap_remove(rng.usize(..3));
    }
    rng.shuffle(&mut headers);
    let mut request = format!("{line}\r\n");
    for header in headers {
        let end = if rng.u8(..40) == 0 { "\n" } else { "\r\n" };
        // Writing into a string cannot fail.
        let _ = write!(request, "{header}{end}");
    }
    request.push_str("\r\n");
    request.push_str(body);
    if rng.u8(..16) == 0 {
        request.push_str(AFTERWARDS);
    }
    request.into_bytes()
}

/// Returns a generator whose draws `FAST_SEED` repeats.
pub fn seeded() -> Rng {
    let seed = std::env::var("FAST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("FAST_SEED={seed}");
    Rng::with_seed(seed)
}

/// Sends many requests both ways, with these settings. Returns the number on the fast path.
async fn compare_many(count: usize, always: &[&str], change: impl Fn(&mut Settings)) -> usize {
    let (both, mut rng) = (Both::start(change).await, seeded());
    for _ in 0..count {
        both.send(&drawn(&mut rng, always)).await;
    }
    both.compare().await
}

#[tokio::test]
async fn both_paths_answer_and_store_the_same() {
    let fast = compare_many(1500, &[], |_| {}).await;
    assert!((150..1000).contains(&fast), "{fast} of 1500");
}

#[tokio::test]
async fn both_paths_authenticate_the_same() {
    let file = AuthFile::new(
        &(record("a", &["publish a*", "publish orders"]) + &record("root", &["* *"])),
    );
    let fast = compare_many(500, &["authorization: Bearer KEY"], |settings| {
        settings.auth = file.auth();
    })
    .await;
    assert!((30..300).contains(&fast), "{fast} of 500");
}

#[tokio::test]
async fn both_paths_show_a_tenant_its_own_names() {
    let tenant = record("a", &["publish *"]) + "prefix = \"t:\"\n";
    let file = AuthFile::new(&(record("root", &["* *"]) + &tenant));
    let fast = compare_many(300, &["authorization: Bearer KEY"], |settings| {
        settings.auth = file.auth();
        settings.api.slow_request = std::time::Duration::ZERO;
    })
    .await;
    assert!(fast > 20, "{fast} of 300");
}

#[tokio::test]
async fn both_paths_give_the_same_complete_answers() {
    // A slow request is logged, with a record of its own.
    let fast = compare_many(300, &[], |settings| {
        settings.api.slow_request = std::time::Duration::ZERO;
        settings.api.trace_context = true;
        settings.limits.max_fields = 1;
    })
    .await;
    assert!(fast > 20, "{fast} of 300");
}

#[tokio::test]
async fn both_paths_answer_the_same_behind_a_proxy() {
    let fast = compare_many(300, &["x-forwarded-for: 10.0.0.1"], |settings| {
        settings.server.visitors.proxies.trusted = vec!["127.0.0.1".parse().unwrap()];
        settings.api.slow_request = std::time::Duration::ZERO;
    })
    .await;
    assert!(fast > 20, "{fast} of 300");
}

fn usual(stream: &str) -> String {
    format!(
        "POST /v1/streams/{stream}/entries HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         content-length: 3\r\n\r\nn=1"
    )
}

#[tokio::test]
async fn errors_of_redis_are_answered_the_same() {
    let both = Both::start(|_| {}).await;
    let wrong = both.send(usual("text").as_bytes()).await;
    assert!(wrong.starts_with("HTTP/1.1 409"), "{wrong}");
    for (server, _) in &both.0 {
        server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    }
    let full = both.send(usual("orders").as_bytes()).await;
    assert!(full.contains("\"redis-out-of-memory\""), "{full}");
    for (server, app) in &both.0 {
        server.kill();
        eventually("the outage is noticed", async || {
            app.metric("redis_up").await == 0
        })
        .await;
    }
    let away = both.send(usual("orders").as_bytes()).await;
    assert!(away.starts_with("HTTP/1.1 503"), "{away}");
    let [(_, fast), (_, normal)] = &both.0;
    let ((fast, counted), (_, same)) = (counts(fast).await, counts(normal).await);
    assert_eq!(counted, same);
    assert_eq!(fast, 3);
}

#[tokio::test]
async fn a_connection_alternates_between_the_paths() {
    let (server, app) = {
        let server = Server::start().await;
        let app = TestApp::on_server(&server).await;
        (server, app)
    };
    let mut socket = TcpStream::connect(app.address).await.unwrap();
    let get = "GET /v1/streams/orders HTTP/1.1\r\nhost: localhost\r\n\r\n";
    // A request in parts, and several in one piece, take the normal path.
    let whole = usual("orders");
    let (first, second) = whole.split_at(40);
    let piped = whole.repeat(2);
    for (parts, answers) in [
        (vec![&*whole], 1),
        (vec![get], 1),
        (vec![&*whole], 1),
        (vec![first, second], 1),
        (vec![&*piped], 2),
        (vec![&*whole], 1),
    ] {
        for part in parts {
            socket.write_all(part.as_bytes()).await.unwrap();
            elapse(20, "the part is on its way alone").await;
        }
        let mut answer = Vec::new();
        while String::from_utf8_lossy(&answer)
            .matches("\r\n\r\n{")
            .count()
            < answers
        {
            assert!(socket.read_buf(&mut answer).await.unwrap() > 0);
        }
    }
    assert_eq!(app.metric("fast_requests_total").await, 3);
    let length = json(&server.command(&["XLEN", "orders"]).await);
    assert_eq!(length, 6);
}

#[tokio::test]
async fn an_append_in_progress_is_answered_before_the_gateway_stops() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let mut socket = TcpStream::connect(app.address).await.unwrap();
    socket.write_all(usual("orders").as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    socket.read_exact(&mut answer).await.unwrap();
    server.command(&["CLIENT", "PAUSE", "700", "WRITE"]).await;
    socket.write_all(usual("orders").as_bytes()).await.unwrap();
    eventually("the append has begun", async || {
        app.metric("fast_requests_total").await == 2
    })
    .await;
    let began = std::time::Instant::now();
    app.stop().await;
    // The connection closes after the answer, not at the end of the grace of 10 s.
    assert!(began.elapsed().as_secs() < 6, "{:?}", began.elapsed());
    let mut rest = String::new();
    socket.read_to_string(&mut rest).await.unwrap();
    assert!(rest.contains("HTTP/1.1 201 Created"), "{rest}");
    let length = json(&server.command(&["XLEN", "orders"]).await);
    assert_eq!(length, 2);
}
