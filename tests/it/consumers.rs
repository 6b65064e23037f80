//! The maximum number of consumers in a group, and the cost of looking them up.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use streamgate::config::Settings;

use crate::support::redis::Server;
use crate::support::{TestApp, elapse, eventually};

async fn group(app: &TestApp, policy: Value) -> (String, String) {
    let stream = app.stream_of("consumers", 20).await;
    let group = format!("/v1/streams/{stream}/groups/g");
    let made = app
        .put_json(&group, &json!({ "policy": policy }).to_string())
        .await;
    assert_eq!(made.status, 201, "{}", made.body);
    (stream, group)
}

fn few(settings: &mut Settings) {
    settings.limits.max_consumers = 3;
}

async fn names(app: &TestApp, group: &str) -> Vec<String> {
    let list = app.get(&format!("{group}/consumers")).await.json();
    let list = list["consumers"].as_array().unwrap().iter();
    list.map(|one| one["consumer"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_group_has_no_more_consumers_than_it_may_and_those_who_are_there_go_on() {
    let server = Server::start().await;
    let (app, other) = (
        TestApp::on(&server.url(), few).await,
        TestApp::on(&server.url(), few).await,
    );
    for policy in [Value::Null, json!({})] {
        let leased = !policy.is_null();
        let (stream, group) = group(&app, policy).await;
        let read = async |app: &TestApp, name: &str| {
            app.post_form(
                &format!("{group}/read"),
                &format!("consumer={name}&count=1"),
            )
            .await
        };
        for name in ["a", "b", "c"] {
            assert_eq!(read(&app, name).await.status, 200, "{name}");
        }
        let before = app
            .metric_if_any("refused_total{bound=\"consumers\"}")
            .await
            .unwrap_or(0);
        let problem = read(&app, "d").await.is_problem(503, "overloaded");
        assert_eq!(problem["side_effects"], "none");
        for (call, body) in [
            ("read", "consumer=e&history=0"),
            ("claim", "consumer=f&min_idle=0ms&ids=1-0"),
            ("autoclaim", "consumer=g&min_idle=0ms"),
        ] {
            app.post_form(&format!("{group}/{call}"), body)
                .await
                .is_problem(503, "overloaded");
        }
        app.put_json(&format!("{group}/consumers/h"), "")
            .await
            .is_problem(503, "overloaded");
        let many = json!({"consumer": "i", "streams": [stream]}).to_string();
        app.post_json("/v1/groups/g/read", &many)
            .await
            .is_problem(503, "overloaded");
        if leased {
            let mut events = app.follow(&format!("{group}/events?consumer=j")).await;
            assert_eq!(events.expect("$end").await.json()["reason"], "overloaded");
        }
        assert_eq!(names(&app, &group).await, ["a", "b", "c"]);
        let after = app.metric("refused_total{bound=\"consumers\"}").await;
        assert_eq!(after - before, 6 + usize::from(leased));
        // The other gateway has not seen any of them yet.
        for name in ["a", "b", "c"] {
            assert_eq!(read(&other, name).await.status, 200, "{name}");
            assert_eq!(read(&app, name).await.status, 200, "{name}");
        }
        server
            .command(&["XGROUP", "CREATECONSUMER", &stream, "g", "native"])
            .await;
        assert_eq!(read(&other, "native").await.status, 200, "it is there");
        for name in ["native", "a"] {
            let gone = app
                .delete(&format!("{group}/consumers/{name}?pending=drop"))
                .await;
            assert_eq!(gone.status, 200, "{}", gone.body);
        }
        assert_eq!(read(&app, "d").await.status, 200, "there is room again");
        assert_eq!(names(&app, &group).await, ["b", "c", "d"]);
    }
}

#[tokio::test]
async fn who_reads_again_and_again_is_looked_for_once() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let (_, group) = group(&app, Value::Null).await;
    let before = server.calls("xinfo|groups").await;
    for _ in 0..20 {
        app.post_form(&format!("{group}/read"), "consumer=w1").await;
    }
    assert_eq!(server.calls("xinfo|groups").await - before, 1);
}

#[tokio::test]
async fn consumers_come_page_by_page() {
    let app = TestApp::start().await;
    let (_, group) = group(&app, Value::Null).await;
    for name in ["e", "b", "%C3%A4%2F", "a", "d", "c", "B"] {
        assert_eq!(
            app.put_json(&format!("{group}/consumers/{name}"), "")
                .await
                .status,
            201
        );
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = app
            .get(&format!("{group}/consumers?limit=3{cursor}"))
            .await
            .json();
        let of_page = page["consumers"].as_array().unwrap();
        assert!(of_page.len() <= 3);
        seen.extend(
            of_page
                .iter()
                .map(|one| one["consumer"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={}", crate::support::encode(next)),
            None => break,
        }
    }
    assert_eq!(seen, ["B", "a", "b", "c", "d", "e", "ä/"]);
    assert_eq!(names(&app, &group).await, seen);
    let whole = app.get(&group).await.json();
    assert_eq!(
        (&whole["consumer_count"], &whole["consumers"][6]["consumer"]),
        (&json!(7), &json!("ä/"))
    );
    app.get(&format!("{group}/consumers?limit=1001"))
        .await
        .is_problem(400, "invalid-request");
}

#[tokio::test]
async fn those_who_look_at_consumers_at_the_same_time_share_a_look() {
    let server = Server::start().await;
    // 50 answers of 5000 consumers take seconds on a busy machine.
    let app = TestApp::on(&server.url(), |settings| {
        settings.pool.response_timeout = Duration::from_secs(20);
    })
    .await;
    let (stream, group) = group(&app, Value::Null).await;
    let script =
        "for i = 1, 5000 do redis.call('XGROUP', 'CREATECONSUMER', KEYS[1], 'g', 'c' .. i) end";
    server.command(&["EVAL", script, "1", &stream]).await;
    let path = format!("{group}/consumers/c7");
    let looks = (0..50).map(async |_| app.get(&path).await.json()["consumer"] == "c7");
    let looks = futures_util::future::join_all(looks).await;
    assert!(looks.iter().all(|found| *found));
    let shared = server.calls("xinfo|consumers").await;
    assert!((1..25).contains(&shared), "{shared} looks");
    // A lookup that began earlier does not count as the current state.
    for n in 0..20 {
        let one = format!("{group}/consumers/new{n}");
        let (_, status) = tokio::join!(app.get(&path), async {
            server
                .command(&["XGROUP", "CREATECONSUMER", &stream, "g", &format!("new{n}")])
                .await;
            app.get(&one).await.status
        });
        assert_eq!(status, 200);
    }
    app.get(&format!("{group}/consumers/none"))
        .await
        .is_problem(404, "consumer-not-found");
}

#[tokio::test]
async fn the_sweeper_does_not_look_at_all_consumers_in_each_round() {
    let server = Server::start().await;
    let app = TestApp::on(&server.url(), |settings| {
        settings.jobs.expire_every = std::time::Duration::from_secs(60);
    })
    .await;
    let (_, _) = group(&app, json!({"consumer_expiry": "1h"})).await;
    let before = server.calls("xinfo|consumers").await;
    let begun = app.metric("sweeps_total").await;
    eventually("it sweeps", async || {
        app.metric("sweeps_total").await >= begun + 5
    })
    .await;
    assert!(server.calls("xinfo|consumers").await - before <= 1);
}

#[tokio::test]
async fn a_consumer_that_asks_and_finds_nothing_stays_however_it_asks() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let (_, group) = group(&app, json!({"consumer_expiry": "2s"})).await;
    app.post_form(&format!("{group}/read"), "consumer=w&count=100")
        .await;
    let ways = [
        ("plain", ""),
        (
            "default",
            "&max_bytes=16777216&count=10&wait=0ms&no_ack=false",
        ),
        ("small", "&max_bytes=1"),
        ("lease", "&lease=10s"),
        ("waits", "&wait=200ms"),
        ("behind", "&wait=200ms"),
    ];
    let ask = async |name: &str, form: &str| {
        let form = format!("consumer={name}{form}");
        let read = app.post_form(&format!("{group}/read"), &form).await;
        assert_eq!((read.status, read.ids().len()), (200, 0), "{}", read.body);
    };
    let until = Instant::now() + Duration::from_secs(4);
    let rounds = async |name: &str, form: &str| {
        while Instant::now() < until {
            ask(name, form).await;
            elapse(
                200,
                "reads far apart, so that consumers are idle in between",
            )
            .await;
        }
    };
    futures_util::future::join_all(ways.iter().map(|(name, form)| rounds(name, form))).await;
    let there = names(&app, &group).await;
    for (name, _) in ways {
        assert!(there.iter().any(|one| one == name), "{name}: {there:?}");
    }
    assert_eq!(app.metric("forgotten_consumers_total").await, 0);
    eventually("who asks no more is forgotten", async || {
        names(&app, &group).await == ["w"]
    })
    .await;
}

#[tokio::test]
async fn a_bound_that_is_the_default_makes_the_same_consumers_as_none() {
    let app = TestApp::start().await;
    let (_, group) = group(&app, Value::Null).await;
    app.post_form(&format!("{group}/read"), "consumer=w&count=100")
        .await;
    for _ in 0..2 {
        for form in ["none", "default&max_bytes=16777216", "small&max_bytes=1"] {
            app.post_form(&format!("{group}/read"), &format!("consumer={form}"))
                .await;
        }
    }
    let names = names(&app, &group).await;
    // Redis before 7.2 creates no consumer for a read that finds nothing.
    assert!(
        names == ["w"] || names == ["default", "none", "small", "w"],
        "{names:?}"
    );
}
