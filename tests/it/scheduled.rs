//! Scheduled entries: appended not before their time, soon after it, and once.

use std::time::{Duration, Instant};

use deadpool_redis::redis::Value as Redis;
use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::redis::{Server, shared};
use crate::support::{TestApp, app, eventually, unique};

fn path(stream: &str, rest: &str) -> String {
    format!("/v1/streams/{stream}/{rest}")
}

/// Schedules `n=<value>` and returns the response.
async fn later(app: &TestApp, stream: &str, delay: &str, value: &str) -> Value {
    let to = path(stream, &format!("entries?delay={delay}"));
    let answer = app.post_form(&to, &format!("n={value}")).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let json = answer.json();
    let token = json["scheduled"].as_str().unwrap();
    assert_eq!(
        answer.header("location"),
        path(stream, &format!("scheduled/{token}"))
    );
    json
}

/// Returns the field `n` of the entries in a stream.
async fn values(app: &TestApp, stream: &str) -> Vec<String> {
    let answer = app.get(&path(stream, "entries?start=-&limit=1000")).await;
    if answer.status == 404 {
        return Vec::new();
    }
    let json = answer.json();
    let entries = json["entries"].as_array().unwrap().iter();
    entries
        .map(|entry| entry["fields"]["n"].as_str().unwrap().to_owned())
        .collect()
}

async fn tokens(app: &TestApp, stream: &str) -> Vec<Value> {
    let list = app.get(&path(stream, "scheduled")).await.json();
    list["scheduled"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["scheduled"].clone())
        .collect()
}

#[tokio::test]
async fn what_is_scheduled_comes_at_its_time_and_not_before() {
    // A server of its own: on the shared one, gateways of finished tests hold the leader lock for a
    // while.
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let stream = unique("later");
    let begun = Instant::now();
    let told = later(&app, &stream, "700ms", "1").await;
    assert_eq!(
        (&told["stream"], &told["entries"]),
        (&json!(stream), &json!(1))
    );
    let there = app.get(&format!("/v1/streams/{stream}")).await;
    there.is_problem(404, "stream-not-found");
    eventually("it is there", async || values(&app, &stream).await == ["1"]).await;
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(700), "{took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(tokens(&app, &stream).await, [] as [Value; 0]);
}

#[tokio::test]
async fn what_is_due_sooner_is_not_kept_waiting_by_what_is_due_later() {
    let server = Server::start().await;
    let (app, other) = (
        TestApp::on_server(&server).await,
        TestApp::on_server(&server).await,
    );
    let (far, near, now) = (unique("far"), unique("near"), unique("now"));
    later(&app, &far, "7d", "far").await;
    for (from, stream) in [(&app, &near), (&other, &now)] {
        let begun = Instant::now();
        later(from, stream, "300ms", "1").await;
        eventually("it came", async || values(&app, stream).await.len() == 1).await;
        assert!(
            begun.elapsed() < Duration::from_secs(2),
            "{:?}",
            begun.elapsed()
        );
    }
    assert_eq!(values(&app, &far).await, [] as [&str; 0]);
}

#[tokio::test]
async fn everything_comes_once_and_in_the_order_it_is_due() {
    let apps = [
        TestApp::start().await,
        TestApp::start().await,
        TestApp::start().await,
    ];
    let stream = unique("once");
    for n in 0..30 {
        later(
            &apps[n % 3],
            &stream,
            &format!("{}ms", 400 + 30 * n),
            &n.to_string(),
        )
        .await;
    }
    let expected: Vec<String> = (0..30).map(|n| n.to_string()).collect();
    eventually("all came", async || {
        values(&apps[0], &stream).await.len() >= 30
    })
    .await;
    assert_eq!(values(&apps[0], &stream).await, expected);
    eventually("the index is rid of it", async || {
        let score = shared()
            .await
            .command(&["ZSCORE", "streamgate:{scheduled}:index", &stream])
            .await;
        score == Redis::Nil
    })
    .await;
    assert_eq!(values(&apps[0], &stream).await.len(), 30);
}

