//! Consumer groups without a policy, over HTTP.

use std::time::{Duration, Instant};

use crate::support::redis::{Server, shared};
use crate::support::{Answer, TestApp, eventually, unique};

fn group(stream: &str, rest: &str) -> String {
    format!("/v1/streams/{stream}/groups/g{rest}")
}

async fn read(app: &TestApp, stream: &str, form: &str) -> Answer {
    let answer = app.post_form(&group(stream, "/read"), form).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer
}

#[tokio::test]
async fn a_group_is_made_once_looked_at_and_deleted() {
    let app = TestApp::start().await;
    let stream = unique("made");
    let made = app.put_json(&group(&stream, ""), "").await;
    assert_eq!(
        (made.status, made.header("location")),
        (201, group(&stream, "").as_str())
    );
    app.fill(&stream, 3).await;
    read(&app, &stream, "consumer=w1&count=2").await;
    let again = app.put_json(&group(&stream, ""), r#"{"start":"$"}"#).await;
    assert_eq!(again.status, 200, "a group that is there is never moved");
    let seen = app.get(&group(&stream, "")).await.json();
    assert_eq!(
        (&seen["pending"], &seen["lag"], &seen["entries_read"]),
        (&2.into(), &1.into(), &2.into())
    );
    assert_eq!(
        (&seen["last_delivered_id"], &seen["consumer_count"]),
        (&"2-0".into(), &1.into())
    );
    assert_eq!(
        (
            &seen["consumers"][0]["consumer"],
            &seen["consumers"][0]["pending"]
        ),
        (&"w1".into(), &2.into())
    );
    let list = app
        .get(&format!("/v1/streams/{stream}/groups"))
        .await
        .json();
    assert_eq!(list["groups"][0]["group"], "g");
    let only_new = app
        .client
        .put(app.url(&group(&stream, "")))
        .header("if-none-match", "*");
    app.send(only_new)
        .await
        .is_problem(412, "precondition-failed");
    assert_eq!(app.delete(&group(&stream, "")).await.status, 204);
    app.delete(&group(&stream, ""))
        .await
        .is_problem(404, "group-not-found");
    app.get(&group(&stream, ""))
        .await
        .is_problem(404, "group-not-found");
}

#[tokio::test]
async fn a_group_begins_where_it_is_told_to() {
    let app = TestApp::start().await;
    for (start, first) in [
        (r#""0""#, Some("1-0")),
        (r#""3-0:3""#, Some("4-0")),
        (r#""$""#, None),
    ] {
        let stream = app.stream_of("start", 5).await;
        let made = app
            .put_json(&group(&stream, ""), &format!(r#"{{"start":{start}}}"#))
            .await;
        assert_eq!(made.status, 201, "{}", made.body);
        assert_eq!(
            read(&app, &stream, "consumer=w")
                .await
                .ids()
                .first()
                .map(String::as_str),
            first,
            "{start}"
        );
    }
    let stream = app.stream_of("counted", 5).await;
    app.put_json(&group(&stream, ""), r#"{"start":"3-0:3"}"#)
        .await;
    let seen = app.get(&group(&stream, "")).await.json();
    assert_eq!(
        (&seen["entries_read"], &seen["lag"]),
        (&3.into(), &2.into())
    );
    let none = unique("none");
    app.put_json(&group(&none, ""), r#"{"create_stream":false}"#)
        .await
        .is_problem(404, "stream-not-found");
    app.put_json(&group(&none, ""), r#"{"start":"+"}"#)
        .await
        .is_problem(400, "invalid-id");
    app.put_json(&group(&none, ""), r#"{"start":"x"}"#)
        .await
        .is_problem(400, "invalid-id");
}

#[tokio::test]
async fn each_entry_goes_to_one_consumer_until_it_is_acknowledged() {
    let app = TestApp::start().await;
    let stream = app.stream_of("work", 5).await;
    app.put_json(&group(&stream, ""), "{}").await;
    assert_eq!(
        read(&app, &stream, "consumer=w1&count=2").await.ids(),
        ["1-0", "2-0"]
    );
    let json = app
        .post_json(&group(&stream, "/read"), r#"{"consumer":"w2","count":9}"#)
        .await;
    assert_eq!(json.ids(), ["3-0", "4-0", "5-0"]);
    assert_eq!(json.json()["entries"][0]["fields"]["n"], "1");

    let pending = app.get(&group(&stream, "/pending")).await.json();
    assert_eq!(
        (&pending["summary"]["count"], &pending["summary"]["min_id"]),
        (&5.into(), &"1-0".into())
    );
    assert_eq!(
        pending["summary"]["consumers"],
        serde_json::json!([{"name":"w1","count":2},{"name":"w2","count":3}])
    );
    assert_eq!(
        (
            &pending["entries"][4]["id"],
            &pending["entries"][4]["deliveries"]
        ),
        (&"5-0".into(), &1.into())
    );

    let acked = app
        .post_form(&group(&stream, "/ack"), "ids=1-0&ids=9-0&ids=3-0")
        .await
        .json();
    assert_eq!(acked["acknowledged"], 2);
    let outcomes: Vec<&str> = acked["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(outcomes, ["acknowledged", "not-pending", "acknowledged"]);
    let again = app
        .post_json(&group(&stream, "/ack"), r#"{"ids":["1-0"]}"#)
        .await;
    assert_eq!(
        (again.status, &again.json()["acknowledged"]),
        (200, &0.into())
    );
    // The remaining entries are in the history of each consumer, however often it asks.
    for _ in 0..2 {
        assert_eq!(
            read(&app, &stream, "consumer=w2&history=0").await.ids(),
            ["4-0", "5-0"]
        );
    }
    assert_eq!(
        read(&app, &stream, "consumer=w2&history=4-0").await.ids(),
        ["5-0"]
    );
}

#[tokio::test]
async fn an_entry_that_is_pending_but_gone_has_no_fields() {
    let app = TestApp::start().await;
    let stream = app.stream_of("deleted", 2).await;
    app.put_json(&group(&stream, ""), "{}").await;
    read(&app, &stream, "consumer=w").await;
    shared().await.command(&["XDEL", &stream, "1-0"]).await;
    let history = read(&app, &stream, "consumer=w&history=0").await.json();
    assert_eq!(
        history["entries"][0],
        serde_json::json!({"id": "1-0", "fields": null})
    );
    assert_eq!(history["entries"][1]["fields"]["n"], "1");
}

#[tokio::test]
async fn reading_without_acknowledgement_leaves_nothing_pending() {
    let app = TestApp::start().await;
    let stream = app.stream_of("noack", 2).await;
    app.put_json(&group(&stream, ""), "{}").await;
    assert_eq!(
        read(&app, &stream, "consumer=w&no_ack=true")
            .await
            .ids()
            .len(),
        2
    );
    assert_eq!(
        app.get(&group(&stream, "/pending")).await.json()["summary"]["count"],
        0
    );
}

#[tokio::test]
async fn pending_entries_are_listed_by_consumer_idleness_and_range() {
    let app = TestApp::start().await;
    let stream = app.stream_of("pending", 6).await;
    app.put_json(&group(&stream, ""), "{}").await;
    read(&app, &stream, "consumer=a&count=4").await;
    read(&app, &stream, "consumer=b&count=2").await;
    let list = async |query: &str| app.get(&group(&stream, &format!("/pending?{query}"))).await;
    assert_eq!(list("consumer=b").await.ids(), ["5-0", "6-0"]);
    assert_eq!(list("start=2-0&end=3-0").await.ids(), ["2-0", "3-0"]);
    assert_eq!(list("start=(2-0&end=(5-0").await.ids(), ["3-0", "4-0"]);
    assert_eq!(list("min_idle=1h").await.ids(), Vec::<String>::new());
    let mut seen = Vec::new();
    let mut query = "limit=4".to_owned();
    for _ in 0..2 {
        let page = list(&query).await;
        seen.extend(page.ids());
        query = format!(
            "limit=4&cursor={}",
            page.json()["next"].as_str().unwrap_or("end")
        );
    }
    assert_eq!(seen, ["1-0", "2-0", "3-0", "4-0", "5-0", "6-0"]);
    assert_eq!(query, "limit=4&cursor=end");
    list("min_idle=200000000000d")
        .await
        .is_problem(400, "invalid-request");
    list("min_idle=30").await.is_problem(400, "invalid-request");
    list("cursor=1-0&start=1-0")
        .await
        .is_problem(400, "invalid-request");
}

#[tokio::test]
async fn a_waiting_reader_gets_the_entry_that_comes() {
    let app = TestApp::start().await;
    let stream = unique("wait");
    app.put_json(&group(&stream, ""), "{}").await;
    let began = Instant::now();
    let reading = read(&app, &stream, "consumer=w&wait=20s");
    let publishing = async {
        eventually("it waits", async || {
            app.metric("followed_streams").await == 1
        })
        .await;
        app.publish(&stream, "x").await
    };
    let (answer, id) = tokio::join!(reading, publishing);
    assert_eq!(answer.ids(), [id]);
    assert!(began.elapsed() < Duration::from_secs(5));
    let nothing = read(&app, &stream, "consumer=w&wait=300ms").await;
    assert_eq!(nothing.ids().len(), 0);
}

#[tokio::test]
async fn waiting_readers_hold_no_connection_and_are_served_in_the_order_they_came() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let stream = unique("queue");
    app.put_json(&group(&stream, ""), "{}").await;
    let reader = |n: usize| {
        let (app, stream) = (&app, &stream);
        async move {
            // Readers start one after another, so that their order is known.
            eventually("those before wait", async || {
                app.metric("waiting_reads").await >= n
            })
            .await;
            read(app, stream, &format!("consumer=w{n}&count=1&wait=20s")).await
        }
    };
    let feed = async {
        eventually("all wait", async || app.metric("waiting_reads").await == 30).await;
        let clients = server.clients().await;
        for n in 0..30 {
            app.publish(&stream, &n.to_string()).await;
        }
        clients
    };
    let (answers, clients) =
        tokio::join!(futures_util::future::join_all((0..30).map(reader)), feed);
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(
            answer.json()["entries"][0]["fields"]["n"],
            n.to_string(),
            "reader {n}"
        );
    }
    assert!(clients <= 6, "{clients} connections for 30 waiting readers");
}

#[tokio::test]
async fn a_reader_who_leaves_makes_room_for_the_next() {
    let app = TestApp::start().await;
    let stream = unique("leave");
    app.put_json(&group(&stream, ""), "{}").await;
    let gone = tokio::time::timeout(
        Duration::from_millis(300),
        read(&app, &stream, "consumer=gone&wait=20s"),
    )
    .await;
    assert!(gone.is_err());
    eventually("it has left", async || {
        app.metric("waiting_reads").await == 0
    })
    .await;
    let next = read(&app, &stream, "consumer=next&wait=20s");
    let publishing = async {
        eventually("the next waits", async || {
            app.metric("waiting_reads").await == 1
        })
        .await;
        app.publish(&stream, "x").await;
    };
    let (answer, ()) = tokio::join!(next, publishing);
    assert_eq!(
        answer.ids().len(),
        1,
        "what comes later is not read for the one who left"
    );
    let pending = app.get(&group(&stream, "/pending")).await.json();
    assert_eq!(
        pending["summary"]["consumers"],
        serde_json::json!([{"name":"next","count":1}])
    );
}

#[tokio::test]
async fn a_group_that_is_not_there_is_told_by_every_call() {
    let app = TestApp::start().await;
    let stream = app.stream_of("nogroup", 1).await;
    for stream in [stream, unique("nostream")] {
        app.post_form(&group(&stream, "/read"), "consumer=w")
            .await
            .is_problem(404, "group-not-found");
        app.post_form(&group(&stream, "/read"), "consumer=w&wait=5s")
            .await
            .is_problem(404, "group-not-found");
        app.post_form(&group(&stream, "/ack"), "ids=1-0")
            .await
            .is_problem(404, "group-not-found");
        app.get(&group(&stream, "/pending"))
            .await
            .is_problem(404, "group-not-found");
    }
    app.get(&format!("/v1/streams/{}/groups", unique("no")))
        .await
        .is_problem(404, "stream-not-found");
}

#[tokio::test]
async fn calls_that_make_no_sense_are_refused() {
    let app = TestApp::start().await;
    let stream = app.stream_of("refused", 1).await;
    app.put_json(&group(&stream, ""), "{}").await;
    for body in [
        "",
        "count=5",
        "consumer=w&count=0",
        "consumer=w&count=1001",
        "consumer=w&wait=5",
        "consumer=w&wait=61s",
        "consumer=w&consumre=x",
        "consumer=w&count=x",
        "consumer=w&history=0&wait=1s",
    ] {
        app.post_form(&group(&stream, "/read"), body)
            .await
            .is_problem(400, "invalid-request");
    }
    app.post_form(&group(&stream, "/read"), "consumer=w&history=x")
        .await
        .is_problem(400, "invalid-id");
    app.post_form(&group(&stream, "/read"), "consumer=%00")
        .await
        .is_problem(400, "invalid-name");
    app.post_form(&group(&stream, "/ack"), "")
        .await
        .is_problem(400, "invalid-request");
    app.post_form(&group(&stream, "/ack"), "ids=x")
        .await
        .is_problem(400, "invalid-id");
    let wrong = app
        .post_json(&group(&stream, "/read"), r#"{"consumer":5}"#)
        .await
        .is_problem(400, "invalid-request");
    assert_eq!(wrong["errors"][0]["pointer"], "/consumer");
    app.post_json(&group(&stream, "/read"), r#"{"consumer":"w","wait":20}"#)
        .await
        .is_problem(400, "invalid-request");
    app.post_json(&group(&stream, "/read"), r#"{"consumer":"w"} x"#)
        .await
        .is_problem(400, "invalid-request");
    let xml = app
        .client
        .post(app.url(&group(&stream, "/read")))
        .header("content-type", "text/xml")
        .body("<x/>");
    app.send(xml)
        .await
        .is_problem(415, "unsupported-media-type");
    app.post_form(&group(&stream, "/read"), r#"{"consumer":"w"}"#)
        .await
        .is_problem(415, "unsupported-media-type");
    assert_eq!(
        app.get(&group(&stream, "")).await.json()["last_delivered_id"],
        "0-0",
        "nothing was handed out"
    );
}

#[tokio::test]
async fn a_history_after_the_last_possible_id_hands_out_nothing() {
    let app = TestApp::start().await;
    for policy in ["{}", r#"{"policy":{}}"#] {
        let stream = app.stream_of("end", 2).await;
        let group = format!("/v1/streams/{stream}/groups/g");
        app.put_json(&group, policy).await;
        let last = "18446744073709551615-18446744073709551615";
        let form = format!("consumer=w&history={last}");
        for _ in 0..2 {
            let read = app.post_form(&format!("{group}/read"), &form).await;
            assert_eq!((read.status, read.ids().len()), (200, 0), "{}", read.body);
        }
        assert_eq!(
            app.post_form(&format!("{group}/read"), "consumer=w")
                .await
                .ids()
                .len(),
            2
        );
    }
}

#[tokio::test]
async fn workers_that_wait_take_each_entry_of_a_backlog_once() {
    const WORKERS: usize = 16;
    const ENTRIES: usize = 400;
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let stream = unique("backlog");
    app.put_json(&group(&stream, ""), "").await;
    let work = async || {
        let mut done = Vec::new();
        loop {
            let ids = read(&app, &stream, "consumer=w&count=1&wait=2s")
                .await
                .ids();
            let Some(id) = ids.first() else { return done };
            let (path, ids) = (group(&stream, "/ack"), format!("ids={id}"));
            assert_eq!(app.post_form(&path, &ids).await.json()["acknowledged"], 1);
            done.push(id.clone());
        }
    };
    let fill = async {
        eventually("all wait", async || {
            app.metric("waiting_reads").await == WORKERS
        })
        .await;
        let entries = vec![r#"{"fields":{"n":"1"}}"#; ENTRIES].join(",");
        let path = format!("/v1/streams/{stream}/entries");
        let batch = format!(r#"{{"entries":[{entries}]}}"#);
        assert_eq!(app.post_json(&path, &batch).await.status, 201);
    };
    let (done, ()) = tokio::join!(
        futures_util::future::join_all((0..WORKERS).map(|_| work())),
        fill
    );
    let mut done = done.concat();
    done.sort();
    done.dedup();
    assert_eq!(done.len(), ENTRIES, "each entry goes to one worker");
}

#[tokio::test]
async fn a_read_that_may_wait_follows_nothing_if_there_are_entries() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let stream = unique("at-once");
    app.put_json(&group(&stream, ""), "").await;
    app.fill(&stream, 2).await;
    let form = "consumer=w&count=2&wait=20s";
    assert_eq!(read(&app, &stream, form).await.ids().len(), 2);
    assert_eq!(app.metric("followed_streams").await, 0);
    let nothing = read(&app, &stream, "consumer=w&wait=100ms").await;
    assert!(nothing.ids().is_empty());
    assert_eq!(app.metric("followed_streams").await, 1);
}
