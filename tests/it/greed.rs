//! Costs that clients with few rights can cause for others: large responses, large entries, and
//! lookups that cost more than they return.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::auth::{AuthFile, key, record};
use crate::support::redis::shared;
use crate::support::{Answer, PATIENCE, TestApp, elapse, eventually, unique};

/// Default maximum size of a response, in bytes.
const ANSWER: usize = 16 << 20;

/// Starts a gateway that waits for Redis for long, because large replies are slow on a busy machine.
async fn patient() -> TestApp {
    TestApp::start_with(|settings| settings.pool.response_timeout = PATIENCE).await
}

/// Creates a stream of `light` small entries, followed by `heavy` entries of 1 MiB.
async fn mixed(app: &TestApp, light: usize, heavy: usize) -> String {
    let stream = unique("mixed");
    let entries: Vec<_> = (0..light).map(|n| json!({"fields": {"n": n}})).collect();
    let path = format!("/v1/streams/{stream}/entries");
    if light > 0 {
        let batch = json!({ "entries": entries }).to_string();
        assert_eq!(app.post_json(&path, &batch).await.status, 201);
    }
    for _ in 0..heavy {
        app.publish(&stream, &"x".repeat(1 << 20)).await;
    }
    stream
}

#[tokio::test]
async fn what_was_done_is_told_however_little_memory_is_left_for_answers() {
    let file = AuthFile::new(&(record("root", &["* *"]) + "share = 100\n"));
    let auth = file.auth();
    let app = TestApp::start_with(|settings| {
        settings.auth = auth.clone();
        settings.api.answer_memory = (8 << 20) + (100 << 10);
    })
    .await;
    let (root, stream) = (app.as_key("root"), unique("told"));
    for _ in 0..2 {
        root.publish(&stream, &"x".repeat(4 << 20)).await;
    }
    // A client that sends a request and does not read the response holds all the memory.
    let path = format!("/v1/streams/{stream}/entries?max_bytes=16777216");
    let get = format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {}\r\n\r\n",
        key("root")
    );
    let mut greedy = TcpStream::connect(app.address).await.unwrap();
    greedy.write_all(get.as_bytes()).await.unwrap();
    greedy.read_exact(&mut [0; 12]).await.unwrap();
    let large = unique("large");
    assert_eq!(root.publish(&large, &"x".repeat(900_000)).await.status, 201);
    root.get(&format!("/v1/streams/{large}/entries"))
        .await
        .is_problem(503, "overloaded");
    let batch: Vec<_> = (0..5000).map(|n| json!({"fields": {"n": n}})).collect();
    let path = format!("/v1/streams/{large}/entries");
    let done = root.call("POST", &path, json!({"entries": batch})).await;
    assert_eq!(
        (done.status, done.json()["appended"].as_u64()),
        (201, Some(5000))
    );
    // Static responses neither use that memory nor need any of it.
    for _ in 0..3 {
        assert_eq!(app.get("/openapi.json").await.status, 200);
    }
    drop(greedy);
    eventually("all is given back", async || {
        let metrics = root.get("/metrics").await.body;
        metrics.contains("streamgate_answer_bytes 0\n")
    })
    .await;
}

#[tokio::test]
async fn a_group_hands_out_no_more_than_an_answer_holds_and_loses_nothing() {
    let app = patient().await;
    for policy in ["{}", r#"{"policy":{"max_deliveries":3}}"#] {
        let stream = mixed(&app, 40, 40).await;
        let group = format!("/v1/streams/{stream}/groups/g");
        assert_eq!(app.put_json(&group, policy).await.status, 201);
        let mut all = 0;
        while all < 80 {
            let answer = app
                .post_form(&format!("{group}/read"), "consumer=w&count=1000")
                .await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            let read = answer.ids().len();
            assert!(
                read > 0 && answer.body.len() < ANSWER + (2 << 20),
                "{read} of {policy}"
            );
            all += read;
        }
        // Pending entries are read in parts too, and are complete.
        let (mut after, mut held) = ("0".to_owned(), 0);
        while held < 80 {
            let form = format!("consumer=w&count=1000&history={after}");
            let answer = app.post_form(&format!("{group}/read"), &form).await;
            assert!(answer.body.len() < ANSWER + (2 << 20), "{policy}");
            let ids = answer.ids();
            held += ids.len();
            after = ids
                .last()
                .unwrap_or_else(|| panic!("{held} of 80: {policy}"))
                .clone();
        }
        // The same holds for claiming them.
        let (mut start, mut taken) = ("0-0".to_owned(), 0);
        loop {
            let form = format!("consumer=v&min_idle=0&count=1000&start={start}");
            let answer = app.post_form(&format!("{group}/autoclaim"), &form).await;
            assert!(answer.body.len() < ANSWER + (2 << 20), "{policy}");
            taken += answer.ids().len();
            start = answer.json()["next"].as_str().unwrap().to_owned();
            if start == "0-0" {
                break;
            }
        }
        assert_eq!(taken, 80, "{policy}");
        let ids: Vec<_> = app
            .get(&format!("/v1/streams/{stream}/entries?last=40&max_bytes=1"))
            .await
            .ids();
        let first = ids[0].clone();
        let all = app
            .get(&format!(
                "/v1/streams/{stream}/entries?after=0&payload=none&limit=1000&max_bytes=16777216"
            ))
            .await
            .ids();
        let claim = json!({"consumer": "u", "min_idle": "0ms", "ids": all}).to_string();
        let answer = app.post_json(&format!("{group}/claim"), &claim).await;
        assert!(
            answer.ids().len() >= 16 && answer.body.len() < ANSWER + (2 << 20),
            "{policy} {first}"
        );
    }
}