#[tokio::test]
async fn a_batch_comes_as_one_with_every_byte_as_it_was_sent() {
    let app = TestApp::start().await;
    let stream = unique("batch");
    let batch = r#"{"entries":[{"pairs":[["a","1"],["a",""],["ü\n","2 3"]]},{"fields":{"raw":{"base64":"AAH/Cg=="}}}]}"#;
    let answer = app
        .post_json(&path(&stream, "entries?delay=200ms"), batch)
        .await;
    assert_eq!(
        (answer.status, &answer.json()["entries"]),
        (202, &json!(2)),
        "{}",
        answer.body
    );
    let binary = app
        .client
        .post(app.url(&path(&stream, "entries?delay=400ms&payload=data")));
    let sent = app
        .send(
            binary
                .header("content-type", "image/png")
                .body(&b"\x00\n\xff7 8"[..]),
        )
        .await;
    assert_eq!(sent.status, 202);
    let read = async || {
        app.get(&path(&stream, "entries?start=-&pairs=true"))
            .await
            .json()
    };
    eventually("all came", async || {
        read().await["entries"]
            .as_array()
            .is_some_and(|all| all.len() == 3)
    })
    .await;
    let all = read().await;
    assert_eq!(
        all["entries"][0]["pairs"],
        json!([["a", "1"], ["a", ""], ["ü\n", "2 3"]])
    );
    assert_eq!(
        all["entries"][1]["pairs"],
        json!([["raw", {"base64": "AAH/Cg=="}]])
    );
    assert_eq!(
        all["entries"][2]["pairs"][0],
        json!(["data", {"base64": "AAr/NyA4"}])
    );
}

