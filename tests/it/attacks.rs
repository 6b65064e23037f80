//! Malicious requests, each with its expected response, while another user is served as usual. That
//! user publishes and follows entries throughout, on the same single thread as the attacker.

use std::time::{Duration, Instant};

use reqwest::RequestBuilder;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::support::{Answer, TestApp, elapse, encode, unique};

/// Maximum time another user may wait for an entry. The tests are not optimized, run in parallel and
/// share the machine. Something that blocked the thread during an attack took minutes.
const UNDISTURBED: Duration = Duration::from_secs(10);

/// Number of fields of a very wide entry. In an unoptimized build, reading 100,000 back from Redis
/// takes seconds.
const FIELDS: usize = 30_000;
/// Default maximum number of fields of an entry.
const MOST_FIELDS: usize = 10_000;

/// Another user, who publishes and follows.
struct Bystander {
    stop: CancellationToken,
    task: AbortOnDropHandle<(usize, Duration)>,
}

impl Bystander {
    async fn start(app: &TestApp) -> Self {
        let stream = unique("bystander");
        let mut follower = app
            .follow(&format!("/v1/streams/{stream}/events?after=0"))
            .await;
        follower.expect("$open").await;
        let (client, stop) = (app.client.clone(), CancellationToken::new());
        let (url, ends) = (
            app.url(&format!("/v1/streams/{stream}/entries")),
            stop.clone(),
        );
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let (mut count, mut longest) = (0, Duration::ZERO);
            while !ends.is_cancelled() || count == 0 {
                let began = Instant::now();
                let sent = client.post(&url).body(format!("n={count}"));
                let sent = sent
                    .header("content-type", "application/x-www-form-urlencoded")
                    .send()
                    .await;
                assert_eq!(sent.unwrap().status(), 201);
                assert_eq!(follower.values(1).await, [count.to_string()]);
                longest = longest.max(began.elapsed());
                count += 1;
                elapse(5, "a steady pace").await;
            }
            (count, longest)
        }));
        Self { stop, task }
    }

    /// Checks that every entry arrived in time.
    async fn was_undisturbed(self) {
        self.stop.cancel();
        let (count, longest) = self.task.await.unwrap();
        assert!(
            longest < UNDISTURBED,
            "one of {count} entries took {longest:?}"
        );
    }
}

async fn attacked() -> (TestApp, Bystander) {
    let app = TestApp::start_with(|settings| {
        (settings.pool.workers, settings.live.wake_queues) = (1, 1);
    })
    .await;
    let bystander = Bystander::start(&app).await;
    (app, bystander)
}

/// Concatenates a word for each number.
fn many(numbers: std::ops::Range<usize>, word: impl Fn(usize) -> String) -> String {
    numbers.map(word).collect::<Vec<_>>().concat()
}