#[tokio::test]
async fn dead_letters_come_in_pages_that_an_answer_holds() {
    let app = patient().await;
    let stream = mixed(&app, 0, 24).await;
    let group = format!("/v1/streams/{stream}/groups/g");
    app.put_json(&group, r#"{"policy":{}}"#).await;
    for _ in 0..2 {
        let read = app
            .post_form(&format!("{group}/read"), "consumer=w&count=100")
            .await
            .json();
        let receipts = read["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["receipt"].clone());
        let body = json!({"receipts": receipts.collect::<Vec<_>>()}).to_string();
        app.post_json(&format!("{group}/reject"), &body).await;
    }
    let (mut path, mut found) = (format!("{group}/dead-letters?limit=1000"), 0);
    loop {
        let page = app.get(&path).await;
        assert!(
            page.status == 200 && page.body.len() < ANSWER + (2 << 20),
            "{}",
            page.body.len()
        );
        found += page.json()["entries"]
            .as_array()
            .or(page.json()["dead_letters"].as_array())
            .unwrap()
            .len();
        let Some(next) = page.json()["next"].as_str().map(str::to_owned) else {
            break;
        };
        path = format!("{group}/dead-letters?limit=1000&cursor={next}");
    }
    assert_eq!(found, 24);
}

#[tokio::test]
async fn light_entries_before_heavy_ones_do_not_make_everybody_wait() {
    let app = TestApp::start_with(|settings| settings.pool.large_reads = 8 << 20).await;
    let stream = mixed(&app, 64, 60).await;
    let small = unique("small");
    app.publish(&small, "1").await;
    let path = format!("/v1/streams/{stream}/entries?after=0&limit=1000&max_bytes=4096");
    app.get(&path).await;
    let greedy = join_all((0..20).map(async |_| app.get(&path).await));
    let other = async {
        let began = Instant::now();
        for _ in 0..10 {
            let answer = app.get(&format!("/v1/streams/{small}/entries")).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
        }
        began.elapsed()
    };
    let (answers, took) = tokio::join!(greedy, other);
    assert!(took < Duration::from_secs(3), "others waited {took:?}");
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        answer.is_problem(503, "overloaded");
    }
}

#[tokio::test]
async fn a_long_path_is_told_back_and_logged_in_part() {
    let app = TestApp::start().await;
    let path = format!("/v1/streams/{}/none", "x".repeat(4000));
    let problem = app.get(&path).await.is_problem(404, "route-not-found");
    let instance = problem["instance"].as_str().unwrap();
    assert!(instance.starts_with("/v1/streams/xxx") && instance.chars().count() == 513);
}

#[tokio::test]
async fn refusals_beyond_a_rate_are_counted_and_not_told_one_by_one() {
    let app = TestApp::start_with(|settings| {
        settings.log.refusals = "2/60s".parse().unwrap();
    })
    .await;
    for _ in 0..10 {
        app.get("/none").await.is_problem(404, "route-not-found");
    }
    assert_eq!(app.metric("unlogged_refusals_total").await, 8);
}

#[tokio::test]
async fn who_may_publish_may_neither_end_a_stream_nor_forget_for_groups() {
    let stream = unique("end");
    let grants = [
        format!("publish {stream}"),
        format!("publish {stream}.own"),
        format!("manage {stream}.own"),
    ];
    let grants: Vec<_> = grants.iter().map(String::as_str).collect();
    let file = AuthFile::new(&(record("root", &["* *"]) + &record("p", &grants)));
    let app = file.app().await;
    let publisher = app.as_key("p");
    let last = "18446744073709551615-18446744073709551615";
    let post = async |stream: &str, query: &str, body: serde_json::Value| -> Answer {
        publisher
            .call(
                "POST",
                &format!("/v1/streams/{stream}/entries?{query}"),
                body,
            )
            .await
    };
    let one = json!({"fields": {"n": 1}});
    for (query, body) in [
        (format!("id={last}"), one.clone()),
        ("id=18446744073709551615-*".to_owned(), one.clone()),
        (
            String::new(),
            json!({"entries": [{"id": last, "fields": {"n": 1}}]}),
        ),
        ("maxlen=0&exact=true&refs=delete".to_owned(), one.clone()),
    ] {
        post(&stream, &query, body)
            .await
            .is_problem(403, "forbidden");
    }
    assert_eq!(
        post(&stream, "id=18446744073709551614-1", one.clone())
            .await
            .status,
        201
    );
    assert_eq!(
        post(&stream, "maxlen=1&exact=true", one.clone())
            .await
            .status,
        201
    );
    let own = format!("{stream}.own");
    assert_eq!(
        post(&own, "maxlen=1&refs=delete", one.clone()).await.status,
        201
    );
    assert_eq!(post(&own, &format!("id={last}"), one).await.status, 201);
}

#[tokio::test]
async fn keys_that_come_by_the_thousand_are_forgotten_as_fast() {
    let app = TestApp::start_with(|settings| {
        settings.api.idempotency_window = Duration::from_millis(200);
    })
    .await;
    let stream = unique("keys");
    for round in 0..5 {
        let entries: Vec<_> = (0..1000)
            .map(|n| json!({"key": format!("{round}-{n}"), "fields": {"n": n}}))
            .collect();
        let body = json!({ "entries": entries }).to_string();
        let path = format!("/v1/streams/{stream}/entries?maxlen=10");
        assert_eq!(app.post_json(&path, &body).await.status, 201);
        elapse(250, "the window of these keys ends").await;
    }
    let known = format!("streamgate:{{{stream}}}:idempotency:known:{stream}");
    let kept = crate::support::redis::json(&shared().await.command(&["HLEN", &known]).await);
    // The keys of the last round, and a field that describes the stream.
    assert_eq!(kept, 1001, "keys of earlier rounds are kept");
}
