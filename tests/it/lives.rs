//! Data stored beside a stream or a group does not outlive it, even if another client deletes or
//! replaces it.

use serde_json::{Value, json};

use crate::support::redis::{Server, json as plain};
use crate::support::{TestApp, elapse, eventually, unique};

fn group(stream: &str, rest: &str) -> String {
    format!("/v1/streams/{stream}/groups/g{rest}")
}

/// Creates a stream with entries `1-0` to `3-0`, and a group that dead-letters an entry after one
/// delivery. `w` holds `1-0`. Returns its receipt.
async fn strict(app: &TestApp, stream: &str) -> String {
    app.fill(stream, 3).await;
    let policy = r#"{"policy":{"lease":"100ms","max_deliveries":1,"consumer_expiry":"100ms"}}"#;
    assert_eq!(app.put_json(&group(stream, ""), policy).await.status, 201);
    let read = app
        .post_form(&group(stream, "/read"), "consumer=w&count=1&lease=1h")
        .await;
    read.json()["entries"][0]["receipt"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Ways in which another client replaces a group by one of the same name.
const WAYS: [&str; 5] = ["destroy", "delete", "rename", "expire", "other type"];

async fn replace(server: &Server, stream: &str, way: &str) {
    let command = async |words: &[&str]| server.command(words).await;
    match way {
        "destroy" => drop(command(&["XGROUP", "DESTROY", stream, "g"]).await),
        "delete" => drop(command(&["DEL", stream]).await),
        "expire" => drop(command(&["PEXPIRE", stream, "1"]).await),
        "other type" => {
            command(&["SET", stream, "text"]).await;
            command(&["DEL", stream]).await;
        }
        _ => {}
    }
    if way == "expire" {
        eventually("it expires", async || {
            plain(&command(&["EXISTS", stream]).await) == 0
        })
        .await;
    }
    let made = if way == "rename" {
        format!("{{{stream}}}.other")
    } else {
        stream.to_owned()
    };
    if way != "destroy" {
        for id in ["1-0", "2-0", "3-0"] {
            command(&["XADD", &made, id, "n", "1"]).await;
        }
    }
    command(&["XGROUP", "CREATE", &made, "g", "0"]).await;
    if way == "rename" {
        command(&["RENAME", &made, stream]).await;
    }
    let read = [
        "XREADGROUP",
        "GROUP",
        "g",
        "w",
        "COUNT",
        "1",
        "STREAMS",
        stream,
        ">",
    ];
    command(&read).await;
}

/// Returns `[id, consumer, deliveries]` of the pending entries.
async fn pending(server: &Server, stream: &str) -> Value {
    let held = plain(
        &server
            .command(&["XPENDING", stream, "g", "-", "+", "9"])
            .await,
    );
    held.as_array()
        .unwrap()
        .iter()
        .map(|one| json!([one[0], one[1], one[3]]))
        .collect()
}

#[tokio::test]
async fn a_policy_does_not_outlive_a_group_that_another_client_replaced() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let discarded = "discarded_settings_total{kind=\"policy\"}";
    assert_eq!(
        app.metric_if_any(discarded).await,
        Some(0),
        "it is there from the start"
    );
    for (n, way) in WAYS.into_iter().enumerate() {
        let stream = unique("replaced");
        strict(&app, &stream).await;
        replace(&server, &stream, way).await;
        eventually(way, async || {
            app.metric_if_any(discarded).await == Some(n + 1)
        })
        .await;
        assert_eq!(
            pending(&server, &stream).await,
            json!([["1-0", "w", 1]]),
            "{way}"
        );
        assert_eq!(
            app.get(&group(&stream, "")).await.json()["policy"],
            Value::Null,
            "{way}"
        );
        let dead = format!("{{{stream}}}.dead");
        assert_eq!(plain(&server.command(&["EXISTS", &dead]).await), 0, "{way}");
        let consumers = plain(&server.command(&["XINFO", "CONSUMERS", &stream, "g"]).await);
        assert_eq!(
            consumers.as_array().unwrap().len(),
            1,
            "{way}: nothing of ours is left"
        );
    }
}

#[tokio::test]
async fn no_call_on_a_group_made_anew_goes_by_the_old_policy_or_an_old_receipt() {
    let server = Server::start().await;
    let app = TestApp::on(&server.url(), |settings| {
        settings.jobs.sweep_every = std::time::Duration::from_secs(3600);
    })
    .await;
    for way in WAYS {
        for (call, form, status, answer) in [
            ("ack", "receipts=", 200, "lease-lost"),
            ("ack?delete=true", "receipts=", 200, "lease-lost"),
            ("nack", "receipts=", 409, "group-has-no-policy"),
            ("reject", "ids=1-0", 409, "group-has-no-policy"),
            ("extend", "receipts=", 409, "group-has-no-policy"),
            ("read", "consumer=x&count=9", 200, "\"2-0\""),
            (
                "read",
                "consumer=x&count=9&lease=1s",
                409,
                "group-has-no-policy",
            ),
            ("read", "consumer=w&history=0", 200, "\"1-0\""),
            ("claim", "consumer=x&min_idle=0ms&ids=1-0", 200, "\"1-0\""),
            ("autoclaim", "consumer=x&min_idle=0ms", 200, "\"1-0\""),
            (
                "dead-letters/redrive",
                "all=true",
                409,
                "group-has-no-policy",
            ),
        ] {
            let stream = unique("anew");
            let receipt = strict(&app, &stream).await;
            replace(&server, &stream, way).await;
            let form = form.replace("receipts=", &format!("receipts={receipt}"));
            let done = app
                .post_form(&group(&stream, &format!("/{call}")), &form)
                .await;
            assert_eq!(done.status, status, "{way}: {call}: {}", done.body);
            assert!(done.body.contains(answer), "{way}: {call}: {}", done.body);
            assert!(
                !done.body.contains("\"receipt\""),
                "{way}: {call}: {}",
                done.body
            );
            let holder = if call.contains("claim") { "x" } else { "w" };
            assert_eq!(
                pending(&server, &stream).await[0][1],
                holder,
                "{way}: {call}"
            );
        }
    }
}

#[tokio::test]
async fn a_group_made_anew_can_be_given_a_policy_of_its_own() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    for way in WAYS {
        let stream = unique("again");
        let receipt = strict(&app, &stream).await;
        replace(&server, &stream, way).await;
        let given = app
            .put_json(&group(&stream, ""), r#"{"policy":{"lease":"1h"}}"#)
            .await;
        assert_eq!(
            (given.status, &given.json()["policy"]["max_deliveries"]),
            (200, &json!(0))
        );
        let acked = app
            .post_form(&group(&stream, "/ack"), &format!("receipts={receipt}"))
            .await;
        assert_eq!(acked.json()["results"][0]["outcome"], "lease-lost", "{way}");
        let read = app
            .post_form(&group(&stream, "/read"), "consumer=x&count=1")
            .await;
        assert_eq!(read.ids(), ["2-0"], "{way}");
        assert!(read.json()["entries"][0]["receipt"].is_string());
    }
}

#[tokio::test]
async fn the_holder_may_acknowledge_by_its_receipt_after_the_policy_was_taken_away() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    for delete in ["", "?delete=true"] {
        let stream = unique("retired");
        app.fill(&stream, 3).await;
        app.put_json(&group(&stream, ""), r#"{"policy":{"lease":"1h"}}"#)
            .await;
        let read = app
            .post_form(&group(&stream, "/read"), "consumer=w&count=3")
            .await
            .json();
        let receipt = |n: usize| read["entries"][n]["receipt"].as_str().unwrap().to_owned();
        let plain_again = app
            .put_json(&group(&stream, ""), r#"{"policy":null}"#)
            .await;
        assert_eq!(plain_again.json()["policy"], Value::Null);
        assert_eq!(plain_again.json()["consumer_count"], 1);
        let listed = app
            .get(&format!("/v1/streams/{stream}/groups"))
            .await
            .json();
        assert_eq!(listed["groups"][0]["consumer_count"], 1);
        let ack = async |n: usize| {
            let path = group(&stream, &format!("/ack{delete}"));
            let done = app
                .post_form(&path, &format!("receipts={}", receipt(n)))
                .await
                .json();
            done["results"][0]["outcome"].as_str().unwrap().to_owned()
        };
        assert_eq!(ack(0).await, "acknowledged");
        assert_eq!(ack(0).await, "not-pending");
        // Another consumer has claimed the entry since.
        server
            .command(&["XCLAIM", &stream, "g", "other", "0", "2-0"])
            .await;
        assert_eq!(ack(1).await, "lease-lost");
        // A restored policy recognizes a lease that has not ended.
        app.put_json(&group(&stream, ""), r#"{"policy":{"lease":"1h"}}"#)
            .await;
        assert_eq!(ack(2).await, "acknowledged");
    }
}

#[tokio::test]
async fn nothing_of_ours_is_left_when_the_last_lease_of_a_former_policy_is_done() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let stream = unique("wound-down");
    app.fill(&stream, 2).await;
    app.put_json(&group(&stream, ""), r#"{"policy":{}}"#).await;
    app.post_form(&group(&stream, "/read"), "consumer=w&count=2")
        .await;
    app.put_json(&group(&stream, ""), r#"{"policy":null}"#)
        .await;
    app.post_form(&group(&stream, "/ack"), "ids=1-0").await;
    let ours = async || plain(&server.command(&["KEYS", &format!("*{stream}*")]).await);
    assert!(ours().await.as_array().unwrap().len() > 1);
    server.command(&["XACK", &stream, "g", "2-0"]).await;
    eventually("only the stream is left", async || {
        ours().await == json!([stream])
    })
    .await;
    let consumers = plain(&server.command(&["XINFO", "CONSUMERS", &stream, "g"]).await);
    assert_eq!(consumers.as_array().unwrap().len(), 1, "{consumers}");
}

#[tokio::test]
async fn consumers_of_our_own_are_neither_shown_nor_expired() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let stream = unique("hidden");
    app.fill(&stream, 2).await;
    let policy = r#"{"policy":{"consumer_expiry":"100ms"}}"#;
    app.put_json(&group(&stream, ""), policy).await;
    app.put_json(&group(&stream, "/consumers/w"), "").await;
    let forgotten = async || app.metric("forgotten_consumers_total").await;
    eventually("the idle one is forgotten", async || forgotten().await == 1).await;
    let swept = app.metric("sweeps_total").await;
    eventually("rounds pass", async || {
        app.metric("sweeps_total").await >= swept + 2
    })
    .await;
    assert_eq!(forgotten().await, 1);
    let one = app.get(&group(&stream, "")).await.json();
    assert_eq!(
        (&one["consumer_count"], &one["consumers"]),
        (&json!(0), &json!([]))
    );
    assert_eq!(
        app.get(&group(&stream, "/consumers")).await.json()["consumers"],
        json!([])
    );
    let listed = app
        .get(&format!("/v1/streams/{stream}/groups"))
        .await
        .json();
    assert_eq!(listed["groups"][0]["consumer_count"], 0);
    let full = app
        .get(&format!("/v1/streams/{stream}?full=true"))
        .await
        .json();
    assert_eq!(full["full"]["groups"][0]["consumers"], json!([]));
    assert_eq!(
        one["policy"]["consumer_expiry"], "100ms",
        "the policy holds"
    );
}

#[tokio::test]
async fn a_policy_that_an_older_gateway_kept_gets_its_marker() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let stream = unique("older");
    app.fill(&stream, 1).await;
    let made = app
        .put_json(&group(&stream, ""), r#"{"policy":{"lease":"7s"}}"#)
        .await
        .json();
    let key = format!("streamgate:{{{stream}}}:policies:{stream}");
    let kept = async || {
        let kept = plain(&server.command(&["HGET", &key, "g"]).await);
        kept.as_str().unwrap().to_owned()
    };
    let (marker, text) = kept()
        .await
        .split_once(' ')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let name = format!("streamgate:life:{}", &marker[1..]);
    server
        .command(&["XGROUP", "DELCONSUMER", &stream, "g", &name])
        .await;
    server.command(&["HSET", &key, "g", &text]).await;
    assert_eq!(
        app.get(&group(&stream, "")).await.json()["policy"],
        made["policy"]
    );
    eventually("it has a marker", async || kept().await.starts_with('@')).await;
    assert!(!kept().await.starts_with(&marker));
    assert_eq!(
        app.get(&group(&stream, "")).await.json()["policy"],
        made["policy"]
    );
}

pub async fn keyed(app: &TestApp, stream: &str, key: &str, value: &str) -> (u16, String) {
    let request = app
        .client
        .post(app.url(&format!("/v1/streams/{stream}/entries")));
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let answer = app
        .send(
            request
                .header("idempotency-key", key)
                .body(format!("n={value}")),
        )
        .await;
    let id = answer.json()["id"].as_str().map(str::to_owned);
    (answer.status, id.unwrap_or_else(|| answer.body.clone()))
}

/// Returns the field `n` of all entries of a stream.
async fn values(server: &Server, stream: &str) -> Vec<Value> {
    let entries = plain(&server.command(&["XRANGE", stream, "-", "+"]).await);
    entries
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry[1][1].clone())
        .collect()
}

/// Ways in which another client replaces a stream by a new one of the same name.
const REPLACED: [&str; 4] = ["delete", "rename", "expire", "other type"];

/// Replaces a stream by one with `count` entries whose ids Redis assigns.
async fn replace_stream(server: &Server, stream: &str, way: &str, count: usize) {
    let command = async |words: &[&str]| server.command(words).await;
    let made = if way == "rename" {
        format!("{{{stream}}}.other")
    } else {
        stream.to_owned()
    };
    match way {
        "delete" => drop(command(&["DEL", stream]).await),
        "expire" => {
            command(&["PEXPIRE", stream, "1"]).await;
            eventually("it expires", async || {
                plain(&command(&["EXISTS", stream]).await) == 0
            })
            .await;
        }
        "other type" => {
            command(&["SET", stream, "text"]).await;
            command(&["DEL", stream]).await;
        }
        _ => {}
    }
    for _ in 0..count {
        command(&["XADD", &made, "*", "n", "new"]).await;
    }
    if way == "rename" {
        command(&["RENAME", &made, stream]).await;
    }
}

#[tokio::test]
async fn an_idempotency_key_does_not_outlive_a_stream_that_another_client_replaced() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    for (n, way) in REPLACED.into_iter().enumerate() {
        let stream = unique("keys");
        let (_, first) = keyed(&app, &stream, "k", "old").await;
        assert_eq!(
            keyed(&app, &stream, "k", "old").await,
            (200, first.clone()),
            "{way}"
        );
        replace_stream(&server, &stream, way, 2).await;
        let (status, second) = keyed(&app, &stream, "k", "old").await;
        assert_eq!(status, 201, "{way}");
        assert_ne!(first, second);
        assert_eq!(
            values(&server, &stream).await,
            ["new", "new", "old"],
            "{way}"
        );
        assert_eq!(
            keyed(&app, &stream, "k", "old").await,
            (200, second),
            "{way}"
        );
        let discarded = "discarded_settings_total{kind=\"idempotency-keys\"}";
        assert_eq!(app.metric_if_any(discarded).await, Some(n + 1));
    }
    // Keys do not survive a stream that is missing, either.
    let stream = unique("keys");
    keyed(&app, &stream, "k", "old").await;
    server.command(&["DEL", &stream]).await;
    assert_eq!(keyed(&app, &stream, "k", "old").await.0, 201);
    assert_eq!(values(&server, &stream).await, ["old"]);
}

#[tokio::test]
async fn a_longer_life_that_lost_few_entries_is_noticed_by_the_counts_that_a_job_records() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let stream = unique("counts");
    keyed(&app, &stream, "k", "old").await;
    for _ in 0..10 {
        server.command(&["XADD", &stream, "*", "n", "more"]).await;
    }
    let known = format!("streamgate:{{{stream}}}:idempotency:known:{stream}");
    eventually("it is recorded", async || {
        let life = plain(&server.command(&["HGET", &known, "life"]).await);
        life.as_str()
            .is_some_and(|life| life.contains(" 11 entry "))
    })
    .await;
    // More entries were added than before, and fewer removed: the first entry of the old
    // incarnation would still exist.
    replace_stream(&server, &stream, "delete", 20).await;
    server.command(&["XTRIM", &stream, "MAXLEN", "15"]).await;
    assert_eq!(keyed(&app, &stream, "k", "old").await.0, 201);
}

