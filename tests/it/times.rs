//! Times in place of ids: RFC 3339, Unix milliseconds, and durations before now.

use serde_json::json;

use crate::support::redis::{Server, shared};
use crate::support::{TestApp, encode, eventually, unique};

/// 2020-09-20T08:30:00Z.
const THEN: u64 = 1_600_590_600_000;

/// Creates a stream with two entries in each of the five seconds from [`THEN`] on.
async fn stream(app: &TestApp, name: &str) -> String {
    let stream = unique(name);
    for second in 0..5 {
        for seq in 0..2 {
            let id = format!("{}-{seq}", THEN + second * 1000);
            app.post_form(&format!("/v1/streams/{stream}/entries?id={id}"), "n=1")
                .await;
        }
    }
    stream
}

fn ids(seconds: std::ops::Range<u64>) -> Vec<String> {
    seconds
        .flat_map(|second| (0..2).map(move |seq| format!("{}-{seq}", THEN + second * 1000)))
        .collect()
}

#[tokio::test]
async fn a_range_lies_between_two_times_both_included() {
    let app = TestApp::start().await;
    let stream = stream(&app, "between").await;
    let read = async |query: &str| {
        let answer = app
            .get(&format!("/v1/streams/{stream}/entries?{query}"))
            .await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.body);
        answer.ids()
    };
    for (query, expected) in [
        ("since=1600590602000", ids(2..5)),
        ("since=2020-09-20T08:30:02Z", ids(2..5)),
        ("since=2020-09-20T08:30:02.001Z", ids(3..5)),
        ("until=2020-09-20T08:30:02Z", ids(0..3)),
        ("until=2020-09-20T08:30:01.999Z", ids(0..2)),
        (
            "since=2020-09-20T08:30:01Z&until=2020-09-20T08:30:02Z",
            ids(1..3),
        ),
        (
            "since=2020-09-20T08:30:02Z&until=2020-09-20T08:30:01Z",
            vec![],
        ),
        // The plus of an offset, escaped and unescaped.
        ("since=2020-09-20T10:30:03%2B02:00", ids(3..5)),
        ("since=2020-09-20T10:30:03+02:00", ids(3..5)),
        ("since=2020-09-20T04:00:04-04:30", ids(4..5)),
        (
            "since=0001-01-01T00:00:00Z&until=9999-12-31T23:59:59Z",
            ids(0..5),
        ),
        (
            "last=1&until=2020-09-20T08:30:01Z",
            vec![format!("{}-1", THEN + 1000)],
        ),
        (
            "until=2020-09-20T08:30:01Z&after=1600590600000-1",
            ids(1..2),
        ),
        (
            "since=2020-09-20T08:30:04Z&order=desc",
            ids(4..5).into_iter().rev().collect(),
        ),
    ] {
        assert_eq!(read(query).await, expected, "{query}");
    }
    let (mut path, mut seen) = (
        format!("/v1/streams/{stream}/entries?since=1600590601000&until=1600590603000&limit=4"),
        vec![],
    );
    while !path.is_empty() {
        let page = app.get(&path).await;
        seen.extend(page.ids());
        path = page
            .header("link")
            .split(['<', '>'])
            .nth(1)
            .unwrap_or_default()
            .to_owned();
    }
    assert_eq!(seen, ids(1..4));
}

