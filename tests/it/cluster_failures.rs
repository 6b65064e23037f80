//! Redis Cluster on bad days: nodes that are down, slow, unreachable, or not what they seem.

use std::time::Instant;

use serde_json::json;
use streamgate::config::SPECS;

use crate::cluster::{entries, spread};
use crate::support::app::settings;
use crate::support::clusters::{Cluster, SLOTS, SOON};
use crate::support::gateway::signal;
use crate::support::proxy::Proxy;
use crate::support::redis::{Server, json as shown};
use crate::support::{PATIENCE, TestApp, elapse, eventually, unique};

/// Starts a gateway that reaches one node of the cluster through a proxy.
async fn through_proxy(cluster: &Cluster, node: &Server) -> (TestApp, Proxy) {
    let proxy = Proxy::to(node.port).await;
    let map = format!("127.0.0.1:{}={}", node.port, proxy.address);
    let url = cluster.url();
    let settings = settings(&[(&SPECS.redis_url, &url), (&SPECS.redis_cluster_map, &map)]);
    (TestApp::of(&settings).await, proxy)
}

async fn length(cluster: &Cluster, stream: &str) -> serde_json::Value {
    let owner = cluster.master_of(stream).await;
    shown(&owner.command(&["XLEN", stream]).await)
}

#[tokio::test]
async fn a_gateway_starts_before_its_cluster() {
    let cluster = Cluster::start(3, false).await;
    for node in &cluster.nodes {
        signal(node.pid(), "STOP");
    }
    let app = TestApp::on(&cluster.url(), |_| {}).await;
    app.get("/readyz")
        .await
        .is_problem(503, "redis-unavailable");
    let stream = unique("early");
    let refused = app.post_form(&entries(&stream), "n=1").await;
    refused.is_problem(503, "redis-unavailable");
    for node in &cluster.nodes {
        signal(node.pid(), "CONT");
    }
    eventually("it is published", async || {
        app.post_form(&entries(&stream), "n=1").await.status == 201
    })
    .await;
    assert_eq!(app.get_status("/readyz").await, 200);
}

#[tokio::test]
async fn a_seed_that_is_no_cluster_is_refused_with_its_cause() {
    let server = Server::start().await;
    let url = server.url().replace("redis://", "redis-cluster://");
    let app = TestApp::on(&url, |settings| settings.api.any_host = true).await;
    eventually("the cause is told", async || {
        let ready = app.get("/readyz").await;
        ready.status == 503 && ready.body.contains("cluster support disabled")
    })
    .await;
}

#[tokio::test]
async fn a_seed_that_is_a_replica_leads_to_the_masters() {
    let cluster = Cluster::start(3, true).await;
    let url = format!("redis-cluster://127.0.0.1:{}", cluster.nodes[3].port);
    let app = TestApp::on(&url, |_| {}).await;
    for stream in spread(&cluster, 3).await {
        app.publish(&stream, "1").await;
        assert_eq!(length(&cluster, &stream).await, 1);
    }
}

#[tokio::test]
async fn a_lost_answer_doubles_nothing_and_a_key_makes_the_retry_safe() {
    let cluster = Cluster::start(3, false).await;
    let stream = unique("lost");
    let node = cluster.master_of(&stream).await;
    let (app, proxy) = through_proxy(&cluster, node).await;
    app.publish(&stream, "1").await;
    proxy.cut_answers();
    let lost = app.post_form(&entries(&stream), "n=2").await;
    let problem = lost.json();
    assert_eq!(problem["side_effects"], "unknown", "{problem}");
    let with_key = async || {
        let post = app
            .client
            .post(app.url(&entries(&stream)))
            .header("idempotency-key", "k")
            .header("content-type", "application/x-www-form-urlencoded");
        app.send(post.body("n=3")).await
    };
    assert!(with_key().await.status >= 500);
    proxy.restore();
    eventually("it is published", async || {
        matches!(with_key().await.status, 200 | 201)
    })
    .await;
    assert_eq!(with_key().await.status, 200);
    let length = length(&cluster, &stream).await.as_u64().unwrap();
    // The first entry, the entry with a key, and the one whose answer was lost, if it ran.
    assert!((2..=3).contains(&length), "{length}");
}

