//! The remaining features of Redis Streams: deleting, trimming, counters, consumers and claims.

use deadpool_redis::redis::Value as Redis;
use serde_json::{Value, json};

use crate::support::redis::{Server, shared};
use crate::support::{Answer, TestApp, eventually, skipped, unique};

fn group(stream: &str, rest: &str) -> String {
    format!("/v1/streams/{stream}/groups/g{rest}")
}

async fn read(app: &TestApp, stream: &str, form: &str) -> Vec<String> {
    let answer = app.post_form(&group(stream, "/read"), form).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.ids()
}

fn outcomes(answer: &Answer) -> Vec<String> {
    let json = answer.json();
    let results = json["results"]
        .as_array()
        .unwrap_or_else(|| panic!("{json}"));
    results
        .iter()
        .map(|result| result["outcome"].as_str().unwrap().to_owned())
        .collect()
}

async fn pending(app: &TestApp, stream: &str) -> Vec<String> {
    app.get(&group(stream, "/pending")).await.ids()
}

#[tokio::test]
async fn entries_are_deleted_one_by_one_and_many_at_once() {
    let app = TestApp::start().await;
    let stream = app.stream_of("delete", 5).await;
    let path = format!("/v1/streams/{stream}/entries");
    assert_eq!(app.delete(&format!("{path}/2-0")).await.status, 204);
    app.delete(&format!("{path}/2-0"))
        .await
        .is_problem(404, "entry-not-found");
    let answer = app.delete(&format!("{path}?id=1-0&id=2-0&id=5-0")).await;
    assert_eq!(outcomes(&answer), ["deleted", "not-found", "deleted"]);
    assert_eq!(answer.json()["deleted"], 2);
    assert_eq!(app.get(&path).await.ids(), ["3-0", "4-0"]);
    app.delete(&path).await.is_problem(400, "invalid-request");
    app.delete(&format!("{path}?id=x"))
        .await
        .is_problem(400, "invalid-id");
    app.delete(&format!("{path}?id=1-0&refs=none"))
        .await
        .is_problem(400, "invalid-request");
    let nowhere = app
        .delete(&format!("/v1/streams/{}/entries?id=1-0", unique("no")))
        .await;
    assert_eq!(outcomes(&nowhere), ["not-found"]);
}

/// Creates a stream of six entries with two groups. `g` has read four and acknowledged two. `h` has
/// read all and acknowledged the first three.
async fn referred(app: &TestApp) -> String {
    let stream = app.stream_of("refs", 6).await;
    for name in ["g", "h"] {
        app.put_json(&format!("/v1/streams/{stream}/groups/{name}"), "{}")
            .await;
    }
    read(app, &stream, "consumer=w&count=4").await;
    app.post_form(&group(&stream, "/ack"), "ids=1-0&ids=2-0")
        .await;
    let other = format!("/v1/streams/{stream}/groups/h");
    app.post_form(&format!("{other}/read"), "consumer=w").await;
    app.post_form(&format!("{other}/ack"), "ids=1-0&ids=2-0&ids=3-0")
        .await;
    stream
}

#[tokio::test]
async fn references_of_groups_are_kept_deleted_or_respected() {
    let app = TestApp::start().await;
    let all = "id=1-0&id=3-0&id=4-0&id=5-0&id=9-0";
    let delete = async |stream: &str, refs: &str| {
        outcomes(
            &app.delete(&format!("/v1/streams/{stream}/entries?{all}&refs={refs}"))
                .await,
        )
    };
    let stream = referred(&app).await;
    assert_eq!(
        delete(&stream, "keep").await,
        ["deleted", "deleted", "deleted", "deleted", "not-found"]
    );
    assert_eq!(pending(&app, &stream).await, ["3-0", "4-0"]);
    let stream = referred(&app).await;
    assert_eq!(
        delete(&stream, "delete").await,
        ["deleted", "deleted", "deleted", "deleted", "not-found"]
    );
    assert_eq!(pending(&app, &stream).await, Vec::<String>::new());
    let stream = referred(&app).await;
    let expected = [
        "deleted",
        "referenced",
        "referenced",
        "referenced",
        "not-found",
    ];
    assert_eq!(delete(&stream, "acked").await, expected);
    assert_eq!(
        app.get(&format!("/v1/streams/{stream}")).await.json()["length"],
        5
    );
}

