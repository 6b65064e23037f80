//! Subscriptions with an end: the remaining entries, then `$end`, and no content for a client that
//! reconnects.

use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::support::lines::Lines;
use crate::support::redis::shared;
use crate::support::sse::Sse;
use crate::support::{TestApp, unique};

/// Reads events to the end. Returns the ids of entries and the names of other events.
async fn to_the_end(mut sse: Sse) -> (Vec<String>, Option<String>) {
    let (mut seen, mut id) = (Vec::new(), None);
    while let Some(event) = sse.next().await {
        id.clone_from(&event.id);
        seen.push(match event.event.as_str() {
            "message" => event.json()["id"].as_str().unwrap().to_owned(),
            "$end" => event.json()["reason"].as_str().unwrap().to_owned(),
            other => other.to_owned(),
        });
    }
    (seen, id)
}

fn now_ms() -> u64 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

#[tokio::test]
async fn the_rest_up_to_a_position_is_handed_out_once_and_whoever_comes_back_is_sent_away() {
    let app = TestApp::start().await;
    let stream = app.stream_of("end", 5).await;
    for end in ["3-0", "3-0:3", "3", "(4-0", "(3-5"] {
        let path = format!("/v1/streams/{stream}/events?after=0&end={end}");
        let (seen, id) = to_the_end(app.follow(&path).await).await;
        assert_eq!(seen, ["$open", "1-0", "2-0", "3-0", "complete"], "{end}");
        // A reconnect as an EventSource does it, and as a polyfill does it.
        let id = id.unwrap();
        let again = Sse::open(&app.client, &app.url(&path), Some(&id)).await;
        assert_eq!(
            (again.status, to_the_end(again).await.0.len()),
            (204, 0),
            "{end}: {id}"
        );
        assert_eq!(
            app.get(&format!("{path}&lastEventId={id}")).await.status,
            204,
            "{end}"
        );
        let again = Sse::open(&app.client, &app.url(&path), Some("2-0:2")).await;
        assert_eq!(
            to_the_end(again).await.0,
            ["$open", "3-0", "complete"],
            "{end}"
        );
    }
    // A client that did not resume gets the reason why nothing arrives.
    let path = format!("/v1/streams/{stream}/events?after=4-0&end=3-0");
    assert_eq!(
        to_the_end(app.follow(&path).await).await.0,
        ["$open", "complete"]
    );
    let path = format!("/v1/streams/{stream}/events?last=2&end=4-0");
    assert_eq!(
        to_the_end(app.follow(&path).await).await.0,
        ["$open", "3-0", "4-0", "complete"]
    );
    let path = format!("/v1/streams/{stream}/events?after=3-0&end=$");
    assert_eq!(
        to_the_end(app.follow(&path).await).await.0,
        ["$open", "4-0", "5-0", "complete"]
    );
}

#[tokio::test]
async fn an_end_that_is_not_reached_yet_is_waited_for() {
    let app = TestApp::start().await;
    let stream = app.stream_of("later", 2).await;
    let path = format!("/v1/streams/{stream}/events?after=0&end=5-0");
    let mut sse = app.follow(&path).await;
    sse.expect("$open").await;
    sse.values(2).await;
    let add = async |id: &str| {
        let answer = app
            .post_form(&format!("/v1/streams/{stream}/entries?id={id}"), "n=1")
            .await;
        assert_eq!(answer.status, 201);
    };
    add("4-0").await;
    assert_eq!(sse.expect("message").await.json()["id"], "4-0");
    let mut resumed = Sse::open(&app.client, &app.url(&path), Some("4-0:3")).await;
    assert_eq!(resumed.status, 200, "more may come");
    resumed.expect("$open").await;
    // An entry beyond the end shows that nothing more can arrive before the end.
    add("6-0").await;
    assert_eq!(to_the_end(sse).await.0, ["complete"]);
    assert_eq!(to_the_end(resumed).await.0, ["complete"]);
    // A stream whose last id was advanced without an entry shows the same.
    let stream = app.stream_of("set", 2).await;
    let path = format!("/v1/streams/{stream}/events?after=0&end=5-0");
    let sse = app.follow(&path).await;
    shared().await.command(&["XSETID", &stream, "5-0"]).await;
    assert_eq!(to_the_end(sse).await.0, ["$open", "1-0", "2-0", "complete"]);
}

