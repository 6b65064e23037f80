//! Following many streams on one connection, filters, and the end of a subscription.

use std::time::Duration;

use serde_json::json;

use crate::support::redis::{Server, shared};
use crate::support::sse::Sse;
use crate::support::{TestApp, eventually, unique};

fn many(query: &str) -> String {
    format!("/v1/events?{query}")
}

/// Returns `stream id` of the next entries.
async fn entries(sse: &mut Sse, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let entry = sse.expect("message").await.json();
        seen.push(format!(
            "{} {}",
            entry["stream"].as_str().unwrap(),
            entry["id"].as_str().unwrap()
        ));
    }
    seen
}

#[tokio::test]
async fn one_cursor_resumes_every_stream_exactly() {
    let app = TestApp::start().await;
    let (a, b) = (app.stream_of("a", 3).await, app.stream_of("b", 2).await);
    let query = many(&format!("stream={a}@0&stream={b}@1-0:1"));
    let mut sse = app.follow(&query).await;
    let open = sse.expect("$open").await;
    assert_eq!(open.json()["streams"], json!([a, b]));
    assert_eq!(open.id.as_deref(), open.json()["cursor"].as_str());
    let mut all = vec![
        format!("{a} 1-0"),
        format!("{a} 2-0"),
        format!("{a} 3-0"),
        format!("{b} 2-0"),
    ];
    all.sort();
    let mut cursors = vec![open.id.unwrap()];
    let mut seen = Vec::new();
    while seen.len() < all.len() {
        let event = sse.expect("message").await;
        let entry = event.json();
        seen.push(format!(
            "{} {}",
            entry["stream"].as_str().unwrap(),
            entry["id"].as_str().unwrap()
        ));
        cursors.push(event.id.unwrap());
    }
    // A resume from any cursor, as an EventSource sends it, delivers the rest exactly once.
    for (at, cursor) in cursors.iter().enumerate() {
        let mut again = Sse::open(&app.client, &app.url(&query), Some(cursor)).await;
        assert_eq!(
            again.expect("$open").await.id.as_ref(),
            Some(cursor),
            "nothing has moved"
        );
        let mut rest = entries(&mut again, all.len() - at).await;
        rest.extend_from_slice(&seen[..at]);
        rest.sort();
        assert_eq!(rest, all, "after {at}");
    }
    let id = app.publish(&b, "live").await;
    assert_eq!(entries(&mut sse, 1).await, [format!("{b} {id}")]);
}

#[tokio::test]
async fn a_cursor_fits_the_streams_that_are_asked_for_now() {
    let app = TestApp::start().await;
    let (a, b, c) = (
        app.stream_of("a", 2).await,
        app.stream_of("b", 2).await,
        unique("c"),
    );
    let mut sse = app.follow(&many(&format!("stream={a}&stream={b}"))).await;
    let cursor = sse.expect("$open").await.id.unwrap();
    app.fill(&c, 1).await;
    // `b` is no longer requested. `c` is new and read from its first entry, whatever `after` says.
    let path = many(&format!(
        "stream={a}&stream={c}&after=$&last_event_id={cursor}"
    ));
    let mut again = app.follow(&path).await;
    again.expect("$open").await;
    assert_eq!(entries(&mut again, 1).await, [format!("{c} 1-0")]);
    app.publish(&b, "unheard").await;
    let id = app.publish(&a, "heard").await;
    assert_eq!(entries(&mut again, 1).await, [format!("{a} {id}")]);
}

#[tokio::test]
async fn a_client_that_has_seen_nothing_yet_follows_many_streams_from_their_beginning() {
    let app = TestApp::start().await;
    let (a, b) = (app.stream_of("a", 1).await, app.stream_of("b", 1).await);
    shared().await.command(&["XTRIM", &b, "MAXLEN", "0"]).await;
    for query in [
        format!("stream={a}@1-0&stream={b}"),
        format!("match={a}*&stream={b}"),
    ] {
        let url = app.url(&many(&query));
        let mut sse = Sse::open(&app.client, &url, Some("-1")).await;
        sse.expect("$open").await;
        assert_eq!(entries(&mut sse, 1).await, [format!("{a} 1-0")], "{query}");
    }
}

