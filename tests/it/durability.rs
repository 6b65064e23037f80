//! Appends that are answered once replicas or the disk have them.

use serde_json::json;

use crate::support::redis::Server;
use crate::support::{TestApp, eventually, unique};

fn entries(stream: &str) -> String {
    format!("/v1/streams/{stream}/entries")
}

/// Starts a server with one replica that has caught up.
async fn pair() -> (Server, Server) {
    let (first, second) = (Server::start().await, Server::start().await);
    let port = first.port.to_string();
    second.command(&["REPLICAOF", "127.0.0.1", &port]).await;
    eventually("the replica follows", async || {
        let info = format!("{:?}", second.command(&["INFO", "replication"]).await);
        info.contains("master_link_status:up")
    })
    .await;
    (first, second)
}

#[tokio::test]
async fn an_entry_can_wait_for_replicas() {
    let (first, second) = pair().await;
    let app = TestApp::on_server(&first).await;
    let stream = unique("replicas");
    let path = format!(
        "{}?durability=replicas:1&durability_timeout=10s",
        entries(&stream)
    );
    let answer = app.post_form(&path, "n=1").await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    assert_eq!(answer.json()["durability"], json!({"replicas": 1}));
    let there = second.command(&["XLEN", &stream]).await;
    assert_eq!(
        there,
        deadpool_redis::redis::Value::Int(1),
        "at once, without waiting"
    );
    let batch = r#"{"entries":[{"fields":{"n":2}},{"fields":{"n":3},"key":"k"}]}"#;
    let answer = app.post_json(&path, batch).await;
    assert_eq!(answer.json()["durability"]["replicas"], 1);
    let lines = app
        .client
        .post(app.url(&path))
        .header("content-type", "application/x-ndjson");
    let answer = app.send(lines.body("{\"fields\":{\"n\":4}}\n")).await;
    assert_eq!(
        answer.json()["durability"]["replicas"],
        1,
        "{}",
        answer.body
    );
}

#[tokio::test]
async fn what_is_not_reached_is_told_with_the_id_and_can_be_waited_for_again() {
    let (first, second) = pair().await;
    let app = TestApp::on_server(&first).await;
    let stream = unique("short");
    let path = format!(
        "{}?durability=replicas:1&durability_timeout=300ms",
        entries(&stream)
    );
    let post = async || {
        let post = app
            .client
            .post(app.url(&path))
            .header("idempotency-key", "once");
        app.send(post.body("n=1")).await
    };
    // The replica keeps its connection but acknowledges nothing.
    crate::support::gateway::signal(second.pid(), "STOP");
    let problem = post().await.is_problem(504, "durability-not-reached");
    let id = problem["id"].as_str().unwrap().to_owned();
    assert_eq!(
        (&problem["replicas"], &problem["side_effects"]),
        (&json!(0), &json!("unknown"))
    );
    assert_eq!(
        post().await.is_problem(504, "durability-not-reached")["id"],
        id.as_str()
    );
    crate::support::gateway::signal(second.pid(), "CONT");
    eventually("the replica has it", async || post().await.status == 200).await;
    let answer = post().await;
    assert_eq!(
        (answer.header("idempotency-replayed"), &answer.json()["id"]),
        ("true", &json!(id))
    );
    assert_eq!(app.get(&entries(&stream)).await.ids(), [id]);
}

#[tokio::test]
async fn what_became_of_each_entry_is_told_also_where_durability_is_not_reached() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let query = "durability=replicas:1&durability_timeout=50ms";
    let path = format!("{}?atomic=false&{query}", entries(&unique("each")));
    let batch = r#"{"entries":[{"fields":{"n":1},"key":"k"},{"fields":{}},{"fields":{"n":2}}]}"#;
    let problem = app
        .post_json(&path, batch)
        .await
        .is_problem(504, "durability-not-reached");
    assert_eq!(problem["results"][2]["id"], problem["id"], "{problem:#}");
    assert_eq!(problem["results"][1]["error"]["code"], "invalid-fields");
    assert!(
        problem["detail"].as_str().unwrap().contains("without keys"),
        "not all have a key"
    );

    let path = format!("{}?{query}", entries(&unique("lines")));
    let lines = app
        .client
        .post(app.url(&path))
        .header("content-type", "application/x-ndjson");
    let lines = lines.body("{\"fields\":{\"n\":1},\"key\":\"a\"}\nwrong\n");
    let problem = app
        .send(lines)
        .await
        .is_problem(504, "durability-not-reached");
    assert_eq!(
        (&problem["appended"], &problem["lines"][0]["line"]),
        (&json!(1), &json!(2))
    );
}

#[tokio::test]
async fn an_entry_can_wait_for_the_disk_where_the_server_can() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let stream = unique("disk");
    let path = format!(
        "{}?durability=fsync&durability_timeout=10s",
        entries(&stream)
    );
    let known = server.command(&["COMMAND", "INFO", "WAITAOF"]).await;
    if known == deadpool_redis::redis::Value::Array(vec![deadpool_redis::redis::Value::Nil]) {
        let answer = app.post_form(&path, "n=1").await;
        answer.is_problem(501, "not-supported-by-server");
    } else {
        let answer = app.post_form(&path, "n=1").await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        assert_eq!(
            answer.json()["durability"],
            json!({"replicas": 0, "fsync": true})
        );
        server.command(&["DEL", &stream]).await;
        server.command(&["CONFIG", "SET", "appendonly", "no"]).await;
        app.post_form(&path, "n=1")
            .await
            .is_problem(501, "not-supported-by-server");
    }
    app.get(&entries(&stream))
        .await
        .is_problem(404, "stream-not-found");
}

#[tokio::test]
async fn waiting_writers_are_bounded_and_do_not_hold_up_others() {
    let server = Server::start().await;
    let app = TestApp::on(&server.url(), |settings| {
        settings.pool.durable = 1;
        settings.pool.connect_timeout = std::time::Duration::from_millis(200);
    })
    .await;
    let stream = unique("bounded");
    let slow = format!(
        "{}?durability=replicas:5&durability_timeout=2s",
        entries(&stream)
    );
    let quick = app.client.post(app.url(&entries(&stream)));
    let (first, second, other) = tokio::join!(
        app.post_form(&slow, "n=1"),
        async {
            eventually("the first is in", async || {
                app.get(&entries(&stream)).await.status == 200
            })
            .await;
            app.post_form(&slow, "n=2").await
        },
        async {
            eventually("the first is in", async || {
                app.get(&entries(&stream)).await.status == 200
            })
            .await;
            app.send(quick.body("n=3")).await
        },
    );
    first.is_problem(504, "durability-not-reached");
    let problem = second.is_problem(503, "overloaded");
    assert!(
        problem["detail"].as_str().unwrap().contains("replicas"),
        "{problem:#}"
    );
    assert_eq!(other.status, 201);
    assert_eq!(app.get(&entries(&stream)).await.ids().len(), 2);
}

#[tokio::test]
async fn durability_that_makes_no_sense_is_refused() {
    let app = TestApp::start().await;
    let path = entries(&unique("nonsense"));
    for query in [
        "durability=replicas",
        "durability=replicas:0",
        "durability=replicas:1001",
        "durability=disk",
        "durability=fsync&durability_timeout=11s",
        "durability=fsync&durability_timeout=0",
        "durability_timeout=1s",
    ] {
        let answer = app.post_form(&format!("{path}?{query}"), "n=1").await;
        answer.is_problem(400, "invalid-request");
    }
}