#[tokio::test]
async fn a_node_that_does_not_answer_holds_up_only_its_own_streams() {
    let cluster = Cluster::start(3, false).await;
    let app = TestApp::on(&cluster.url(), |_| {}).await;
    let streams = spread(&cluster, 3).await;
    let mut followers = Vec::new();
    for stream in &streams {
        app.publish(stream, "0").await;
        let path = format!("/v1/streams/{stream}/events?after=0");
        let mut sse = app.follow(&path).await;
        sse.expect("$open").await;
        assert_eq!(sse.values(1).await, ["0"]);
        followers.push(sse);
    }
    let frozen = cluster.master_of(&streams[0]).await;
    signal(frozen.pid(), "STOP");
    let path = entries(&streams[0]);
    let slow = app.post_form(&path, "n=slow");
    let others = async {
        let began = Instant::now();
        for (stream, sse) in streams.iter().zip(&mut followers).skip(1) {
            for n in 0..20 {
                app.publish(stream, &n.to_string()).await;
                assert_eq!(sse.values(1).await, [n.to_string()]);
            }
        }
        began.elapsed()
    };
    let (slow, took) = tokio::join!(slow, others);
    // 503 if a health check had noticed already.
    assert!(matches!(slow.status, 503 | 504), "{slow:?}");
    assert!(took < PATIENCE, "others were held up: {took:?}");
    signal(frozen.pid(), "CONT");
    eventually("it is published", async || {
        app.post_form(&entries(&streams[0]), "n=again").await.status == 201
    })
    .await;
    // The entry whose answer was late may have been appended.
    let mut last = followers[0].values(1).await;
    if last == ["slow"] {
        last = followers[0].values(1).await;
    }
    assert_eq!(last, ["again"]);
}

#[tokio::test]
async fn uncovered_slots_are_refused_and_others_served_as_the_cluster_decides() {
    let settings = [SOON, &["--cluster-require-full-coverage", "no"]].concat();
    let cluster = Cluster::start_with(3, false, &settings).await;
    let app = TestApp::on(&cluster.url(), |_| {}).await;
    let streams = spread(&cluster, 3).await;
    for stream in &streams {
        app.publish(stream, "1").await;
    }
    let down = cluster.master_of(&streams[0]).await;
    down.kill();
    app.post_form(&entries(&streams[0]), "n=2")
        .await
        .is_problem(503, "redis-unavailable");
    app.publish(&streams[1], "2").await;
    eventually("the slots are counted", async || {
        let down = app.metric("redis_slots_down").await;
        (5000..6000).contains(&down) && app.metric("redis_nodes").await == 3
    })
    .await;
    let ready = app.get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["redis"]), (200, &json!("up")));
    assert!(
        ready.json()["slots_down"].as_u64().unwrap() > 5000,
        "{ready:?}"
    );
    // A list without the streams of a node would be wrong.
    app.get("/v1/streams")
        .await
        .is_problem(503, "redis-unavailable");
    assert_eq!(SLOTS, 16_384);
}

#[tokio::test]
async fn a_whole_cluster_that_is_down_is_an_outage_and_its_return_is_not_missed() {
    let cluster = Cluster::start_with(3, false, SOON).await;
    let app = TestApp::on(&cluster.url(), |_| {}).await;
    let streams = spread(&cluster, 3).await;
    let stream = &streams[0];
    app.publish(stream, "1").await;
    let path = format!("/v1/streams/{stream}/events?after=0");
    let mut sse = app.follow(&path).await;
    sse.expect("$open").await;
    assert_eq!(sse.values(1).await, ["1"]);
    // One node is enough: by default no node serves anything while a slot is uncovered.
    let other = cluster.master_of(&streams[1]).await;
    signal(other.pid(), "STOP");
    eventually("the cluster is down", async || {
        app.post_form(&entries(stream), "n=refused").await.status == 503
    })
    .await;
    signal(other.pid(), "CONT");
    eventually("the cluster is back", async || {
        app.post_form(&entries(stream), "n=end").await.status == 201
    })
    .await;
    let mut last = String::new();
    while last != "end" {
        last = sse.values(1).await.remove(0);
    }
}

