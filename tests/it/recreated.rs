//! Streams that are deleted and recreated, or temporarily unreadable, during reads.

use std::time::{Duration, Instant};

use deadpool_redis::redis::Value as Redis;
use serde_json::Value;

use crate::support::lines::Lines;
use crate::support::redis::Server;
use crate::support::{TestApp, elapse, eventually, unique};

/// Far below the 5 s after which a reader checks its streams without a wake-up.
const AT_ONCE: Duration = Duration::from_secs(2);

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

/// Deletes a stream and adds entries with these ids, in one step.
async fn recreate(server: &Server, stream: &str, ids: &[&str]) {
    let script = "redis.call('DEL', KEYS[1])
        for i, id in ipairs(ARGV) do redis.call('XADD', KEYS[1], id, 'n', i) end";
    server
        .command(&[&["EVAL", script, "1", stream], ids].concat())
        .await;
}

async fn it_waits(app: &TestApp) {
    eventually("it waits", async || app.metric("waiting_reads").await == 1).await;
}

/// Returns the ids of the entries in a page.
fn ids(page: &Value) -> Vec<&str> {
    let all = page["entries"]
        .as_array()
        .unwrap_or_else(|| panic!("no entries: {page}"));
    all.iter()
        .map(|entry| entry["id"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_waiting_read_loses_no_entry_of_a_stream_that_is_recreated_meanwhile() {
    let server = Server::start().await;
    let app = quick(&server).await;
    // Ids greater than before, lower ids, and the id at which the old stream ended.
    for new in [&["6-0", "7-0"][..], &["1-0", "2-0"], &["5-0"]] {
        for query in [
            "after=$",
            "after=5-0:5",
            "cursor=5-0:5",
            "after=5-0:5&gap=skip",
        ] {
            let stream = app.stream_of("wait", 5).await;
            let path = entries(&stream, &format!("{query}&wait=15s"));
            let (answer, ()) = tokio::join!(app.get(&path), async {
                it_waits(&app).await;
                recreate(&server, &stream, new).await;
            });
            let what = format!("{query}, then {new:?}: {}", answer.body);
            if query.starts_with("after=$") || query.ends_with("skip") {
                let page = answer.json();
                assert_eq!(
                    (ids(&page), &page["gap"]["reset"]),
                    (new.to_vec(), &true.into()),
                    "{what}"
                );
            } else {
                assert_eq!(
                    answer.is_problem(410, "entries-trimmed")["reset"],
                    true,
                    "{what}"
                );
            }
        }
        let stream = app.stream_of("many", 5).await;
        let path = format!("/v1/entries?stream={stream}@$&wait=15s");
        let (answer, ()) = tokio::join!(app.get(&path), async {
            it_waits(&app).await;
            recreate(&server, &stream, new).await;
        });
        let told = &answer.json()["streams"][0];
        assert_eq!(
            (&told["gap"]["reset"], &told["next"]),
            (&true.into(), &"0-0:0".into()),
            "{told}"
        );
    }
}

#[tokio::test]
async fn what_was_added_and_trimmed_away_under_a_read_from_the_tail_is_told() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let stream = app.stream_of("tail", 2).await;
    let path = entries(&stream, "after=$&wait=15s");
    let (answer, ()) = tokio::join!(app.get(&path), async {
        it_waits(&app).await;
        let add = "for i = 1, 20 do redis.call('XADD', KEYS[1], 'MAXLEN', 5, '*', 'n', i) end";
        server.command(&["EVAL", add, "1", &stream]).await;
    });
    let page = answer.json();
    assert_eq!(
        (ids(&page).len(), &page["gap"]["lost"]),
        (5, &15.into()),
        "{page}"
    );
}

#[tokio::test]
async fn who_comes_to_a_recreated_stream_whose_former_life_was_followed_is_woken_at_once() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    // The old stream ended at 5-0. The new one is missing, ends lower, or has the same last id and
    // a different count.
    for (now, after, next) in [
        (&[][..], "0", "5-0"),
        (&[], "0-0:0", "1-0"),
        (&["1-0", "2-0"], "2-0:2", "3-0"),
        (&["5-0"], "5-0:1", "5-1"),
    ] {
        for kind in ["wait", "many", "events", "events of many", "lines"] {
            let stream = app.stream_of("former", 5).await;
            let mut former = app.follow(&events(&stream, "after=0")).await;
            former.expect("$open").await;
            former.values(5).await;
            drop(former);
            recreate(&server, &stream, now).await;
            let add = async || {
                server.command(&["XADD", &stream, next, "n", "next"]).await;
                Instant::now()
            };
            let added = match kind {
                "wait" | "many" => {
                    let path = match kind {
                        "wait" => entries(&stream, &format!("after={after}&wait=15s")),
                        _ => format!("/v1/entries?stream={stream}@{after}&wait=15s"),
                    };
                    let (answer, added) = tokio::join!(app.get(&path), async {
                        it_waits(&app).await;
                        add().await
                    });
                    assert!(answer.body.contains("\"next\":\""), "{}", answer.body);
                    assert!(
                        answer.body.contains(&format!("\"id\":\"{next}\"")),
                        "{}",
                        answer.body
                    );
                    added
                }
                "lines" => {
                    let path = entries(&stream, &format!("after={after}&follow=true"));
                    let mut lines = lines(&app, &path).await;
                    let added = add().await;
                    assert_eq!(lines.next().await.unwrap()["id"], next);
                    added
                }
                _ => {
                    let path = match kind {
                        "events" => events(&stream, &format!("after={after}")),
                        _ => format!("/v1/events?stream={stream}@{after}"),
                    };
                    let mut sse = app.follow(&path).await;
                    sse.expect("$open").await;
                    let added = add().await;
                    assert_eq!(sse.expect("message").await.json()["id"], next, "{kind}");
                    added
                }
            };
            let took = added.elapsed();
            assert!(
                took < AT_ONCE,
                "{kind} after {after} of {now:?} was woken after {took:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_stream_that_could_not_be_read_for_a_time_is_not_read_again_from_its_beginning() {
    let server = Server::start().await;
    let app = quick(&server).await;
    let stream = unique("denied");
    let add = "for i = 1, 3000 do redis.call('XADD', KEYS[1], '*', 'n', i, 'pad', string.rep('x', 1000)) end";
    server.command(&["EVAL", add, "1", &stream]).await;
    let mut sse = app.follow(&events(&stream, "after=$")).await;
    sse.expect("$open").await;
    // Permissions that are revoked and restored: all of them for reading streams, or only the one
    // for waiting.
    for (round, rights) in [&["-xrange", "-xread", "-xinfo"][..], &["-xread"]]
        .iter()
        .enumerate()
    {
        let sent = sent_bytes(&server).await;
        server
            .command(&[&["ACL", "SETUSER", "default"], *rights].concat())
            .await;
        // The reader notices when its blocking read returns.
        server
            .command(&["XADD", &stream, "*", "n", &format!("{round}.1")])
            .await;
        eventually("nobody waits in Redis", async || {
            server.blocked().await == 0
        })
        .await;
        let calls = calls(&server).await;
        elapse(500, "commands are counted meanwhile").await;
        let calls = self::calls(&server).await - calls;
        assert!(calls < 200, "{calls} commands while one is refused");
        server
            .command(&["ACL", "SETUSER", "default", "+@all"])
            .await;
        server
            .command(&["XADD", &stream, "*", "n", &format!("{round}.2")])
            .await;
        assert_eq!(
            sse.values(2).await,
            [format!("{round}.1"), format!("{round}.2")]
        );
        eventually("somebody waits in Redis", async || {
            server.blocked().await == 1
        })
        .await;
        let sent = sent_bytes(&server).await - sent;
        assert!(sent < 500_000, "Redis sent {sent} bytes for two entries");
    }
}

/// Renames the stream and puts a string in its place.
async fn turn_into_text(server: &Server, stream: &str) {
    let script = "redis.call('RENAME', KEYS[1], ARGV[1]) redis.call('SET', KEYS[1], 'text')";
    server
        .command(&["EVAL", script, "1", stream, &format!("{stream}-away")])
        .await;
}

async fn turn_back(server: &Server, stream: &str) {
    server
        .command(&["RENAME", &format!("{stream}-away"), stream])
        .await;
}

#[tokio::test]
async fn who_reads_a_stream_that_turns_into_another_type_is_told_and_resumes_when_it_is_back() {
    let server = Server::start().await;
    let app = quick(&server).await;
    let stream = app.stream_of("typed", 5).await;
    let mut sse = app.follow(&events(&stream, "after=5-0:5")).await;
    let mut many = app
        .follow(&format!("/v1/events?stream={stream}@5-0:5"))
        .await;
    let mut matching = app
        .follow(&format!("/v1/events?match={stream}*&after=$"))
        .await;
    for sse in [&mut sse, &mut many, &mut matching] {
        sse.expect("$open").await;
    }
    let mut lines = lines(&app, &entries(&stream, "after=5-0:5&follow=true")).await;
    let group = format!("/v1/streams/{stream}/groups/g");
    app.put_json(&group, r#"{"start":"$"}"#).await;
    let path = format!("{group}/read");
    let work = app.post_form(&path, "consumer=w&wait=15s");
    let path = entries(&stream, "after=5-0:5&wait=15s");
    let poll = app.get(&path);
    let path = format!("/v1/entries?stream={stream}@$&wait=15s");
    let poll_many = app.get(&path);
    let (work, poll, poll_many, ()) = tokio::join!(work, poll, poll_many, async {
        eventually("all wait", async || app.metric("waiting_reads").await == 3).await;
        turn_into_text(&server, &stream).await;
    });
    for answer in [work, poll, poll_many] {
        answer.is_problem(409, "not-a-stream");
    }
    for sse in [&mut sse, &mut many] {
        assert_eq!(sse.expect("$error").await.json()["code"], "not-a-stream");
        assert_eq!(sse.next().await, None);
    }
    assert_eq!(lines.next().await.unwrap()["error"]["code"], "not-a-stream");
    assert_eq!(lines.next().await, None);
    // After the stream is back, it is the same one: readers resume at their position, without a
    // reset.
    turn_back(&server, &stream).await;
    let mut sse = app
        .follow(&events(&stream, "after=0&last_event_id=5-0:5"))
        .await;
    sse.expect("$open").await;
    server.command(&["XADD", &stream, "6-0", "n", "6"]).await;
    assert_eq!(sse.expect("message").await.id.as_deref(), Some("6-0:6"));
}

#[tokio::test]
async fn who_comes_to_a_stream_that_was_another_type_lately_is_woken_at_once() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    for is_new in [true, false] {
        let stream = app.stream_of("text", 5).await;
        turn_into_text(&server, &stream).await;
        app.get(&entries(&stream, "after=0&wait=15s"))
            .await
            .is_problem(409, "not-a-stream");
        match is_new {
            true => drop(server.command(&["DEL", &stream]).await),
            false => turn_back(&server, &stream).await,
        }
        let path = entries(&stream, "after=$&wait=15s");
        let (answer, added) = tokio::join!(app.get(&path), async {
            it_waits(&app).await;
            server.command(&["XADD", &stream, "9-0", "n", "9"]).await;
            Instant::now()
        });
        assert_eq!(answer.ids(), ["9-0"]);
        assert!(
            added.elapsed() < AT_ONCE,
            "woken after {:?}",
            added.elapsed()
        );
    }
}

async fn sent_bytes(server: &Server) -> u64 {
    stat(server, "total_net_output_bytes:").await
}

async fn calls(server: &Server) -> u64 {
    stat(server, "total_commands_processed:").await
}

async fn stat(server: &Server, name: &str) -> u64 {
    let Redis::BulkString(info) = server.command(&["INFO", "stats"]).await else {
        panic!("no info")
    };
    let info = String::from_utf8_lossy(&info).into_owned();
    info.lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}