#[tokio::test]
async fn a_replay_holds_whatever_becomes_of_the_entries_of_the_same_stream() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    for _ in 0..25 {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        let (stream, mut given) = (unique("linear"), Vec::new());
        for step in 0..random.usize(4..20) {
            let key = format!("k{step}");
            match random.u8(0..6) {
                0 | 1 => given.push((key.clone(), keyed(&app, &stream, &key, "x").await.1)),
                2 => drop(server.command(&["XADD", &stream, "*", "n", "x"]).await),
                3 => {
                    let keep = random.usize(0..4).to_string();
                    server.command(&["XTRIM", &stream, "MAXLEN", &keep]).await;
                }
                _ => {
                    if let Some((_, id)) = given.get(random.usize(..=given.len())) {
                        server.command(&["XDEL", &stream, id]).await;
                    }
                }
            }
            for (key, id) in &given {
                let again = keyed(&app, &stream, key, "x").await;
                assert_eq!(again, (200, id.clone()), "seed {seed}, step {step}");
            }
        }
    }
}

#[tokio::test]
async fn each_idempotency_key_is_remembered_for_the_window_it_was_promised() {
    let server = Server::start().await;
    let long = TestApp::on_server(&server).await;
    let short = TestApp::on(&server.url(), |settings| {
        settings.api.idempotency_window = std::time::Duration::from_secs(1);
    })
    .await;
    let stream = unique("windows");
    let (_, id) = keyed(&long, &stream, "long", "x").await;
    keyed(&short, &stream, "short", "x").await;
    eventually("the short one is over", async || {
        keyed(&short, &stream, "short", "x").await.0 == 201
    })
    .await;
    elapse(2100, "longer than the window of the short gateway").await;
    assert_eq!(keyed(&long, &stream, "long", "x").await, (200, id));
}