/// Sends raw bytes and returns the response.
async fn raw(app: &TestApp, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    // The gateway may close the connection before the whole request is sent.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let reading = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer));
    let _ = reading.await.expect("an answer, or an end");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn raw_get(app: &TestApp, target: &str) -> String {
    let head = format!("GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    raw(app, head.as_bytes()).await
}

fn post(
    app: &TestApp,
    path: &str,
    content_type: &str,
    body: impl Into<reqwest::Body>,
) -> RequestBuilder {
    app.client
        .post(app.url(path))
        .header("content-type", content_type.to_owned())
        .body(body)
}

/// Checks that the request was rejected as invalid, with a short response.
#[track_caller]
fn is_refused(answer: &Answer, what: &str) -> Value {
    assert!(
        (400..500).contains(&answer.status),
        "{what}: {} {}",
        answer.status,
        answer.body
    );
    assert!(
        answer.body.len() < 10_000,
        "{what}: an answer of {} bytes",
        answer.body.len()
    );
    answer.json()
}

#[tokio::test]
async fn nothing_that_is_stored_or_asked_for_breaks_out_of_a_header_or_an_event() {
    let (app, bystander) = attacked().await;
    let evil = "x\r\nset-cookie: stolen=1\r\n\r\nevent: forged\ndata: 1\n\nid: 9";
    let breaks = encode(evil);
    // In a name, this text is invalid.
    for path in [
        format!("/v1/streams/{breaks}"),
        format!("/v1/streams/a/groups/{breaks}"),
        format!("/v1/streams/a/groups/g/consumers/{breaks}"),
        format!("/v1/events?stream={breaks}@0"),
    ] {
        app.get(&path).await.is_problem(400, "invalid-name");
    }
    // Everywhere else, it is plain text.
    let stream = unique("größe <b>\"'/ü");
    let entries = format!("/v1/streams/{}/entries", encode(&stream));
    let form = format!("{breaks}={breaks}&type={breaks}");
    let appended = app.post_form(&entries, &form).await;
    assert_eq!(appended.status, 201, "{}", appended.body);
    let location = appended.header("location");
    assert!(location.bytes().all(|byte| byte.is_ascii_graphic()) && !location.contains(['<', '"']));
    assert_eq!(app.get(location).await.status, 200);
    app.post_form(&entries, "a=1").await;
    let query = format!("limit=1&payload={breaks}&start=-");
    let page = app.get(&format!("{entries}?{query}")).await;
    assert!(page.header("link").contains("%0D%0A"), "{page:?}");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    let refused = app.get(&format!("/v1/streams?{breaks}=1")).await;
    refused.is_problem(400, "unknown-parameter");
    for answer in [&appended, &page, &refused] {
        assert!(!answer.headers.contains_key("set-cookie"), "{answer:?}");
    }
    for query in [
        "event=type",
        &format!("event={breaks}"),
        &format!("payload={breaks}&event=type"),
    ] {
        let path = format!("/v1/streams/{}/events?after=0&{query}", encode(&stream));
        let mut follower = app.follow(&path).await;
        follower.expect("$open").await;
        let entry = follower.expect("message").await;
        assert_eq!(entry.json()["stream"], stream);
        assert!(follower.expect("message").await.json()["id"].is_string());
    }
    bystander.was_undisturbed().await;
}

#[tokio::test]
async fn compressed_bodies_that_are_none_are_refused_wherever_bodies_are_taken() {
    let (app, bystander) = attacked().await;
    for path in ["/entries", "/groups/g/read", "/groups/g/ack", "/trim"] {
        for encoding in ["gzip", "deflate", "br", "zstd", "gzip, gzip", "x-nonsense"] {
            let path = format!("/v1/streams/{}{path}", unique("bomb"));
            for content_type in ["application/json", "application/x-ndjson"] {
                let bomb = post(&app, &path, content_type, vec![0x1f; 1000]);
                let answer = app.send(bomb.header("content-encoding", encoding)).await;
                match encoding {
                    "gzip" | "deflate" | "zstd" => answer.is_problem(400, "invalid-request"),
                    _ => answer.is_problem(415, "unsupported-media-type"),
                };
            }
        }
    }
    bystander.was_undisturbed().await;
}

#[tokio::test]
async fn json_as_deep_as_a_body_is_refused_wherever_json_is_taken() {
    let (app, bystander) = attacked().await;
    let stream = app.stream_of("deep", 1).await;
    app.put_json(
        &format!("/v1/streams/{stream}/groups/g"),
        r#"{"policy":{}}"#,
    )
    .await;
    let (of_stream, group) = (
        format!("/v1/streams/{stream}"),
        format!("/v1/streams/{stream}/groups/g"),
    );
    let arrays = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let objects = |depth: usize| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
    for deep in [arrays(200_000), objects(200_000), "[".repeat(400_000)] {
        for (method, path) in [
            ("POST", format!("{of_stream}/entries")),
            ("POST", format!("{of_stream}/trim")),
            ("PATCH", of_stream.clone()),
            ("PUT", format!("{of_stream}/groups/h")),
            ("PATCH", group.clone()),
            ("POST", format!("{group}/read")),
            ("POST", format!("{group}/ack")),
            ("POST", format!("{group}/nack")),
            ("POST", format!("{group}/reject")),
            ("POST", format!("{group}/extend")),
            ("POST", format!("{group}/claim")),
            ("POST", format!("{group}/autoclaim")),
            ("POST", format!("{group}/dead-letters/redrive")),
            ("POST", "/v1/groups/g/read".to_owned()),
            ("POST", "/v1/groups/g/ack".to_owned()),
        ] {
            let method = method.parse().unwrap();
            let request = app.client.request(method, app.url(&path));
            let request = request
                .header("content-type", "application/json")
                .body(deep.clone());
            is_refused(&app.send(request).await, &path);
        }
        for content_type in [
            "application/cloudevents+json",
            "application/cloudevents-batch+json",
        ] {
            let request = post(
                &app,
                &format!("{of_stream}/entries"),
                content_type,
                deep.clone(),
            );
            is_refused(&app.send(request).await, content_type);
        }
        let line = post(
            &app,
            &format!("{of_stream}/entries"),
            "application/x-ndjson",
            deep,
        );
        assert_eq!(app.send(line).await.json()["failed"], 1);
    }
    bystander.was_undisturbed().await;
}

#[tokio::test]
async fn entries_of_very_many_fields_are_stored_and_shown_or_refused() {
    let (app, bystander) = attacked().await;
    let stream = unique("wide");
    let path = format!("/v1/streams/{stream}/entries");
    let too_many = many(0..FIELDS, |n| format!("f{n}=x&"));
    app.post_form(&path, &too_many)
        .await
        .is_problem(422, "invalid-fields");
    // The maximum number of fields of an entry.
    let form = many(0..MOST_FIELDS, |n| format!("f{n}=x&"));
    let appended = app.post_form(&path, &form).await;
    assert_eq!(appended.status, 201, "{}", appended.body);
    let shown = app.get(&format!("{path}?last=1")).await;
    assert_eq!(
        shown.status,
        200,
        "{}",
        &shown.body[..shown.body.len().min(500)]
    );
    let shown = shown.json();
    assert_eq!(
        shown["entries"][0]["fields"].as_object().unwrap().len(),
        MOST_FIELDS
    );
    // A Lua script cannot append this many fields.
    let keyed = post(&app, &path, "application/x-www-form-urlencoded", form);
    app.send(keyed.header("idempotency-key", "k"))
        .await
        .is_problem(422, "invalid-fields");
    let repeated = format!("{{\"fields\":{{{}\"b\":1}}}}", "\"a\":1,".repeat(200_000));
    app.post_json(&path, &repeated)
        .await
        .is_problem(422, "invalid-fields");
    bystander.was_undisturbed().await;
}

#[tokio::test]
async fn very_many_parameters_names_and_items_cost_no_more_than_reading_them() {
    let (app, bystander) = attacked().await;
    let stream = app.stream_of("many", 1).await;
    let group = format!("/v1/streams/{stream}/groups/g");
    app.put_json(&group, "{}").await;
    let names = many(0..100_000, |n| format!("{n:x}&"));
    let ack = app.post_form(&format!("{group}/ack"), &names).await;
    ack.is_problem(400, "invalid-request");
    let hidden = many(0..100_000, |n| format!("_{n:x}&"));
    let ack = app
        .post_form(&format!("{group}/ack"), &format!("{hidden}ids=1-0"))
        .await;
    assert_eq!(ack.json()["results"][0]["outcome"], "not-pending");
    let ids = "ids=1-0&".repeat(100_000);
    app.post_form(&format!("{group}/ack"), &ids)
        .await
        .is_problem(400, "invalid-request");
    // One name as long as the body.
    let long = "i".repeat(2_000_000);
    is_refused(
        &app.post_form(&format!("{group}/ack"), &long).await,
        "a long name",
    );
    let call = format!("{{\"{long}\":1}}");
    is_refused(
        &app.post_json(&format!("{group}/ack"), &call).await,
        "a long member",
    );
    let entry = format!("{{\"fields\":{{\"{long}\":null}}}}");
    let entries = format!("/v1/streams/{stream}/entries");
    is_refused(&app.post_json(&entries, &entry).await, "a long field");
    let value = format!("consumer=w&count={long}");
    is_refused(
        &app.post_form(&format!("{group}/read"), &value).await,
        "a long value",
    );
    // A very long list of invalid entries is not reported item by item.
    let batch = format!("{{\"entries\":[{}1]}}", "1,".repeat(500_000));
    is_refused(&app.post_json(&entries, &batch).await, "a batch of numbers");
    let each = app
        .post_json(&format!("{entries}?atomic=false"), &batch)
        .await;
    each.is_problem(413, "too-large");
    let events = format!("[{}1]", "1,".repeat(500_000));
    let request = post(&app, &entries, "application/cloudevents-batch+json", events);
    is_refused(&app.send(request).await, "a batch of no events");
    bystander.was_undisturbed().await;
}

#[tokio::test]
async fn heads_that_are_too_long_are_cut_off_and_long_words_in_them_are_refused() {
    let (app, bystander) = attacked().await;
    for target in [
        format!("/v1/streams?{}", "a=1&".repeat(1_000_000)),
        format!("/v1/streams/{}/entries", "n".repeat(2_000_000)),
    ] {
        let answer = raw_get(&app, &target).await;
        let status = answer.split(' ').nth(1).unwrap_or("cut");
        assert!(
            ["414", "431", "cut"].contains(&status),
            "{}",
            &answer[..answer.len().min(200)]
        );
    }
    let long = "A".repeat(60_000);
    for path in [
        format!("/v1/events?stream=a&last_event_id=m1.{long}"),
        format!("/v1/streams/a/events?last_event_id={long}"),
        format!("/v1/streams/a/entries?cursor={long}"),
        format!("/v1/streams?cursor={long}"),
        format!("/v1/streams/a/entries?after={}", "9".repeat(60_000)),
        format!("/v1/streams/{long}"),
    ] {
        is_refused(&app.get(&path).await, &path[..40]);
    }
    let request = app
        .client
        .get(app.url("/v1/events?stream=a"))
        .header("last-event-id", &long);
    is_refused(&app.send(request).await, "a long header");
    let filters = "filter=a:b&".repeat(101);
    let path = format!("/v1/streams/a/events?{filters}");
    app.get(&path).await.is_problem(400, "invalid-request");
    let matches = many(0..300, |n| format!("match=a{n}*&"));
    app.get(&format!("/v1/events?{matches}"))
        .await
        .is_problem(422, "too-many-streams");
    bystander.was_undisturbed().await;
}

#[tokio::test]
async fn numbers_and_durations_beyond_all_bounds_are_refused() {
    let (app, bystander) = attacked().await;
    let stream = app.stream_of("huge", 1).await;
    let group = format!("/v1/streams/{stream}/groups/g");
    app.put_json(&group, r#"{"policy":{}}"#).await;
    let digits = "9".repeat(30);
    for number in [
        digits.as_str(),
        "18446744073709551616",
        "9223372036854775808",
        "-1",
        "1e400",
        "NaN",
    ] {
        for query in ["limit", "max_bytes", "last"] {
            let path = format!("/v1/streams/{stream}/entries?{query}={}", encode(number));
            is_refused(&app.get(&path).await, &path);
        }
        let path = format!("/v1/streams/{stream}/entries?maxlen={}", encode(number));
        is_refused(&app.post_form(&path, "a=1").await, &path);
        is_refused(
            &app.post_form(
                &format!("{group}/read"),
                &format!("consumer=w&count={number}"),
            )
            .await,
            number,
        );
        for (path, member) in [("", "entries_read"), ("/claim", "retry_count")] {
            let body = format!(
                r#"{{"consumer":"w","ids":["1-0"],"min_idle":"0","start":"0","{member}":{number}}}"#
            );
            is_refused(
                &app.post_json(&format!("{group}{path}"), &body).await,
                &body,
            );
        }
    }
    for duration in [
        format!("{digits}d"),
        "18446744073709551615d".to_owned(),
        "213503982335d".to_owned(),
    ] {
        for path in [
            format!("/v1/streams/{stream}/entries?after=0&wait={duration}"),
            format!("/v1/streams/{stream}/entries?since={digits}"),
            format!("{group}/pending?min_idle={duration}"),
        ] {
            is_refused(&app.get(&path).await, &path);
        }
        let body = format!("consumer=w&lease={duration}");
        is_refused(&app.post_form(&format!("{group}/read"), &body).await, &body);
        let policy = format!(r#"{{"policy":{{"lease":"{duration}"}}}}"#);
        is_refused(&app.put_json(&group, &policy).await, &policy);
    }
    // The greatest possible id ends a stream, and the response says so.
    let last = format!("/v1/streams/{stream}/entries?id=18446744073709551615-18446744073709551615");
    assert_eq!(app.post_form(&last, "a=1").await.status, 201);
    let next = app
        .post_form(&format!("/v1/streams/{stream}/entries"), "a=1")
        .await;
    next.is_problem(409, "id-not-monotonic");
    assert_eq!(
        app.get(&format!("/v1/streams/{stream}/entries?last=1"))
            .await
            .ids()
            .len(),
        1
    );
    bystander.was_undisturbed().await;
}

#[tokio::test]
async fn names_that_are_no_text_or_point_elsewhere_lead_nowhere() {
    let (app, bystander) = attacked().await;
    for (target, status, code) in [
        // Invalid UTF-8, overlong, half a surrogate, NUL, a control character.
        ("/v1/streams/%ff", 400, "invalid-name"),
        ("/v1/streams/%c0%ae%c0%ae", 400, "invalid-name"),
        ("/v1/streams/%ed%a0%80", 400, "invalid-name"),
        ("/v1/streams/a%00b", 400, "invalid-name"),
        ("/v1/streams/a%c2%85b", 400, "invalid-name"),
        // Paths to a parent directory.
        ("/v1/streams/..", 400, "invalid-name"),
        ("/v1/streams/%2e%2e", 400, "invalid-name"),
        ("/v1/streams/%2e", 400, "invalid-name"),
        ("/v1/streams/../streams", 404, "route-not-found"),
        ("/docs/../../../etc/passwd", 404, "route-not-found"),
        ("/docs/..%2f..%2f..%2fetc%2fpasswd", 404, "route-not-found"),
        ("/docs/%2e%2e/%2e%2e/etc/passwd", 404, "route-not-found"),
        ("/assets/..%2fsrc%2fmain.rs", 404, "route-not-found"),
        ("//v1/streams", 404, "route-not-found"),
        // Names of the gateway's own keys are invalid in every spelling.
        (
            "/v1/streams/streamgate%3a%7ba%7d:leases:x",
            400,
            "invalid-name",
        ),
        // An ordinary name.
        (
            "/v1/streams/..%2f..%2fetc%2fpasswd",
            404,
            "stream-not-found",
        ),
    ] {
        let answer = raw_get(&app, target).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{target}: {answer}"
        );
        assert!(
            answer.contains(&format!("\"code\":\"{code}\"")),
            "{target}: {answer}"
        );
        assert!(!answer.contains("root:"), "{target}");
    }
    bystander.was_undisturbed().await;
}

#[tokio::test]
async fn patterns_made_to_be_slow_are_names_like_any_other() {
    let (app, bystander) = attacked().await;
    let stream = unique(&"a".repeat(400));
    app.publish(&stream, "x").await;
    let (stars, brackets) = ("a*".repeat(5_000), "[a-z]*?\\".repeat(1_000));
    for pattern in [&stars, &brackets, &"*".repeat(8_000), &"\\".repeat(8_000)] {
        let plain = app
            .get(&format!("/v1/streams?match={}", encode(pattern)))
            .await;
        if pattern.trim_end_matches('*').contains('*') {
            plain.is_problem(400, "invalid-request");
        }
        let pattern = encode(&pattern.replace('\\', "\\\\").replace('*', "\\*"));
        let listed = app.get(&format!("/v1/streams?match={pattern}")).await;
        assert_eq!(
            listed.json()["streams"],
            Value::Array(Vec::new()),
            "{}",
            &pattern[..8]
        );
        let path = format!("/v1/events?match={pattern}*");
        app.follow(&path).await.expect("$open").await;
    }
    bystander.was_undisturbed().await;
}
