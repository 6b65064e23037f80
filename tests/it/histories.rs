//! Other histories of a stream: a server that lost its last entries, was restored, or took over
//! from another one. Matching counts do not hide them.

use std::time::Duration;

use serde_json::Value;

use crate::support::lines::Lines;
use crate::support::redis::{Server, free_port};
use crate::support::sse::Sse;
use crate::support::{TestApp, eventually, unique};

/// The history that readers know, and another with the same number of entries, as another server
/// might have it.
const OLD: [&str; 4] = ["1-0", "2-0", "3-0", "5-0"];
const NEW: [&str; 5] = ["1-0", "2-0", "3-1", "4-0", "6-0"];

fn entries(stream: &str, query: &str) -> String {
    format!("/v1/streams/{stream}/entries?{query}")
}

fn events(stream: &str, query: &str) -> String {
    format!("/v1/streams/{stream}/events?{query}")
}

async fn lines(app: &TestApp, path: &str) -> Lines {
    Lines::of(
        app.client
            .get(app.url(path))
            .header("accept", "application/x-ndjson"),
    )
    .await
}

/// Starts a gateway whose readers check their streams every 100 ms.
async fn quick(server: &Server) -> TestApp {
    let look_every = Duration::from_millis(100);
    TestApp::on(&server.url(), |settings| {
        settings.live.look_every = look_every;
    })
    .await
}

/// Replaces the history of a stream in one step.
async fn replace(server: &Server, stream: &str, ids: &[&str]) {
    let script = "redis.call('DEL', KEYS[1])
        for i, id in ipairs(ARGV) do redis.call('XADD', KEYS[1], id, 'n', id) end";
    server
        .command(&[&["EVAL", script, "1", stream], ids].concat())
        .await;
}

async fn is_reset_to(sse: &mut Sse, ids: &[&str]) {
    sse.expect("$reset").await;
    assert_eq!(sse.values(ids.len()).await, ids);
}

async fn are_reset_to(lines: &mut Lines, ids: &[&str]) {
    let reset = lines.next().await.unwrap();
    assert!(
        reset["reset"].is_object() && reset["position"] == "0-0:0",
        "{reset}"
    );
    for id in ids {
        assert_eq!(lines.next().await.unwrap()["id"], *id);
    }
}

#[tokio::test]
async fn a_history_whose_counts_fit_is_told_to_everybody_who_resumes_in_it() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let stream = unique("resumed");
    replace(&server, &stream, &NEW).await;
    let mut sse = Sse::open(&app.client, &app.url(&events(&stream, "")), Some("5-0:4")).await;
    sse.expect("$open").await;
    is_reset_to(&mut sse, &NEW).await;
    let mut many = app
        .follow(&format!("/v1/events?stream={stream}@5-0:4"))
        .await;
    many.expect("$open").await;
    is_reset_to(&mut many, &NEW).await;
    are_reset_to(
        &mut lines(&app, &entries(&stream, "after=5-0:4&follow=true")).await,
        &NEW,
    )
    .await;
    for query in [
        "cursor=5-0:4",
        "after=5-0:4",
        "after=5-0:4&wait=5s",
        "cursor=5-0:4~9-0",
    ] {
        let answer = app.get(&entries(&stream, query)).await;
        assert_eq!(
            answer.is_problem(410, "entries-trimmed")["reset"],
            true,
            "{query}"
        );
    }
    let skipped = lines(&app, &entries(&stream, "after=5-0:4&gap=skip"))
        .await
        .rest()
        .await;
    assert_eq!(
        (&skipped[0]["gap"]["reset"], skipped.len()),
        (&true.into(), 6)
    );
    let many = app
        .get(&format!("/v1/entries?stream={stream}@5-0:4"))
        .await
        .json();
    assert_eq!(many["streams"][0]["gap"]["reset"], true);
    // If the number of entries after the position differs from the number added since, the position
    // belongs to another history.
    for wrong in ["2-0:3", "2-0:1", "0-0:1"] {
        let answer = app.get(&entries(&stream, &format!("after={wrong}"))).await;
        assert_eq!(
            answer.is_problem(410, "entries-trimmed")["reset"],
            true,
            "{wrong}"
        );
    }
    // Positions in both histories are valid, and so are positions without a count.
    for right in ["2-0:2", "5-0", "0", "0-0:0"] {
        assert_eq!(
            app.get(&entries(&stream, &format!("after={right}")))
                .await
                .status,
            200,
            "{right}"
        );
    }
}

