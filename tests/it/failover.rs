//! A replica that is promoted before it has caught up, and an address that leads to another server.

use std::time::{Duration, Instant};

use crate::support::proxy::Proxy;
use crate::support::redis::{Server, json};
use crate::support::{TestApp, eventually, unique};

/// A primary and its replica, with a gateway that is directed to the current primary.
struct Pair {
    primary: Server,
    replica: Server,
    proxy: Proxy,
}

impl Pair {
    async fn start() -> (Self, TestApp) {
        let (primary, replica) = (Server::start().await, Server::start().await);
        let port = primary.port.to_string();
        replica.command(&["REPLICAOF", "127.0.0.1", &port]).await;
        let proxy = Proxy::to(primary.port).await;
        let app = TestApp::on(&proxy.url(), |_| {}).await;
        (
            Self {
                primary,
                replica,
                proxy,
            },
            app,
        )
    }

    /// Stops replication: later writes never reach the replica.
    async fn part(&self) {
        // WAIT counts what its own connection wrote, which is nothing.
        let reached = async || {
            let applied = replication(&self.replica, "slave_repl_offset").await;
            applied.is_some()
                && applied == replication(&self.primary, "master_repl_offset").await
                && replication(&self.replica, "master_link_status")
                    .await
                    .as_deref()
                    == Some("up")
        };
        eventually("the replica has all", reached).await;
        self.replica.command(&["REPLICAOF", "NO", "ONE"]).await;
    }

    /// Kills the primary and replaces it by the replica.
    fn promote(&self) {
        self.proxy.lead_to(self.replica.port);
        self.proxy.cut();
        self.primary.kill();
        self.proxy.restore();
    }
}

/// A field of what a server says of its replication.
async fn replication(server: &Server, name: &str) -> Option<String> {
    let info = json(&server.command(&["INFO", "replication"]).await);
    let mut lines = info.as_str()?.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(value.to_owned())
}

#[tokio::test]
async fn a_promoted_replica_that_is_behind_is_a_reset_and_is_read_from_its_beginning() {
    let (pair, app) = Pair::start().await;
    let (stream, other) = (unique("behind"), unique("level"));
    for name in [&stream, &other] {
        app.fill(name, 3).await;
    }
    let mut one = app
        .follow(&format!("/v1/streams/{stream}/events?after=0"))
        .await;
    let mut many = app
        .follow(&format!("/v1/events?stream={stream}@0&stream={other}@0"))
        .await;
    one.expect("$open").await;
    one.values(3).await;
    many.expect("$open").await;
    many.values(6).await;
    pair.part().await;
    app.publish(&stream, "never replicated").await;
    assert_eq!(one.values(1).await, ["never replicated"]);
    assert_eq!(many.values(1).await, ["never replicated"]);
    pair.promote();
    // The other stream has not changed, so nothing is reported for it.
    for sse in [&mut one, &mut many] {
        assert_eq!(
            sse.expect("$reset").await.json(),
            serde_json::json!({"stream": stream})
        );
        assert_eq!(sse.values(3).await, ["1", "1", "1"]);
    }
    pair.replica
        .command(&["XADD", &other, "*", "n", "on we go"])
        .await;
    assert_eq!(many.values(1).await, ["on we go"]);
}

#[tokio::test]
async fn what_a_promoted_replica_does_not_know_was_lent_is_lent_again_and_old_receipts_are_no_good()
{
    let (pair, app) = Pair::start().await;
    let stream = app.stream_of("lent", 2).await;
    let group = format!("/v1/streams/{stream}/groups/g");
    app.put_json(&group, r#"{"policy":{"lease":"1h"}}"#).await;
    let read = async |consumer: &str| {
        let body = format!("consumer={consumer}&count=1&wait=5s");
        let answer = loop {
            let answer = app.post_form(&format!("{group}/read"), &body).await;
            if answer.status == 200 {
                break answer;
            }
        };
        let entry = answer.json()["entries"][0].clone();
        (
            entry["id"].as_str().unwrap().to_owned(),
            entry["receipt"].as_str().unwrap().to_owned(),
        )
    };
    let (first, known) = read("before").await;
    pair.part().await;
    let (second, unknown) = read("before").await;
    assert_eq!((first.as_str(), second.as_str()), ("1-0", "2-0"));
    pair.promote();
    let (again, receipt) = read("after").await;
    assert_eq!(again, second, "the first is still lent");
    let ack = async |receipt: &str| {
        let answer = app
            .post_form(&format!("{group}/ack"), &format!("receipts={receipt}"))
            .await;
        answer.json()["results"][0]["outcome"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(ack(&unknown).await, "lease-lost");
    assert_eq!(ack(&receipt).await, "acknowledged");
    assert_eq!(ack(&known).await, "acknowledged");
}

#[tokio::test]
async fn an_address_that_leads_to_a_promoted_replica_is_followed_though_no_connection_breaks() {
    let (pair, app) = Pair::start().await;
    let stream = unique("led");
    let path = format!("/v1/streams/{stream}/entries");
    app.publish(&stream, "before").await;
    let mut events = app
        .follow(&format!("/v1/streams/{stream}/events?after=0"))
        .await;
    events.expect("$open").await;
    assert_eq!(events.values(1).await, ["before"]);
    let group = format!("/v1/streams/{stream}/groups/g");
    app.put_json(&group, r#"{"start":"$","policy":{}}"#).await;
    let mut push = app.follow(&format!("{group}/events?consumer=w")).await;
    push.expect("$open").await;
    pair.part().await;
    let replica = pair.replica.port.to_string();
    pair.primary
        .command(&["REPLICAOF", "127.0.0.1", &replica])
        .await;
    let problem = app
        .post_form(&path, "n=lost")
        .await
        .is_problem(503, "redis-read-only");
    assert_eq!(problem["side_effects"], "none");
    let seen = async || app.get("/readyz").await.json()["redis"] == "read-only";
    eventually("readiness shows it", seen).await;
    // Open connections stay with the old server.
    pair.proxy.lead_to(pair.replica.port);
    let began = Instant::now();
    let publish = async || app.post_form(&path, "n=after").await.status == 201;
    eventually("it can be published", publish).await;
    assert_eq!(events.values(1).await, ["after"]);
    assert_eq!(push.values(1).await, ["after"]);
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    let ready = async || app.get("/readyz").await.json()["redis"] == "up";
    eventually("readiness shows it", ready).await;
    let there = json(&pair.replica.command(&["XLEN", &stream]).await);
    assert_eq!(there, 2);
}
