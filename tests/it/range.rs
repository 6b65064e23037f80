//! Reading ranges, single entries, and long polls.

use std::time::{Duration, Instant};

use crate::support::redis::shared;
use crate::support::{TestApp, eventually, unique};

fn ids(range: impl Iterator<Item = u32>) -> Vec<String> {
    range.map(|n| format!("{n}-0")).collect()
}

#[tokio::test]
async fn bounds_are_those_of_redis() {
    let app = TestApp::start().await;
    let stream = app.stream_of("bounds", 9).await;
    let read = async |query: &str| {
        let answer = app
            .get(&format!("/v1/streams/{stream}/entries?{query}"))
            .await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.body);
        answer.ids()
    };
    for (query, expected) in [
        ("", ids(1..10)),
        ("after=0", ids(1..10)),
        ("after=3-0", ids(4..10)),
        ("after=3-0:3", ids(4..10)),
        ("start=3-0", ids(3..10)),
        ("start=(3-0", ids(4..10)),
        ("start=3&end=5", ids(3..6)),
        ("end=(3-0", ids(1..3)),
        // Like XRANGE, this excludes just the greatest id of that millisecond.
        ("end=(3", ids(1..4)),
        ("start=(3", ids(4..10)),
        ("before=3-0", ids(1..3)),
        ("start=-&end=+", ids(1..10)),
        ("last=2", ids(8..10)),
        ("last=2&end=5", ids(4..6)),
        ("after=$", vec![]),
        ("after=+", ids(9..10)),
        ("limit=2", ids(1..3)),
        ("order=desc&limit=2", vec!["9-0".into(), "8-0".into()]),
        ("order=desc&after=7-0", vec!["9-0".into(), "8-0".into()]),
        ("order=desc&last=2", vec!["9-0".into(), "8-0".into()]),
        ("order=desc&end=2", vec!["2-0".into(), "1-0".into()]),
        ("end=(0-0", vec![]),
        ("start=20-0", vec![]),
    ] {
        assert_eq!(read(query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn a_page_is_at_the_tail_when_nothing_follows_it_in_its_order() {
    let app = TestApp::start().await;
    let stream = app.stream_of("tail", 6).await;
    for (query, at_tail, has_next) in [
        ("order=desc&limit=2", false, true),
        ("order=desc&limit=6", true, false),
        ("order=desc", true, false),
        ("order=desc&end=3", true, false),
        ("order=desc&start=3", false, false),
        ("order=desc&start=3&limit=2", false, true),
        ("order=desc&end=0", true, false),
        ("limit=2", false, true),
        ("after=4-0", true, true),
        ("end=3", false, false),
    ] {
        let page = app
            .get(&format!("/v1/streams/{stream}/entries?{query}"))
            .await
            .json();
        assert_eq!(
            (&page["at_tail"], page["next"].is_string()),
            (&at_tail.into(), has_next),
            "{query}"
        );
    }
}

#[tokio::test]
async fn next_leads_through_a_range_without_loss_or_repeat() {
    let app = TestApp::start().await;
    let stream = app.stream_of("pages", 25).await;
    for (query, expected) in [
        ("limit=4", ids(1..26)),
        ("limit=4&order=desc", ids((1..26).rev())),
        ("limit=4&start=3&end=17", ids(3..18)),
        ("limit=4&start=3&end=17&order=desc", ids((3..18).rev())),
        ("limit=5&max_bytes=6", ids(1..26)),
    ] {
        let (mut seen, mut path) = (Vec::new(), format!("/v1/streams/{stream}/entries?{query}"));
        for _ in 0..40 {
            let page = app.get(&path).await;
            let json = page.json();
            seen.extend(page.ids());
            let Some(next) = json["next"].as_str() else {
                break;
            };
            assert!(page.header("link").contains("rel=\"next\""));
            let link = page
                .header("link")
                .split(['<', '>'])
                .nth(1)
                .unwrap()
                .to_owned();
            assert!(link.contains("limit="), "{link}");
            path = link;
            if json["at_tail"] == true && !query.contains("desc") && page.ids().is_empty() {
                assert_eq!(next, "25-0:25");
                break;
            }
        }
        assert_eq!(seen, expected, "{query}");
    }
}

#[tokio::test]
async fn positions_carry_the_count_of_entries_given() {
    let app = TestApp::start().await;
    let stream = app.stream_of("counts", 6).await;
    let next = async |query: &str| {
        app.get(&format!("/v1/streams/{stream}/entries?{query}"))
            .await
            .json()["next"]
            .clone()
    };
    assert_eq!(next("after=0&limit=4").await, "4-0:4");
    assert_eq!(next("after=4-0:4").await, "6-0:6");
    assert_eq!(next("last=1").await, "6-0:6");
    assert_eq!(next("after=$").await, "6-0:6");
}

#[tokio::test]
async fn an_overtaken_position_is_told_what_is_lost() {
    let app = TestApp::start().await;
    let stream = app.stream_of("gone", 10).await;
    shared()
        .await
        .command(&["XTRIM", &stream, "MAXLEN", "4"])
        .await;
    let path = |query: &str| format!("/v1/streams/{stream}/entries?{query}");
    let problem = app
        .get(&path("after=2-0:2"))
        .await
        .is_problem(410, "entries-trimmed");
    assert_eq!(
        (&problem["lost"], &problem["oldest"]),
        (&4.into(), &"7-0".into())
    );
    let unknown = app
        .get(&path("after=2-0"))
        .await
        .is_problem(410, "entries-trimmed");
    assert!(unknown["lost"].is_null());
    // A reader that asks for the oldest entries available gets no error. Neither does a reader that
    // had read all the trimmed entries.
    assert_eq!(app.get(&path("after=0")).await.ids(), ids(7..11));
    assert_eq!(app.get(&path("after=6-0:6")).await.ids(), ids(7..11));
    assert_eq!(app.get(&path("start=2-0")).await.ids(), ids(7..11));
    let skipped = app.get(&path("after=2-0:2&gap=skip")).await;
    assert_eq!(skipped.ids(), ids(7..11));
    assert_eq!(
        skipped.json()["gap"],
        serde_json::json!({"after": "2-0:2", "lost": 4, "reset": false})
    );
}

#[tokio::test]
async fn a_stream_made_anew_is_told_apart_from_the_old_one() {
    let app = TestApp::start().await;
    let stream = app.stream_of("anew", 5).await;
    app.delete(&format!("/v1/streams/{stream}")).await;
    app.fill(&stream, 2).await;
    let path = format!("/v1/streams/{stream}/entries?after=5-0:5");
    assert_eq!(
        app.get(&path).await.is_problem(410, "entries-trimmed")["reset"],
        true
    );
    let skipped = app.get(&format!("{path}&gap=skip")).await;
    assert_eq!(skipped.ids(), ids(1..3));
}

#[tokio::test]
async fn a_single_entry_is_there_gone_or_was_never_there() {
    let app = TestApp::start().await;
    let stream = app.stream_of("single", 6).await;
    let path = |id: &str| format!("/v1/streams/{stream}/entries/{id}");
    assert_eq!(
        app.get(&path("3-0")).await.body.trim_end(),
        r#"{"id":"3-0","fields":{"n":"1"}}"#
    );
    assert_eq!(
        app.get(&format!("{}?payload=n", path("3-0")))
            .await
            .body
            .trim_end(),
        r#"{"id":"3-0","payload":"1"}"#
    );
    app.get(&path("3-1"))
        .await
        .is_problem(404, "entry-not-found");
    app.get(&path("9-0"))
        .await
        .is_problem(404, "entry-not-found");
    shared()
        .await
        .command(&["XTRIM", &stream, "MAXLEN", "2"])
        .await;
    assert_eq!(
        app.get(&path("3-0"))
            .await
            .is_problem(410, "entries-trimmed")["oldest"],
        "5-0"
    );
    app.get(&path("three")).await.is_problem(400, "invalid-id");
    app.get(&format!("/v1/streams/{}/entries/1-0", unique("no")))
        .await
        .is_problem(404, "stream-not-found");
}

#[tokio::test]
async fn a_page_holds_no_more_bytes_than_asked_for_but_always_one_entry() {
    let app = TestApp::start().await;
    let stream = unique("bytes");
    for size in [10, 2000, 300, 300, 300] {
        app.publish(&stream, &"x".repeat(size)).await;
    }
    let mut path = format!("/v1/streams/{stream}/entries?after=0&max_bytes=650");
    let mut counts = Vec::new();
    for _ in 0..4 {
        let page = app.get(&path).await;
        counts.push(page.ids().len());
        path = format!(
            "/v1/streams/{stream}/entries?max_bytes=650&cursor={}",
            page.json()["next"].as_str().unwrap()
        );
    }
    assert_eq!(counts, [1, 1, 2, 1]);
}

#[tokio::test]
async fn a_long_poll_answers_with_the_entry_it_waited_for() {
    let app = TestApp::start().await;
    let stream = unique("poll");
    // The stream does not exist yet when the wait begins.
    let path = format!("/v1/streams/{stream}/entries?after=0&wait=20s");
    let (began, publish) = (Instant::now(), async {
        eventually("it waits", async || {
            app.metric("followed_streams").await == 1
        })
        .await;
        app.publish(&stream, "1").await
    });
    let (answer, id) = tokio::join!(app.get(&path), publish);
    assert_eq!(answer.ids().first(), Some(&id));
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(answer.json()["next"], format!("{id}:1"));
}

#[tokio::test]
async fn a_long_poll_for_nothing_ends_in_time_with_the_same_position() {
    let app = TestApp::start().await;
    let stream = app.stream_of("nothing", 3).await;
    let began = Instant::now();
    let answer = app
        .get(&format!(
            "/v1/streams/{stream}/entries?after=3-0&wait=400ms"
        ))
        .await;
    assert_eq!((answer.status, answer.ids().len()), (200, 0));
    assert_eq!(answer.json()["next"], "3-0:3");
    assert!(began.elapsed() >= Duration::from_millis(400));
    app.get(&format!("/v1/streams/{}/entries?after=0", unique("no")))
        .await
        .is_problem(404, "stream-not-found");
}

#[tokio::test]
async fn long_polls_of_many_streams_hold_no_memory_for_large_reads() {
    const POLLS: usize = 300;
    let app = TestApp::start().await;
    let stream = unique("polled");
    let poll = async |n: usize| {
        let path = format!("/v1/streams/{stream}.{n}/entries?after=0&wait=4s");
        app.get(&path).await
    };
    let look = async {
        eventually("all wait", async || {
            app.metric("waiting_reads").await == POLLS
        })
        .await;
        let path = format!("/v1/streams/{stream}/entries?after=0&wait=1s");
        assert_eq!(app.get(&path).await.status, 200);
    };
    let polls = futures_util::future::join_all((0..POLLS).map(poll));
    let (polls, ()) = tokio::join!(polls, look);
    for answer in polls {
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}

#[tokio::test]
async fn many_long_polls_share_a_few_connections() {
    let server = crate::support::redis::Server::start().await;
    let app = TestApp::on_server(&server).await;
    let streams: Vec<String> = (0..40).map(|n| unique(&format!("poll{n}"))).collect();
    let polls = streams.iter().flat_map(|stream| {
        let path = format!("/v1/streams/{stream}/entries?after=0&wait=15s");
        (0..3).map(move |_| path.clone())
    });
    let all = futures_util::future::join_all(polls.map(|path| {
        let app = &app;
        async move { app.get(&path).await }
    }));
    let feed = async {
        crate::support::eventually("all wait", async || {
            app.metric("waiting_reads").await == 120
        })
        .await;
        let clients = server.clients().await;
        for stream in &streams {
            app.publish(stream, "1").await;
        }
        clients
    };
    let (answers, clients) = tokio::join!(all, feed);
    assert!(answers.iter().all(|answer| answer.ids().len() == 1));
    assert!(clients <= 6, "{clients} connections");
}

#[tokio::test]
async fn contradictions_in_a_range_are_refused() {
    let app = TestApp::start().await;
    let stream = app.stream_of("refused", 1).await;
    for query in [
        "after=0&start=1-0",
        "after=0&last=1",
        "start=1&last=1",
        "before=1-0&end=1",
        "cursor=1-0&after=0",
        "cursor=1-0&end=5",
        "cursor=1-0&order=desc",
        "cursor=desc~5-0&order=asc",
        "limit=0",
        "limit=1001",
        "max_bytes=0",
        "wait=61s&after=0",
        "wait=5s",
        "wait=5s&after=0&end=5",
        "wait=5&after=0",
        "order=up",
        "gap=maybe",
        "last=0",
        "pairs=perhaps",
        "wait=5s&after=0&order=desc",
    ] {
        app.get(&format!("/v1/streams/{stream}/entries?{query}"))
            .await
            .is_problem(400, "invalid-request");
    }
    for query in [
        "after=x",
        "start=x",
        "end=1-2-3",
        "cursor=x",
        "before=$",
        "after=1:1",
        "after=5-0:x",
    ] {
        app.get(&format!("/v1/streams/{stream}/entries?{query}"))
            .await
            .is_problem(400, "invalid-id");
    }
}