#[tokio::test]
async fn gaps_and_resets_are_told_of_each_stream_by_itself() {
    let app = TestApp::start().await;
    let (a, b) = (app.stream_of("a", 10).await, app.stream_of("b", 2).await);
    let query = format!("stream={a}@2-0:2&stream={b}@2-0:2");
    shared().await.command(&["XTRIM", &a, "MAXLEN", "4"]).await;
    let mut sse = app.follow(&many(&query)).await;
    sse.expect("$open").await;
    let gap = sse.expect("$gap").await;
    assert_eq!(
        gap.json(),
        json!({"stream": a, "after": "2-0:2", "oldest": "7-0", "lost": 4})
    );
    assert_eq!(entries(&mut sse, 4).await.len(), 4);
    app.delete(&format!("/v1/streams/{b}")).await;
    app.fill(&b, 1).await;
    let reset = sse.expect("$reset").await;
    assert_eq!(reset.json(), json!({"stream": b}));
    assert_eq!(entries(&mut sse, 1).await, [format!("{b} 1-0")]);
    // A resume with the cursor of the gap does not report it again.
    let mut again = Sse::open(&app.client, &app.url(&many(&query)), gap.id.as_deref()).await;
    again.expect("$open").await;
    let mut told = Vec::new();
    for _ in 0..6 {
        told.push(again.next().await.unwrap().event);
    }
    told.sort();
    assert_eq!(
        told,
        [
            "$reset", "message", "message", "message", "message", "message"
        ]
    );
}

#[tokio::test]
async fn streams_that_come_to_match_join_from_their_beginning() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let prefix = unique("sensor[*]");
    let name = |n: &str| format!("{prefix}:{n}");
    app.fill(&name("old"), 3).await;
    app.fill(&unique("sensor"), 1).await;
    let text = prefix.replace('*', "\\*");
    let path = many(&format!("match={}*", crate::support::encode(&text)));
    let mut sse = app.follow(&path).await;
    assert_eq!(
        sse.expect("$open").await.json()["streams"],
        json!([name("old")])
    );
    // A stream created through the gateway joins at once.
    let began = std::time::Instant::now();
    let id = app.publish(&name("new"), "1").await;
    assert_eq!(
        entries(&mut sse, 1).await,
        [format!("{} {id}", name("new"))]
    );
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    // A stream created directly in Redis joins at the next scan, and also from its first entry.
    for n in 1..=3 {
        server
            .command(&["XADD", &name("native"), &format!("{n}-0"), "n", "1"])
            .await;
    }
    let native = |n| format!("{} {n}-0", name("native"));
    assert_eq!(
        entries(&mut sse, 3).await,
        [native(1), native(2), native(3)]
    );
    let cursor = {
        let id = app.publish(&name("old"), "x").await;
        let event = sse.expect("message").await;
        assert_eq!(event.json()["id"], id);
        event.id.unwrap()
    };
    // A stream created during a disconnect is read from its first entry, too.
    drop(sse);
    server
        .command(&["XADD", &name("late"), "5-0", "n", "1"])
        .await;
    let mut again = Sse::open(&app.client, &app.url(&path), Some(&cursor)).await;
    again.expect("$open").await;
    assert_eq!(
        entries(&mut again, 1).await,
        [format!("{} 5-0", name("late"))]
    );
}

#[tokio::test]
async fn a_stream_that_matched_and_is_gone_makes_room_for_others() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let prefix = unique("job");
    let mut sse = app.follow(&many(&format!("match={prefix}:*"))).await;
    sse.expect("$open").await;
    // More streams over time than one subscription may follow at once.
    for round in 0..3 {
        let names: Vec<String> = (0..100).map(|n| format!("{prefix}:{round}:{n}")).collect();
        for name in &names {
            server.command(&["XADD", name, "1-0", "n", "1"]).await;
        }
        assert_eq!(entries(&mut sse, 100).await.len(), 100);
        for name in &names {
            server.command(&["DEL", name]).await;
        }
        for _ in &names {
            sse.expect("$reset").await;
        }
    }
}

