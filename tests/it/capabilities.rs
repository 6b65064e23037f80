//! Capabilities that the gateway reports for the Redis server, compared with the server itself.

use std::collections::BTreeMap;

use deadpool_redis::redis::Value as Redis;
use serde_json::Value;

use crate::support::redis::{Server, free_port};
use crate::support::{TestApp, eventually};

/// Returns the reported capabilities, by name: `(native, used)`.
async fn told(app: &TestApp) -> BTreeMap<String, (Option<bool>, String)> {
    let mut answer = app.get("/v1/capabilities").await;
    eventually("Redis was asked", async || {
        answer = app.get("/v1/capabilities").await;
        answer.status == 200
    })
    .await;
    let json = answer.json();
    let one = |one: &Value| {
        let used = one["used"].as_str().unwrap().to_owned();
        for word in ["what", "command"] {
            assert!(!one[word].as_str().unwrap().is_empty(), "{one}");
        }
        (
            one["name"].as_str().unwrap().to_owned(),
            (one["native"].as_bool(), used),
        )
    };
    json["capabilities"]
        .as_array()
        .unwrap()
        .iter()
        .map(one)
        .collect()
}

#[tokio::test]
async fn what_is_told_of_the_server_is_what_it_does() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let told = told(&app).await;
    assert_eq!(
        server.command(&["KEYS", "streamgate:probe:*"]).await,
        Redis::Array(Vec::new()),
        "asking leaves nothing behind"
    );
    let known = async |command: &str| {
        let info = server.command(&["COMMAND", "INFO", command]).await;
        info != Redis::Array(vec![Redis::Nil])
    };
    server.command(&["XADD", "s", "1-0", "n", "1"]).await;
    server.command(&["XGROUP", "CREATE", "s", "g", "0"]).await;
    let works = async |words: &[&str]| server.try_command(words).await.is_ok();
    let counters = [
        "XSETID",
        "s",
        "9-0",
        "ENTRIESADDED",
        "9",
        "MAXDELETEDID",
        "5-0",
    ];
    let idmp = ["XADD", "s", "IDMP", "p", "i", "*", "n", "1"];
    let claim = [
        "XREADGROUP",
        "GROUP",
        "g",
        "c",
        "CLAIM",
        "1",
        "STREAMS",
        "s",
        ">",
    ];
    let expected = [
        ("entry-counters", works(&counters).await),
        (
            "auto-sequence",
            works(&["XADD", "s", "10-*", "n", "1"]).await,
        ),
        ("idempotent-append", works(&idmp).await),
        ("last-entry", works(&["XREAD", "STREAMS", "s", "+"]).await),
        (
            "byte-limit",
            works(&["XREAD", "MAXSIZE", "1", "STREAMS", "s", "0"]).await,
        ),
        ("claim-on-read", works(&claim).await),
        ("delete-with-references", known("XDELEX").await),
        (
            "trim-with-references",
            works(&["XTRIM", "s", "MAXLEN", "=", "100", "ACKED"]).await,
        ),
        ("ack-and-delete", known("XACKDEL").await),
        ("nack", known("XNACK").await),
        ("wait-for-replicas", known("WAIT").await),
        ("wait-for-fsync", known("WAITAOF").await),
        ("change-reports", known("CLIENT|TRACKING").await),
    ];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for (name, native) in expected {
        assert_eq!(told[name].0, Some(native), "{name}");
    }
    let answer = app.get("/v1/capabilities").await.json();
    let Redis::BulkString(info) = server.command(&["INFO", "server"]).await else {
        panic!()
    };
    let info = String::from_utf8(info).unwrap();
    let (name, version) = (&answer["server"]["name"], &answer["server"]["version"]);
    let line = format!(
        "{}_version:{}",
        name.as_str().unwrap(),
        version.as_str().unwrap()
    );
    assert!(info.contains(&line), "{line}");
    app.get("/v1/capabilities?full=true")
        .await
        .is_problem(400, "unknown-parameter");
}