#[tokio::test]
async fn either_of_the_keys_that_remember_may_be_evicted_without_the_other() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    for kind in ["known", "ends"] {
        let stream = unique("evicted");
        let (_, first) = keyed(&app, &stream, "k", "x").await;
        let key = format!("streamgate:{{{stream}}}:idempotency:{kind}:{stream}");
        server.command(&["DEL", &key]).await;
        let (status, again) = keyed(&app, &stream, "k", "x").await;
        let expected = if kind == "known" { 201 } else { 200 };
        assert_eq!(
            (status, again == first),
            (expected, kind == "ends"),
            "{kind}"
        );
        assert_eq!(keyed(&app, &stream, "k2", "x").await.0, 201);
        assert_eq!(keyed(&app, &stream, "k", "x").await, (200, again));
        // A job restores what the lost set contained.
        eventually("both keys are found when they end", async || {
            let ends = format!("streamgate:{{{stream}}}:idempotency:ends:{stream}");
            plain(&server.command(&["ZCARD", &ends]).await) == 2 || kind == "ends"
        })
        .await;
    }
}

pub async fn patch(app: &TestApp, stream: &str, body: &str) -> crate::support::Answer {
    let request = app.client.patch(app.url(&format!("/v1/streams/{stream}")));
    app.send(
        request
            .header("content-type", "application/json")
            .body(body.to_owned()),
    )
    .await
}