#[tokio::test]
async fn as_many_streams_as_may_be_are_followed_and_resumed_whatever_their_ids() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let name = |n: u64| format!("s{n}");
    let named: Vec<String> = (0..256).map(|n| format!("stream={}", name(n))).collect();
    let query = many(&format!("{}&after=0", named.join("&")));
    // First empty streams, then ids spread over a year, and finally the longest ids possible.
    let of_a_year = |n: u64| (1_764_000_000_000 + n * 100_000_000, 0_u64);
    let longest = |n: u64| (u64::MAX - 2 * (n % 2) * (u64::MAX / 3), u64::MAX - 1);
    for id in [&of_a_year as &dyn Fn(u64) -> (u64, u64), &longest] {
        server.command(&["FLUSHALL"]).await;
        let mut sse = app.follow(&query).await;
        sse.expect("$open").await;
        let add = async |n: u64, further: u64| {
            let (ms, seq) = id(n);
            server
                .command(&[
                    "XADD",
                    &name(n),
                    &format!("{ms}-{}", seq + further),
                    "n",
                    "1",
                ])
                .await;
        };
        for n in 0..256 {
            add(n, 0).await;
        }
        let (mut seen, mut cursor) = (0, String::new());
        while seen < 256 {
            let event = sse.next().await.unwrap();
            assert!(["message", "$reset"].contains(&&*event.event), "{event:?}");
            seen += usize::from(event.event == "message");
            cursor = event.id.unwrap();
            assert!(cursor.len() <= 7400, "{}", cursor.len());
        }
        // In the header, and in the query.
        let by_query = format!("{query}&lastEventId={cursor}");
        for (count, path, header) in [(1_u8, &query, Some(&*cursor)), (2, &by_query, None)] {
            let mut again = Sse::open(&app.client, &app.url(path), header).await;
            assert_eq!(again.expect("$open").await.id.as_deref(), Some(&*cursor));
            add(count.into(), 1).await;
            entries(&mut again, count.into()).await;
        }
    }
}

#[tokio::test]
async fn too_many_streams_are_refused_at_once_and_told_later() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let named: Vec<String> = (0..257).map(|n| format!("stream=s{n}")).collect();
    app.get(&many(&named.join("&")))
        .await
        .is_problem(422, "too-many-streams");
    let prefix = unique("many");
    for n in 0..256 {
        server
            .command(&["XADD", &format!("{prefix}:{n}"), "1-0", "n", "1"])
            .await;
    }
    let mut sse = app
        .follow(&many(&format!("match={prefix}:*&after=0")))
        .await;
    let open = sse.expect("$open").await;
    assert_eq!(open.json()["streams"].as_array().unwrap().len(), 256);
    let cursor = open.id.unwrap();
    assert!(cursor.len() <= 7400, "{}", cursor.len());
    assert_eq!(entries(&mut sse, 256).await.len(), 256);
    app.publish(&format!("{prefix}:one-more"), "1").await;
    let error = sse.expect("$error").await.json();
    assert_eq!(
        (&error["code"], &error["status"]),
        (&json!("too-many-streams"), &json!(422))
    );
    assert_eq!(sse.next().await, None);
    // At the start the error is reported in the stream too, since a status would end an
    // EventSource.
    let mut refused = app.follow(&many(&format!("match={prefix}:*"))).await;
    assert_eq!(
        refused.expect("$error").await.json()["code"],
        "too-many-streams"
    );
    app.get(&many(&format!("match={prefix}:*")))
        .await
        .is_problem(422, "too-many-streams");
}

#[tokio::test]
async fn streams_that_come_and_go_faster_than_they_are_looked_for_do_not_end_a_subscription() {
    let server = Server::start().await;
    let app = TestApp::on(&server.url(), |settings| {
        // No scan of names or streams happens during the test.
        settings.live.look_every = Duration::from_secs(60);
    })
    .await;
    let (prefix, other) = (unique("brief"), unique("other"));
    let path = many(&format!("match={prefix}:*&match={other}:*&after=0"));
    let mut sse = app.follow(&path).await;
    sse.expect("$open").await;
    let next = async |sse: &mut Sse| loop {
        let event = sse.next().await.expect("it goes on");
        match event.event.as_str() {
            "message" => return event.json()["stream"].as_str().unwrap().to_owned(),
            "$reset" => {}
            other => panic!("{other}: {}", event.data),
        }
    };
    for n in 0..600 {
        let name = format!("{}:{n}", if n % 2 == 0 { &prefix } else { &other });
        app.publish(&name, "1").await;
        assert_eq!(next(&mut sse).await, name);
        server.command(&["DEL", &name]).await;
    }
    // A subscriber that starts now finds few streams, too.
    let mut late = app.follow(&path).await;
    assert!(
        late.expect("$open").await.json()["streams"]
            .as_array()
            .unwrap()
            .len()
            <= 256
    );
    // All streams are gone, and the subscription continues.
    assert_eq!(
        late.soon(Duration::from_millis(300))
            .await
            .map(|event| event.event),
        None
    );
    for n in 0..3 {
        app.publish(&format!("{prefix}:stays:{n}"), "1").await;
        assert_eq!(next(&mut sse).await, format!("{prefix}:stays:{n}"));
        assert_eq!(next(&mut late).await, format!("{prefix}:stays:{n}"));
    }
}