#[tokio::test]
async fn deleting_means_what_the_native_command_means_where_there_is_one() {
    let app = TestApp::start().await;
    let redis = shared().await;
    let Redis::Array(info) = redis.command(&["COMMAND", "INFO", "XDELEX"]).await else {
        panic!()
    };
    if info == [Redis::Nil] {
        return skipped("this server has no XDELEX");
    }
    for (refs, word) in [
        ("keep", "KEEPREF"),
        ("delete", "DELREF"),
        ("acked", "ACKED"),
    ] {
        let (ours, native) = (referred(&app).await, referred(&app).await);
        // The id that never existed is a low one. Above the position of some group, XDELEX ACKED
        // reports such an id as referenced, while the gateway reports it as not found.
        let ids = ["1-0", "3-0", "4-0", "5-0", "0-7"];
        let query: String = ids.map(|id| format!("id={id}&")).concat();
        let answer = app
            .delete(&format!("/v1/streams/{ours}/entries?{query}refs={refs}"))
            .await;
        let mut command = vec!["XDELEX", native.as_str(), word, "IDS", "5"];
        command.extend(ids);
        let Redis::Array(replies) = redis.command(&command).await else {
            panic!()
        };
        let named: Vec<&str> = replies
            .iter()
            .map(|reply| match reply {
                Redis::Int(1) => "deleted",
                Redis::Int(2) => "referenced",
                _ => "not-found",
            })
            .collect();
        assert_eq!(outcomes(&answer), named, "{refs}");
        assert_eq!(
            pending(&app, &ours).await,
            pending(&app, &native).await,
            "{refs}"
        );
        let path = |stream: &str| format!("/v1/streams/{stream}/entries");
        assert_eq!(
            app.get(&path(&ours)).await.ids(),
            app.get(&path(&native)).await.ids(),
            "{refs}"
        );
    }
}

#[tokio::test]
async fn ids_are_compared_as_numbers_also_where_lua_numbers_end() {
    let app = TestApp::start().await;
    let stream = unique("large");
    for id in [
        "9-9",
        "10-0",
        "18446744073709551614-5",
        "18446744073709551615-0",
    ] {
        app.post_form(&format!("/v1/streams/{stream}/entries?id={id}"), "n=1")
            .await;
    }
    app.put_json(&group(&stream, ""), "{}").await;
    let ids = read(&app, &stream, "consumer=w&count=3").await;
    let acked: String = ids
        .iter()
        .map(|id| format!("ids={id}&"))
        .collect::<Vec<_>>()
        .concat();
    app.post_form(&group(&stream, "/ack"), &acked).await;
    let query = "id=9-9&id=10-0&id=18446744073709551614-5&id=18446744073709551615-0&refs=acked";
    let answer = app
        .delete(&format!("/v1/streams/{stream}/entries?{query}"))
        .await;
    assert_eq!(
        outcomes(&answer),
        ["deleted", "deleted", "deleted", "referenced"]
    );
}