#[tokio::test]
async fn a_retention_does_not_outlive_a_stream_that_another_client_replaced() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    for way in REPLACED {
        let stream = unique("retained");
        for _ in 0..3 {
            app.publish(&stream, "old").await;
        }
        let kept = r#"{"retention":{"maxlen":5,"mode":"exact"}}"#;
        assert_eq!(patch(&app, &stream, kept).await.status, 200);
        replace_stream(&server, &stream, way, 20).await;
        let shown = app.get(&format!("/v1/streams/{stream}")).await.json();
        assert_eq!(shown["retention"], Value::Null, "{way}");
        app.publish(&stream, "after").await;
        let key = format!("streamgate:{{{stream}}}:retention:{stream}");
        eventually(way, async || {
            plain(&server.command(&["EXISTS", &key]).await) == 0
        })
        .await;
        assert_eq!(
            values(&server, &stream).await.len(),
            21,
            "{way}: nothing was trimmed"
        );
        // The new stream can have a retention of its own.
        assert_eq!(
            patch(&app, &stream, kept).await.json()["length"],
            5,
            "{way}"
        );
    }
    // A stream that was seen as missing in between does not count as replaced.
    let discarded = "discarded_settings_total{kind=\"retention\"}";
    assert!(app.metric_if_any(discarded).await >= Some(1));
}