#[tokio::test]
async fn texts_that_look_like_something_else_are_refused_with_the_way_to_write_them() {
    let app = TestApp::start().await;
    for (path, code, hint) in [
        ("/v1/events?match=*x", "invalid-request", "`match=orders:*`"),
        ("/v1/events?match=a*b*", "invalid-request", "`\\*`"),
        ("/v1/events?match=a*@0", "invalid-request", "`after`"),
        (
            "/v1/events?match=a*,b*",
            "invalid-request",
            "`match=a*&match=b*`",
        ),
        (
            "/v1/streams?match=*x",
            "invalid-request",
            "`match=orders:*`",
        ),
        (
            "/v1/events?stream=a,b",
            "invalid-request",
            "`stream=a&stream=b`",
        ),
        (
            "/v1/events?stream=a@0,b@0",
            "invalid-request",
            "`stream=a&stream=b`",
        ),
        (
            "/v1/events?stream=sensor:*",
            "invalid-request",
            "`match=PREFIX*`",
        ),
        (
            "/v1/events?stream=user@example.com",
            "invalid-id",
            "`user@example.com@$`",
        ),
        (
            "/v1/entries?stream=a,b",
            "invalid-request",
            "`stream=a&stream=b`",
        ),
        (
            "/v1/entries?stream=a*@0",
            "invalid-request",
            "`match=PREFIX*`",
        ),
        (
            "/v1/entries?stream=user@example.com",
            "invalid-id",
            "`user@example.com@0`",
        ),
    ] {
        let problem = app.get(path).await.is_problem(400, code);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(hint), "{path}: {detail}");
    }
    // In this spelling, such names are followed and read.
    for name in ["a,b", "x*", "user@example.com", "c:\\d"] {
        let name = unique(name) + name;
        app.publish(&crate::support::encode(&name), "1").await;
        let text = name.replace(',', "\\,").replace('*', "\\*");
        let text = crate::support::encode(&format!("{text}@0"));
        let mut sse = app.follow(&many(&format!("stream={text}"))).await;
        assert_eq!(sse.expect("$open").await.json()["streams"], json!([name]));
        sse.values(1).await;
        let read = app.get(&format!("/v1/entries?stream={text}")).await.json();
        assert_eq!(
            read["streams"][0]["entries"].as_array().unwrap().len(),
            1,
            "{name}"
        );
    }
}

#[tokio::test]
async fn what_is_asked_for_wrongly_is_refused_with_its_reason() {
    let app = TestApp::start().await;
    let of = |query: &str| many(&query.replace('S', &unique("wrong")));
    for wrong in [
        "",
        "after=0",
        "stream=S@x",
        "stream=S&after=0&last=1",
        "stream=S&filter=x",
    ] {
        assert_eq!(app.get(&of(wrong)).await.status, 400, "{wrong}");
    }
    app.get(&many("stream=a&stream=a@0"))
        .await
        .is_problem(400, "invalid-request");
    for cursor in ["5-0:5", "m1.", "m1.AQ", "m1.not~base64", "m2.AQ"] {
        let path = many(&format!("stream=a&last_event_id={cursor}"));
        app.get(&path).await.is_problem(400, "invalid-id");
    }
    app.get(&many("stream=a&stream=b{"))
        .await
        .is_problem(400, "invalid-name");
}

