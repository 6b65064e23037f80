//! Names chosen by native clients: names that cannot be created here can still be listed and used.

use serde_json::{Value, json};

use crate::support::redis::{Server, json as plain};
use crate::support::{TestApp, encode};

async fn list(app: &TestApp, query: &str) -> Vec<Value> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = app
            .get(&format!("/v1/streams?limit=1000{query}{cursor}"))
            .await
            .json();
        found.extend(page["streams"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

#[tokio::test]
async fn streams_under_names_that_cannot_be_given_are_listed_read_and_deleted() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let long = "x".repeat(600);
    let names = [
        "a{b}{c}",
        "a\nb",
        "a\u{85}b",
        "{}",
        "a}b{",
        "..",
        ".",
        "",
        long.as_str(),
    ];
    server.command(&["XADD", "usual", "1-0", "n", "1"]).await;
    server
        .command(&["XADD", "streamgate:{x}:dead", "1-0", "n", "1"])
        .await;
    for name in names {
        server.command(&["XADD", name, "1-0", "n", "1"]).await;
        server.command(&["XADD", name, "2-0", "n", "2"]).await;
        server.command(&["XGROUP", "CREATE", name, "g", "0"]).await;
    }
    let listed = list(&app, "").await;
    assert_eq!(
        listed.len(),
        names.len() + 1,
        "those of our own stay hidden: {listed:?}"
    );
    assert!(listed.contains(&json!({"stream": "usual"})));
    for name in names {
        let item = listed.iter().find(|item| item["stream"] == name).unwrap();
        assert_eq!(item["creatable"], false);
        let name64 = item["name64"].as_str().unwrap();
        let by_name64 = |rest: &str, and: &str| format!("/v1/streams/-{rest}?name64={name64}{and}");
        let carries = !name.is_empty() && !name.starts_with('.');
        if carries {
            let path = format!("/v1/streams/{}", encode(name));
            assert_eq!(app.get(&path).await.json()["stream"], name);
            assert_eq!(
                app.get(&format!("{path}/entries")).await.ids(),
                ["1-0", "2-0"]
            );
            let denied = app.post_form(&format!("{path}/entries"), "n=3").await;
            denied.is_problem(400, "invalid-name");
            let exact = list(&app, &format!("&match={}", encode(name))).await;
            assert_eq!(exact.len(), 1, "{name:?}: {exact:?}");
        }
        assert_eq!(
            app.get(&by_name64("", "&full=true")).await.json()["length"],
            2,
            "{name:?}"
        );
        assert_eq!(
            app.get(&by_name64("/entries", "&limit=1")).await.ids(),
            ["1-0"]
        );
        assert_eq!(
            app.get(&by_name64("/entries/2-0", "")).await.json()["id"],
            "2-0"
        );
        assert_eq!(app.get(&by_name64("/groups/g", "")).await.json()["lag"], 2);
        let mut events = app.follow(&by_name64("/events", "&after=0")).await;
        assert_eq!(
            events.expect("$open").await.json()["streams"],
            json!([name])
        );
        for (method, rest) in [("POST", "/entries"), ("PUT", ""), ("PUT", "/groups/new")] {
            let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
            let request = app.client.request(method, app.url(&by_name64(rest, "")));
            app.send(request.header("content-type", "text/plain"))
                .await
                .is_problem(400, "invalid-name");
        }
        assert_eq!(app.delete(&by_name64("/entries/1-0", "")).await.status, 204);
        assert_eq!(plain(&server.command(&["XLEN", name]).await), 1);
        assert_eq!(app.delete(&by_name64("", "")).await.status, 204);
        assert_eq!(plain(&server.command(&["EXISTS", name]).await), 0);
        app.get(&by_name64("", ""))
            .await
            .is_problem(400, "invalid-name");
    }
    assert_eq!(list(&app, "").await, [json!({"stream": "usual"})]);
}

#[tokio::test]
async fn name64_names_any_stream_and_is_refused_where_it_names_none() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    app.publish("orders", "1").await;
    // "orders", with and without padding; "ä/ö" in both alphabets.
    for name64 in ["b3JkZXJz", "b3JkZXJz&full=true"] {
        assert_eq!(
            app.get(&format!("/v1/streams/x?name64={name64}"))
                .await
                .json()["length"],
            1
        );
    }
    app.publish("%C3%A4%2F%C3%B6", "1").await;
    for name64 in ["w6Qvw7Y=", "w6Qvw7Y", "w6Qvw7Y%3D"] {
        let found = app
            .get(&format!("/v1/streams/x?name64={name64}"))
            .await
            .json();
        assert_eq!(found["stream"], "ä/ö", "{name64}");
    }
    for name64 in [
        "b3JkZXJz&name64=b3JkZXJz",
        "%25",
        "_w==",
        "c3RyZWFtZ2F0ZTp4",
    ] {
        let refused = app.get(&format!("/v1/streams/x?name64={name64}")).await;
        refused.is_problem(400, "invalid-name");
    }
    // A stream whose name is not text is listed, but cannot be used.
    let add = "return redis.call('XADD', '\\255\\254', '*', 'n', '1')";
    server.command(&["EVAL", add, "0"]).await;
    let listed = list(&app, "").await;
    let item = listed
        .iter()
        .find(|item| item["creatable"] == false)
        .unwrap();
    assert_eq!(item["stream"], json!({"base64": "//4="}));
}

