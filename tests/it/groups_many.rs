//! Groups of one name over several streams.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::redis::{Server, shared};
use crate::support::{Answer, TestApp, encode, eventually, unique};

/// Creates streams with these numbers of entries, each with a group `g`.
async fn streams<const N: usize>(app: &TestApp, counts: [u32; N]) -> [String; N] {
    let streams = counts.map(|count| (unique("many"), count));
    for (stream, count) in &streams {
        app.put_json(&format!("/v1/streams/{stream}/groups/g"), "{}")
            .await;
        app.fill(stream, *count).await;
    }
    streams.map(|(stream, _)| stream)
}

async fn post(app: &TestApp, call: &str, body: Value) -> Answer {
    app.post_json(&format!("/v1/groups/g/{call}"), &body.to_string())
        .await
}

async fn read(app: &TestApp, body: Value) -> Vec<(String, Vec<String>)> {
    let answer = post(app, "read", body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    by_stream(&answer)
}

fn by_stream(answer: &Answer) -> Vec<(String, Vec<String>)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of_one = |item: &Value| {
        let entries = item["entries"].as_array().unwrap().iter();
        (
            text(&item["stream"]),
            entries.map(|entry| text(&entry["id"])).collect(),
        )
    };
    answer.json()["streams"]
        .as_array()
        .unwrap()
        .iter()
        .map(of_one)
        .collect()
}

/// Returns `STREAM@ID` of every entry in a response.
fn delivered(answer: &Answer) -> Vec<String> {
    let of_one = |(stream, ids): (String, Vec<String>)| {
        ids.into_iter()
            .map(move |id| format!("{stream}@{id}"))
            .collect::<Vec<_>>()
    };
    by_stream(answer).into_iter().flat_map(of_one).collect()
}

async fn pending(app: &TestApp, stream: &str) -> Vec<String> {
    app.get(&format!("/v1/streams/{stream}/groups/g/pending"))
        .await
        .ids()
}

fn waiting(streams: &[&str], consumer: &str) -> Value {
    json!({"streams": streams, "consumer": consumer, "count": 1, "wait": "20s"})
}

#[tokio::test]
async fn streams_are_read_in_the_order_asked_and_none_keeps_another_from_being_read() {
    let app = TestApp::start().await;
    let [a, b, c] = streams(&app, [5, 2, 0]).await;
    let expect = |ids: [&[&str]; 3]| -> Vec<(String, Vec<String>)> {
        let list = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        vec![
            (c.clone(), list(ids[0])),
            (a.clone(), list(ids[1])),
            (b.clone(), list(ids[2])),
        ]
    };
    let call = json!({"streams": [c, a, b], "consumer": "w1", "count": 3});
    let first = read(&app, call.clone()).await;
    assert_eq!(
        first,
        expect([&[], &["1-0", "2-0", "3-0"], &["1-0", "2-0"]])
    );
    let form = format!("streams={c}&streams={a}&streams={b}&consumer=w2&count=3");
    let second = app.post_form("/v1/groups/g/read", &form).await;
    assert_eq!(by_stream(&second), expect([&[], &["4-0", "5-0"], &[]]));
    assert_eq!(
        second.json()["streams"][1]["entries"][0]["fields"],
        json!({"n": "1"})
    );
    assert_eq!(read(&app, call).await, expect([&[], &[], &[]]));
    // The deliveries are the same as for one stream at a time.
    let path = format!("/v1/streams/{a}/groups/g/read");
    assert_eq!(
        app.post_form(&path, "consumer=w1&history=0").await.ids(),
        ["1-0", "2-0", "3-0"]
    );
}