#[tokio::test]
async fn what_is_scheduled_is_listed_looked_at_and_taken_back() {
    let app = TestApp::start().await;
    let stream = unique("list");
    let mut told = Vec::new();
    for n in 0..5 {
        told.push(later(&app, &stream, &format!("{}s", 600 - n), "1").await);
    }
    told.reverse();
    let (mut listed, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = app
            .get(&path(&stream, &format!("scheduled?limit=2{cursor}")))
            .await
            .json();
        listed.extend(page["scheduled"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(listed, told);
    let one = path(
        &stream,
        &format!("scheduled/{}", told[2]["scheduled"].as_str().unwrap()),
    );
    assert_eq!(app.get(&one).await.json(), told[2]);
    assert_eq!(app.delete(&one).await.status, 204);
    app.get(&one).await.is_problem(404, "entry-not-found");
    app.delete(&one).await.is_problem(404, "entry-not-found");
    assert_eq!(tokens(&app, &stream).await.len(), 4);
    app.get(&path(&stream, "scheduled?cursor=x"))
        .await
        .is_problem(400, "invalid-request");
    app.put_json(&format!("/v1/streams/{stream}"), "").await;
    assert_eq!(
        app.delete(&format!("/v1/streams/{stream}")).await.status,
        204
    );
    assert_eq!(
        tokens(&app, &stream).await,
        [] as [Value; 0],
        "they go with their stream"
    );
}

#[tokio::test]
async fn what_does_not_go_with_a_delay_is_refused() {
    let app = TestApp::start().await;
    let stream = unique("refused");
    for (query, status, at) in [
        ("delay=8d", 422, "delay"),
        ("delay=30", 400, "delay"),
        ("delay=-1s", 400, "delay"),
        ("delay=1s&id=1-0", 422, "id"),
        ("delay=1s&durability=fsync", 422, "durability"),
        ("delay=1s&atomic=false", 422, "atomic"),
        ("delay=1s&create=false", 422, "create"),
        ("delay=1s&maxlen=5", 422, "maxlen"),
    ] {
        let answer = app
            .post_form(&path(&stream, &format!("entries?{query}")), "n=1")
            .await;
        let code = if status == 422 {
            "invalid-delay"
        } else {
            "invalid-request"
        };
        let problem = answer.is_problem(status, code);
        assert_eq!(problem["errors"][0]["pointer"], at, "{query}: {problem:#}");
    }
    for (name, value) in [
        ("if-match", "\"1-0\""),
        ("if-none-match", "*"),
        ("idempotency-key", "k"),
    ] {
        let request = app.client.post(app.url(&path(&stream, "entries?delay=1s")));
        let request = request
            .header("content-type", "application/json")
            .header(name, value);
        let answer = app.send(request.body(r#"{"fields":{"n":"1"}}"#)).await;
        answer.is_problem(422, "invalid-delay");
    }
    for (body, at) in [
        (r#"{"fields":{"n":"1"},"key":"k"}"#, "/key"),
        (
            r#"{"entries":[{"fields":{"n":"1"}},{"fields":{"n":"1"},"id":"1-0"}]}"#,
            "/entries/1/id",
        ),
    ] {
        let answer = app
            .post_json(&path(&stream, "entries?delay=1s"), body)
            .await;
        assert_eq!(
            answer.is_problem(422, "invalid-delay")["errors"][0]["pointer"],
            at
        );
    }
    let lines = app.client.post(app.url(&path(&stream, "entries?delay=1s")));
    let lines = lines
        .header("content-type", "application/x-ndjson")
        .body("{\"fields\":{\"n\":1}}");
    app.send(lines).await.is_problem(422, "invalid-delay");
    shared().await.command(&["RPUSH", &stream, "x"]).await;
    app.post_form(&path(&stream, "entries?delay=1s"), "n=1")
        .await
        .is_problem(409, "not-a-stream");
    let now = unique("now");
    assert_eq!(
        app.post_form(&path(&now, "entries?delay=0"), "n=1")
            .await
            .status,
        201
    );
}

#[tokio::test]
async fn no_more_is_kept_than_may_be() {
    let app = TestApp::start_with(|settings| settings.limits.max_scheduled = 2).await;
    let stream = unique("bound");
    let first = later(&app, &stream, "1h", "1").await;
    later(&app, &stream, "1h", "2").await;
    let to = path(&stream, "entries?delay=1h");
    app.post_form(&to, "n=3")
        .await
        .is_problem(503, "overloaded");
    let metrics = app.get("/metrics").await.body;
    assert!(
        metrics.contains("streamgate_refused_total{bound=\"scheduled\"} 1"),
        "{metrics}"
    );
    let one = path(
        &stream,
        &format!("scheduled/{}", first["scheduled"].as_str().unwrap()),
    );
    app.delete(&one).await;
    later(&app, &stream, "1h", "3").await;
}

#[tokio::test]
async fn no_more_bytes_are_kept_than_may_be_and_what_has_gone_makes_room() {
    let server = Server::start().await;
    let few = |settings: &mut streamgate::config::Settings| {
        settings.limits.max_scheduled_bytes = 1000;
    };
    let app = TestApp::on(&server.url(), few).await;
    let stream = unique("bytes");
    let kept = format!("streamgate:{{{stream}}}:scheduled:entries:{stream}");
    let told = later(&app, &stream, "1h", &"x".repeat(400)).await;
    later(&app, &stream, "300ms", &"y".repeat(400)).await;
    let to = path(&stream, "entries?delay=1h");
    let much = format!("n={}", "z".repeat(400));
    app.post_form(&to, &much)
        .await
        .is_problem(503, "overloaded");
    assert_eq!(app.metric("refused_total{bound=\"scheduled\"}").await, 1);
    later(&app, &stream, "1h", "small").await;
    eventually("what came made room", async || {
        app.post_form(&to, &much).await.status == 202
    })
    .await;
    // The limit is counted in Redis, not in a gateway.
    let other = TestApp::on(&server.url(), few).await;
    other
        .post_form(&to, &much)
        .await
        .is_problem(503, "overloaded");
    let one = path(
        &stream,
        &format!("scheduled/{}", told["scheduled"].as_str().unwrap()),
    );
    assert_eq!(app.delete(&one).await.status, 204);
    assert_eq!(app.delete(&one).await.status, 404, "counted once");
    assert_eq!(other.post_form(&to, &much).await.status, 202);
    other
        .post_form(&to, &much)
        .await
        .is_problem(503, "overloaded");
    for token in tokens(&app, &stream).await {
        let one = path(&stream, &format!("scheduled/{}", token.as_str().unwrap()));
        assert_eq!(app.delete(&one).await.status, 204);
    }
    assert_eq!(server.command(&["EXISTS", &kept]).await, Redis::Int(0));
    let fits = "q".repeat(980);
    later(&app, &stream, "1h", &fits).await;
    app.post_form(&to, &much)
        .await
        .is_problem(503, "overloaded");
    app.put_json(&format!("/v1/streams/{stream}"), "").await;
    assert_eq!(
        app.delete(&format!("/v1/streams/{stream}")).await.status,
        204
    );
    later(&app, &stream, "1h", &fits).await;
}

#[tokio::test]
async fn much_that_is_due_is_appended_in_steps() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    for (name, value) in [
        ("slowlog-log-slower-than", "0"),
        ("slowlog-max-len", "100000"),
    ] {
        server.command(&["CONFIG", "SET", name, value]).await;
    }
    let stream = unique("steps");
    let begun = Instant::now();
    for _ in 0..12 {
        let left = Duration::from_secs(3)
            .saturating_sub(begun.elapsed())
            .as_millis()
            .max(1);
        later(&app, &stream, &format!("{left}ms"), &"x".repeat(400 << 10)).await;
    }
    let key = format!("streamgate:{{{stream}}}:scheduled:due:{stream}");
    let length = async || server.command(&["XLEN", &stream]).await;
    eventually("all came", async || length().await == Redis::Int(12)).await;
    let Redis::Array(log) = server.command(&["SLOWLOG", "GET", "100000"]).await else {
        panic!()
    };
    let is_move = |call: &&Redis| {
        let Redis::Array(call) = call else {
            return false;
        };
        let Redis::Array(words) = &call[3] else {
            return false;
        };
        words.len() == 6 && words[4] == Redis::BulkString(key.clone().into_bytes())
    };
    let moves = log.iter().filter(is_move).count();
    assert!(moves >= 4, "4.7 MiB came in {moves} steps");
}

#[tokio::test]
async fn what_cannot_be_appended_waits_and_keeps_nobody_else_waiting() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    later(&app, "blocked", "300ms", "1").await;
    server.command(&["RPUSH", "blocked", "x"]).await;
    later(&app, "free", "600ms", "1").await;
    eventually("the other one came", async || {
        values(&app, "free").await == ["1"]
    })
    .await;
    assert!(app.metric("scheduled_stuck_total").await >= 1);
    assert_eq!(tokens(&app, "blocked").await.len(), 1, "it is still there");
}

#[tokio::test]
async fn what_is_scheduled_outlives_its_gateway_and_its_redis() {
    let server = Server::start().await;
    // Redis can respond before it has written if the disk is busy, unless `appendfsync` is
    // `always`.
    server
        .command(&["CONFIG", "SET", "appendfsync", "always"])
        .await;
    let start = || {
        Gateway::start(&[
            "serve",
            "--redis-url",
            &server.url(),
            "--listen",
            "127.0.0.1:0",
        ])
    };
    let (client, gateways) = (app::client(), [start(), start()]);
    let schedule = async |gateway: &Gateway, delay: &str, value: &str| {
        let url = format!(
            "http://{}/v1/streams/s/entries?delay={delay}",
            gateway.address
        );
        let form = "application/x-www-form-urlencoded";
        let request = client
            .post(url)
            .header("content-type", form)
            .body(format!("n={value}"));
        assert_eq!(request.send().await.unwrap().status(), 202);
    };
    schedule(&gateways[0], "1h", "late").await;
    schedule(&gateways[0], "1500ms", "1").await;
    // One of the gateways waits for the entry. The first is killed, and then Redis, too.
    let [mut first, second] = gateways;
    first.child.kill().unwrap();
    server.written().await;
    server.kill();
    server.start_again().await;
    let length = async || server.command(&["XLEN", "s"]).await;
    eventually("it came all the same", async || {
        length().await == Redis::Int(1)
    })
    .await;
    drop(second);
    let third = start();
    eventually("the new one takes over", async || {
        let url = format!("http://{}/v1/streams/s/entries?delay=100ms", third.address);
        let form = "application/x-www-form-urlencoded";
        let request = client.post(url).header("content-type", form).body("n=2");
        request
            .send()
            .await
            .is_ok_and(|answer| answer.status() == 202)
    })
    .await;
    eventually("and moves", async || length().await == Redis::Int(2)).await;
    assert_eq!(
        server
            .command(&["ZCARD", "streamgate:{s}:scheduled:due:s"])
            .await,
        Redis::Int(1)
    );
}
