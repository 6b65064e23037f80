//! Reading several streams in one request.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::redis::{Server, shared};
use crate::support::{TestApp, eventually, unique};

fn ids(stream: &Value) -> Vec<&str> {
    stream["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["id"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn streams_are_read_in_the_order_asked_each_from_its_own_position() {
    let app = TestApp::start().await;
    let (a, b) = (app.stream_of("a", 3).await, app.stream_of("b@at", 2).await);
    let (b_path, none) = (crate::support::encode(&b), unique("none"));
    let query = format!(
        "stream={b_path}@0&stream={a}@1-0:1&stream={a}@%2B&stream={none}@0&stream={a}&limit=2"
    );
    let answer = app.get(&format!("/v1/entries?{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let json = answer.json();
    let read = |index: usize| &json["streams"][index];
    assert_eq!(
        (ids(read(0)), &read(0)["stream"]),
        (vec!["1-0", "2-0"], &b.clone().into())
    );
    assert_eq!(
        (ids(read(1)), &read(1)["next"]),
        (vec!["2-0", "3-0"], &"3-0:3".into())
    );
    assert_eq!(ids(read(2)), ["3-0"], "the last entry");
    assert_eq!((ids(read(3)), &read(3)["next"]), (vec![], &"0-0:0".into()));
    assert_eq!(
        (ids(read(4)), &read(4)["next"]),
        (vec![], &"3-0:3".into()),
        "from now on unless told"
    );
}

#[tokio::test]
async fn waiting_ends_with_the_first_entry_in_any_stream() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let (a, b) = (app.stream_of("a", 1).await, unique("b"));
    let began = Instant::now();
    let publishing = async {
        eventually("it waits", async || server.blocked().await >= 1).await;
        app.publish(&b, "new").await
    };
    let path = format!("/v1/entries?stream={a}@$&stream={b}@$&wait=20s");
    let (answer, id) = tokio::join!(app.get(&path), publishing);
    let json = answer.json();
    assert_eq!(
        (ids(&json["streams"][0]), ids(&json["streams"][1])),
        (vec![], vec![id.as_str()])
    );
    assert!(began.elapsed() < Duration::from_secs(5));
    let nothing = app
        .get(&format!("/v1/entries?stream={a}@$&wait=200ms"))
        .await
        .json();
    assert_eq!(ids(&nothing["streams"][0]), Vec::<&str>::new());
}

#[tokio::test]
async fn a_gap_stands_in_the_item_of_its_stream() {
    let app = TestApp::start().await;
    let (a, b) = (app.stream_of("a", 5).await, app.stream_of("b", 5).await);
    shared().await.command(&["XTRIM", &a, "MAXLEN", "2"]).await;
    app.delete(&format!("/v1/streams/{b}")).await;
    let json = app
        .get(&format!("/v1/entries?stream={a}@1-0:1&stream={b}@5-0:5"))
        .await
        .json();
    let (gone, anew) = (&json["streams"][0], &json["streams"][1]);
    assert_eq!(
        gone["gap"],
        json!({"after": "1-0:1", "lost": 2, "reset": false})
    );
    assert_eq!(
        (ids(gone), &gone["next"]),
        (vec!["4-0", "5-0"], &"5-0:5".into())
    );
    assert_eq!(
        (&anew["gap"]["reset"], &anew["next"]),
        (&true.into(), &"0-0:0".into())
    );
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let app = TestApp::start().await;
    app.get("/v1/entries")
        .await
        .is_problem(400, "invalid-request");
    app.get("/v1/entries?stream=a@x")
        .await
        .is_problem(400, "invalid-id");
    app.get("/v1/entries?stream=@0")
        .await
        .is_problem(400, "invalid-name");
    app.get("/v1/entries?stream=a@0&wait=61s")
        .await
        .is_problem(400, "invalid-request");
    let many: String = (0..257)
        .map(|n| format!("stream=s{n}@0&"))
        .collect::<Vec<_>>()
        .concat();
    app.get(&format!("/v1/entries?{many}"))
        .await
        .is_problem(422, "too-many-streams");
    let text = unique("text");
    shared().await.command(&["SET", &text, "x"]).await;
    app.get(&format!("/v1/entries?stream={text}@0"))
        .await
        .is_problem(409, "not-a-stream");
}
