//! Pushing the entries of a group by server-sent events.

use std::time::{Duration, Instant};

use crate::support::redis::shared;
use crate::support::sse::{Event, Sse};
use crate::support::{TestApp, elapse, eventually};

fn group(stream: &str, rest: &str) -> String {
    format!("/v1/streams/{stream}/groups/g{rest}")
}

/// Creates a stream with `count` entries, and a group with leases that outlive the test.
async fn lent(app: &TestApp, count: u32) -> String {
    let stream = app.stream_of("push", count).await;
    let made = app
        .put_json(&group(&stream, ""), r#"{"policy":{"lease":"1h"}}"#)
        .await;
    assert_eq!(made.status, 201, "{}", made.body);
    stream
}

async fn open(app: &TestApp, stream: &str, query: &str) -> Sse {
    let mut sse = app
        .follow(&group(stream, &format!("/events?consumer=w&{query}")))
        .await;
    let opened = sse.expect("$open").await;
    assert_eq!(
        (&opened.json()["streams"][0], opened.id),
        (&stream.into(), None)
    );
    sse
}

async fn say(app: &TestApp, stream: &str, verb: &str, event: &Event) -> String {
    let form = format!("receipts={}", event.json()["receipt"].as_str().unwrap());
    let answer = app
        .post_form(&group(stream, &format!("/{verb}")), &form)
        .await;
    answer.json()["results"][0]["outcome"]
        .as_str()
        .unwrap()
        .to_owned()
}

async fn message(sse: &mut Sse) -> Event {
    let event = sse.expect("message").await;
    assert_eq!(event.id, None, "there is no position to come back to");
    event
}

#[tokio::test]
async fn entries_are_pushed_as_far_as_there_is_credit_and_acknowledged_anywhere() {
    let (app, other) = (TestApp::start().await, TestApp::start().await);
    let stream = lent(&app, 4).await;
    let mut sse = open(&app, &stream, "prefetch=2").await;
    let (first, second) = (message(&mut sse).await, message(&mut sse).await);
    let entry = first.json();
    assert_eq!(
        (&entry["id"], &entry["deliveries"], &entry["fields"]["n"]),
        (&"1-0".into(), &1.into(), &"1".into())
    );
    assert_eq!(
        sse.soon(Duration::from_millis(400)).await,
        None,
        "two are lent"
    );
    assert_eq!(say(&other, &stream, "ack", &first).await, "acknowledged");
    let third = message(&mut sse).await;
    assert_eq!(third.json()["id"], "3-0");
    assert_eq!(say(&other, &stream, "nack", &second).await, "released");
    // The nacked entry is due. Due and new entries come in either order, so this is one of the two.
    let next = message(&mut sse).await.json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(next == "2-0" || next == "4-0", "{next}");
    let fifth = other.publish(&stream, "5").await;
    assert_eq!(say(&other, &stream, "ack", &third).await, "acknowledged");
    let after = message(&mut sse).await.json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let left = ["2-0", "4-0", &fifth];
    assert!(after != next && left.contains(&after.as_str()), "{after}");
}

#[tokio::test]
async fn an_entry_that_comes_is_pushed_at_once() {
    let app = TestApp::start().await;
    let stream = lent(&app, 0).await;
    let mut sse = open(&app, &stream, "").await;
    eventually("it waits", async || {
        app.metric("followed_streams").await == 1
    })
    .await;
    let began = Instant::now();
    let id = app.publish(&stream, "x").await;
    assert_eq!(message(&mut sse).await.json()["id"], id);
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn what_nothing_was_heard_of_goes_back_when_the_connection_ends_and_does_not_count() {
    let app = TestApp::start().await;
    let stream = lent(&app, 3).await;
    let mut sse = open(&app, &stream, "").await;
    let first = message(&mut sse).await;
    message(&mut sse).await;
    message(&mut sse).await;
    assert_eq!(say(&app, &stream, "ack", &first).await, "acknowledged");
    drop(sse);
    let read = app
        .post_form(&group(&stream, "/read"), "consumer=v&wait=5s")
        .await;
    assert!(read.ids().iter().all(|id| id != "1-0"));
    assert_eq!(read.json()["entries"][0]["deliveries"], 1, "{}", read.body);
    eventually("both have gone back", async || {
        app.post_form(&group(&stream, "/read"), "consumer=v").await;
        let pending = app.get(&group(&stream, "/pending?consumer=v")).await;
        pending.ids() == ["2-0", "3-0"]
    })
    .await;
}

#[tokio::test]
async fn a_session_that_asks_for_grace_keeps_its_entries_for_that_long() {
    let app = TestApp::start().await;
    let stream = lent(&app, 1).await;
    let mut sse = open(&app, &stream, "grace=1s").await;
    let event = message(&mut sse).await;
    let began = Instant::now();
    drop(sse);
    assert_eq!(
        app.post_form(&group(&stream, "/read"), "consumer=v")
            .await
            .ids()
            .len(),
        0
    );
    let read = app
        .post_form(&group(&stream, "/read"), "consumer=v&wait=10s")
        .await;
    assert_eq!(read.ids(), ["1-0"]);
    assert!(
        began.elapsed() >= Duration::from_millis(900),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(say(&app, &stream, "ack", &event).await, "lease-lost");
}

#[tokio::test]
async fn a_gateway_that_stops_says_so_and_gives_everything_back() {
    let (app, other) = (TestApp::start().await, TestApp::start().await);
    let stream = lent(&app, 2).await;
    let mut sse = open(&app, &stream, "grace=60s").await;
    message(&mut sse).await;
    message(&mut sse).await;
    app.drain();
    assert_eq!(sse.expect("$end").await.json()["reason"], "draining");
    assert_eq!(sse.next().await, None);
    let read = other
        .post_form(&group(&stream, "/read"), "consumer=v&wait=5s")
        .await;
    assert_eq!(read.ids(), ["1-0", "2-0"]);
    assert_eq!(read.json()["entries"][1]["deliveries"], 1);
}

#[tokio::test]
async fn a_session_that_cannot_be_is_refused_and_one_whose_group_goes_ends() {
    let app = TestApp::start().await;
    let stream = lent(&app, 0).await;
    let get = async |query: &str| app.get(&group(&stream, &format!("/events?{query}"))).await;
    get("").await.is_problem(400, "invalid-request");
    get("consumer=w&prefetch=0")
        .await
        .is_problem(400, "invalid-request");
    get("consumer=w&grace=2m")
        .await
        .is_problem(400, "invalid-request");
    get("consumer=w&lease=0")
        .await
        .is_problem(400, "invalid-request");
    let none = format!("/v1/streams/{stream}/groups/none/events?consumer=w");
    app.get(&none).await.is_problem(404, "group-not-found");
    app.put_json(&format!("/v1/streams/{stream}/groups/plain"), "{}")
        .await;
    let plain = format!("/v1/streams/{stream}/groups/plain/events?consumer=w");
    app.get(&plain).await.is_problem(409, "group-has-no-policy");
    let mut sse = open(&app, &stream, "").await;
    eventually("it waits", async || {
        app.metric("followed_streams").await == 1
    })
    .await;
    app.delete(&group(&stream, "")).await;
    assert_eq!(sse.expect("$error").await.json()["code"], "group-not-found");
    assert_eq!(sse.next().await, None);
}

#[tokio::test]
async fn an_entry_whose_lease_ends_is_pushed_again_to_a_session_that_is_alone() {
    let app = TestApp::start().await;
    let stream = lent(&app, 2).await;
    let mut sse = open(&app, &stream, "prefetch=2&lease=300ms").await;
    let mut deliveries = std::collections::BTreeMap::<String, u64>::new();
    while deliveries.len() < 2 || deliveries.values().any(|count| *count < 3) {
        let event = message(&mut sse).await.json();
        let count = deliveries
            .entry(event["id"].as_str().unwrap().to_owned())
            .or_default();
        *count += 1;
        assert_eq!(event["deliveries"], *count, "each lease that ends counts");
    }
}

#[tokio::test]
async fn credit_comes_back_when_native_clients_acknowledge_or_claim() {
    let app = TestApp::start().await;
    let stream = lent(&app, 3).await;
    let mut sse = open(&app, &stream, "prefetch=1").await;
    assert_eq!(message(&mut sse).await.json()["id"], "1-0");
    shared().await.command(&["XACK", &stream, "g", "1-0"]).await;
    assert_eq!(message(&mut sse).await.json()["id"], "2-0");
    shared()
        .await
        .command(&["XCLAIM", &stream, "g", "native", "0", "2-0"])
        .await;
    assert_eq!(message(&mut sse).await.json()["id"], "3-0");
}

/// Waits until entries sent earlier count as started.
async fn let_them_begin() {
    elapse(1100, "entries sent earlier count as started").await;
}

/// Returns the delivery counts of pending entries, in order of ids.
async fn counts(app: &TestApp, stream: &str) -> Vec<(String, u64)> {
    let pending = app.get(&group(stream, "/pending?limit=100")).await.json();
    let of = |entry: &serde_json::Value| {
        (
            entry["id"].as_str().unwrap().to_owned(),
            entry["deliveries"].as_u64().unwrap(),
        )
    };
    pending["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(of)
        .collect()
}

fn counted(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    expected
        .iter()
        .map(|(id, count)| ((*id).to_owned(), *count))
        .collect()
}

#[tokio::test]
async fn an_entry_that_kills_its_worker_counts_and_becomes_a_dead_letter() {
    let app = TestApp::start().await;
    let stream = app.stream_of("poison", 3).await;
    let policy = r#"{"policy":{"lease":"1h","max_deliveries":2}}"#;
    app.put_json(&group(&stream, ""), policy).await;
    let mut sse = open(&app, &stream, "prefetch=3").await;
    let done = message(&mut sse).await;
    message(&mut sse).await;
    message(&mut sse).await;
    assert_eq!(say(&app, &stream, "ack", &done).await, "acknowledged");
    let_them_begin().await;
    drop(sse);
    let once = counted(&[("2-0", 1), ("3-0", 0)]);
    eventually("the oldest without an answer counts", async || {
        counts(&app, &stream).await == once
    })
    .await;
    let mut sse = open(&app, &stream, "prefetch=3").await;
    assert_eq!(message(&mut sse).await.json()["deliveries"], 2);
    assert_eq!(message(&mut sse).await.json()["deliveries"], 1);
    let_them_begin().await;
    drop(sse);
    eventually("it is a dead letter", async || {
        let letters = app.get(&group(&stream, "/dead-letters")).await.json();
        letters["dead_letters"][0]["entry"] == "2-0"
            && letters["dead_letters"][0]["reason"] == "max-deliveries"
    })
    .await;
    let rest = counted(&[("3-0", 0)]);
    eventually("the other goes back", async || {
        counts(&app, &stream).await == rest
    })
    .await;
}

#[tokio::test]
async fn as_many_entries_count_as_the_worker_processes_at_once_if_it_had_the_time() {
    let app = TestApp::start().await;
    let stream = lent(&app, 3).await;
    let mut sse = open(&app, &stream, "prefetch=3&concurrency=2").await;
    for _ in 0..3 {
        message(&mut sse).await;
    }
    let_them_begin().await;
    drop(sse);
    let two = counted(&[("1-0", 1), ("2-0", 1), ("3-0", 0)]);
    eventually("two count", async || counts(&app, &stream).await == two).await;
    let mut sse = open(&app, &stream, "prefetch=3&concurrency=3").await;
    for _ in 0..3 {
        message(&mut sse).await;
    }
    drop(sse);
    eventually("none counts again", async || {
        counts(&app, &stream).await == two
    })
    .await;
    app.get(&group(&stream, "/events?consumer=w&concurrency=0"))
        .await
        .is_problem(400, "invalid-request");
}