#[tokio::test]
async fn a_history_shows_what_is_pending_and_gone_and_what_is_not_pending() {
    let app = TestApp::start().await;
    let [a, b] = streams(&app, [3, 1]).await;
    read(&app, json!({"streams": [a], "consumer": "w"})).await;
    read(
        &app,
        json!({"streams": [b], "consumer": "w", "no_ack": true}),
    )
    .await;
    assert_eq!(pending(&app, &b).await.len(), 0);
    shared().await.command(&["XDEL", &a, "2-0"]).await;
    let history = json!({"streams": [a, b], "consumer": "w", "history": "1-0"});
    let answer = post(&app, "read", history).await.json();
    let expected = json!({"streams": [
        {"stream": a, "entries": [{"id": "2-0", "fields": null}, {"id": "3-0", "fields": {"n": "1"}}]},
        {"stream": b, "entries": []},
    ]});
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn a_stream_without_the_group_is_named_and_nothing_is_read_or_acknowledged() {
    let app = TestApp::start().await;
    let [a, b] = streams(&app, [2, 2]).await;
    let (without, none, text) = (
        app.stream_of("without", 1).await,
        unique("none"),
        unique("text"),
    );
    shared().await.command(&["SET", &text, "x"]).await;
    read(&app, json!({"streams": [b], "consumer": "w"})).await;
    for (bad, status, code) in [
        (&without, 404, "group-not-found"),
        (&none, 404, "group-not-found"),
        (&text, 409, "not-a-stream"),
    ] {
        for wait in ["0", "5s"] {
            let call = json!({"streams": [a, bad], "consumer": "w", "wait": wait});
            let problem = post(&app, "read", call).await.is_problem(status, code);
            assert_eq!(
                (&problem["stream"], &problem["side_effects"]),
                (&json!(bad), &json!("none"))
            );
            assert_eq!(problem["errors"][0]["pointer"], "/streams/1");
            assert!(
                problem["detail"].as_str().unwrap().contains(bad.as_str()),
                "{problem}"
            );
        }
        let call = json!({"ids": [format!("{b}@1-0"), format!("{bad}@1-0")]});
        let problem = post(&app, "ack", call).await.is_problem(status, code);
        assert_eq!(
            (&problem["stream"], &problem["side_effects"]),
            (&json!(bad), &json!("none"))
        );
    }
    assert_eq!(pending(&app, &a).await.len(), 0, "nothing was handed out");
    assert_eq!(pending(&app, &b).await.len(), 2, "nothing was acknowledged");
}

#[tokio::test]
async fn entries_of_several_streams_are_acknowledged_each_with_its_outcome() {
    let app = TestApp::start().await;
    let [a, b] = streams(&app, [3, 2]).await;
    read(&app, json!({"streams": [a, b], "consumer": "w"})).await;
    let ids = [
        format!("{b}@2-0"),
        format!("{a}@1-0"),
        format!("{a}@9-0"),
        format!("{b}@2-0"),
    ];
    let answer = post(&app, "ack", json!({"ids": ids})).await.json();
    let expected = json!({"acknowledged": 2, "results": [
        {"stream": b, "id": "2-0", "outcome": "acknowledged"},
        {"stream": a, "id": "1-0", "outcome": "acknowledged"},
        {"stream": a, "id": "9-0", "outcome": "not-pending"},
        {"stream": b, "id": "2-0", "outcome": "not-pending"},
    ]});
    assert_eq!(answer, expected);
    let form = format!(
        "ids={}&ids={}",
        encode(&format!("{a}@3-0")),
        format_args!("{b}@1-0")
    );
    let answer = app.post_form("/v1/groups/g/ack", &form).await.json();
    assert_eq!(answer["acknowledged"], 2);
    assert_eq!(
        (pending(&app, &a).await, pending(&app, &b).await),
        (vec!["2-0".to_owned()], vec![])
    );
}

#[tokio::test]
async fn a_name_with_an_at_sign_is_told_from_the_id_by_the_last_one() {
    let app = TestApp::start().await;
    let stream = app.stream_of("a@1-0", 1).await;
    app.put_json(&format!("/v1/streams/{}/groups/g", encode(&stream)), "{}")
        .await;
    let call = json!({"streams": [stream], "consumer": "w"});
    let ids = delivered(&post(&app, "read", call).await);
    assert_eq!(
        post(&app, "ack", json!({"ids": ids})).await.json()["acknowledged"],
        1
    );
}

#[tokio::test]
async fn an_entry_in_either_stream_wakes_who_waits_for_both() {
    let server = Server::start().await;
    let app = TestApp::on(&server.url(), |settings| settings.pool.workers = 1).await;
    let pair = streams(&app, [0, 0]).await;
    for (index, publish_to) in pair.iter().enumerate() {
        let began = Instant::now();
        let publishing = async {
            eventually("it waits", async || app.metric("waiting_reads").await == 1).await;
            eventually("it follows", async || server.blocked().await == 2).await;
            assert!(
                server.clients().await <= 6,
                "as many connections as without it, and one that listens"
            );
            app.publish(publish_to, "x").await
        };
        let call = json!({"streams": pair, "consumer": "w", "wait": "20s"});
        let (read, id) = tokio::join!(read(&app, call), publishing);
        assert_eq!((&read[index].1, read[1 - index].1.len()), (&vec![id], 0));
        assert!(
            began.elapsed() < Duration::from_secs(4),
            "it was woken, not lucky"
        );
    }
    let began = Instant::now();
    let call = json!({"streams": pair, "consumer": "w", "wait": "300ms"});
    assert_eq!(delivered(&post(&app, "read", call).await).len(), 0);
    assert!(began.elapsed() >= Duration::from_millis(300));
}

/// Readers that start one after another, so that their order is known.
struct Line<'a> {
    app: &'a TestApp,
    streams: Vec<String>,
    /// The place of the next reader. Only that one asks the gateway whether those before it wait.
    next: watch::Sender<usize>,
}

