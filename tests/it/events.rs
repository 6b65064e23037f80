//! Following a stream by server-sent events.

use std::time::Duration;

use crate::support::redis::{Server, shared};
use crate::support::sse::Sse;
use crate::support::{TestApp, eventually, unique};

fn events(stream: &str, query: &str) -> String {
    format!("/v1/streams/{stream}/events?{query}")
}

#[tokio::test]
async fn a_subscription_opens_with_its_cursor_and_goes_on_live() {
    let app = TestApp::start().await;
    let stream = app.stream_of("live", 2).await;
    let mut sse = app.follow(&events(&stream, "after=0")).await;
    assert_eq!(sse.status, 200);
    let header = |name: &str| sse.headers[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "text/event-stream");
    assert_eq!(header("cache-control"), "no-cache, no-transform");
    assert_eq!(header("x-accel-buffering"), "no");
    let open = sse.expect("$open").await;
    assert_eq!(open.id.as_deref(), Some("0-0:0"));
    assert_eq!(
        open.json(),
        serde_json::json!({"streams": [stream], "cursor": "0-0:0"})
    );
    assert!(open.retry.is_some_and(|ms| (1_000..3_000).contains(&ms)));
    for n in 1..=2 {
        let event = sse.expect("message").await;
        assert_eq!(event.id, Some(format!("{n}-0:{n}")));
        assert_eq!(
            event.data,
            format!(r#"{{"stream":"{stream}","id":"{n}-0","fields":{{"n":"1"}}}}"#)
        );
    }
    let id = app.publish(&stream, "live").await;
    assert_eq!(sse.expect("message").await.id, Some(format!("{id}:3")));
}

#[tokio::test]
async fn resuming_works_by_header_and_by_every_spelling_of_the_parameter() {
    let app = TestApp::start().await;
    let stream = app.stream_of("resume", 4).await;
    for query in [
        "last_event_id=2-0:2",
        "lastEventId=2-0:2",
        "last_event_id=2-0",
        "after=2-0",
        "last=2",
    ] {
        let mut sse = app.follow(&events(&stream, query)).await;
        sse.expect("$open").await;
        assert_eq!(sse.expect("message").await.id.unwrap(), "3-0:3", "{query}");
        assert_eq!(sse.expect("message").await.id.unwrap(), "4-0:4", "{query}");
    }
    // A browser sends this header when it reconnects to the same URL.
    let mut sse = Sse::open(
        &app.client,
        &app.url(&events(&stream, "after=0")),
        Some("3-0:3"),
    )
    .await;
    assert_eq!(sse.expect("$open").await.json()["cursor"], "3-0:3");
    assert_eq!(sse.expect("message").await.id.unwrap(), "4-0:4");
}

#[tokio::test]
async fn the_latest_of_several_resume_positions_counts() {
    let app = TestApp::start().await;
    let stream = app.stream_of("latest", 4).await;
    let header = |header| (header, "2-0:2");
    for (query, (header, opens_at)) in [
        // A page that stored a position in its URL, and the polyfill that adds its own.
        ("last_event_id=0&lastEventId=2-0:2", header(None)),
        ("lastEventId=2-0:2&last_event_id=3-0:3", header(None)),
        ("lastEventId=3-0:3&last_event_id=1-0", header(Some("2-0:2"))),
        (
            "lastEventId=0&lastEventId=1-0:1&lastEventId=2-0:2",
            header(None),
        ),
        ("last_event_id=3-0:3&last_event_id=2-0:2", header(None)),
        ("last_event_id=2-0:2&lastEventId=", header(Some(""))),
        ("last_event_id=-1", (None, "0-0:0")),
        ("last_event_id=2-0&after=3-0", (Some("-1"), "0-0:0")),
    ] {
        let url = app.url(&events(&stream, query));
        let mut sse = Sse::open(&app.client, &url, header).await;
        assert_eq!(sse.status, 200, "{query}");
        assert_eq!(
            sse.expect("$open").await.id.as_deref(),
            Some(opens_at),
            "{query}"
        );
    }
}

#[tokio::test]
async fn without_a_position_only_what_comes_is_seen() {
    let app = TestApp::start().await;
    let stream = app.stream_of("tail", 3).await;
    let mut sse = app.follow(&events(&stream, "")).await;
    assert_eq!(sse.expect("$open").await.id.unwrap(), "3-0:3");
    let id = app.publish(&stream, "new").await;
    assert_eq!(sse.expect("message").await.id.unwrap(), format!("{id}:4"));
}

#[tokio::test]
async fn a_stream_that_does_not_exist_yet_is_followed() {
    let app = TestApp::start().await;
    let stream = unique("later");
    let mut sse = app.follow(&events(&stream, "after=0")).await;
    assert_eq!(sse.expect("$open").await.id.unwrap(), "0-0:0");
    app.publish(&stream, "first").await;
    assert_eq!(sse.values(1).await, ["first"]);
}

#[tokio::test]
async fn entries_can_be_shown_by_payload_and_named_by_a_field() {
    let app = TestApp::start().await;
    let stream = unique("views");
    let mut sse = app
        .follow(&events(&stream, "event=type&payload=body"))
        .await;
    sse.expect("$open").await;
    let path = format!("/v1/streams/{stream}/entries");
    app.post_form(&path, "type=paid&body=first").await;
    app.post_form(&path, "type=%24end&body=second").await;
    app.post_form(&path, "type=two%0Alines").await;
    let paid = sse.expect("paid").await.json();
    assert_eq!(
        (&paid["payload"], &paid["stream"]),
        (&"first".into(), &stream.clone().into())
    );
    assert_eq!(sse.expect("message").await.json()["payload"], "second");
    assert!(sse.expect("message").await.json()["payload"].is_null());
}

#[tokio::test]
async fn each_of_many_subscribers_gets_every_entry_once_and_in_order() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let stream = unique("fan");
    app.publish(&stream, "0").await;
    // 200 clients at once, half of them from the first entry.
    let opened = futures_util::future::join_all((0..200).map(|client| {
        let (app, stream) = (&app, &stream);
        async move {
            app.follow(&events(
                stream,
                if client % 2 == 0 {
                    "after=0"
                } else {
                    "after=$"
                },
            ))
            .await
        }
    }))
    .await;
    let publishing = async {
        for n in 1..=50 {
            app.publish(&stream, &n.to_string()).await;
        }
    };
    let reading = futures_util::future::join_all(opened.into_iter().enumerate().map(
        async |(client, mut sse)| {
            sse.expect("$open").await;
            let first = client % 2;
            let expected: Vec<String> = (first..=50).map(|n| n.to_string()).collect();
            assert_eq!(sse.values(expected.len()).await, expected);
        },
    ));
    let clients = async {
        eventually("all follow", async || {
            app.metric("subscriptions").await == 200
        })
        .await;
        server.clients().await
    };
    let ((), _, clients) = tokio::join!(publishing, reading, clients);
    assert!(
        clients <= 5,
        "{clients} connections to Redis for 200 subscribers"
    );
}