#[tokio::test]
async fn a_password_is_used_for_every_node_and_a_wrong_one_concerns_one_node() {
    let cluster = Cluster::start_with(3, false, &["--requirepass", ""]).await;
    let streams = spread(&cluster, 3).await;
    let refusing = cluster.master_of(&streams[0]).await;
    for node in &cluster.nodes {
        let password = if node.port == refusing.port {
            "other"
        } else {
            "secret"
        };
        node.command(&["CONFIG", "SET", "requirepass", password])
            .await;
    }
    let url = cluster.url().replace("://", "://:secret@");
    let app = TestApp::on(&url, |_| {}).await;
    for stream in &streams[1..] {
        app.publish(stream, "1").await;
    }
    app.post_form(&entries(&streams[0]), "n=1")
        .await
        .is_problem(503, "redis-unavailable");
    refusing
        .command_as(":other@", &["CONFIG", "SET", "requirepass", "secret"])
        .await;
    eventually("the login is accepted", async || {
        app.post_form(&entries(&streams[0]), "n=1").await.status == 201
    })
    .await;
}

#[tokio::test]
async fn a_silent_tracking_connection_is_noticed() {
    let cluster = Cluster::start(3, false).await;
    let stream = unique("silent");
    let node = cluster.master_of(&stream).await;
    let (app, proxy) = through_proxy(&cluster, node).await;
    app.publish(&stream, "0").await;
    let path = format!("/v1/streams/{stream}/events?after=0");
    let mut sse = app.follow(&path).await;
    sse.expect("$open").await;
    assert_eq!(sse.values(1).await, ["0"]);
    proxy.stall();
    node.command(&["XADD", &stream, "*", "n", "1"]).await;
    elapse(300, "the report is lost in the stalled connection").await;
    // Connections that stalled stay so; new ones pass.
    proxy.restore();
    assert_eq!(sse.values(1).await, ["1"]);
}

#[tokio::test]
async fn more_streams_than_redis_tracks_are_followed_all_the_same() {
    let server = Server::start_with(&["--tracking-table-max-keys", "10"]).await;
    let app = TestApp::on_server(&server).await;
    let mut followers = Vec::new();
    let streams: Vec<_> = (0..60).map(|_| unique("tracked")).collect();
    for stream in &streams {
        let path = format!("/v1/streams/{stream}/events");
        let mut sse = app.follow(&path).await;
        sse.expect("$open").await;
        followers.push(sse);
    }
    for n in 0..3 {
        for stream in &streams {
            server
                .command(&["XADD", stream, "*", "n", &n.to_string()])
                .await;
        }
    }
    for sse in &mut followers {
        assert_eq!(sse.values(3).await, ["0", "1", "2"]);
    }
}

#[tokio::test]
async fn a_server_without_permission_for_tracking_is_followed_all_the_same() {
    let server = Server::start().await;
    let rules = ["ACL", "SETUSER", "default", "-client|tracking"];
    server.command(&rules).await;
    let app = TestApp::on_server(&server).await;
    let mut followers = Vec::new();
    let streams: Vec<_> = (0..120).map(|_| unique("untracked")).collect();
    for stream in &streams {
        let path = format!("/v1/streams/{stream}/events");
        let mut sse = app.follow(&path).await;
        sse.expect("$open").await;
        followers.push(sse);
    }
    for stream in &streams {
        app.publish(stream, "1").await;
    }
    for sse in &mut followers {
        assert_eq!(sse.values(1).await, ["1"]);
    }
    let cluster = Cluster::start(3, false).await;
    for node in &cluster.nodes {
        node.command(&rules).await;
    }
    let app = TestApp::on(&cluster.url(), |_| {}).await;
    let stream = unique("polled");
    let path = format!("/v1/streams/{stream}/events");
    let mut sse = app.follow(&path).await;
    sse.expect("$open").await;
    app.publish(&stream, "1").await;
    assert_eq!(sse.values(1).await, ["1"]);
}