impl<'a> Line<'a> {
    async fn over<const N: usize>(app: &'a TestApp) -> Self {
        Self {
            app,
            streams: streams(app, [0; N]).await.to_vec(),
            next: watch::Sender::new(0),
        }
    }

    async fn come(&self, place: usize, streams: &[usize]) -> Vec<String> {
        let mut next = self.next.subscribe();
        next.wait_for(|next| *next == place).await.unwrap();
        let waiting_reads = async || self.app.metric("waiting_reads").await;
        eventually("those before wait", async || waiting_reads().await >= place).await;
        self.next.send_replace(place + 1);
        let streams: Vec<&str> = streams
            .iter()
            .map(|index| self.streams[*index].as_str())
            .collect();
        delivered(&post(self.app, "read", waiting(&streams, &format!("w{place}"))).await)
    }

    async fn publish(&self, stream: usize, left: usize) -> Vec<String> {
        let stream = &self.streams[stream];
        let id = self.app.publish(stream, "x").await;
        let waiting_reads = async || self.app.metric("waiting_reads").await;
        eventually("one is served", async || waiting_reads().await == left).await;
        vec![format!("{stream}@{id}")]
    }
}

#[tokio::test]
async fn who_waits_for_both_streams_neither_jumps_a_queue_nor_holds_one_up() {
    let app = TestApp::start().await;
    let line = Line::over::<2>(&app).await;
    let feed = async {
        eventually("all wait", async || app.metric("waiting_reads").await == 3).await;
        // `both` is second in `a` and first in `b`.
        let of_both = line.publish(1, 2).await;
        let of_b = line.publish(1, 1).await;
        (line.publish(0, 0).await, of_both, of_b)
    };
    let (a, both, b, expected) = tokio::join!(
        line.come(0, &[0]),
        line.come(1, &[0, 1]),
        line.come(2, &[1]),
        feed
    );
    assert_eq!((a, both, b), expected);
}