#[tokio::test]
async fn a_client_that_never_reads_slows_nobody_and_loses_nothing() {
    let app = TestApp::start().await;
    let stream = unique("slow");
    let mut slow = app.follow(&events(&stream, "after=0")).await;
    let mut quick = app.follow(&events(&stream, "after=0")).await;
    quick.expect("$open").await;
    let text = "x".repeat(64 << 10);
    // 26 MiB: more than sockets and the live feed hold together.
    for n in 0..400 {
        app.publish(&stream, &format!("{n}:{text}")).await;
        quick.values(1).await;
    }
    slow.expect("$open").await;
    for n in 0..400 {
        let value = slow.values(1).await.remove(0);
        assert!(
            value.starts_with(&format!("{n}:")),
            "{} instead of {n}",
            &value[..8]
        );
    }
    assert!(app.metric("fell_behind_total").await >= 1);
}

#[tokio::test]
async fn a_gap_is_told_and_counted_on_resume_and_live() {
    let app = TestApp::start().await;
    let stream = app.stream_of("gap", 10).await;
    shared()
        .await
        .command(&["XTRIM", &stream, "MAXLEN", "4"])
        .await;
    let mut sse = app.follow(&events(&stream, "last_event_id=2-0:2")).await;
    sse.expect("$open").await;
    let gap = sse.expect("$gap").await;
    let told = serde_json::json!({"stream": stream, "after": "2-0:2", "oldest": "7-0", "lost": 4});
    assert_eq!(
        (gap.json(), gap.id.as_deref()),
        (told, Some("6-18446744073709551615:6"))
    );
    assert_eq!(sse.expect("message").await.id.unwrap(), "7-0:7");
    // After a resume with the id of the gap, nothing is reported twice.
    let mut again = app
        .follow(&events(&stream, "last_event_id=6-18446744073709551615:6"))
        .await;
    again.expect("$open").await;
    assert_eq!(again.expect("message").await.id.unwrap(), "7-0:7");
    // Without a count, the number of lost entries is unknown.
    let mut uncounted = app.follow(&events(&stream, "last_event_id=2-0")).await;
    uncounted.expect("$open").await;
    assert!(uncounted.expect("$gap").await.json()["lost"].is_null());
    // A subscriber that is caught up gets no gap when entries it has read are trimmed.
    for n in 8..=10 {
        assert_eq!(
            sse.expect("message").await.id.unwrap(),
            format!("{n}-0:{n}")
        );
    }
    shared()
        .await
        .command(&["XTRIM", &stream, "MAXLEN", "0"])
        .await;
    app.publish(&stream, "after").await;
    assert_eq!(sse.values(1).await, ["after"]);
    // Added and trimmed in one step: these entries are delivered to nobody and reported to
    // everybody.
    let mut multi = vec![
        "EVAL",
        "for i = 1, 20 do redis.call('XADD', KEYS[1], 'MAXLEN', 5, '*', 'n', i) end",
        "1",
    ];
    multi.push(&stream);
    shared().await.command(&multi).await;
    assert_eq!(sse.expect("$gap").await.json()["lost"], 15);
    assert_eq!(sse.values(5).await, ["16", "17", "18", "19", "20"]);
}