#[tokio::test]
async fn groups_and_consumers_whose_names_are_no_text_can_be_asked_for_as_they_are_shown() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    app.fill("s", 3).await;
    let script = "redis.call('XGROUP', 'CREATE', 's', 'g\\255', '0') \
                  redis.call('XGROUP', 'CREATECONSUMER', 's', 'g\\255', 'other') \
                  return redis.call('XREADGROUP', 'GROUP', 'g\\255', 'c\\254', 'COUNT', '1', 'STREAMS', 's', '>')";
    server.command(&["EVAL", script, "0"]).await;
    let (group, consumer) = (json!({"base64": "Z/8="}), json!({"base64": "Y/4="}));
    let listed = app.get("/v1/streams/s/groups").await.json();
    assert_eq!(listed["groups"][0]["group"], group);
    let path = format!("/v1/streams/s/groups/{}", encode(&group.to_string()));
    let one = app.get(&path).await.json();
    assert_eq!(
        (&one["group"], &one["consumers"][0]["consumer"]),
        (&group, &consumer)
    );
    let full = app.get("/v1/streams/s?full=true").await.json();
    assert_eq!(full["full"]["groups"][0]["group"], group);
    assert_eq!(
        full["full"]["groups"][0]["pending_entries"][0]["consumer"],
        consumer
    );
    // The consumer in a path, a query, a form and JSON.
    let encoded = encode(&consumer.to_string());
    let seen = app.get(&format!("{path}/consumers/{encoded}")).await.json();
    assert_eq!(seen["consumer"], consumer);
    let pending = app
        .get(&format!("{path}/pending?consumer={encoded}"))
        .await
        .json();
    assert_eq!(pending["summary"]["consumers"][0]["name"], consumer);
    assert_eq!(pending["entries"][0]["consumer"], consumer);
    let history = format!("consumer={encoded}&history=0");
    assert_eq!(
        app.post_form(&format!("{path}/read"), &history).await.ids(),
        ["1-0"]
    );
    let history = json!({"consumer": consumer, "history": "0"}).to_string();
    assert_eq!(
        app.post_json(&format!("{path}/read"), &history).await.ids(),
        ["1-0"]
    );
    let page = app.get(&format!("{path}/consumers?limit=1")).await.json();
    let next = encode(page["next"].as_str().unwrap());
    let page = app
        .get(&format!("{path}/consumers?limit=1&cursor={next}"))
        .await
        .json();
    assert_eq!(
        (&page["consumers"][0]["consumer"], &page["next"]),
        (&"other".into(), &Value::Null)
    );
    // With a policy: a lease, and a dead letter.
    let policy = r#"{"policy":{"lease":"1h"}}"#;
    assert_eq!(
        app.put_json(&path, policy).await.json()["policy"]["lease"],
        "1h"
    );
    let read = json!({"consumer": consumer, "count": 2}).to_string();
    let read = app.post_json(&format!("{path}/read"), &read).await.json();
    let receipt = |n: usize| read["entries"][n]["receipt"].as_str().unwrap().to_owned();
    let ack = format!("receipts={}", receipt(0));
    let acked = app.post_form(&format!("{path}/ack"), &ack).await.json();
    assert_eq!(acked["results"][0]["outcome"], "acknowledged");
    app.post_form(
        &format!("{path}/reject"),
        &format!("receipts={}", receipt(1)),
    )
    .await;
    let letters = app.get(&format!("{path}/dead-letters")).await.json();
    assert_eq!(
        letters["dead_letters"][0]["consumer"], consumer,
        "{letters}"
    );
    let fate = format!("{path}/consumers/{encoded}?pending=transfer:other");
    assert_eq!(app.delete(&fate).await.json()["pending"], 1);
    assert_eq!(app.delete(&path).await.status, 204);
    app.get(&path).await.is_problem(404, "group-not-found");
    for wrong in [
        json!({"base64": 1}),
        json!({"base64": "Y/4=", "x": 1}),
        json!({"text": "w"}),
        json!(1),
    ] {
        let read = json!({"consumer": wrong}).to_string();
        app.post_json("/v1/streams/s/groups/g/read", &read)
            .await
            .is_problem(400, "invalid-request");
    }
}

#[tokio::test]
async fn a_call_on_a_group_of_a_missing_stream_says_that_there_is_no_such_group() {
    let app = TestApp::start().await;
    let stream = crate::support::unique("missing");
    let path = format!("/v1/streams/{stream}/groups/g");
    for rest in [
        "",
        "/pending",
        "/consumers",
        "/consumers/c",
        "/dead-letters",
        "/events?consumer=w",
    ] {
        app.get(&format!("{path}{rest}"))
            .await
            .is_problem(404, "group-not-found");
    }
    for (call, form) in [
        ("read", "consumer=w"),
        ("read", "consumer=w&wait=1s"),
        ("read", "consumer=w&history=0"),
        ("ack", "ids=1-0"),
        ("ack?delete=true", "ids=1-0"),
        ("nack", "ids=1-0"),
        ("reject", "ids=1-0"),
        ("extend", "ids=1-0"),
        ("claim", "consumer=w&ids=1-0"),
        ("autoclaim", "consumer=w&min_idle=0ms"),
        ("dead-letters/redrive", "all=true"),
    ] {
        let answer = app.post_form(&format!("{path}/{call}"), form).await;
        answer.is_problem(404, "group-not-found");
    }
    app.delete(&path).await.is_problem(404, "group-not-found");
    app.delete(&format!("{path}/consumers/c"))
        .await
        .is_problem(404, "group-not-found");
    app.put_json(&format!("{path}/consumers/c"), "")
        .await
        .is_problem(404, "group-not-found");
    let change = app
        .client
        .patch(app.url(&path))
        .header("content-type", "application/json");
    let change = change.body(r#"{"policy":{}}"#);
    app.send(change).await.is_problem(404, "group-not-found");
    // These are operations on the stream.
    app.get(&format!("/v1/streams/{stream}/groups"))
        .await
        .is_problem(404, "stream-not-found");
    let make = app.put_json(&path, r#"{"create_stream":false}"#).await;
    make.is_problem(404, "stream-not-found");
}
