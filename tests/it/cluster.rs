//! Redis Cluster: every call reaches the node of its stream, also while slots move.

use serde_json::{Value, json};

use crate::support::clusters::{Cluster, slot_of};
use crate::support::redis::json as shown;
use crate::support::{TestApp, elapse, eventually, unique};

/// Returns streams whose slots belong to different masters, one for each.
pub async fn spread(cluster: &Cluster, masters: usize) -> Vec<String> {
    let mut found: Vec<(u16, String)> = Vec::new();
    while found.len() < masters {
        let stream = unique("spread");
        let owner = cluster.master_of(&stream).await.port;
        if !found.iter().any(|(known, _)| *known == owner) {
            found.push((owner, stream));
        }
    }
    found.into_iter().map(|(_, stream)| stream).collect()
}

pub fn entries(stream: &str) -> String {
    format!("/v1/streams/{stream}/entries")
}

pub fn group(stream: &str) -> String {
    format!("/v1/streams/{stream}/groups/workers")
}

#[tokio::test]
async fn streams_of_all_nodes_are_published_read_and_listed() {
    let cluster = Cluster::start(3, false).await;
    let app = TestApp::on(&cluster.url(), |_| {}).await;
    let streams = spread(&cluster, 3).await;
    for stream in &streams {
        for n in 0..3 {
            app.publish(stream, &n.to_string()).await;
        }
        let with_key = app
            .client
            .post(app.url(&entries(stream)))
            .header("idempotency-key", "k")
            .header("content-type", "application/x-www-form-urlencoded");
        assert_eq!(app.send(with_key.body("n=3")).await.status, 201);
        let batch = json!([{"fields": {"n": "4"}}, {"fields": {"n": "5"}}]).to_string();
        assert_eq!(app.post_json(&entries(stream), &batch).await.status, 201);
        assert_eq!(app.get(&entries(stream)).await.ids().len(), 6);
        let owner = cluster.master_of(stream).await;
        assert_eq!(shown(&owner.command(&["XLEN", stream]).await), 6);
    }
    let mut listed = Vec::new();
    let mut path = "/v1/streams?limit=1".to_owned();
    loop {
        let page = app.get(&path).await.json();
        let names = page["streams"].as_array().unwrap();
        listed.extend(
            names
                .iter()
                .map(|of| of["stream"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else {
            break;
        };
        path = format!("/v1/streams?limit=1&cursor={next}");
    }
    listed.sort();
    listed.dedup();
    let mut expected = streams.clone();
    expected.sort();
    assert_eq!(listed, expected);
}

#[tokio::test]
async fn a_single_node_of_a_cluster_in_a_plain_url_leads_to_all_others() {
    let cluster = Cluster::start(3, false).await;
    let url = format!("redis://127.0.0.1:{}/", cluster.nodes[0].port);
    let app = TestApp::on(&url, |_| {}).await;
    for stream in spread(&cluster, 3).await {
        eventually("it is published", async || {
            app.post_form(&entries(&stream), "n=1").await.status == 201
        })
        .await;
        assert_eq!(app.get(&entries(&stream)).await.ids().len(), 1);
    }
}

#[tokio::test]
async fn groups_with_and_without_a_policy_work_on_every_node() {
    let cluster = Cluster::start(3, false).await;
    let app = TestApp::on(&cluster.url(), |_| {}).await;
    for stream in spread(&cluster, 3).await {
        app.publish(&stream, "1").await;
        let policy = json!({"start": "0", "policy": {"lease": "30s", "max_deliveries": 1}});
        let created = app.put_json(&group(&stream), &policy.to_string()).await;
        assert_eq!(created.status, 201, "{created:?}");
        let read = app
            .post_json(&format!("{}/read", group(&stream)), r#"{"consumer":"c"}"#)
            .await
            .json();
        let receipt = read["entries"][0]["receipt"].as_str().unwrap();
        let nack = json!({"receipts": [receipt]}).to_string();
        let nacked = app
            .post_json(&format!("{}/nack", group(&stream)), &nack)
            .await;
        assert_eq!(nacked.status, 200, "{nacked:?}");
        let letters = format!("{}/dead-letters", group(&stream));
        eventually("it is a dead letter", async || {
            let page = app.get(&letters).await.json();
            page["dead_letters"]
                .as_array()
                .is_some_and(|all| all.len() == 1)
        })
        .await;
    }
}

#[tokio::test]
async fn a_read_of_several_nodes_tells_which_streams_were_not_read() {
    let cluster = Cluster::start(3, false).await;
    let app = TestApp::on(&cluster.url(), |_| {}).await;
    let streams = spread(&cluster, 3).await;
    for stream in &streams {
        let created = app.put_json(&group(stream), r#"{"start":"0"}"#).await;
        assert_eq!(created.status, 201, "{created:?}");
        app.publish(stream, "1").await;
    }
    let read = async |streams: &[String]| {
        let body = json!({"streams": streams, "consumer": "c"}).to_string();
        app.post_json("/v1/groups/workers/read", &body).await
    };
    // The groups of this node can be looked at, and not be read.
    let refusing = cluster.master_of(&streams[1]).await;
    let rules = |rule| ["ACL", "SETUSER", "default", rule];
    refusing.command(&rules("-xreadgroup")).await;
    let got = read(&streams).await;
    assert_eq!(got.status, 200, "{}", got.body);
    let items = got.json()["streams"].clone();
    for at in [0, 2] {
        assert_eq!(items[at]["entries"].as_array().unwrap().len(), 1, "{items}");
        assert!(items[at]["error"].is_null(), "{items}");
    }
    let failed = &items[1];
    assert_eq!(failed["entries"], json!([]), "{items}");
    assert_eq!(failed["error"]["code"], "redis-unavailable", "{items}");
    assert_eq!(failed["error"]["stream"], *streams[1], "{items}");
    // With nothing else to deliver, it is the error of the whole call.
    let got = read(&streams).await;
    assert_eq!(got.json()["code"], "redis-unavailable", "{}", got.body);
    refusing.command(&rules("+xreadgroup")).await;
    let got = read(&streams).await.json();
    let entries = got["streams"][1]["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 1, "nothing is lost: {got}");
}

#[tokio::test]
async fn writes_and_reads_follow_a_slot_that_moves() {
    let cluster = Cluster::start(3, false).await;
    let app = TestApp::on(&cluster.url(), |_| {}).await;
    let stream = unique("moving");
    let slot = slot_of(&cluster.nodes[0], &stream).await;
    let from = cluster.owner(slot).await;
    let to = cluster.another(from);
    app.publish(&stream, "before").await;
    cluster.begin_move(slot, from, to).await;
    // Another stream of this slot does not exist yet, so it begins on the target.
    let beside = format!("{{{stream}}}.beside");
    app.publish(&beside, "asked").await;
    app.publish(&stream, "still here").await;
    cluster.move_keys(slot, from, to).await;
    app.publish(&stream, "asked").await;
    let batch = json!([{"fields": {"n": "4"}}, {"fields": {"n": "5"}}]).to_string();
    assert_eq!(app.post_json(&entries(&stream), &batch).await.status, 201);
    assert_eq!(app.get(&entries(&stream)).await.ids().len(), 5);
    cluster.end_move(slot, from, to).await;
    app.publish(&stream, "after").await;
    assert_eq!(app.get(&entries(&stream)).await.ids().len(), 6);
    assert_eq!(shown(&to.command(&["XLEN", &stream]).await), 6);
    assert_eq!(shown(&to.command(&["XLEN", &beside]).await), 1);
    let redirects = app.metric("redis_redirects_total").await;
    assert!(redirects > 0, "{redirects}");
    let _: Value = app.get("/v1/capabilities").await.json();
}

#[tokio::test]
async fn durable_writes_follow_a_slot_that_moves() {
    let cluster = Cluster::start(3, true).await;
    let app = TestApp::on(&cluster.url(), |_| {}).await;
    let stream = unique("durable");
    let slot = slot_of(&cluster.nodes[0], &stream).await;
    let from = cluster.owner(slot).await;
    let to = cluster.another(from);
    let query = "durability=replicas:1&durability_timeout=10s";
    let path = format!("{}?{query}", entries(&stream));
    let before = app.post_form(&path, "n=1").await;
    assert_eq!(before.status, 201, "{before:?}");
    cluster.begin_move(slot, from, to).await;
    let during = app.post_form(&path, "n=2").await;
    assert_eq!(during.status, 201, "{during:?}");
    cluster.move_keys(slot, from, to).await;
    let asked = app.post_form(&path, "n=3").await;
    assert_eq!(asked.status, 201, "{asked:?}");
    cluster.end_move(slot, from, to).await;
    let moved = app.post_form(&path, "n=4").await;
    assert_eq!(moved.status, 201, "{moved:?}");
    // With a key beside the stream, the append waits until all keys have moved.
    cluster.begin_move(slot, to, from).await;
    let post = app.client.post(app.url(&path));
    let post = post.header("idempotency-key", "k").body("n=5");
    let post = post.header("content-type", "application/x-www-form-urlencoded");
    let moving = async {
        cluster.move_keys(slot, to, from).await;
        cluster.end_move(slot, to, from).await;
    };
    let (waited, ()) = tokio::join!(app.send(post), moving);
    assert_eq!(waited.status, 201, "{waited:?}");
    let owner = cluster.owner(slot).await;
    let length = shown(&owner.command(&["XLEN", &stream]).await);
    assert_eq!(length, 5);
}

#[tokio::test]
async fn calls_with_keys_beside_the_stream_wait_until_the_slot_has_moved() {
    let cluster = Cluster::start(3, false).await;
    let app = TestApp::on(&cluster.url(), |_| {}).await;
    let stream = unique("waiting");
    let slot = slot_of(&cluster.nodes[0], &stream).await;
    let from = cluster.owner(slot).await;
    let to = cluster.another(from);
    app.publish(&stream, "1").await;
    let policy = json!({"start": "0", "policy": {"lease": "30s"}}).to_string();
    let created = app.put_json(&group(&stream), &policy).await;
    assert_eq!(created.status, 201, "{created:?}");
    let keyed = async |key: &str| {
        let post = app
            .client
            .post(app.url(&entries(&stream)))
            .header("idempotency-key", key)
            .header("content-type", "application/x-www-form-urlencoded");
        app.send(post.body("n=keyed")).await
    };
    let read = async || {
        let path = format!("{}/read", group(&stream));
        app.post_json(&path, r#"{"consumer":"c"}"#).await
    };
    cluster.begin_move(slot, from, to).await;
    let moving = async {
        elapse(300, "the calls wait meanwhile").await;
        cluster.move_keys(slot, from, to).await;
        cluster.end_move(slot, from, to).await;
    };
    let (appended, lent, ()) = tokio::join!(keyed("a"), read(), moving);
    assert_eq!(appended.status, 201, "{appended:?}");
    assert_eq!(lent.status, 200, "{lent:?}");
    assert_eq!(keyed("a").await.status, 200, "it is known");

    // A move that takes longer than a call may wait.
    cluster.begin_move(slot, to, from).await;
    let refused = app.delete(&format!("/v1/streams/{stream}")).await;
    refused.is_problem(503, "redis-unavailable");
    let scheduled = app
        .post_form(&format!("{}?delay=1h", entries(&stream)), "n=1")
        .await;
    let problem = scheduled.is_problem(503, "redis-unavailable");
    assert_eq!(problem["side_effects"], "none", "{problem}");
    assert_eq!(shown(&to.command(&["XLEN", &stream]).await), 2);
    cluster.move_keys(slot, to, from).await;
    cluster.end_move(slot, to, from).await;
    assert_eq!(
        app.delete(&format!("/v1/streams/{stream}")).await.status,
        204
    );
}
