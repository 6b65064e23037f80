//! Listing, reading and deleting streams.

use std::collections::HashSet;

use crate::support::redis::{Server, shared};
use crate::support::{TestApp, unique};

#[tokio::test]
async fn every_stream_and_nothing_else_is_listed() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    for n in 0..250 {
        server
            .command(&["XADD", &format!("orders:{n}"), "*", "n", "1"])
            .await;
    }
    server.command(&["XADD", "other[1]*", "*", "n", "1"]).await;
    server
        .command(&["XADD", "streamgate:own", "*", "n", "1"])
        .await;
    server.command(&["SET", "orders:text", "x"]).await;
    let all = async |query: &str| {
        let (mut seen, mut cursor) = (HashSet::new(), String::new());
        loop {
            let page = app
                .get(&format!("/v1/streams?{query}{cursor}"))
                .await
                .json();
            let names = page["streams"].as_array().unwrap().iter();
            seen.extend(names.map(|item| item["stream"].as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return seen,
            }
        }
    };
    assert_eq!(all("limit=20").await.len(), 251);
    assert_eq!(all("match=orders:1*").await.len(), 111);
    assert_eq!(
        all("match=orders:7").await,
        HashSet::from(["orders:7".to_owned()])
    );
    assert_eq!(
        all("match=other%5B1%5D%5C**").await.len(),
        1,
        "an escaped star is of the name"
    );
    assert_eq!(all("match=other%5B1%5D%5C*").await.len(), 1);
    assert_eq!(all("match=%5C*ders*").await.len(), 0);
    app.get("/v1/streams?match=*ders*")
        .await
        .is_problem(400, "invalid-request");
    app.get("/v1/streams?limit=0")
        .await
        .is_problem(400, "invalid-request");
    app.get("/v1/streams?cursor=x")
        .await
        .is_problem(400, "invalid-request");
}

#[tokio::test]
async fn a_stream_is_shown_with_its_counters() {
    let app = TestApp::start().await;
    let stream = app.stream_of("shown", 5).await;
    shared()
        .await
        .command(&["XTRIM", &stream, "MAXLEN", "3"])
        .await;
    shared().await.command(&["XDEL", &stream, "4-0"]).await;
    let answer = app.get(&format!("/v1/streams/{stream}")).await;
    let seen = answer.json();
    assert_eq!(
        (&seen["length"], &seen["entries_added"], &seen["groups"]),
        (&2.into(), &5.into(), &0.into())
    );
    assert_eq!(
        (
            &seen["oldest_id"],
            &seen["last_id"],
            &seen["max_deleted_id"]
        ),
        (&"3-0".into(), &"5-0".into(), &"4-0".into())
    );
    assert_eq!(
        seen["last_entry"],
        serde_json::json!({"id": "5-0", "fields": {"n": "1"}})
    );
    assert_eq!(answer.header("etag"), "\"5-0\"");
    let head = app
        .send(app.client.head(app.url(&format!("/v1/streams/{stream}"))))
        .await;
    assert_eq!(
        (head.status, head.header("etag"), head.body.as_str()),
        (200, "\"5-0\"", "")
    );
}

#[tokio::test]
async fn a_stream_is_deleted_and_no_other_key_ever_is() {
    let app = TestApp::start().await;
    let stream = app.stream_of("deleted", 1).await;
    let path = format!("/v1/streams/{stream}");
    assert_eq!(app.delete(&path).await.status, 204);
    app.delete(&path).await.is_problem(404, "stream-not-found");
    app.get(&path).await.is_problem(404, "stream-not-found");
    let text = unique("text");
    shared().await.command(&["SET", &text, "precious"]).await;
    let path = format!("/v1/streams/{text}");
    app.delete(&path).await.is_problem(409, "not-a-stream");
    app.get(&path).await.is_problem(409, "not-a-stream");
    app.get(&format!("{path}/entries"))
        .await
        .is_problem(409, "not-a-stream");
    app.get(&format!("{path}/entries?after=0&wait=5s"))
        .await
        .is_problem(409, "not-a-stream");
    app.post_form(&format!("{path}/entries"), "n=1")
        .await
        .is_problem(409, "not-a-stream");
    app.put_json(&format!("{path}/groups/g"), "{}")
        .await
        .is_problem(409, "not-a-stream");
    let kept = shared().await.command(&["GET", &text]).await;
    assert_eq!(
        kept,
        deadpool_redis::redis::Value::BulkString(b"precious".to_vec())
    );
}