#[tokio::test]
async fn a_reset_is_told_on_resume_and_live() {
    let app = TestApp::start().await;
    let stream = app.stream_of("reset", 5).await;
    let mut sse = app.follow(&events(&stream, "after=5-0:5")).await;
    sse.expect("$open").await;
    app.delete(&format!("/v1/streams/{stream}")).await;
    assert_eq!(sse.expect("$reset").await.id.unwrap(), "0-0:0");
    app.fill(&stream, 2).await;
    assert_eq!(sse.expect("message").await.id.unwrap(), "1-0:1");
    let mut resumed = app.follow(&events(&stream, "last_event_id=5-0:5")).await;
    resumed.expect("$open").await;
    assert_eq!(
        resumed.expect("$reset").await.json(),
        serde_json::json!({"stream": stream})
    );
    assert_eq!(resumed.expect("message").await.id.unwrap(), "1-0:1");
}

#[tokio::test]
async fn a_key_that_is_no_stream_is_told_in_the_stream_and_harms_no_other() {
    let app = TestApp::start_with(|settings| {
        settings.live.readers = 1;
        settings.pool.blocking = 1;
    })
    .await;
    let (stream, text) = (unique("stream"), unique("text"));
    let mut good = app.follow(&events(&stream, "after=0")).await;
    good.expect("$open").await;
    shared().await.command(&["SET", &text, "x"]).await;
    let mut bad = app.follow(&events(&text, "")).await;
    assert_eq!(
        bad.status, 200,
        "any other status ends an EventSource for good"
    );
    let error = bad.expect("$error").await;
    assert_eq!(
        (&error.json()["code"], &error.json()["status"]),
        (&"not-a-stream".into(), &409.into())
    );
    assert_eq!(bad.next().await, None);
    // One reader reads both keys, and the bad one must not block the good one.
    app.publish(&stream, "still").await;
    assert_eq!(good.values(1).await, ["still"]);
    // A stream that becomes another type while it is followed.
    app.delete(&format!("/v1/streams/{stream}")).await;
    shared().await.command(&["SET", &stream, "x"]).await;
    let last = loop {
        let event = good.next().await.unwrap();
        if event.event != "$reset" {
            break event;
        }
    };
    assert_eq!(last.json()["code"], "not-a-stream");
    let plain = app.get(&events(&text, "")).await;
    plain.is_problem(409, "not-a-stream");
}