#[tokio::test]
async fn a_stream_is_trimmed_by_length_id_and_age() {
    let app = TestApp::start().await;
    let stream = app.stream_of("trim", 20).await;
    let path = format!("/v1/streams/{stream}/trim");
    assert_eq!(
        app.post_form(&path, "maxlen=5").await.json()["trimmed"],
        0,
        "whole nodes only"
    );
    assert_eq!(
        app.post_form(&path, "maxlen=15&exact=true").await.json()["trimmed"],
        5
    );
    assert_eq!(
        app.post_json(&path, r#"{"minid":"11-0","exact":true}"#)
            .await
            .json()["trimmed"],
        5
    );
    app.publish(&stream, "now").await;
    assert_eq!(
        app.post_form(&path, "max_age=1h&exact=true").await.json()["trimmed"],
        10
    );
    assert_eq!(
        app.get(&format!("/v1/streams/{stream}")).await.json()["length"],
        1
    );
    assert_eq!(
        app.post_form(&path, "maxlen=0&exact=true").await.json()["trimmed"],
        1
    );
    assert_eq!(app.post_form(&path, "maxlen=0&limit=10").await.status, 200);
    for wrong in [
        "",
        "maxlen=1&minid=1-0",
        "maxlen=1&exact=true&limit=5",
        "max_age=1",
    ] {
        app.post_form(&path, wrong)
            .await
            .is_problem(400, "invalid-request");
    }
    app.post_form(&path, "minid=x")
        .await
        .is_problem(400, "invalid-id");
    let nowhere = format!("/v1/streams/{}/trim", unique("no"));
    app.post_form(&nowhere, "maxlen=0")
        .await
        .is_problem(404, "stream-not-found");
}

#[tokio::test]
async fn an_empty_stream_can_be_made_and_its_counters_set() {
    let app = TestApp::start().await;
    let stream = unique("made");
    let path = format!("/v1/streams/{stream}");
    assert_eq!(app.put_json(&path, "").await.status, 201);
    assert_eq!(app.put_json(&path, "").await.status, 200);
    let seen = app.get(&path).await.json();
    assert_eq!(
        (&seen["length"], &seen["groups"], &seen["last_id"]),
        (&0.into(), &0.into(), &"0-0".into())
    );
    let change = async |body: &str| {
        let request = app
            .client
            .patch(app.url(&path))
            .header("content-type", "application/json");
        app.send(request.body(body.to_owned())).await
    };
    let set = change(r#"{"last_id":"100-5","entries_added":7,"max_deleted_id":"90-0"}"#).await;
    assert_eq!(
        (set.status, &set.json()["last_id"]),
        (200, &"100-5".into()),
        "{}",
        set.body
    );
    let seen = app.get(&path).await.json();
    assert_eq!(
        (
            &seen["last_id"],
            &seen["entries_added"],
            &seen["max_deleted_id"]
        ),
        (&"100-5".into(), &7.into(), &"90-0".into())
    );
    app.post_form(&format!("{path}/entries?id=100-5"), "n=1")
        .await
        .is_problem(409, "id-not-monotonic");
    app.fill(&unique("other"), 1).await;
    app.post_form(&format!("{path}/entries?id=200-0"), "n=1")
        .await;
    change(r#"{"last_id":"150-0"}"#)
        .await
        .is_problem(409, "id-not-monotonic");
    change(r#"{"last_id":"300-0","entries_added":0,"max_deleted_id":"0-0"}"#)
        .await
        .is_problem(400, "invalid-request");
    change(r#"{"last_id":"300-0","entries_added":9}"#)
        .await
        .is_problem(400, "invalid-request");
    change("{}").await.is_problem(400, "invalid-request");
    let text = unique("text");
    shared().await.command(&["SET", &text, "x"]).await;
    app.put_json(&format!("/v1/streams/{text}"), "")
        .await
        .is_problem(409, "not-a-stream");
}

#[tokio::test]
async fn a_group_is_moved_back_and_on() {
    let app = TestApp::start().await;
    let stream = app.stream_of("moved", 6).await;
    app.put_json(&group(&stream, ""), "{}").await;
    assert_eq!(read(&app, &stream, "consumer=w").await.len(), 6);
    let patch = async |body: &str| {
        let request = app
            .client
            .patch(app.url(&group(&stream, "")))
            .header("content-type", "application/json");
        app.send(request.body(body.to_owned())).await
    };
    let moved = patch(r#"{"last_delivered_id":"4-0:4"}"#).await.json();
    assert_eq!(
        (
            &moved["last_delivered_id"],
            &moved["lag"],
            &moved["pending"]
        ),
        (&"4-0".into(), &2.into(), &6.into())
    );
    assert_eq!(read(&app, &stream, "consumer=w").await, ["5-0", "6-0"]);
    patch(r#"{"last_delivered_id":"0"}"#).await;
    assert_eq!(read(&app, &stream, "consumer=w&count=1").await, ["1-0"]);
    assert_eq!(
        patch(r#"{"last_delivered_id":"$"}"#).await.json()["last_delivered_id"],
        "6-0"
    );
    patch(r#"{"last_delivered_id":"+"}"#)
        .await
        .is_problem(400, "invalid-id");
    patch("{}").await.is_problem(400, "invalid-request");
    app.delete(&group(&stream, "")).await;
    patch(r#"{"last_delivered_id":"0"}"#)
        .await
        .is_problem(404, "group-not-found");
}

#[tokio::test]
async fn those_who_wait_get_what_a_moved_group_has_to_read_again() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let stream = app.stream_of("woken", 2).await;
    app.put_json(&group(&stream, ""), r#"{"start":"$"}"#).await;
    let moving = async {
        eventually("it waits", async || server.blocked().await == 1).await;
        let request = app.client.patch(app.url(&group(&stream, "")));
        let request = request.header("content-type", "application/json");
        app.send(request.body(r#"{"last_delivered_id":"0"}"#)).await;
    };
    let (ids, ()) = tokio::join!(read(&app, &stream, "consumer=w&wait=20s"), moving);
    assert_eq!(ids, ["1-0", "2-0"]);
}

#[tokio::test]
async fn a_consumer_is_made_seen_and_deleted_only_with_a_word_on_what_it_holds() {
    let app = TestApp::start().await;
    let stream = app.stream_of("consumers", 5).await;
    let consumer = |name: &str| group(&stream, &format!("/consumers/{name}"));
    app.put_json(&group(&stream, ""), "{}").await;
    assert_eq!(app.put_json(&consumer("a"), "").await.status, 201);
    assert_eq!(app.put_json(&consumer("a"), "").await.status, 200);
    read(&app, &stream, "consumer=a&count=3").await;
    read(&app, &stream, "consumer=b&count=1").await;
    assert_eq!(app.get(&consumer("a")).await.json()["pending"], 3);
    let list = app.get(&group(&stream, "/consumers")).await.json();
    let names: Vec<&Value> = list["consumers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["consumer"])
        .collect();
    assert_eq!(names, ["a", "b"]);
    app.delete(&consumer("a"))
        .await
        .is_problem(409, "consumer-has-pending");
    for wrong in ["keep", "transfer:", "transfer:a", "transfer"] {
        let answer = app
            .delete(&format!("{}?pending={wrong}", consumer("a")))
            .await;
        assert_eq!(answer.status, 400, "{wrong}");
    }
    // The delivery counts are unchanged, and the entries belong to the other consumer.
    read(&app, &stream, "consumer=a&history=0").await;
    let deleted = app
        .delete(&format!("{}?pending=transfer:c", consumer("a")))
        .await;
    assert_eq!(
        (deleted.status, &deleted.json()["pending"]),
        (200, &3.into()),
        "{}",
        deleted.body
    );
    let of_c = app.get(&group(&stream, "/pending?consumer=c")).await;
    assert_eq!(of_c.ids(), ["1-0", "2-0", "3-0"]);
    assert_eq!(of_c.json()["entries"][0]["deliveries"], 2);
    assert_eq!(
        app.delete(&format!("{}?pending=drop", consumer("b")))
            .await
            .json()["pending"],
        1
    );
    assert_eq!(pending(&app, &stream).await, ["1-0", "2-0", "3-0"]);
    app.delete(&consumer("b"))
        .await
        .is_problem(404, "consumer-not-found");
    app.get(&consumer("b"))
        .await
        .is_problem(404, "consumer-not-found");
    app.delete(&group(&stream, "")).await;
    app.delete(&consumer("c"))
        .await
        .is_problem(404, "group-not-found");
    app.put_json(&consumer("c"), "")
        .await
        .is_problem(404, "group-not-found");
}

#[tokio::test]
async fn pending_entries_are_claimed_by_id_with_every_option() {
    let app = TestApp::start().await;
    let stream = app.stream_of("claim", 5).await;
    app.put_json(&group(&stream, ""), "{}").await;
    read(&app, &stream, "consumer=a&count=3").await;
    let claim = async |body: &str| app.post_json(&group(&stream, "/claim"), body).await;
    let deliveries = async |id: &str| {
        let entries = app
            .get(&group(&stream, &format!("/pending?start={id}&end={id}")))
            .await
            .json();
        (
            entries["entries"][0]["consumer"].clone(),
            entries["entries"][0]["deliveries"].clone(),
        )
    };
    let taken = claim(r#"{"consumer":"b","ids":["1-0","2-0","5-0"]}"#).await;
    assert_eq!(taken.ids(), ["1-0", "2-0"]);
    assert_eq!(taken.json()["entries"][0]["fields"]["n"], "1");
    assert_eq!(deliveries("1-0").await, (json!("b"), json!(2)));
    assert_eq!(
        claim(r#"{"consumer":"c","ids":["1-0"],"min_idle":"1h"}"#)
            .await
            .ids()
            .len(),
        0
    );
    let bare = claim(r#"{"consumer":"c","ids":["1-0"],"just_id":true}"#).await;
    assert_eq!(bare.json()["entries"], json!([{"id": "1-0"}]));
    assert_eq!(
        deliveries("1-0").await,
        (json!("c"), json!(2)),
        "just an id is no delivery"
    );
    claim(r#"{"consumer":"c","ids":["1-0"],"retry_count":9,"idle":"1h"}"#).await;
    assert_eq!(deliveries("1-0").await, (json!("c"), json!(9)));
    assert_eq!(
        app.get(&group(&stream, "/pending?min_idle=59m"))
            .await
            .ids(),
        ["1-0"]
    );
    let forced = claim(r#"{"consumer":"d","ids":["5-0"],"force":true,"last_id":"4-0"}"#).await;
    assert_eq!(forced.ids(), ["5-0"]);
    assert_eq!(
        app.get(&group(&stream, "")).await.json()["last_delivered_id"],
        "4-0"
    );
    for wrong in [
        r#"{"ids":["1-0"]}"#,
        r#"{"consumer":"x"}"#,
        r#"{"consumer":"x","ids":["1-0"],"min_idle":5}"#,
    ] {
        claim(wrong).await.is_problem(400, "invalid-request");
    }
    claim(r#"{"consumer":"x","ids":["one"]}"#)
        .await
        .is_problem(400, "invalid-id");
    app.delete(&group(&stream, "")).await;
    claim(r#"{"consumer":"x","ids":["1-0"]}"#)
        .await
        .is_problem(404, "group-not-found");
}

#[tokio::test]
async fn what_has_been_pending_for_long_is_claimed_page_by_page() {
    let app = TestApp::start().await;
    let stream = app.stream_of("auto", 6).await;
    app.put_json(&group(&stream, ""), "{}").await;
    read(&app, &stream, "consumer=gone").await;
    shared().await.command(&["XDEL", &stream, "2-0"]).await;
    let claim = async |form: &str| {
        let answer = app.post_form(&group(&stream, "/autoclaim"), form).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer
    };
    let first = claim("consumer=w&min_idle=0&count=4").await;
    assert_eq!(first.ids(), ["1-0", "3-0", "4-0"]);
    assert_eq!(
        (&first.json()["deleted"], &first.json()["next"]),
        (&json!(["2-0"]), &json!("5-0"))
    );
    let rest = claim("consumer=w&min_idle=0&start=5-0&just_id=true")
        .await
        .json();
    assert_eq!(
        rest,
        json!({"entries": [{"id": "5-0"}, {"id": "6-0"}], "next": "0-0", "deleted": []})
    );
    assert_eq!(claim("consumer=w&min_idle=1h").await.ids().len(), 0);
    let without = app
        .post_form(&group(&stream, "/autoclaim"), "consumer=w")
        .await;
    without.is_problem(400, "invalid-request");
}

#[tokio::test]
async fn a_work_queue_with_retries_and_a_dead_letter_after_three_tries() {
    let app = TestApp::start().await;
    let (stream, dead) = (unique("jobs"), unique("dead"));
    app.put_json(&group(&stream, ""), "{}").await;
    app.post_form(
        &format!("/v1/streams/{stream}/entries"),
        "priority=high&job=flaky",
    )
    .await;
    read(&app, &stream, "consumer=w1").await;
    let mut tries = 1;
    // In each round, another worker claims the entry that the previous one left pending.
    while tries < 3 {
        let form = format!("consumer=w{}&min_idle=0", tries + 1);
        let claimed = app
            .post_form(&group(&stream, "/autoclaim"), &form)
            .await
            .json();
        assert_eq!(claimed["entries"][0]["fields"]["priority"], "high");
        tries += 1;
    }
    let entry = app.get(&group(&stream, "/pending")).await.json()["entries"][0].clone();
    assert_eq!(
        (&entry["deliveries"], &entry["consumer"]),
        (&3.into(), &"w3".into())
    );
    let id = entry["id"].as_str().unwrap();
    let fields = app
        .get(&format!("/v1/streams/{stream}/entries/{id}"))
        .await
        .json()["fields"]
        .clone();
    let letter = json!({ "fields": fields }).to_string();
    assert_eq!(
        app.post_json(&format!("/v1/streams/{dead}/entries"), &letter)
            .await
            .status,
        201
    );
    app.post_form(&group(&stream, "/ack"), &format!("ids={id}"))
        .await;
    assert_eq!(pending(&app, &stream).await, Vec::<String>::new());
    let kept = app
        .get(&format!("/v1/streams/{dead}/entries?after=0"))
        .await
        .json();
    assert_eq!(
        kept["entries"][0]["fields"],
        json!({"priority": "high", "job": "flaky"})
    );
}
