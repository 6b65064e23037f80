//! Following and waiting on Redis Cluster, while slots move and masters fail.

use serde_json::json;

use crate::cluster::{entries, group, spread};
use crate::cluster_moves::retried;
use crate::support::clusters::{Cluster, SLOTS, SOON, slot_of};
use crate::support::sse::Sse;
use crate::support::{TestApp, eventually, unique};

/// Number of entries of each stream in the test of moving slots.
const EACH: usize = 60;

fn events(stream: &str) -> String {
    format!("/v1/streams/{stream}/events")
}

/// Follows a stream from its beginning.
async fn follow(app: &TestApp, stream: &str) -> Sse {
    let mut sse = app.follow(&format!("{}?after=0", events(stream))).await;
    sse.expect("$open").await;
    sse
}

/// Receives entries until `count` were received, and returns the field `n` of each.
async fn values(sse: &mut Sse, count: usize) -> Vec<String> {
    let mut values = sse.values(count).await;
    values.sort();
    values
}

#[tokio::test]
async fn streams_of_all_nodes_are_followed_alone_together_and_by_prefix() {
    let cluster = Cluster::start(3, false).await;
    let app = TestApp::on(&cluster.url(), |_| {}).await;
    let streams = spread(&cluster, 3).await;
    let mut alone = Vec::new();
    for stream in &streams {
        alone.push(follow(&app, stream).await);
    }
    let named: Vec<_> = streams.iter().map(|of| format!("stream={of}")).collect();
    let mut together = app.follow(&format!("/v1/events?{}", named.join("&"))).await;
    together.expect("$open").await;
    for (n, stream) in streams.iter().enumerate() {
        app.publish(stream, &n.to_string()).await;
        let owner = cluster.master_of(stream).await;
        // A native client is noticed as well.
        owner.command(&["XADD", stream, "*", "n", "native"]).await;
    }
    for (n, sse) in alone.iter_mut().enumerate() {
        assert_eq!(sse.values(2).await, [&n.to_string(), "native"]);
    }
    assert_eq!(
        values(&mut together, 6).await,
        ["0", "1", "2", "native", "native", "native"]
    );
    let prefix = unique("prefix");
    for n in 0..5 {
        app.publish(&format!("{prefix}-{n}"), &n.to_string()).await;
    }
    let mut matching = app
        .follow(&format!("/v1/events?match={prefix}-*&after=0"))
        .await;
    matching.expect("$open").await;
    assert_eq!(values(&mut matching, 5).await, ["0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn a_subscription_misses_nothing_while_its_slot_moves_there_and_back() {
    let cluster = Cluster::start(3, false).await;
    let app = TestApp::on(&cluster.url(), |_| {}).await;
    let stream = unique("moving");
    let slot = slot_of(&cluster.nodes[0], &stream).await;
    app.publish(&stream, "0").await;
    let mut sse = follow(&app, &stream).await;
    assert_eq!(sse.values(1).await, ["0"]);
    let mut n = 0;
    for _ in 0..3 {
        let from = cluster.owner(slot).await;
        let to = cluster.another(from);
        cluster.begin_move(slot, from, to).await;
        for step in 0..3 {
            match step {
                0 => {}
                1 => cluster.move_keys(slot, from, to).await,
                _ => cluster.end_move(slot, from, to).await,
            }
            n += 1;
            app.publish(&stream, &n.to_string()).await;
            assert_eq!(sse.values(1).await, [n.to_string()]);
        }
    }
}

#[tokio::test]
async fn a_missing_stream_is_followed_to_the_node_where_it_is_created() {
    let cluster = Cluster::start(3, false).await;
    let app = TestApp::on(&cluster.url(), |_| {}).await;
    let stream = unique("missing");
    let mut sse = follow(&app, &stream).await;
    let slot = slot_of(&cluster.nodes[0], &stream).await;
    let from = cluster.owner(slot).await;
    let to = cluster.another(from);
    cluster.move_slot(slot, to).await;
    to.command(&["XADD", &stream, "*", "n", "1"]).await;
    assert_eq!(sse.values(1).await, ["1"]);
}

#[tokio::test]
async fn waiting_reads_and_pushes_are_woken_on_every_node() {
    let cluster = Cluster::start(3, false).await;
    let app = TestApp::on(&cluster.url(), |_| {}).await;
    for stream in spread(&cluster, 3).await {
        let created = app
            .put_json(&group(&stream), r#"{"policy":{"lease":"30s"}}"#)
            .await;
        assert_eq!(created.status, 201);
        let path = format!("{}/read", group(&stream));
        let read = app.post_json(&path, r#"{"consumer":"c","wait":"10s"}"#);
        let publish = async {
            eventually("the reader waits", async || {
                app.metric("waiting_reads").await == 1
            })
            .await;
            app.publish(&stream, "1").await;
        };
        let (read, ()) = tokio::join!(read, publish);
        let read = read.json();
        assert_eq!(read["entries"].as_array().unwrap().len(), 1, "{read}");
    }
}

#[tokio::test]
async fn a_killed_master_is_replaced_by_its_replica_and_others_are_not_held_up() {
    let settings = [SOON, &["--cluster-require-full-coverage", "no"]].concat();
    let cluster = Cluster::start_with(3, true, &settings).await;
    let app = TestApp::on(&cluster.url(), |_| {}).await;
    let streams = spread(&cluster, 3).await;
    let mut followers = Vec::new();
    for stream in &streams {
        app.publish(stream, "0").await;
        let mut sse = follow(&app, stream).await;
        assert_eq!(sse.values(1).await, ["0"]);
        followers.push(sse);
    }
    let master = cluster.master_of(&streams[0]).await;
    let replicated = format!("{}?durability=replicas:1", entries(&streams[0]));
    let form = app.post_form(&replicated, "n=1").await;
    assert_eq!(form.status, 201, "{form:?}");
    assert_eq!(followers[0].values(1).await, ["1"]);
    master.kill();
    // The failed master takes none of the others with it.
    for (stream, sse) in streams.iter().zip(&mut followers).skip(1) {
        app.publish(stream, "beside").await;
        assert_eq!(sse.values(1).await, ["beside"]);
    }
    let refused = app.post_form(&entries(&streams[0]), "n=lost").await;
    refused.is_problem(503, "redis-unavailable");
    eventually("the replica serves the slots", async || {
        app.post_form(&entries(&streams[0]), "n=2").await.status == 201
    })
    .await;
    assert_eq!(followers[0].values(1).await, ["2"]);
    let listed = app.get("/v1/streams").await.json();
    assert_eq!(listed["streams"].as_array().unwrap().len(), 3, "{listed}");
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_while_all_slots_with_streams_move() {
    let cluster = Cluster::start(3, false).await;
    let app = TestApp::on(&cluster.url(), |_| {}).await;
    let mut streams = Vec::new();
    for _ in 0..12 {
        let stream = unique("all");
        let created = app
            .put_json(&group(&stream), r#"{"policy":{"lease":"60s"}}"#)
            .await;
        assert_eq!(created.status, 201);
        streams.push(stream);
    }
    let publish = async |stream: &String| {
        for n in 0..EACH {
            let post = app
                .client
                .post(app.url(&entries(stream)))
                .header("idempotency-key", n.to_string())
                .header("content-type", "application/x-www-form-urlencoded");
            let post = post.body(format!("n={n:03}"));
            let answer = retried(async || app.send(post.try_clone().unwrap()).await).await;
            // 200 if an answer was lost: the key makes a retry safe.
            assert!(matches!(answer.status, 200 | 201), "{answer:?}");
        }
    };
    let follow_all = async |stream: &String| {
        let mut sse = follow(&app, stream).await;
        let expected: Vec<_> = (0..EACH).map(|n| format!("{n:03}")).collect();
        assert_eq!(sse.values(EACH).await, expected);
    };
    let work = async |stream: &String| {
        let (mut seen, path) = (Vec::new(), group(stream));
        let read = json!({"consumer": "c", "count": 7, "wait": "2s"}).to_string();
        while seen.len() < EACH {
            let call = format!("{path}/read");
            let answer = retried(async || app.post_json(&call, &read).await).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let read = answer.json();
            let lent = read["entries"].as_array().unwrap();
            let receipts: Vec<_> = lent.iter().map(|entry| &entry["receipt"]).collect();
            seen.extend(lent.iter().map(|entry| entry["fields"]["n"].to_string()));
            if !receipts.is_empty() {
                let ack = json!({"receipts": receipts}).to_string();
                let call = format!("{path}/ack");
                let acked = retried(async || app.post_json(&call, &ack).await).await;
                assert_eq!(acked.status, 200, "{acked:?}");
            }
        }
        let count = seen.len();
        seen.dedup();
        assert_eq!((seen.len(), count), (EACH, EACH), "entries were lent twice");
    };
    let all = async {
        let of_one = streams.iter().map(async |stream| {
            tokio::join!(publish(stream), follow_all(stream), work(stream));
        });
        futures_util::future::join_all(of_one).await;
    };
    let finished = std::sync::atomic::AtomicBool::new(false);
    let moving = async {
        let mut moves = 0;
        while !finished.load(std::sync::atomic::Ordering::Relaxed) {
            for stream in &streams {
                let slot = slot_of(&cluster.nodes[0], stream).await;
                assert!(slot < SLOTS);
                let from = cluster.owner(slot).await;
                cluster.move_slot(slot, cluster.another(from)).await;
                moves += 1;
            }
        }
        moves
    };
    let all = async {
        all.await;
        finished.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let ((), moves) = tokio::join!(all, moving);
    assert!(moves >= streams.len(), "only {moves} moves");
    for stream in &streams {
        // The nodes may disagree for a moment after the last move.
        let all = format!("{}?limit=1000", entries(stream));
        let all = retried(async || app.get(&all).await).await;
        assert_eq!(all.status, 200, "{all:?}");
        assert_eq!(all.ids().len(), EACH);
    }
}