#[tokio::test]
async fn an_end_in_time_comes_by_the_clock_though_nothing_is_appended() {
    let app = TestApp::start().await;
    let stream = unique("time");
    let first = app.publish(&stream, "1").await;
    let end = now_ms() + 700;
    let path = format!("/v1/streams/{stream}/events?after=0&end={end}");
    let mut sse = app.follow(&path).await;
    sse.expect("$open").await;
    sse.values(1).await;
    let second = app.publish(&stream, "2").await;
    let (seen, id) = to_the_end(sse).await;
    assert_eq!(seen, [second.clone(), "complete".to_owned()]);
    assert!(now_ms() > end);
    let late = app.publish(&stream, "3").await;
    let again = Sse::open(&app.client, &app.url(&path), id.as_deref()).await;
    assert_eq!(again.status, 204, "{late} is beyond the end");
    let again = Sse::open(&app.client, &app.url(&path), Some(&first)).await;
    assert_eq!(
        to_the_end(again).await.0,
        ["$open".to_owned(), second, "complete".to_owned()]
    );
    // A stream that never existed is complete when its time is over.
    let path = format!("/v1/streams/{}/events?after=0&end=1h", unique("never"));
    let (seen, id) = to_the_end(app.follow(&path).await).await;
    assert_eq!(seen, ["$open", "complete"]);
    let again = Sse::open(&app.client, &app.url(&path), id.as_deref()).await;
    assert_eq!(again.status, 204);
}

#[tokio::test]
async fn what_is_gone_or_made_anew_before_the_end_is_told_once() {
    let app = TestApp::start().await;
    let stream = app.stream_of("gone", 5).await;
    shared()
        .await
        .command(&["XTRIM", &stream, "MAXLEN", "1"])
        .await;
    let path = format!("/v1/streams/{stream}/events?end=5-0");
    let resume = async |id: &str| Sse::open(&app.client, &app.url(&path), Some(id)).await;
    let (seen, id) = to_the_end(resume("2-0:2").await).await;
    assert_eq!(seen, ["$open", "$gap", "5-0", "complete"]);
    assert_eq!(resume(&id.unwrap()).await.status, 204);
    shared().await.command(&["DEL", &stream]).await;
    let mut anew = resume("5-0:5").await;
    anew.expect("$open").await;
    anew.expect("$reset").await;
    app.fill(&stream, 7).await;
    assert_eq!(
        to_the_end(anew).await.0,
        ["1-0", "2-0", "3-0", "4-0", "5-0", "complete"]
    );
}

#[tokio::test]
async fn several_streams_are_complete_when_each_of_them_is() {
    let app = TestApp::start().await;
    let (a, b) = (app.stream_of("a", 3).await, app.stream_of("b", 1).await);
    let path = format!("/v1/events?stream={a}&stream={b}&after=0&end=2-0");
    let mut sse = app.follow(&path).await;
    sse.expect("$open").await;
    sse.values(3).await;
    let answer = app
        .post_form(&format!("/v1/streams/{b}/entries?id=2-0"), "n=2")
        .await;
    assert_eq!(answer.status, 201);
    let (seen, id) = to_the_end(sse).await;
    assert_eq!(seen, ["2-0", "complete"]);
    let again = Sse::open(&app.client, &app.url(&path), id.as_deref()).await;
    assert_eq!(again.status, 204);
}

#[tokio::test]
async fn lines_that_are_followed_end_there_too() {
    let app = TestApp::start().await;
    let stream = app.stream_of("lines", 3).await;
    let lines = async |query: &str| {
        let path = format!("/v1/streams/{stream}/entries?follow=true&{query}");
        let request = app
            .client
            .get(app.url(&path))
            .header("accept", "application/x-ndjson");
        Lines::of(request).await.rest().await
    };
    let all = lines("end=2").await;
    assert_eq!(all.len(), 3);
    assert_eq!(
        all[2],
        json!({"end": {"reason": "complete"}, "position": "2-0:2"})
    );
    assert_eq!(lines("until=1h").await.len(), 4, "its clock is past that");
}

#[tokio::test]
async fn an_end_that_makes_no_sense_is_refused_with_its_reason() {
    let app = TestApp::start().await;
    for (query, word) in [
        ("/v1/streams/s/events?end=x", "position"),
        ("/v1/streams/s/events?end=5-x", "position"),
        ("/v1/events?match=s*&end=5-0", "stream"),
    ] {
        let problem = app.get(query).await.is_problem(400, "invalid-request");
        assert!(
            problem["detail"].as_str().unwrap().contains(word),
            "{problem:#}"
        );
    }
    let began = std::time::Instant::now();
    let path = format!("/v1/streams/{}/events?after=0&end=0-0", unique("empty"));
    assert_eq!(
        to_the_end(app.follow(&path).await).await.0,
        ["$open", "complete"]
    );
    assert!(began.elapsed() < Duration::from_secs(3));
}