#[tokio::test]
async fn ago_is_counted_back_from_the_clock_of_redis() {
    let app = TestApp::start().await;
    let stream = stream(&app, "ago").await;
    let newest = app.publish(&stream, "now").await;
    let read = async |query: &str| {
        app.get(&format!("/v1/streams/{stream}/entries?{query}"))
            .await
            .ids()
    };
    assert_eq!(read("since=1h").await, [newest.as_str()]);
    assert_eq!(read("until=1h").await, ids(0..5));
    assert_eq!(read("since=100000d&until=0s").await.len(), 11);
    eventually("the entry is older than 50 ms", async || {
        read("until=50ms").await.len() == 11
    })
    .await;
    assert_eq!(read("since=50ms").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_time_that_makes_no_sense_is_told_what_does() {
    let app = TestApp::start().await;
    let stream = app.stream_of("nonsense", 1).await;
    let path = format!("/v1/streams/{stream}");
    let detail = async |query: &str| {
        let problem = app
            .get(&format!("{path}/entries?{query}"))
            .await
            .is_problem(400, "invalid-request");
        (
            problem["detail"].as_str().unwrap().to_owned(),
            problem["errors"][0]["pointer"].clone(),
        )
    };
    for (query, word, pointer) in [
        ("since=1600590600", "looks like seconds", "since"),
        ("since=0", "looks like seconds", "since"),
        ("until=5", "durations need a unit", "until"),
        ("since=yesterday", "RFC 3339", "since"),
        ("until=2020-09-31T00:00:00Z", "RFC 3339", "until"),
        ("since=1h&after=0", "mutually exclusive", "since"),
        ("since=1h&start=0", "mutually exclusive", "since"),
        ("since=1h&last=1", "mutually exclusive", "last"),
        ("until=1h&before=1-0", "mutually exclusive", "until"),
        ("until=1h&end=1-0", "mutually exclusive", "until"),
        ("cursor=1-0&since=1h", "mutually exclusive", "since"),
        ("cursor=1-0&until=1h", "mutually exclusive", "until"),
        ("since=1h&wait=1s", "`wait` requires", "wait"),
    ] {
        let (detail, at) = detail(query).await;
        assert!(detail.contains(word), "{query}: {detail}");
        assert_eq!(at, pointer, "{query}");
    }
    for query in ["since=1h&after=0", "since=1h&last=1", "since=5"] {
        let answer = app.get(&format!("{path}/events?{query}")).await;
        answer.is_problem(400, "invalid-request");
    }
    let group = format!("{path}/groups/g");
    app.put_json(&group, r#"{"since":5}"#)
        .await
        .is_problem(400, "invalid-request");
    app.put_json(&group, r#"{"since":"1h","start":"0"}"#)
        .await
        .is_problem(400, "invalid-request");
    app.put_json(&group, r#"{"since":1.5}"#)
        .await
        .is_problem(400, "invalid-request");
    let claim = format!("{group}/claim");
    for body in [
        "ids=1-0&consumer=w&time=5",
        "ids=1-0&consumer=w&time=1h&idle=1h",
    ] {
        app.post_form(&claim, body)
            .await
            .is_problem(400, "invalid-request");
    }
}

#[tokio::test]
async fn a_subscription_begins_at_a_time() {
    let app = TestApp::start().await;
    let stream = stream(&app, "follow").await;
    for (since, expected) in [
        ("2020-09-20T08:30:03Z", ids(3..5)),
        ("1600590600000", ids(0..5)),
        ("2000-01-01T00:00:00Z", ids(0..5)),
        ("1h", vec![]),
    ] {
        let query = encode(since);
        let mut events = app
            .follow(&format!("/v1/streams/{stream}/events?since={query}"))
            .await;
        events.expect("$open").await;
        let last = app.publish(&stream, "next").await;
        let mut seen = Vec::new();
        while seen.last() != Some(&last) {
            let event = events.expect("message").await;
            seen.push(event.json()["id"].as_str().unwrap().to_owned());
        }
        assert_eq!(seen, [expected, vec![last.clone()]].concat(), "{since}");
        app.delete(&format!("/v1/streams/{stream}/entries/{last}"))
            .await;
    }
}

#[tokio::test]
async fn nobody_is_told_of_a_gap_who_asks_for_a_time_whose_entries_are_gone() {
    let app = TestApp::start().await;
    let trimmed = stream(&app, "trimmed").await;
    shared()
        .await
        .command(&["XTRIM", &trimmed, "MAXLEN", "4"])
        .await;
    let path = format!("/v1/streams/{trimmed}");
    assert_eq!(
        app.get(&format!("{path}/entries?since={THEN}")).await.ids(),
        ids(3..5)
    );
    for since in [THEN, THEN + 1000, THEN + 3000] {
        let mut events = app.follow(&format!("{path}/events?since={since}")).await;
        events.expect("$open").await;
        let first = events.expect("message").await;
        assert_eq!(first.json()["id"], ids(3..5)[0], "{since}");
    }
    // A stream whose entries are all gone, and one that does not exist yet.
    shared()
        .await
        .command(&["XTRIM", &trimmed, "MAXLEN", "0"])
        .await;
    for stream in [trimmed, unique("new")] {
        let mut events = app
            .follow(&format!("/v1/streams/{stream}/events?since={THEN}"))
            .await;
        events.expect("$open").await;
        app.publish(&stream, "7").await;
        assert_eq!(events.values(1).await, ["7"]);
    }
}

#[tokio::test]
async fn a_subscription_by_time_waits_for_redis_as_any_other_does() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    server.kill();
    let mut events = app.follow("/v1/streams/s/events?since=1h").await;
    assert_eq!(events.status, 200);
    assert_eq!(
        events.expect("$end").await.json()["reason"],
        "redis-unavailable"
    );
}

#[tokio::test]
async fn a_group_begins_at_a_time_and_is_moved_to_one() {
    let app = TestApp::start().await;
    let stream = stream(&app, "group").await;
    let group = |name: &str| format!("/v1/streams/{stream}/groups/{name}");
    let read = async |name: &str| {
        app.post_form(&format!("{}/read", group(name)), "consumer=w&no_ack=true")
            .await
            .ids()
    };
    let make = async |name: &str, body: String| {
        let answer = app.put_json(&group(name), &body).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.json()
    };
    make("text", json!({"since": "2020-09-20T08:30:03Z"}).to_string()).await;
    assert_eq!(read("text").await, ids(3..5));
    make("number", json!({"since": THEN + 4000}).to_string()).await;
    assert_eq!(read("number").await, ids(4..5));
    make(
        "early",
        json!({"since": "2000-01-01T00:00:00Z"}).to_string(),
    )
    .await;
    assert_eq!(read("early").await, ids(0..5));
    let late = make("late", json!({"since": "1h"}).to_string()).await;
    assert_eq!(
        (&late["lag"], &late["last_delivered_id"]),
        (&0.into(), &json!(ids(4..5)[1]))
    );
    assert_eq!(read("late").await, Vec::<String>::new());

    let patch = async |body: &str| {
        let request = app.client.patch(app.url(&group("late")));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        app.send(request.body(body.to_owned())).await
    };
    assert_eq!(patch("since=2020-09-20T10:30:02+02:00").await.status, 200);
    assert_eq!(read("late").await, ids(2..5));
    assert_eq!(patch("since=0s").await.json()["lag"], 0);
    patch("since=1h&last_delivered_id=0")
        .await
        .is_problem(400, "invalid-request");
    patch("since=5").await.is_problem(400, "invalid-request");
    app.delete(&group("late")).await;
    patch("since=1h").await.is_problem(404, "group-not-found");
    // A stream created for the group.
    let none = format!("/v1/streams/{}/groups/g", unique("none"));
    assert_eq!(app.put_json(&none, r#"{"since":"1h"}"#).await.status, 201);
}

#[tokio::test]
async fn a_claim_can_say_when_an_entry_was_delivered() {
    let app = TestApp::start().await;
    let stream = app.stream_of("claimed", 1).await;
    let group = format!("/v1/streams/{stream}/groups/g");
    app.put_json(&group, "{}").await;
    app.post_form(&format!("{group}/read"), "consumer=a").await;
    let idle = async |time: &str| {
        let form = format!("consumer=b&ids=1-0&time={}", encode(time));
        let claimed = app.post_form(&format!("{group}/claim"), &form).await;
        assert_eq!(claimed.ids(), ["1-0"], "{}", claimed.body);
        let pending = app.get(&format!("{group}/pending")).await.json();
        pending["entries"][0]["idle_ms"].as_u64().unwrap()
    };
    let hour = 3_600_000;
    assert!((hour..hour + 20_000).contains(&idle("1h").await));
    assert!(idle("2020-09-20T08:30:00Z").await > hour);
    assert!(idle("100000000000").await > hour);
    assert!(
        idle("2999-01-01T00:00:00Z").await < 20_000,
        "what lies ahead counts as now"
    );
}