#[tokio::test]
async fn who_leaves_makes_room_in_every_queue() {
    let app = TestApp::start().await;
    let line = Line::over::<2>(&app).await;
    let both = tokio::time::timeout(Duration::from_millis(800), line.come(0, &[0, 1]));
    let feed = async {
        eventually("all wait", async || app.metric("waiting_reads").await == 3).await;
        eventually("one has left", async || {
            app.metric("waiting_reads").await == 2
        })
        .await;
        (line.publish(1, 1).await, line.publish(0, 0).await)
    };
    let (both, a, b, expected) = tokio::join!(both, line.come(1, &[0]), line.come(2, &[1]), feed);
    assert!(both.is_err());
    assert_eq!((b, a), expected);
}

/// Returns the streams of fifty readers: each reads one to four of five streams.
fn sets() -> Vec<Vec<usize>> {
    let set = |n: usize| {
        (0..5)
            .filter(|stream| (n * 7 + 3) >> stream & 1 == 1)
            .collect()
    };
    let sets: Vec<Vec<usize>> = (0..)
        .map(set)
        .filter(|set: &Vec<_>| !set.is_empty())
        .take(50)
        .collect();
    assert!(sets.iter().any(|set| set.len() == 1) && sets.iter().any(|set| set.len() > 2));
    sets
}

#[tokio::test]
async fn fifty_waiting_readers_of_overlapping_sets_are_served_first_come_first_served() {
    let app = TestApp::start().await;
    let line = Line::over::<5>(&app).await;
    let sets = sets();
    let feed = async {
        eventually("all wait", async || app.metric("waiting_reads").await == 50).await;
        let mut standing: Vec<usize> = (0..50).collect();
        let mut expected = vec![Vec::new(); 50];
        for turn in 0.. {
            if standing.is_empty() {
                return expected;
            }
            let stream = turn % 5;
            let first = standing
                .iter()
                .position(|reader| sets[*reader].contains(&stream));
            let Some(first) = first else { continue };
            let reader = standing.remove(first);
            expected[reader] = line.publish(stream, standing.len()).await;
        }
        unreachable!()
    };
    let readers = sets
        .iter()
        .enumerate()
        .map(|(place, set)| line.come(place, set));
    let (got, expected) = tokio::join!(futures_util::future::join_all(readers), feed);
    assert_eq!(got, expected);
}

#[tokio::test]
async fn fifty_waiting_readers_of_overlapping_sets_miss_no_wake_up() {
    let app = TestApp::start().await;
    let streams = streams(&app, [0; 5]).await;
    let sets = sets();
    let mut readers: FuturesUnordered<_> = sets
        .iter()
        .enumerate()
        .map(|(n, set)| {
            let names: Vec<&str> = set.iter().map(|index| streams[*index].as_str()).collect();
            let call = waiting(&names, &format!("w{n}"));
            async { delivered(&post(&app, "read", call).await) }
        })
        .collect();
    let feed = async {
        eventually("all wait", async || app.metric("waiting_reads").await == 50).await;
        // Published with as few round trips as possible, so that the entries arrive between the
        // readers' steps.
        let publish = |n: usize| app.publish(&streams[n % 5], "x");
        let began = Instant::now();
        futures_util::future::join_all((0..250).map(publish)).await;
        began
    };
    let serve = async {
        let mut seen = HashSet::new();
        while let Some(ids) = readers.next().await {
            assert!(!ids.is_empty(), "a reader was passed over");
            for id in ids {
                assert!(seen.insert(id.clone()), "{id} was handed out twice");
            }
        }
        (seen.len(), Instant::now())
    };
    let (began, (seen, ended)) = tokio::join!(feed, serve);
    // Shorter than the interval after which waiting readers look again without a wake-up.
    assert!(
        ended - began < Duration::from_secs(4),
        "{:?}",
        ended - began
    );
    let mut held = 0;
    for stream in &streams {
        held += pending(&app, stream).await.len();
    }
    assert_eq!(held, seen, "what was handed out is what is pending");
}