#[tokio::test]
async fn a_retention_and_keys_hold_over_trims_deletes_and_counters_that_the_gateway_sets() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let stream = unique("holds");
    for n in 0..8 {
        app.publish(&stream, &n.to_string()).await;
    }
    let (_, id) = keyed(&app, &stream, "k", "x").await;
    let kept = r#"{"retention":{"maxlen":5,"mode":"exact"}}"#;
    assert_eq!(patch(&app, &stream, kept).await.json()["length"], 5);
    let holds = async |what: &str| {
        let sweeps = app.metric("retention_sweeps_total").await;
        eventually("rounds pass", async || {
            app.metric("retention_sweeps_total").await >= sweeps + 2
        })
        .await;
        let shown = app.get(&format!("/v1/streams/{stream}")).await.json();
        assert_eq!(shown["retention"]["maxlen"], 5, "{what}");
        assert_eq!(
            keyed(&app, &stream, "k", "x").await,
            (200, id.clone()),
            "{what}"
        );
    };
    holds("trimmed").await;
    server.command(&["XDEL", &stream, &id]).await;
    holds("deleted").await;
    server.command(&["XTRIM", &stream, "MAXLEN", "0"]).await;
    holds("emptied").await;
    let back = format!(r#"{{"last_id":"{id}","entries_added":2,"max_deleted_id":"{id}"}}"#);
    assert_eq!(patch(&app, &stream, &back).await.status, 200);
    holds("set back").await;
}
