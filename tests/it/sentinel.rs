//! Redis Sentinel: finding the master, and continuing after a failover.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::app::{answer, client};
use crate::support::gateway::{Gateway, run, signal};
use crate::support::redis::{Server, free_port, json as shown};
use crate::support::sentinels::{NAME, Sentinel, Watched, url};
use crate::support::sse::Sse;
use crate::support::{TestApp, eventually, unique};

/// Maximum time between the sentinels' agreement on a new master and normal operation there.
const SOON: Duration = Duration::from_secs(2);

const FORM: &str = "application/x-www-form-urlencoded";

fn entries(stream: &str) -> String {
    format!("/v1/streams/{stream}/entries")
}

/// Returns a path for appends to an unrelated stream. After such an append, all earlier writes have
/// been replicated.
fn replicated() -> String {
    format!(
        "{}?durability=replicas:1&durability_timeout=10s",
        entries(&unique("barrier"))
    )
}

/// Appends one number after another, each until it is acknowledged, and finally `end`.
async fn publish(app: &TestApp, stream: &str, acknowledged: &AtomicU32, enough: &AtomicBool) {
    let path = format!(
        "{}?durability=replicas:1&durability_timeout=500ms",
        entries(stream)
    );
    let append = async |value: &str| {
        let post = app
            .client
            .post(app.url(&path))
            .header("idempotency-key", value);
        app.send(post.header("content-type", FORM).body(format!("n={value}")))
            .await
            .status
    };
    for n in 0.. {
        let last = enough.load(Ordering::Relaxed);
        let value = if last {
            "end".to_owned()
        } else {
            n.to_string()
        };
        eventually("it is acknowledged", async || {
            matches!(append(&value).await, 200 | 201)
        })
        .await;
        if last {
            return;
        }
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
}

/// Returns the entries that a subscriber has at the end. A reset discards earlier entries.
async fn follow(mut events: Sse) -> Vec<String> {
    let mut values = Vec::new();
    while values.last().is_none_or(|last| last != "end") {
        let event = events.next().await.expect("it goes on");
        match event.event.as_str() {
            "message" => values.push(event.json()["fields"]["n"].as_str().unwrap().to_owned()),
            "$reset" => values.clear(),
            "$open" | "$progress" => {}
            other => panic!("{other}: {event:?}"),
        }
    }
    values
}

/// Returns the entries that a worker receives. The worker acknowledges all of them.
async fn work(app: &TestApp, group: &str) -> HashSet<String> {
    let mut seen = HashSet::new();
    eventually("all was worked on", async || {
        let read = app
            .post_form(&format!("{group}/read"), "consumer=w&count=20&wait=500ms")
            .await;
        if read.status != 200 {
            return false;
        }
        for entry in read.json()["entries"].as_array().unwrap() {
            seen.insert(entry["fields"]["n"].as_str().unwrap().to_owned());
            let receipt = format!("receipts={}", entry["receipt"].as_str().unwrap());
            app.post_form(&format!("{group}/ack"), &receipt).await;
        }
        seen.contains("end")
    })
    .await;
    seen
}

#[tokio::test]
async fn over_a_failover_nothing_acknowledged_is_lost_and_nothing_is_missed_or_told_twice() {
    let watched = Watched::start(2, 3).await;
    let app = TestApp::on(&watched.url(), |_| {}).await;
    let stream = unique("goes-on");
    let group = format!("/v1/streams/{stream}/groups/g");
    app.put_json(&group, r#"{"policy":{"lease":"1s"}}"#).await;
    let events = app
        .follow(&format!("/v1/streams/{stream}/events?after=0"))
        .await;
    let (count, enough) = (AtomicU32::new(0), AtomicBool::new(false));
    let many = async |more: u32| {
        let from = count.load(Ordering::Relaxed);
        eventually("it goes on", async || {
            count.load(Ordering::Relaxed) >= from + more
        })
        .await;
    };
    let change = async {
        many(30).await;
        watched.master().kill();
        watched.promoted().await;
        many(30).await;
        enough.store(true, Ordering::Relaxed);
    };
    let ((), (), followed, worked) = tokio::join!(
        change,
        publish(&app, &stream, &count, &enough),
        follow(events),
        work(&app, &group)
    );
    let there = app
        .get(&format!("{}?after=0&limit=1000", entries(&stream)))
        .await
        .json();
    let value = |entry: &Value| entry["fields"]["n"].as_str().unwrap().to_owned();
    let there: Vec<String> = there["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(value)
        .collect();
    let mut expected: Vec<_> = (0..count.into_inner()).map(|n| n.to_string()).collect();
    expected.push("end".to_owned());
    assert_eq!(there, expected, "each once, in order");
    assert_eq!(followed, expected);
    assert_eq!(worked, expected.into_iter().collect());
}

/// Returns the number of connections of the gateway to a server.
async fn of_gateway(server: &Server) -> usize {
    let deadpool_redis::redis::Value::BulkString(list) = server.command(&["CLIENT", "LIST"]).await
    else {
        panic!("no list")
    };
    String::from_utf8_lossy(&list)
        .lines()
        .filter(|line| line.contains(" db=1 "))
        .count()
}

#[tokio::test]
async fn whatever_waits_for_a_frozen_master_goes_on_with_the_next() {
    let watched = Watched::start(1, 1).await;
    let app = TestApp::on(&watched.url(), |_| {}).await;
    let (stream, group) = (unique("frozen"), unique("g"));
    let group = format!("/v1/streams/{stream}/groups/{group}");
    app.put_json(&group, r#"{"policy":{}}"#).await;
    let mut events = app.follow(&format!("/v1/streams/{stream}/events")).await;
    events.expect("$open").await;
    // The master has a single replica, so this append keeps waiting.
    let safe = format!(
        "{}?durability=replicas:2&durability_timeout=10s",
        entries(&stream)
    );
    let read = format!("{group}/read");
    let change = async {
        assert_eq!(events.values(1).await, ["stuck"]);
        app.post_form(&read, "consumer=a").await;
        assert_eq!(app.post_form(&replicated(), "n=1").await.status, 201);
        let frozen = async {
            let listening = "redis_connections{kind=\"listening\"}";
            eventually("it listens", async || {
                app.metric_if_any(listening).await == Some(1)
            })
            .await;
            eventually("both wait", async || watched.master().blocked().await > 1).await;
            signal(watched.master().pid(), "STOP");
            watched.promoted().await;
            let began = Instant::now();
            let publish = async || app.post_form(&entries(&stream), "n=2").await.status == 201;
            eventually("it can be published", publish).await;
            assert_eq!(events.values(1).await, ["2"]);
            began
        };
        tokio::join!(app.post_form(&read, "consumer=b&wait=20s"), frozen)
    };
    let (stuck, (waited, began)) = tokio::join!(app.post_form(&safe, "n=stuck"), change);
    assert_eq!(waited.json()["entries"][0]["fields"]["n"], "2");
    let problem = stuck.is_problem(503, "redis-unavailable");
    assert_eq!(
        problem["side_effects"], "unknown",
        "it was written, and did not get farther"
    );
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    signal(watched.master().pid(), "CONT");
    eventually("nothing of ours is there", async || {
        of_gateway(watched.master()).await == 0
    })
    .await;
    app.publish(&stream, "3").await;
    assert_eq!(events.values(1).await, ["3"]);
}

/// Starts a gateway process with these sentinels.
fn gateway(url: &str) -> Gateway {
    Gateway::start(&["serve", "--listen", "127.0.0.1:0", "--redis-url", url])
}

async fn post(gateway: &Gateway, path: &str, n: &str) -> crate::support::Answer {
    let url = format!("http://{}{path}", gateway.address);
    let post = client()
        .post(url)
        .header("content-type", FORM)
        .body(format!("n={n}"));
    answer(post).await.unwrap()
}

/// Returns the next log line that contains this text.
fn logged(gateway: &Gateway, text: &str, within: Duration) -> Option<String> {
    let deadline = Instant::now() + within;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = gateway.log.recv_timeout(left).ok()?;
        if line.contains(text) {
            return Some(line);
        }
    }
}

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_master_that_hands_over_is_left_at_once_and_what_was_put_off_comes_once() {
    let watched = Watched::start(1, 1).await;
    let gateway = gateway(&watched.url());
    let stream = unique("hands-over");
    let later = format!("{}?delay=1s", entries(&stream));
    assert_eq!(post(&gateway, &later, "later").await.status, 202);
    assert_eq!(post(&gateway, &replicated(), "barrier").await.status, 201);
    watched.sentinels[0].fail_over().await;
    let to = watched.promoted().await;
    let began = Instant::now();
    let line = logged(&gateway, "the Redis master changed", LONG).unwrap();
    assert!(line.contains(&to.port.to_string()), "{line}");
    assert!(line.contains(&watched.master().port.to_string()), "{line}");
    assert_eq!(post(&gateway, &entries(&stream), "now").await.status, 201);
    eventually("nothing of ours is there", async || {
        of_gateway(watched.master()).await == 0
    })
    .await;
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    let role = shown(&watched.master().command(&["ROLE"]).await);
    assert_eq!(role[0], "master", "it would still have taken writes");
    let there = async || {
        let url = format!("http://{}{}?after=0", gateway.address, entries(&stream));
        let there = answer(client().get(url)).await.unwrap().json_or_null();
        let there = there["entries"].as_array().cloned().unwrap_or_default();
        there
            .iter()
            .filter(|entry| entry["fields"]["n"] == "later")
            .count()
    };
    eventually("it comes", async || there().await == 1).await;
}

#[tokio::test]
async fn without_any_sentinel_it_goes_on_with_the_master_it_has_and_says_so_once() {
    let watched = Watched::start(0, 1).await;
    let gateway = gateway(&watched.url());
    let path = entries(&unique("alone"));
    watched.sentinels[0].kill();
    let line = logged(
        &gateway,
        "cannot find the Redis master through the sentinels",
        LONG,
    )
    .unwrap();
    assert!(line.contains("no sentinel answers"), "{line}");
    assert_eq!(post(&gateway, &path, "1").await.status, 201);
    let again = logged(&gateway, "the sentinels", Duration::from_millis(2500));
    assert_eq!(again, None);
    assert_eq!(post(&gateway, &path, "2").await.status, 201);
    watched.sentinels[0].start_again().await;
    logged(&gateway, "the sentinels name a master again", LONG).unwrap();
}

#[tokio::test]
async fn while_no_sentinel_answers_there_is_no_redis_and_then_there_is_one() {
    let watched = Watched::start(0, 1).await;
    watched.sentinels[0].kill();
    let gateway = gateway(&watched.url());
    let path = entries(&unique("late"));
    post(&gateway, &path, "1")
        .await
        .is_problem(503, "redis-unavailable");
    let ready = async || {
        let url = format!("http://{}/readyz", gateway.address);
        answer(client().get(url)).await.unwrap()
    };
    ready().await.is_problem(503, "redis-unavailable");
    watched.sentinels[0].start_again().await;
    eventually("it is ready", async || ready().await.status == 200).await;
    assert_eq!(post(&gateway, &path, "1").await.status, 201);
}

#[tokio::test]
async fn sentinels_that_are_away_know_nothing_or_name_a_server_that_is_no_master_do_no_harm() {
    let server = Server::start().await;
    let right = Sentinel::start(server.port, 1, "").await;
    let ignorant = Sentinel::start(server.port, 2, "").await;
    ignorant.ask(&["SENTINEL", "REMOVE", NAME]).await.unwrap();
    let replica = Server::start().await;
    replica.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    // This sentinel has the highest configuration epoch.
    let further = format!("sentinel config-epoch {NAME} 9");
    let wrong = Sentinel::start(replica.port, 2, &further).await;
    let away = free_port();
    let of = |sentinels: &[&Sentinel]| {
        let ports = sentinels.iter().map(|sentinel| sentinel.port);
        url(&[&[away][..], &ports.collect::<Vec<_>>()].concat())
    };
    let app = TestApp::on(&of(&[&ignorant, &wrong, &right]), |_| {}).await;
    app.publish(&unique("found"), "1").await;
    for (sentinel, why) in [
        (&ignorant, "no sentinel knows"),
        (&wrong, "is not a master"),
    ] {
        let gateway = gateway(&of(&[sentinel]));
        let answer = post(&gateway, &entries("nowhere"), "1").await;
        answer.is_problem(503, "redis-unavailable");
        let said = gateway
            .before
            .iter()
            .filter(|line| line.contains("sentinels"));
        let said: Vec<_> = said.collect();
        assert!(said.len() == 1 && said[0].contains(why), "{said:?}");
    }
}

#[tokio::test]
async fn a_sentinel_that_missed_a_failover_is_not_believed_though_nobody_else_answers() {
    let watched = Watched::start(1, 2).await;
    let app = TestApp::on(&watched.url().replace("/1?", "/?"), |_| {}).await;
    let [late, early] = &watched.sentinels[..] else {
        panic!()
    };
    late.kill();
    early.fail_over().await;
    eventually("it is promoted", async || {
        early.names().await != watched.master().port
    })
    .await;
    let (old, new, stream) = (&watched.servers[0], &watched.servers[1], unique("stays"));
    let published = async || app.post_form(&entries(&stream), "n=1").await.status == 201;
    let moved = async || published().await && shown(&new.command(&["XLEN", &stream]).await) != 0;
    eventually("it has moved", moved).await;
    early.kill();
    // The old master comes back as a master and accepts writes.
    old.kill();
    old.start_again().await;
    late.start_again().await;
    assert_eq!(late.names().await, old.port);
    let (began, after) = (Instant::now(), unique("after"));
    while began.elapsed() < SOON {
        app.publish(&after, "2").await;
    }
    assert_eq!(shown(&old.command(&["EXISTS", &after]).await), 0);
}

#[tokio::test]
async fn sentinels_and_redis_each_have_their_own_password() {
    let server = Server::start().await;
    server
        .command(&[
            "ACL", "SETUSER", "gate", "on", ">s3cret", "~*", "&*", "+@all",
        ])
        .await;
    // This user may not run the command with which the gateway learns how recent an answer is.
    let may = "user asks on >pass%word +auth +sentinel|get-master-addr-by-name";
    let sentinel = Sentinel::start(server.port, 1, may).await;
    let node = format!("127.0.0.1:{}", sentinel.port);
    let of = |login: &str, asks: &str| {
        let asks = format!("sentinelUser=asks&sentinelPassword={asks}");
        format!("redis-sentinel://{login}@{node}?sentinelMasterId={NAME}&{asks}")
    };
    let app = TestApp::on(&of("gate:s3cret", "pass%25word"), |_| {}).await;
    app.publish(&unique("known"), "1").await;
    for wrong in [of("gate:s3cre", "pass%25word"), of("gate:s3cret", "pass")] {
        let gateway = gateway(&wrong);
        post(&gateway, &entries("secret"), "1")
            .await
            .is_problem(503, "redis-unavailable");
        let said = gateway.before.concat();
        assert!(
            said.contains("cannot find the Redis master through the sentinels"),
            "{said}"
        );
        assert!(!said.contains("s3cre") && !said.contains("pass%"), "{said}");
    }
}

#[test]
fn urls_of_sentinels_that_make_no_sense_are_refused_and_passwords_are_not_shown() {
    for (url, part) in [
        ("redis-sentinel://s3cret@a", "sentinelMasterId=NAME"),
        (
            "redis-sentinel://s3cret@a?sentinelMasterId=m&timeout=1s",
            "other than sentinelMasterId",
        ),
        (
            "redis-sentinel://s3cret@?sentinelMasterId=m",
            "does not name sentinels",
        ),
        ("sentinel://s3cret@a", "redis-sentinel://"),
    ] {
        let (code, _, err) = run(&["config", "check", "--redis-url", url], &[]);
        assert_eq!(code, Some(2), "{url}");
        assert!(
            err.contains(part) && !err.contains("s3cret"),
            "{url}: {err}"
        );
    }
    let url = "redis-sentinel://me:s3cret@a,b?sentinelMasterId=m&sentinelPassword=s3cret";
    let (code, out, _) = run(&["config", "print", "--redis-url", url], &[]);
    assert_eq!(code, Some(0));
    let shown = "redis-sentinel://me:***@a,b?sentinelMasterId=m&sentinelPassword=***";
    assert!(out.contains(shown) && !out.contains("s3cret"), "{out}");
}

#[tokio::test]
async fn a_promotion_is_heard_of_before_the_sentinels_are_asked_again() {
    for _ in 0..3 {
        let watched = Watched::start(1, 1).await;
        let app = TestApp::on(&watched.url(), |_| {}).await;
        let stream = unique("heard");
        app.publish(&stream, "1").await;
        let to = &watched.servers[1];
        watched.sentinels[0].fail_over().await;
        // Sentinels close all client connections in a failover.
        let promoted = async || match to.try_command(&["ROLE"]).await {
            Ok(role) => shown(&role)[0] == "master",
            Err(_) => false,
        };
        let is_used = async || match to.try_command(&["CLIENT", "LIST"]).await {
            Ok(list) => format!("{list:?}").contains(" db=1 "),
            Err(_) => false,
        };
        eventually("it is promoted", promoted).await;
        eventually("the sentinel names it", async || {
            watched.sentinels[0].names().await == to.port
        })
        .await;
        let began = Instant::now();
        eventually("the gateway uses it", is_used).await;
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    }
}

/// Appends until `enough` is set, each time waiting for `replicas` replicas. Returns the
/// acknowledged numbers.
async fn append_durably(
    app: &TestApp,
    stream: &str,
    replicas: usize,
    enough: &AtomicBool,
) -> Vec<String> {
    let query = format!("durability=replicas:{replicas}&durability_timeout=1s");
    let path = format!("{}?{query}", entries(stream));
    let mut acknowledged = Vec::new();
    for n in 0.. {
        if enough.load(Ordering::Relaxed) {
            break;
        }
        if app.post_form(&path, &format!("n={n}")).await.status == 201 {
            acknowledged.push(n.to_string());
        }
    }
    acknowledged
}

#[tokio::test]
async fn what_all_replicas_have_acknowledged_outlives_a_manual_failover() {
    let watched = Watched::start(2, 3).await;
    let app = TestApp::on(&watched.url(), |_| {}).await;
    let (stream, enough) = (unique("durable"), AtomicBool::new(false));
    let change = async {
        let published = async || app.metric("published_entries_total").await > 30;
        eventually("it goes on", published).await;
        watched.sentinels[0].fail_over().await;
        watched.promoted().await;
        let before = app.metric("published_entries_total").await;
        let after = async || app.metric("published_entries_total").await > before + 30;
        eventually("it goes on there", after).await;
        enough.store(true, Ordering::Relaxed);
    };
    let (acknowledged, ()) = tokio::join!(append_durably(&app, &stream, 2, &enough), change);
    let there = app
        .get(&format!("{}?after=0&limit=1000", entries(&stream)))
        .await
        .json();
    let value = |entry: &Value| entry["fields"]["n"].as_str().unwrap().to_owned();
    let there: HashSet<String> = there["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(value)
        .collect();
    let lost: Vec<_> = acknowledged
        .iter()
        .filter(|n| !there.contains(*n))
        .collect();
    assert!(lost.is_empty(), "{lost:?} of {}", acknowledged.len());
}