#[tokio::test]
async fn a_history_whose_counts_fit_is_told_to_everybody_who_follows() {
    let server = Server::start().await;
    // One reader serves all subscribers. It checks few streams and many streams in different ways.
    let app = TestApp::on(&server.url(), |settings| {
        settings.live.readers = 1;
        settings.pool.blocking = 1;
    })
    .await;
    for others in [0, 30] {
        let names: Vec<String> = (0..others)
            .map(|_| format!("&stream={}", unique("o")))
            .collect();
        let stream = unique("followed");
        replace(&server, &stream, &OLD).await;
        let mut sse = app.follow(&events(&stream, "after=0")).await;
        let mut many = app
            .follow(&format!("/v1/events?stream={stream}@0{}", names.concat()))
            .await;
        let mut lines = lines(&app, &entries(&stream, "after=0&follow=true")).await;
        for sse in [&mut sse, &mut many] {
            sse.expect("$open").await;
            assert_eq!(sse.values(4).await, OLD);
        }
        for id in OLD {
            assert_eq!(lines.next().await.unwrap()["id"], id);
        }
        let path = entries(&stream, "after=5-0:4&wait=15s");
        let (poll, ()) = tokio::join!(app.get(&path), async {
            eventually("it waits", async || app.metric("waiting_reads").await == 1).await;
            replace(&server, &stream, &NEW).await;
        });
        assert_eq!(poll.is_problem(410, "entries-trimmed")["reset"], true);
        is_reset_to(&mut sse, &NEW).await;
        is_reset_to(&mut many, &NEW).await;
        are_reset_to(&mut lines, &NEW).await;
    }
}

#[tokio::test]
async fn a_quiet_stream_that_was_replaced_is_told_without_an_entry() {
    let server = Server::start().await;
    let app = quick(&server).await;
    let stream = unique("quiet");
    replace(&server, &stream, &OLD).await;
    let mut sse = app.follow(&events(&stream, "after=0")).await;
    sse.expect("$open").await;
    sse.values(4).await;
    // The same last id and the same number of entries.
    replace(&server, &stream, &["1-0", "2-0", "3-1", "5-0"]).await;
    assert_eq!(
        sse.soon(Duration::from_millis(400)).await,
        None,
        "this cannot be known"
    );
    server.command(&["XADD", &stream, "6-0", "n", "6-0"]).await;
    assert_eq!(sse.values(1).await, ["6-0"]);
    // The same last id and more entries than before.
    replace(
        &server,
        &stream,
        &["1-0", "2-0", "3-1", "4-0", "5-0", "6-0"],
    )
    .await;
    sse.expect("$reset").await;
}

#[tokio::test]
async fn a_redis_that_comes_back_with_less_is_a_reset_to_everybody_who_had_more() {
    let server = Server::start().await;
    let app = quick(&server).await;
    // Streams that gained entries before the crash, were emptied, deleted, or did not change.
    let kinds = ["more", "emptied", "deleted", "new", "same"];
    let mut followed = Vec::new();
    for kind in kinds.iter().cycle().take(40) {
        let stream = unique(kind);
        if *kind != "new" {
            app.fill(&stream, 3).await;
        }
        followed.push((*kind, stream));
    }
    let backup = server.backup();
    let mut subscribers = Vec::new();
    for (kind, stream) in &followed {
        if *kind != "same" {
            for id in ["4-0", "5-0"] {
                server.command(&["XADD", stream, id, "n", id]).await;
            }
        }
        let mut sse = app.follow(&events(stream, "after=$")).await;
        sse.expect("$open").await;
        match *kind {
            "emptied" => drop(server.command(&["XTRIM", stream, "MAXLEN", "0"]).await),
            "deleted" => {
                server.command(&["DEL", stream]).await;
                sse.expect("$reset").await;
            }
            _ => {}
        }
        subscribers.push(sse);
    }
    server.kill();
    server.start_from(&backup).await;
    for ((kind, stream), sse) in followed.iter().zip(&mut subscribers) {
        match *kind {
            "more" | "emptied" => {
                assert_eq!(sse.expect("$reset").await.json()["stream"], stream.as_str());
                assert_eq!(sse.values(3).await, ["1", "1", "1"], "{kind}");
            }
            "deleted" => assert_eq!(sse.values(3).await, ["1", "1", "1"]),
            "new" => drop(sse.expect("$reset").await),
            _ => {}
        }
        server.command(&["XADD", stream, "9-0", "n", "last"]).await;
        assert_eq!(sse.values(1).await, ["last"], "{kind}");
    }
    // All streams at once, on a server that keeps running.
    server.command(&["FLUSHALL"]).await;
    for ((kind, _), sse) in followed.iter().zip(&mut subscribers) {
        assert_eq!(
            sse.expect("$reset").await.id.as_deref(),
            Some("0-0:0"),
            "{kind}"
        );
    }
}

