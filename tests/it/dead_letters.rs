//! Dead letters: entries become dead letters exactly once, and can be redriven. Also work that a
//! gateway does while nobody reads.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::app::client;
use crate::support::gateway::Gateway;
use crate::support::redis::{Server, json as plain};
use crate::support::{Answer, TestApp, app, elapse, eventually};

fn group(stream: &str, rest: &str) -> String {
    format!("/v1/streams/{stream}/groups/g{rest}")
}

/// Starts a server of its own, so that this gateway is its sweeper.
async fn start(count: u32, policy: &str) -> (Server, TestApp, String) {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let stream = app.stream_of("dead", count).await;
    let made = app
        .put_json(&group(&stream, ""), &format!(r#"{{"policy":{policy}}}"#))
        .await;
    assert_eq!(made.status, 201, "{}", made.body);
    (server, app, stream)
}

async fn post(app: &TestApp, stream: &str, rest: &str, form: &str) -> Answer {
    let answer = app.post_form(&group(stream, rest), form).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer
}

async fn letters(app: &TestApp, stream: &str) -> Vec<Value> {
    let answer = app.get(&group(stream, "/dead-letters?limit=1000")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["dead_letters"].as_array().unwrap().clone()
}

fn of<'a>(letters: &'a [Value], member: &str) -> Vec<&'a str> {
    letters
        .iter()
        .map(|letter| letter[member].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_dead_letter_is_the_original_and_where_it_came_from() {
    let (server, app, stream) = start(1, r#"{"max_deliveries":2}"#).await;
    server
        .command(&["XADD", &stream, "2-0", "b", "1", "a", "2", "b", "3"])
        .await;
    for n in 1..=2 {
        assert_eq!(
            post(&app, &stream, "/read", "consumer=w1")
                .await
                .ids()
                .len(),
            2
        );
        let answer = post(&app, &stream, "/nack", "ids=2-0&ids=1-0&reason=no")
            .await
            .json();
        let counts = json!([answer["released"], answer["dead_lettered"]]);
        assert_eq!(counts, if n == 1 { json!([2, 0]) } else { json!([0, 2]) });
    }
    let raw = plain(
        &server
            .command(&["XRANGE", &format!("{{{stream}}}.dead"), "-", "+"])
            .await,
    );
    let fields = raw[0][1].as_array().unwrap();
    let time = fields.last().unwrap().clone();
    let expected = json!([
        "b",
        "1",
        "a",
        "2",
        "b",
        "3",
        "streamgate-stream",
        stream,
        "streamgate-id",
        "2-0",
        "streamgate-group",
        "g",
        "streamgate-consumer",
        "w1",
        "streamgate-deliveries",
        "2",
        "streamgate-reason",
        "no",
        "streamgate-time",
        time
    ]);
    assert_eq!(raw[0][1], expected);
    let letters = letters(&app, &stream).await;
    assert_eq!(
        (of(&letters, "entry"), of(&letters, "reason")),
        (vec!["2-0", "1-0"], vec!["no", "no"])
    );
    assert_eq!(
        letters[0]["pairs"],
        json!([["b", "1"], ["a", "2"], ["b", "3"]])
    );
    assert_eq!(
        (&letters[1]["fields"], &letters[1]["deliveries"]),
        (&json!({"n": "1"}), &2.into())
    );
    let one = group(
        &stream,
        &format!("/dead-letters/{}", letters[1]["id"].as_str().unwrap()),
    );
    assert_eq!(app.get(&one).await.json(), letters[1]);
    assert_eq!(app.delete(&one).await.status, 204);
    app.delete(&one).await.is_problem(404, "entry-not-found");
    app.get(&one).await.is_problem(404, "entry-not-found");
    let purged = app.delete(&group(&stream, "/dead-letters")).await.json();
    assert_eq!(purged, json!({"deleted": 1, "remaining": 0}));
    assert_eq!(
        app.get(&group(&stream, "/pending")).await.json()["summary"]["count"],
        0
    );
    assert_eq!(
        app.get(&format!("/v1/streams/{stream}/entries"))
            .await
            .ids()
            .len(),
        2,
        "the originals stay"
    );
}

#[tokio::test]
async fn what_was_never_answered_becomes_a_dead_letter_though_nobody_reads() {
    let (_server, app, stream) = start(3, r#"{"max_deliveries":1,"lease":"100ms"}"#).await;
    post(&app, &stream, "/read", "consumer=w&count=2").await;
    eventually("both are dead letters", async || {
        letters(&app, &stream).await.len() == 2
    })
    .await;
    let letters = letters(&app, &stream).await;
    assert_eq!(of(&letters, "reason"), ["max-deliveries"; 2]);
    assert_eq!(of(&letters, "consumer"), ["w"; 2]);
    assert_eq!(
        post(&app, &stream, "/read", "consumer=w&count=9")
            .await
            .ids(),
        ["3-0"]
    );
    assert!(
        app.get("/metrics")
            .await
            .body
            .contains("streamgate_dead_letters_total{reason=\"max-deliveries\"} 2")
    );
}

#[tokio::test]
async fn what_a_native_consumer_holds_is_enrolled_and_falls_due() {
    let (server, app, stream) = start(2, r#"{"lease":"400ms"}"#).await;
    let take = [
        "XREADGROUP",
        "GROUP",
        "g",
        "native",
        "STREAMS",
        &stream,
        ">",
    ];
    server.command(&take).await;
    assert_eq!(
        post(&app, &stream, "/read", "consumer=w").await.ids().len(),
        0,
        "it has its time"
    );
    server.command(&["XACK", &stream, "g", "2-0"]).await;
    let answer = post(&app, &stream, "/read", "consumer=w&wait=10s").await;
    assert_eq!(answer.ids(), ["1-0"]);
    assert_eq!(answer.json()["entries"][0]["deliveries"], 2);
    assert!(app.metric("enrolled_entries_total").await >= 1);
}

#[tokio::test]
async fn an_entry_removed_while_it_was_pending_leaves_a_stone_whoever_finds_it() {
    let (server, app, stream) = start(4, r#"{"lease":"1h"}"#).await;
    post(&app, &stream, "/read", "consumer=w").await;
    server
        .command(&["XDEL", &stream, "1-0", "2-0", "3-0", "4-0"])
        .await;
    let claimed = post(&app, &stream, "/claim", "consumer=v&ids=1-0")
        .await
        .json();
    assert_eq!(claimed["entries"], json!([]));
    let claimed = post(&app, &stream, "/autoclaim", "consumer=v&min_idle=0&count=1")
        .await
        .json();
    assert_eq!(
        (&claimed["deleted"], &claimed["next"]),
        (&json!(["2-0"]), &"2-1".into())
    );
    let released = post(&app, &stream, "/nack", "ids=3-0").await.json();
    assert_eq!(released["dead_lettered"], 1);
    post(&app, &stream, "/extend", "ids=4-0&lease=100ms").await;
    eventually("the sweeper found it, or the reader", async || {
        post(&app, &stream, "/read", "consumer=v").await;
        letters(&app, &stream).await.len() == 4
    })
    .await;
    let letters = letters(&app, &stream).await;
    assert_eq!(
        (of(&letters, "entry"), of(&letters, "reason")),
        (vec!["1-0", "2-0", "3-0", "4-0"], vec!["gone"; 4])
    );
    assert!(
        letters.iter().all(|letter| letter["fields"] == Value::Null),
        "{letters:?}"
    );
    assert_eq!(
        app.get(&group(&stream, "/pending")).await.json()["summary"]["count"],
        0
    );
}

#[tokio::test]
async fn dead_letters_are_given_back_to_their_group_alone() {
    let (server, app, stream) = start(3, r#"{"max_deliveries":1}"#).await;
    server
        .command(&["XGROUP", "CREATE", &stream, "other", "$"])
        .await;
    post(&app, &stream, "/read", "consumer=w").await;
    let rejected = post(
        &app,
        &stream,
        "/reject",
        "ids=1-0&ids=2-0&ids=3-0&reason=bad",
    )
    .await
    .json();
    assert_eq!(rejected["dead_lettered"], 3);
    assert_eq!(
        post(&app, &stream, "/nack", "ids=1-0").await.json()["results"][0]["outcome"],
        "not-pending"
    );
    server.command(&["XDEL", &stream, "3-0"]).await;
    let all = letters(&app, &stream).await;
    let id = |n: usize| all[n]["id"].as_str().unwrap();
    let waiting = post(&app, &stream, "/read", "consumer=v&count=1&wait=10s");
    let redriving = async {
        eventually("it waits", async || {
            app.metric("followed_streams").await == 1
        })
        .await;
        let form = format!("ids={}&ids={}&ids=9-9", id(0), id(2));
        post(&app, &stream, "/dead-letters/redrive", &form)
            .await
            .json()
    };
    let (read, redriven) = tokio::join!(waiting, redriving);
    let outcome =
        |answer: &Value, n: usize| answer["results"][n]["outcome"].as_str().unwrap().to_owned();
    assert_eq!(
        [0, 1, 2].map(|n| outcome(&redriven, n)),
        ["redriven", "gone", "not-found"]
    );
    assert_eq!(
        (&redriven["redriven"], &redriven["remaining"]),
        (&1.into(), &2.into())
    );
    assert_eq!(
        (read.ids(), &read.json()["entries"][0]["deliveries"]),
        (vec!["1-0".to_owned()], &1.into())
    );
    let other = format!("/v1/streams/{stream}/groups/other/read");
    assert_eq!(
        app.post_form(&other, "consumer=o").await.ids().len(),
        0,
        "nobody else gets it"
    );

    let form = format!("ids={}&to={{{stream}}}.again", id(1));
    assert_eq!(
        outcome(
            &post(&app, &stream, "/dead-letters/redrive", &form)
                .await
                .json(),
            0
        ),
        "copied"
    );
    let again = app
        .get(&format!("/v1/streams/%7B{stream}%7D.again/entries"))
        .await
        .json();
    assert_eq!(again["entries"][0]["fields"], json!({"n": "1"}));
    let all = post(&app, &stream, "/dead-letters/redrive", "all=true&copy=true")
        .await
        .json();
    assert_eq!(
        (outcome(&all, 0).as_str(), &all["remaining"], &all["next"]),
        ("copied", &0.into(), &Value::Null)
    );
    assert_eq!(
        app.post_form(&other, "consumer=o").await.ids().len(),
        1,
        "a copy is for everybody"
    );
    for form in [
        "",
        "ids=1-0&all=true",
        "all=true&to=elsewhere",
        "all=true&copy=true&to=x",
    ] {
        let answer = app
            .post_form(&group(&stream, "/dead-letters/redrive"), form)
            .await;
        answer.is_problem(400, "invalid-request");
    }
}

#[tokio::test]
async fn groups_that_share_a_stream_for_dead_letters_see_their_own() {
    let (_server, app, stream) = start(2, "{}").await;
    let other = format!("/v1/streams/{stream}/groups/other");
    app.put_json(&other, r#"{"policy":{}}"#).await;
    post(&app, &stream, "/read", "consumer=w").await;
    app.post_form(&format!("{other}/read"), "consumer=w").await;
    post(&app, &stream, "/reject", "ids=1-0").await;
    app.post_form(&format!("{other}/reject"), "ids=1-0&ids=2-0")
        .await;
    assert_eq!(letters(&app, &stream).await.len(), 1);
    let theirs = app
        .get(&format!("{other}/dead-letters?limit=1"))
        .await
        .json();
    let next = theirs["next"].as_str().unwrap();
    let rest = app
        .get(&format!("{other}/dead-letters?cursor={next}"))
        .await
        .json();
    assert_eq!(
        (&rest["dead_letters"][0]["entry"], &rest["next"]),
        (&"2-0".into(), &Value::Null)
    );
    let id = rest["dead_letters"][0]["id"].as_str().unwrap();
    app.delete(&group(&stream, &format!("/dead-letters/{id}")))
        .await
        .is_problem(404, "entry-not-found");
}

#[tokio::test]
async fn a_dead_letter_key_that_is_no_stream_keeps_entries_where_they_are() {
    let (server, app, stream) = start(1, r#"{"max_deliveries":1,"lease":"100ms"}"#).await;
    server
        .command(&["SET", &format!("{{{stream}}}.dead"), "x"])
        .await;
    post(&app, &stream, "/read", "consumer=w").await;
    for verb in ["/reject", "/nack"] {
        app.post_form(&group(&stream, verb), "ids=1-0")
            .await
            .is_problem(409, "not-a-stream");
    }
    app.get(&group(&stream, "/dead-letters"))
        .await
        .is_problem(409, "not-a-stream");
    eventually("it was tried", async || {
        app.metric("stuck_entries_total").await > 0
    })
    .await;
    assert_eq!(
        app.get(&group(&stream, "/pending")).await.json()["summary"]["count"],
        1
    );
    server
        .command(&["DEL", &format!("{{{stream}}}.dead")])
        .await;
    eventually("it is moved then", async || {
        letters(&app, &stream).await.len() == 1
    })
    .await;
}

#[tokio::test]
async fn a_gateway_that_is_killed_moves_each_entry_once() {
    let server = Server::start().await;
    let survivor = TestApp::on_server(&server).await;
    let url = server.url();
    for round in 0..5_u64 {
        let mut victim = Gateway::start(&["serve", "--redis-url", &url, "--listen", "127.0.0.1:0"]);
        let stream = survivor.stream_of("killed", 0).await;
        let path = format!("/v1/streams/{stream}/entries");
        let entries: Vec<Value> = (0..400).map(|n| json!({"fields": {"n": n}})).collect();
        survivor
            .post_json(&path, &json!({ "entries": entries }).to_string())
            .await;
        survivor
            .put_json(&group(&stream, ""), r#"{"policy":{}}"#)
            .await;
        let read = post(&survivor, &stream, "/read", "consumer=w&count=400").await;
        let ids = read.ids();
        let calls = ids.chunks(4).map(|ids| {
            let form: Vec<String> = ids.iter().map(|id| format!("ids={id}")).collect();
            let url = format!("http://{}{}", victim.address, group(&stream, "/reject"));
            app::answer(
                client()
                    .post(url)
                    .header("content-type", "application/x-www-form-urlencoded")
                    .body(form.join("&")),
            )
        });
        let kill = async {
            elapse(5 + 15 * round, "another moment in each round").await;
            victim.child.kill().unwrap();
        };
        let (_, ()) = tokio::join!(join_all(calls), kill);
        let _ = victim.wait();
        // Whether or not a response arrived, a second request leaves each entry as one dead letter.
        let form: Vec<String> = ids.iter().map(|id| format!("ids={id}")).collect();
        post(&survivor, &stream, "/reject", &form.join("&")).await;
        let letters = letters(&survivor, &stream).await;
        let mut moved = of(&letters, "entry");
        moved.sort_unstable();
        let mut expected: Vec<&str> = ids.iter().map(String::as_str).collect();
        expected.sort_unstable();
        assert_eq!(moved, expected);
    }
}

#[tokio::test]
async fn the_sweeping_goes_over_to_another_gateway_when_its_holder_dies() {
    let server = Server::start().await;
    let mut first = Gateway::start(&[
        "serve",
        "--redis-url",
        &server.url(),
        "--listen",
        "127.0.0.1:0",
        "--sweep-every",
        "100ms",
    ]);
    let lock = ["GET", "streamgate:{policies}:sweeper"];
    eventually("it sweeps", async || {
        !plain(&server.command(&lock).await).is_null()
    })
    .await;
    let holder = plain(&server.command(&lock).await);
    let second = TestApp::on_server(&server).await;
    elapse(700, "nothing happens for two sweeps").await;
    assert_eq!(
        (
            plain(&server.command(&lock).await),
            second.metric("sweeps_total").await
        ),
        (holder, 0)
    );
    first.child.kill().unwrap();
    let _ = first.wait();
    eventually("the other sweeps", async || {
        second.metric("sweeps_total").await > 0
    })
    .await;
    second.stop().await;
    assert!(
        plain(&server.command(&lock).await).is_null(),
        "an orderly stop lets go of it"
    );
}

#[tokio::test]
async fn what_is_kept_of_a_group_goes_with_it() {
    let (server, app, stream) = start(1, "{}").await;
    let ours = async || {
        let keys = plain(&server.command(&["KEYS", "streamgate:*"]).await);
        keys.as_array()
            .unwrap()
            .iter()
            .filter(|key| {
                let key = key.as_str().unwrap();
                // Those of the stream, and the index of the group; background jobs hold locks.
                key.contains(&format!("{{{stream}}}")) || key.ends_with("{policies}:index")
            })
            .count()
    };
    post(&app, &stream, "/read", "consumer=w").await;
    assert_eq!(ours().await, 3, "policies, leases, index");
    server.command(&["XGROUP", "DESTROY", &stream, "g"]).await;
    eventually("the sweeper tidied up", async || ours().await == 0).await;
    app.put_json(&group(&stream, ""), r#"{"policy":{}}"#).await;
    post(&app, &stream, "/read", "consumer=w").await;
    app.delete(&group(&stream, "")).await;
    eventually("it is tidy", async || ours().await == 0).await;
    app.put_json(&group(&stream, ""), r#"{"policy":{}}"#).await;
    post(&app, &stream, "/read", "consumer=w").await;
    app.delete(&format!("/v1/streams/{stream}")).await;
    eventually("it is tidy again", async || ours().await == 0).await;
}

#[tokio::test]
async fn waiting_readers_of_a_redis_that_comes_back_empty_are_told() {
    let (server, app, stream) = start(1, r#"{"lease":"1h"}"#).await;
    post(&app, &stream, "/read", "consumer=w").await;
    let path = group(&stream, "/read");
    let restart = async {
        eventually("it waits", async || server.blocked().await == 1).await;
        server.kill();
        server.start_empty().await;
    };
    let wait = async || app.post_form(&path, "consumer=w&wait=30s").await;
    let (mut read, ()) = tokio::join!(wait(), restart);
    if read.status == 503 {
        // The read was in progress when Redis died, so the gateway cannot know what was delivered.
        assert_eq!(read.json()["side_effects"], "unknown", "{}", read.body);
        read = wait().await;
    }
    read.is_problem(404, "group-not-found");
    app.post_form(&path, "consumer=w")
        .await
        .is_problem(404, "group-not-found");
    app.post_form(&path, "consumer=w&wait=1s")
        .await
        .is_problem(404, "group-not-found");
    for verb in ["/ack", "/nack", "/reject", "/extend", "/claim"] {
        let body = if verb == "/claim" {
            "consumer=w&ids=1-0"
        } else {
            "ids=1-0"
        };
        let path = group(&stream, verb);
        // Each connection for writes is restored separately, and nothing is sent before that.
        eventually("Redis is there", async || {
            app.post_form(&path, body).await.status != 503
        })
        .await;
        app.post_form(&path, body)
            .await
            .is_problem(404, "group-not-found");
    }
}

#[tokio::test]
async fn consumers_that_hold_nothing_and_no_longer_come_are_forgotten() {
    let (_server, app, stream) = start(2, r#"{"consumer_expiry":"400ms"}"#).await;
    post(&app, &stream, "/read", "consumer=holds&count=1").await;
    post(&app, &stream, "/read", "consumer=gone").await;
    let names = async || {
        let all = app.get(&group(&stream, "/consumers")).await.json()["consumers"].clone();
        let all = all.as_array().unwrap().iter();
        all.map(|one| one["consumer"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names().await, ["gone", "holds"]);
    post(&app, &stream, "/ack", "ids=2-0").await;
    eventually("who is gone is forgotten", async || {
        names().await == ["holds"]
    })
    .await;
    assert_eq!(app.metric("forgotten_consumers_total").await, 1);
    elapse(700, "nothing happens for two sweeps").await;
    assert_eq!(names().await, ["holds"], "what it holds is not thrown away");
}

#[tokio::test]
async fn a_stream_for_dead_letters_that_another_gateway_has_set_is_used_at_once() {
    let server = crate::support::redis::Server::start().await;
    let (one, two) = (
        TestApp::on_server(&server).await,
        TestApp::on_server(&server).await,
    );
    let stream = one.stream_of("moved", 3).await;
    let group = format!("/v1/streams/{stream}/groups/g");
    for (name, made) in [("first", 201), ("second", 200), ("third", 200)] {
        let dead = format!("{{{stream}}}.{name}");
        let policy = format!(r#"{{"policy":{{"dead_letter":"{dead}"}}}}"#);
        assert_eq!(two.put_json(&group, &policy).await.status, made);
        let read = one
            .post_form(&format!("{group}/read"), "consumer=w&count=1")
            .await
            .json();
        let receipt = read["entries"][0]["receipt"].as_str().unwrap();
        let form = format!("receipts={receipt}");
        let rejected = one.post_form(&format!("{group}/reject"), &form).await;
        assert_eq!(rejected.json()["dead_lettered"], 1, "{}", rejected.body);
        let length = server.command(&["XLEN", &dead]).await;
        assert_eq!(crate::support::redis::json(&length), 1);
    }
}