#[tokio::test]
async fn a_quiet_subscription_hears_heartbeats() {
    let app =
        TestApp::start_with(|settings| settings.limits.heartbeat = Duration::from_millis(50)).await;
    let mut sse = app.follow(&events(&unique("quiet"), "")).await;
    sse.expect("$open").await;
    assert_eq!(sse.soon(Duration::from_millis(500)).await, None);
    assert!((4..=13).contains(&sse.heartbeats), "{}", sse.heartbeats);
}

#[tokio::test]
async fn a_bound_on_subscriptions_is_told_in_band_to_event_sources_only() {
    let app = TestApp::start_with(|settings| settings.limits.max_subscriptions = 1).await;
    let path = events(&unique("bound"), "");
    let mut first = app.follow(&path).await;
    first.expect("$open").await;
    let mut second = app.follow(&path).await;
    assert_eq!(second.status, 200);
    let end = second.expect("$end").await;
    assert_eq!(end.json()["reason"], "overloaded");
    assert!(end.retry.is_some());
    app.get(&path).await.is_problem(503, "overloaded");
    drop(first);
    eventually("a place is free again", async || {
        app.metric("subscriptions").await == 0
    })
    .await;
    app.follow(&path).await.expect("$open").await;
}

#[tokio::test]
async fn streams_that_nobody_follows_any_more_are_let_go() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let open = futures_util::future::join_all((0..20).map(|n| {
        let (app, stream) = (&app, unique(&format!("idle{n}")));
        async move { app.follow(&events(&stream, "")).await }
    }))
    .await;
    assert_eq!(app.metric("followed_streams").await, 20);
    drop(open);
    eventually("nothing is followed", async || {
        app.metric("followed_streams").await == 0
    })
    .await;
    // Everything works as before.
    let stream = unique("again");
    let mut sse = app.follow(&events(&stream, "")).await;
    sse.expect("$open").await;
    app.publish(&stream, "x").await;
    assert_eq!(sse.values(1).await, ["x"]);
}

#[tokio::test]
async fn a_client_that_accepts_no_event_stream_is_told_so() {
    let app = TestApp::start().await;
    let path = app.url(&events(&unique("accept"), ""));
    for refused in [
        "application/json",
        "text/event-stream;q=0",
        "text/event-stream; Q=0.000, */*",
        "text/*;q=0.0, */*;q=0.5",
        "*/*;q=0",
    ] {
        app.send(app.client.get(&path).header("accept", refused))
            .await
            .is_problem(406, "not-acceptable");
    }
    for accepted in ["text/event-stream;q=0.001", "*/*;q=0, text/*"] {
        let request = app.client.get(&path).header("accept", accepted);
        assert_eq!(request.send().await.unwrap().status(), 200, "{accepted}");
    }
    for wrong in ["after=x", "last_event_id=five", "last=0", "after=0&last=1"] {
        assert_eq!(
            app.get(&events(&unique("wrong"), wrong)).await.status,
            400,
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn what_was_read_of_a_stream_that_is_gone_is_shown_to_nobody_who_comes_later() {
    let app = TestApp::start().await;
    let stream = unique("ghost");
    let mut sse = app.follow(&events(&stream, "after=0")).await;
    sse.expect("$open").await;
    app.fill(&stream, 3).await;
    sse.values(3).await;
    app.delete(&format!("/v1/streams/{stream}")).await;
    let mut later = app.follow(&events(&stream, "after=0")).await;
    later.expect("$open").await;
    app.fill(&stream, 1).await;
    let first = later.expect("message").await;
    assert_eq!(
        (
            first.id.as_deref(),
            later.soon(Duration::from_millis(100)).await
        ),
        (Some("1-0:1"), None)
    );
    assert_eq!(sse.expect("$reset").await.id.unwrap(), "0-0:0");
    assert_eq!(sse.expect("message").await.id.unwrap(), "1-0:1");
}

#[tokio::test]
async fn a_client_that_names_the_type_of_errors_alone_follows_all_the_same() {
    let app = TestApp::start().await;
    let url = app.url(&format!("/v1/streams/{}/events", unique("accept")));
    let request = app
        .client
        .get(url)
        .header("accept", "application/problem+json");
    assert_eq!(request.send().await.unwrap().status(), 200);
}