#[tokio::test]
async fn a_tail_that_was_lost_and_written_anew_is_a_reset() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let streams: Vec<String> = (0..20).map(|_| unique("tail")).collect();
    for stream in &streams {
        replace(&server, stream, &["1-0", "2-0", "3-0"]).await;
    }
    let backup = server.backup();
    let mut subscribers = Vec::new();
    for stream in &streams {
        for id in ["4-0", "5-0"] {
            server.command(&["XADD", stream, id, "n", id]).await;
        }
        let mut sse = app.follow(&events(stream, "after=0")).await;
        sse.expect("$open").await;
        sse.values(5).await;
        subscribers.push(sse);
    }
    // Another server had the same entries until then and continued differently.
    let other = Server::on(free_port());
    other.start_from(&backup).await;
    for stream in &streams {
        for id in ["4-1", "5-1", "6-0"] {
            other.command(&["XADD", stream, id, "n", id]).await;
        }
    }
    server.kill();
    server.start_from(&other.backup()).await;
    for sse in &mut subscribers {
        is_reset_to(sse, &["1-0", "2-0", "3-0", "4-1", "5-1", "6-0"]).await;
    }
}

#[tokio::test]
async fn positions_that_are_no_entry_never_lead_to_a_reset() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let stream = app.stream_of("linear", 10).await;
    let open = async |query: &str| {
        app.follow(&events(&stream, query))
            .await
            .expect("$open")
            .await
            .id
            .unwrap()
    };
    let mut positions = Vec::new();
    for last in [1, 3, 9, 10, 20] {
        positions.push(open(&format!("last={last}")).await);
    }
    assert_eq!(positions, ["9-0:9", "7-0:7", "1-0:1", "0-0:0", "0-0:0"]);
    server.command(&["XTRIM", &stream, "MAXLEN", "6"]).await;
    server.command(&["XDEL", &stream, "8-0"]).await;
    for query in ["last=2", "last=20", "after=7-0:7", "after=$"] {
        positions.push(open(query).await);
    }
    let mut gap = app.follow(&events(&stream, "after=1-0:1")).await;
    gap.expect("$open").await;
    positions.push(gap.expect("$gap").await.id.unwrap());
    let steps: [&[&str]; 6] = [
        &["XADD", &stream, "11-0", "n", "1"],
        &[
            "XSETID",
            &stream,
            "20-0",
            "ENTRIESADDED",
            "20",
            "MAXDELETEDID",
            "8-0",
        ],
        &["XADD", &stream, "21-0", "n", "1"],
        &["XTRIM", &stream, "MAXLEN", "2"],
        &["XDEL", &stream, "21-0"],
        &["XADD", &stream, "22-0", "n", "1"],
    ];
    for words in steps {
        server.command(words).await;
        positions.push(open("after=$").await);
        positions.push(open("last=1").await);
        let next = app.get(&entries(&stream, "after=0")).await.json()["next"].clone();
        positions.push(next.as_str().unwrap().to_owned());
        for position in &positions {
            let answer = app
                .get(&entries(&stream, &format!("after={position}")))
                .await;
            let reset = answer
                .json()
                .get("reset")
                .cloned()
                .unwrap_or(Value::Bool(false));
            assert_eq!(reset, false, "{position} after {words:?}: {}", answer.body);
        }
    }
    // Where trims leave untraced holes no entry is looked for, and the count does no harm.
    let trim = ["XTRIM", &stream, "MAXLEN", "100", "ACKED"];
    let set = match server.try_command(&trim).await {
        Ok(_) => "20-0:20",
        Err(_) => "20-0",
    };
    assert!(positions.contains(&set.to_owned()), "{positions:?}");
}

#[tokio::test]
async fn a_follower_of_lines_resumes_after_any_line() {
    let app = TestApp::start().await;
    let stream = app.stream_of("lines", 4).await;
    let mut all = lines(&app, &entries(&stream, "follow=true")).await;
    for n in 1..=4 {
        let position = all.next().await.unwrap()["position"]
            .as_str()
            .unwrap()
            .to_owned();
        assert_eq!(position, format!("{n}-0:{n}"));
        let mut rest = lines(&app, &entries(&stream, &format!("after={position}"))).await;
        let ids: Vec<Value> = rest
            .rest()
            .await
            .iter()
            .map(|line| line["id"].clone())
            .collect();
        let expected: Vec<String> = (n + 1..=4).map(|n| format!("{n}-0")).collect();
        assert_eq!(ids, expected);
    }
}