#[tokio::test]
async fn filters_leave_out_entries_and_the_position_moves_on() {
    let app =
        TestApp::start_with(|settings| settings.limits.heartbeat = Duration::from_millis(100))
            .await;
    let stream = unique("filtered");
    let path = format!("/v1/streams/{stream}/entries");
    let filter = "filter=type:paid&filter=type:sent&filter=shop:a:b";
    let events = format!("/v1/streams/{stream}/events?after=0&{filter}");
    for (id, body) in [
        ("1-0", "type=paid&shop=a%3Ab"),
        ("2-0", "type=open&shop=a%3Ab"),
        ("3-0", "type=sent&shop=a%3Ab"),
        ("4-0", "type=paid&shop=a"),
    ] {
        app.post_form(&format!("{path}?id={id}"), body).await;
    }
    let mut sse = app.follow(&events).await;
    sse.expect("$open").await;
    assert_eq!(sse.expect("message").await.id.unwrap(), "1-0:1");
    assert_eq!(sse.expect("message").await.id.unwrap(), "3-0:3");
    // An entry that the filter omits counts as passed: trimming it causes no gap.
    let progress = sse.expect("$progress").await;
    assert_eq!(
        (progress.id.as_deref(), &progress.json()["cursor"]),
        (Some("4-0:4"), &json!("4-0:4"))
    );
    app.post_form(&format!("{path}?id=5-0"), "type=open").await;
    assert_eq!(sse.expect("$progress").await.id.unwrap(), "5-0:5");
    assert_eq!(
        sse.soon(Duration::from_millis(400)).await,
        None,
        "it is told once"
    );
    app.post_form(&format!("{path}?id=6-0"), "type=paid&shop=a%3Ab")
        .await;
    assert_eq!(sse.expect("message").await.id.unwrap(), "6-0:6");
    shared()
        .await
        .command(&["XTRIM", &stream, "MAXLEN", "0"])
        .await;
    let mut again = app.follow(&format!("{events}&last_event_id=5-0:5")).await;
    again.expect("$open").await;
    assert_eq!(
        again.expect("$gap").await.json()["lost"],
        1,
        "the one it had not read"
    );
}

#[tokio::test]
async fn a_subscription_ends_at_its_age_and_its_client_goes_on() {
    let age = Duration::from_millis(300);
    let app = TestApp::start_with(|settings| settings.limits.max_session_age = Some(age)).await;
    let stream = app.stream_of("age", 2).await;
    let mut sse = app
        .follow(&format!("/v1/streams/{stream}/events?after=0"))
        .await;
    // The client must not keep the connection for its next request.
    assert_eq!(sse.headers["connection"], "close");
    sse.expect("$open").await;
    sse.values(2).await;
    let end = sse.expect("$end").await;
    assert_eq!(
        (end.json(), end.id.as_deref()),
        (json!({"reason": "session-age"}), Some("2-0:2"))
    );
    assert!(end.retry.is_some());
    assert_eq!(sse.next().await, None);
    eventually("its place is free", async || {
        app.metric("subscriptions").await == 0
    })
    .await;
}

#[tokio::test]
async fn who_hangs_up_is_noticed_at_once() {
    let app = TestApp::start().await;
    let sse = app
        .follow(&many(&format!("stream={}", unique("gone"))))
        .await;
    assert_eq!(app.metric("subscriptions").await, 1);
    drop(sse);
    eventually("it is noticed", async || {
        app.metric("subscriptions").await == 0
    })
    .await;
}

#[tokio::test]
async fn clients_of_http_1_0_and_those_who_want_only_the_head_are_served() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let app = TestApp::start().await;
    let stream = app.stream_of("old", 1).await;
    let path = format!("/v1/streams/{stream}/events?after=0");
    let mut old = tokio::net::TcpStream::connect(app.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    old.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    eventually_read(&mut old, &mut text, "\"n\":\"1\"").await;
    assert!(
        !text.contains("chunked") && text.contains("\r\n\r\nevent: $open\n"),
        "{text}"
    );
    let mut head = tokio::net::TcpStream::connect(app.address).await.unwrap();
    let request = format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    head.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    let read = tokio::time::timeout(crate::support::PATIENCE, head.read_to_string(&mut text));
    read.await.expect("it ends").unwrap();
    assert!(
        text.starts_with("HTTP/1.1 200") && text.ends_with("\r\n\r\n"),
        "{text}"
    );
}

async fn eventually_read(from: &mut tokio::net::TcpStream, text: &mut String, until: &str) {
    use tokio::io::AsyncReadExt as _;
    let mut buffer = [0; 4096];
    while !text.contains(until) {
        let read = tokio::time::timeout(crate::support::PATIENCE, from.read(&mut buffer));
        let read = read.await.expect("it comes").unwrap();
        assert!(read > 0, "it ended: {text}");
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
}