/// Returns the commands Redis has run since its statistics were reset.
async fn commands(server: &Server) -> Vec<String> {
    let Redis::BulkString(info) = server.command(&["INFO", "commandstats"]).await else {
        panic!()
    };
    let info = String::from_utf8(info).unwrap();
    let lines = info
        .lines()
        .filter_map(|line| line.strip_prefix("cmdstat_")?.split(':').next());
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn what_is_told_of_the_gateway_is_what_it_does() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let told = told(&app).await;
    let used = |name: &str| told[name].1.as_str();
    let path = "/v1/streams/s/entries";

    let chosen = app.post_form(&format!("{path}?id=5-*"), "n=1").await;
    match used("auto-sequence") {
        "native" => assert_eq!(chosen.json()["id"], "5-0"),
        "unavailable" => drop(chosen.is_problem(501, "not-supported-by-server")),
        other => panic!("{other}"),
    }
    app.post_form(path, "n=1").await;
    let counted = app.get("/v1/streams/s").await.json()["entries_added"].is_number();
    assert_eq!(counted, used("entry-counters") == "native");

    server.command(&["CONFIG", "RESETSTAT"]).await;
    app.delete(&format!("{path}?id=5-0&refs=acked")).await;
    assert_eq!(used("delete-with-references"), "script");
    let ran = commands(&server).await;
    assert!(
        ran.contains(&"eval".to_owned()) && !ran.contains(&"xdelex".to_owned()),
        "{ran:?}"
    );

    server.command(&["CONFIG", "RESETSTAT"]).await;
    let post = app
        .client
        .post(app.url(path))
        .header("idempotency-key", "k")
        .body("x");
    assert_eq!(app.send(post).await.status, 201);
    assert_eq!(used("idempotent-append"), "script");
    assert!(commands(&server).await.contains(&"eval".to_owned()));

    server.command(&["CONFIG", "RESETSTAT"]).await;
    assert_eq!(
        app.get(&format!("{path}?after=%2B&max_bytes=1"))
            .await
            .ids()
            .len(),
        1
    );
    assert_eq!(
        (used("last-entry"), used("byte-limit")),
        ("script", "script")
    );
    let ran = commands(&server).await;
    assert!(
        ran.contains(&"xrange".to_owned()) && !ran.contains(&"xread".to_owned()),
        "{ran:?}"
    );

    app.put_json("/v1/streams/s/groups/g", "{}").await;
    app.post_form("/v1/streams/s/groups/g/read", "consumer=c")
        .await;
    server.command(&["CONFIG", "RESETSTAT"]).await;
    app.post_form("/v1/streams/s/groups/g/ack?delete=true", "ids=6-0")
        .await;
    app.post_form("/v1/streams/s/trim", "maxlen=0&refs=acked")
        .await;
    assert_eq!(
        (used("ack-and-delete"), used("trim-with-references")),
        ("script", "script")
    );
    let ran = commands(&server).await;
    assert!(
        ran.contains(&"eval".to_owned()) && !ran.contains(&"xackdel".to_owned()),
        "{ran:?}"
    );

    app.put_json("/v1/streams/s/groups/g", r#"{"policy":{}}"#)
        .await;
    app.post_form(path, "n=1").await;
    server.command(&["CONFIG", "RESETSTAT"]).await;
    for verb in ["read", "nack"] {
        let form = if verb == "read" {
            "consumer=c&lease=1s"
        } else {
            "ids=1-0"
        };
        assert_eq!(
            app.post_form(&format!("/v1/streams/s/groups/g/{verb}"), form)
                .await
                .status,
            200
        );
    }
    assert_eq!((used("nack"), used("claim-on-read")), ("script", "script"));
    let ran = commands(&server).await;
    assert!(
        ran.contains(&"evalsha".to_owned()) && !ran.contains(&"xnack".to_owned()),
        "{ran:?}"
    );

    server.command(&["CONFIG", "RESETSTAT"]).await;
    app.post_form(
        &format!("{path}?durability=replicas:1&durability_timeout=1ms"),
        "n=1",
    )
    .await;
    app.post_form(&format!("{path}?durability=fsync"), "n=1")
        .await;
    let ran = commands(&server).await;
    for (name, command) in [("wait-for-replicas", "wait"), ("wait-for-fsync", "waitaof")] {
        assert_eq!(
            ran.contains(&command.to_owned()),
            used(name) == "native",
            "{ran:?}"
        );
    }
}

#[tokio::test]
async fn a_server_that_was_never_reached_is_asked_when_it_comes() {
    let server = Server::on(free_port());
    let app = TestApp::on_server(&server).await;
    let problem = app
        .get("/v1/capabilities")
        .await
        .is_problem(503, "redis-unavailable");
    assert_eq!(problem["retryable"], true);
    server.start_again().await;
    assert_eq!(told(&app).await["wait-for-replicas"].0, Some(true));
    // Known capabilities are still reported while Redis is down.
    server.kill();
    eventually("the outage is noticed", async || {
        app.get("/readyz").await.json()["redis"] == "down"
    })
    .await;
    assert_eq!(app.get("/v1/capabilities").await.status, 200);
}

#[tokio::test]
async fn the_server_is_asked_anew_after_every_reconnect() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    assert_eq!(told(&app).await["wait-for-replicas"].0, Some(true));
    server.kill();
    server
        .start_again_with(&["--rename-command", "WAIT", ""])
        .await;
    eventually("the missing command is missed", async || {
        told(&app).await["wait-for-replicas"].0 == Some(false)
    })
    .await;
}

#[tokio::test]
async fn what_the_gateway_may_not_ask_is_told_as_not_known() {
    let server = Server::start().await;
    let acl = [
        "ACL", "SETUSER", "gate", "on", ">secret", "~t*", "+@all", "-command", "-info",
    ];
    server.command(&acl).await;
    let app = TestApp::on(
        &format!("redis://gate:secret@127.0.0.1:{}/", server.port),
        |_| {},
    )
    .await;
    let told = told(&app).await;
    assert_eq!(
        (told["wait-for-replicas"].0, told["auto-sequence"].0),
        (None, None),
        "{told:?}"
    );
    let server = app.get("/v1/capabilities").await.json()["server"].clone();
    assert!(
        server["name"].is_null() && server["version"].is_null(),
        "{server}"
    );
    assert_eq!(
        app.post_form("/v1/streams/t1/entries", "n=1").await.status,
        201
    );
}