#[tokio::test]
async fn a_reader_of_several_streams_outlives_an_outage_of_redis() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let pair = streams(&app, [0, 0]).await;
    server.until_written().await;
    let outage = async {
        eventually("it waits", async || server.blocked().await == 2).await;
        server.kill();
        server.start_again().await;
        server.command(&["XADD", &pair[1], "7-0", "n", "x"]).await;
    };
    let call = json!({"streams": pair, "consumer": "w", "wait": "20s"});
    let (read, ()) = tokio::join!(read(&app, call), outage);
    assert_eq!(read[1].1, ["7-0"]);
    let loss = async {
        eventually("it waits", async || server.blocked().await == 2).await;
        server.command(&["DEL", &pair[1]]).await;
    };
    let call = json!({"streams": pair, "consumer": "w", "wait": "20s"});
    let (answer, ()) = tokio::join!(post(&app, "read", call), loss);
    assert_eq!(answer.is_problem(404, "group-not-found")["stream"], pair[1]);
}

#[tokio::test]
async fn calls_that_make_no_sense_are_refused() {
    let app = TestApp::start().await;
    let [a] = streams(&app, [1]).await;
    let with = |more: Value| {
        let mut call = json!({"streams": [a], "consumer": "w"});
        call.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        call
    };
    let eleven: Vec<String> = (0..11).map(|n| format!("{a}{n}")).collect();
    for (call, pointer) in [
        (json!({"consumer": "w"}), "/streams"),
        (json!({"streams": [a]}), "/consumer"),
        (with(json!({"streams": []})), "/streams"),
        (with(json!({"streams": [a, a]})), "/streams/1"),
        (with(json!({"streams": [a, 5]})), "/streams/1"),
        (with(json!({"streams": a})), "/streams"),
        (with(json!({"count": 0})), "/count"),
        (with(json!({"count": 1001})), "/count"),
        (with(json!({"count": 1000, "streams": eleven})), "/count"),
        (with(json!({"wait": 5})), "/wait"),
        (with(json!({"wait": "61s"})), "/wait"),
        (with(json!({"wait": "1s", "history": "0"})), "/wait"),
        (with(json!({"consumre": "w"})), "/consumre"),
    ] {
        let problem = post(&app, "read", call.clone())
            .await
            .is_problem(400, "invalid-request");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{call}");
    }
    let names = |count: usize| (0..count).map(|n| format!("s{n}")).collect::<Vec<_>>();
    let call = with(json!({"streams": names(257)}));
    post(&app, "read", call)
        .await
        .is_problem(422, "too-many-streams");
    for bad in ["", "a\n", "streamgate:x"] {
        let call = with(json!({"streams": [a, bad]}));
        let problem = post(&app, "read", call)
            .await
            .is_problem(400, "invalid-name");
        assert_eq!(problem["errors"][0]["pointer"], "/streams/1");
    }
    post(&app, "read", with(json!({"history": "x"})))
        .await
        .is_problem(400, "invalid-id");
    app.post_form("/v1/groups/%00/read", "")
        .await
        .is_problem(400, "invalid-name");
    for (ids, code) in [
        (json!([]), "invalid-request"),
        (json!(["1-0"]), "invalid-request"),
        (json!([format!("{a}@x")]), "invalid-id"),
        (json!(["@1-0"]), "invalid-name"),
        (json!(vec![format!("{a}@1-0"); 1001]), "invalid-request"),
    ] {
        post(&app, "ack", json!({"ids": ids}))
            .await
            .is_problem(400, code);
    }
    let ids: Vec<String> = names(257)
        .iter()
        .map(|name| format!("{name}@1-0"))
        .collect();
    post(&app, "ack", json!({"ids": ids}))
        .await
        .is_problem(422, "too-many-streams");
    assert_eq!(pending(&app, &a).await.len(), 0, "nothing was handed out");
}
