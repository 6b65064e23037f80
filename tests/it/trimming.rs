//! Trimming with an append and separately, with and without regard to groups.

use crate::support::redis::shared;
use crate::support::{TestApp, unique};

fn entries(stream: &str) -> String {
    format!("/v1/streams/{stream}/entries")
}

async fn ids(app: &TestApp, stream: &str) -> Vec<String> {
    app.get(&format!("{}?start=-", entries(stream))).await.ids()
}

/// Creates entries `1-0` to `10-0`. Group `a` has read seven and acknowledged four of the first
/// five. Group `b` has read and acknowledged all.
async fn worked_off(app: &TestApp, name: &str) -> String {
    let stream = app.stream_of(name, 10).await;
    let redis = shared().await;
    for (group, read, acked) in [
        ("a", "7", &["1-0", "2-0", "3-0", "5-0"][..]),
        (
            "b",
            "10",
            &[
                "1-0", "2-0", "3-0", "4-0", "5-0", "6-0", "7-0", "8-0", "9-0", "10-0",
            ],
        ),
    ] {
        redis
            .command(&["XGROUP", "CREATE", &stream, group, "0"])
            .await;
        redis
            .command(&[
                "XREADGROUP",
                "GROUP",
                group,
                "c",
                "COUNT",
                read,
                "STREAMS",
                &stream,
                ">",
            ])
            .await;
        redis
            .command(&[&["XACK", &stream, group], acked].concat())
            .await;
    }
    stream
}

async fn pending(app: &TestApp, stream: &str) -> Vec<String> {
    let pending = app
        .get(&format!("/v1/streams/{stream}/groups/a/pending"))
        .await
        .json();
    let entries = pending["entries"].as_array().unwrap();
    entries
        .iter()
        .map(|entry| entry["id"].as_str().unwrap().to_owned())
        .collect()
}

async fn trim(app: &TestApp, stream: &str, how: &str) -> u64 {
    let answer = app
        .post_form(&format!("/v1/streams/{stream}/trim"), how)
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["trimmed"].as_u64().unwrap()
}

#[tokio::test]
async fn what_a_group_has_not_acknowledged_can_hold_a_trim_back() {
    let app = TestApp::start().await;
    for (how, left) in [
        ("maxlen=0&exact=true&refs=acked", "4-0"),
        ("maxlen=8&exact=true&refs=acked", "3-0"),
        ("minid=9-0&exact=true&refs=acked", "4-0"),
        ("minid=2-0&exact=true&refs=acked", "2-0"),
        ("maxlen=2&exact=true&refs=keep", "9-0"),
        // Approximate trimming removes whole nodes, and there is only one.
        ("maxlen=0&refs=acked", "1-0"),
    ] {
        let stream = worked_off(&app, "acked").await;
        let trimmed = trim(&app, &stream, how).await;
        let ids = ids(&app, &stream).await;
        assert_eq!(ids[0], left, "{how}");
        assert_eq!(trimmed, 10 - ids.len() as u64, "{how}");
    }
}

#[tokio::test]
async fn a_group_that_has_read_nothing_holds_everything_back() {
    let app = TestApp::start().await;
    let stream = app.stream_of("unread", 5).await;
    let how = "maxlen=0&exact=true&refs=acked";
    shared()
        .await
        .command(&["XGROUP", "CREATE", &stream, "g", "0"])
        .await;
    assert_eq!(trim(&app, &stream, how).await, 0);
    shared()
        .await
        .command(&["XGROUP", "SETID", &stream, "g", "$"])
        .await;
    assert_eq!(
        trim(&app, &stream, how).await,
        5,
        "nothing is pending, and nothing unread"
    );
    assert_eq!(trim(&app, &stream, how).await, 0);
    let missing = app
        .post_form(&format!("/v1/streams/{}/trim", unique("none")), how)
        .await;
    missing.is_problem(404, "stream-not-found");
}

#[tokio::test]
async fn a_trim_can_take_pending_records_along() {
    let app = TestApp::start().await;
    let stream = worked_off(&app, "refs").await;
    assert_eq!(trim(&app, &stream, "maxlen=5&exact=true").await, 5);
    assert_eq!(
        pending(&app, &stream).await,
        ["4-0", "6-0", "7-0"],
        "they are kept unless told"
    );
    assert_eq!(
        trim(&app, &stream, "maxlen=4&exact=true&refs=delete").await,
        1
    );
    assert_eq!(pending(&app, &stream).await, ["7-0"]);
}

#[tokio::test]
async fn many_nodes_are_trimmed_up_to_where_groups_are() {
    let app = TestApp::start().await;
    let stream = app.stream_of("nodes", 1000).await;
    let redis = shared().await;
    redis
        .command(&["XGROUP", "CREATE", &stream, "g", "550-0"])
        .await;
    let trimmed = trim(&app, &stream, "maxlen=100&refs=acked").await;
    assert!(
        (400..=550).contains(&trimmed),
        "whole nodes below 551-0, but {trimmed}"
    );
    let trimmed = trim(&app, &stream, "maxlen=100&refs=acked&exact=true").await + trimmed;
    assert_eq!(trimmed, 550);
}

#[tokio::test]
async fn an_append_trims_in_the_same_step() {
    let app = TestApp::start().await;
    for (how, first) in [
        ("maxlen=3&exact=true", "9-0"),
        ("minid=6-0&exact=true", "6-0"),
        ("maxlen=3&exact=true&refs=acked", "4-0"),
        ("maxlen=3&exact=true&refs=delete", "9-0"),
        ("maxlen=3&trim_limit=1000", "1-0"),
        // All of these ids are times in 1970.
        ("max_age=365d&exact=true", "11-0"),
    ] {
        let stream = worked_off(&app, "append").await;
        let answer = app
            .post_form(&format!("{}?id=11-0&{how}", entries(&stream)), "n=1")
            .await;
        assert_eq!(answer.status, 201, "{how}: {}", answer.body);
        let left = ids(&app, &stream).await;
        // With `max_age`, even the new entry is older than a year.
        let expected = if how.starts_with("max_age") {
            None
        } else {
            Some(first.to_owned())
        };
        assert_eq!(left.first().cloned(), expected, "{how}");
        if how.ends_with("delete") {
            assert_eq!(pending(&app, &stream).await, [] as [&str; 0]);
        }
    }
}

#[tokio::test]
async fn a_trim_that_makes_no_sense_is_refused_before_anything_is_appended() {
    let app = TestApp::start().await;
    let stream = unique("nonsense");
    for (query, at) in [
        ("exact=true", "exact"),
        ("trim_limit=5", "trim_limit"),
        ("refs=acked", "refs"),
        ("maxlen=5&minid=1-0", "minid"),
        ("maxlen=5&max_age=1h", "max_age"),
        ("maxlen=5&exact=true&trim_limit=3", "trim_limit"),
        ("maxlen=99999999999999999999", "maxlen"),
    ] {
        let answer = app
            .post_form(&format!("{}?{query}", entries(&stream)), "n=1")
            .await;
        let problem = answer.is_problem(400, "invalid-request");
        assert_eq!(problem["errors"][0]["pointer"], at, "{query}: {problem:#}");
    }
    app.get(&format!("/v1/streams/{stream}"))
        .await
        .is_problem(404, "stream-not-found");
}
