//! Limits per client on requests and connections, and the identity of clients behind proxies.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::RequestBuilder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::sse::Sse;
use crate::support::{Answer, PATIENCE, TestApp, eventually, unique};

async fn limited(rate: &str) -> TestApp {
    TestApp::start_with(|settings| {
        settings.server.visitors.rate = Some(rate.parse().unwrap());
    })
    .await
}

#[tokio::test]
async fn whoever_asks_too_often_is_told_when_to_come_back() {
    let app = limited("3/h").await;
    let left = async || {
        let answer = app.get("/v1/streams").await;
        assert_eq!(answer.header("ratelimit-policy"), "\"address\";q=3;w=3600");
        (answer.status, answer.header("ratelimit").to_owned())
    };
    assert_eq!(left().await, (200, "\"address\";r=2;t=1200".to_owned()));
    assert_eq!(left().await, (200, "\"address\";r=1;t=2400".to_owned()));
    assert_eq!(left().await, (200, "\"address\";r=0;t=3600".to_owned()));
    let refused = app.get("/v1/streams").await;
    let problem = refused.is_problem(429, "rate-limited");
    assert_eq!(problem["retryable"], true);
    let after: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1190..=1200).contains(&after), "{after}");
    assert!(
        refused
            .header("ratelimit")
            .starts_with("\"address\";r=0;t="),
        "{refused:?}"
    );
    // A browser would give up for good on a status.
    let mut events = app
        .follow(&format!("/v1/streams/{}/events", unique("often")))
        .await;
    assert_eq!(events.status, 200);
    let end = events.expect("$end").await;
    assert_eq!(end.json()["reason"], "rate-limited");
    assert!(end.retry.unwrap() >= 1_190_000, "{end:?}");
    assert!(events.next().await.is_none());
    let post = app
        .client
        .post(app.url("/v1/streams/a/entries"))
        .header("accept", "text/event-stream");
    app.send(post.body("n=1"))
        .await
        .is_problem(429, "rate-limited");
    for probe in ["/livez", "/readyz"] {
        assert_eq!(app.get(probe).await.status, 200, "{probe}");
    }
}

#[tokio::test]
async fn all_connections_of_a_client_share_its_quota_and_it_fills_again() {
    let app = limited("20/s").await;
    let ask = || async {
        let client = crate::support::app::client();
        crate::support::app::answer(client.get(app.url("/v1/streams")))
            .await
            .unwrap()
            .status
    };
    let all = futures_util::future::join_all((0..60).map(|_| ask())).await;
    let served = all.iter().filter(|status| **status == 200).count();
    assert!((20..50).contains(&served), "{all:?}");
    assert!(
        all.iter().all(|status| matches!(status, 200 | 429)),
        "{all:?}"
    );
    eventually("there is room again", async || ask().await == 200).await;
    eventually("refusals are counted", async || {
        app.metric_if_any("refused_total{bound=\"rate\"}").await > Some(0)
    })
    .await;
}

#[tokio::test]
async fn without_a_limit_nothing_is_said_of_one() {
    let app = TestApp::start().await;
    let answer = app.get("/v1/streams").await;
    assert!(!answer.headers.contains_key("ratelimit"), "{answer:?}");
    assert!(
        !answer.headers.contains_key("ratelimit-policy"),
        "{answer:?}"
    );
}

fn from(app: &TestApp, name: &str, value: &str) -> RequestBuilder {
    app.client.get(app.url("/v1/streams")).header(name, value)
}

#[tokio::test]
async fn clients_behind_a_trusted_proxy_are_told_apart_and_others_are_not_believed() {
    let trusting = TestApp::start_with(|settings| {
        settings.server.visitors.rate = Some("2/h".parse().unwrap());
        settings.server.visitors.proxies.trusted = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let status = async |app: &TestApp, name: &str, value: &str| {
        app.send(from(app, name, value)).await.status
    };
    let xff = "x-forwarded-for";
    for client in ["1.1.1.1", "2.2.2.2", "2001:db8::1"] {
        // An address that a client adds itself precedes the one the proxy adds.
        for spoofed in ["9.9.9.9", "8.8.8.8"] {
            let value = format!("{spoofed}, {client}");
            assert_eq!(status(&trusting, xff, &value).await, 200, "{value}");
        }
        assert_eq!(status(&trusting, xff, client).await, 429, "{client}");
    }
    assert_eq!(
        status(&trusting, xff, "2001:db8::2").await,
        429,
        "of the same site"
    );
    assert_eq!(
        status(&trusting, "forwarded", "for=3.3.3.3").await,
        200,
        "the proxy's own"
    );
    assert_eq!(status(&trusting, "forwarded", "for=4.4.4.4").await, 200);
    assert_eq!(
        status(&trusting, "forwarded", "for=5.5.5.5").await,
        429,
        "nobody wrote that"
    );
    let trusting_nobody = limited("2/h").await;
    let statuses: Vec<u16> = futures_util::future::join_all(
        ["1.1.1.1", "2.2.2.2", "3.3.3.3"].map(|client| status(&trusting_nobody, xff, client)),
    )
    .await;
    assert_eq!(
        statuses.iter().filter(|status| **status == 429).count(),
        1,
        "{statuses:?}"
    );
}

#[tokio::test]
async fn addresses_beyond_the_bound_share_a_quota() {
    let app = TestApp::start_with(|settings| {
        let visitors = &mut settings.server.visitors;
        visitors.rate = Some("1/h".parse().unwrap());
        visitors.max_addresses = 2;
        visitors.proxies.trusted = vec!["127.0.0.1".parse().unwrap()];
    })
    .await;
    let mut statuses = Vec::new();
    for n in 1..=4 {
        let answer = app
            .send(from(&app, "x-forwarded-for", &format!("1.1.1.{n}")))
            .await;
        statuses.push(answer.status);
    }
    assert_eq!(statuses, [200, 200, 200, 429]);
    let probe = async || {
        app.metric_if_any("refused_total{bound=\"addresses\"}")
            .await
    };
    // Reading the metrics is also a request, by the proxy itself.
    assert_eq!(app.get("/metrics").await.status, 429);
    assert_eq!(probe().await, None);
}

async fn hold(app: &TestApp) -> TcpStream {
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    stream
        .write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    stream
}

async fn once(app: &TestApp) -> Answer {
    let client = crate::support::app::client();
    crate::support::app::answer(client.get(app.url("/v1/streams")))
        .await
        .unwrap()
}

#[tokio::test]
async fn connections_of_one_client_are_bounded_and_those_of_a_proxy_are_not() {
    let app = TestApp::start_with(|settings| {
        settings.server.visitors.max_connections = Some(3);
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(hold(&app).await);
    }
    let mut live = app
        .follow(&format!("/v1/streams/{}/events", unique("counts")))
        .await;
    live.expect("$open").await;
    once(&app).await.is_problem(429, "too-many-connections");
    let client = crate::support::app::client();
    let url = app.url(&format!("/v1/streams/{}/events", unique("fourth")));
    let mut events = Sse::open(&client, &url, None).await;
    assert_eq!(
        events.expect("$end").await.json()["reason"],
        "too-many-connections"
    );
    // A flood of connections gets no response and uses no capacity of others.
    let flood: Vec<TcpStream> = futures_util::future::join_all(
        (0..50).map(|_| async { TcpStream::connect(app.address).await.unwrap() }),
    )
    .await;
    let open = std::cell::Cell::new(0);
    for mut stream in flood {
        let mut rest = [0; 1];
        let ended = tokio::time::timeout(Duration::from_millis(20), stream.read(&mut rest)).await;
        open.set(open.get() + usize::from(ended.is_err()));
    }
    assert!(open.get() <= 8, "{} of 50 are open", open.get());
    drop(live);
    eventually("a subscriber's place is given back", async || {
        once(&app).await.status == 200
    })
    .await;
    drop(held);
    let app = TestApp::start_with(|settings| {
        settings.server.visitors.max_connections = Some(1);
        settings.server.visitors.proxies.trusted = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let _held = (hold(&app).await, hold(&app).await);
    assert_eq!(once(&app).await.status, 200);
}

#[tokio::test]
async fn an_entry_with_more_fields_than_may_be_is_refused_and_disturbs_nobody() {
    let app = TestApp::start().await;
    let (wide, other) = (unique("wide"), unique("other"));
    let path = format!("/v1/streams/{wide}/entries");
    let form = |count: usize, name: &str| vec![format!("{name}=1"); count].join("&");
    let lines = format!(
        "{{\"pairs\":[{}]}}\n",
        vec!["[\"a\",\"1\"]"; 10_001].join(",")
    );
    let mut published = Vec::new();
    let json = |body: String, kind: &'static str| {
        app.send(
            app.client
                .post(app.url(&path))
                .header("content-type", kind)
                .body(body),
        )
    };
    let many = format!("[{}]", vec!["[\"a\",\"1\"]"; 600_000].join(","));
    let object: Vec<String> = (0..300_000).map(|n| format!("\"{n}\":null")).collect();
    for (body, kind) in [
        (format!("{{\"pairs\":{many}}}"), "application/json"),
        (
            format!("{{{}}}", object.join(",")),
            "application/cloudevents+json",
        ),
    ] {
        json(body, kind).await.is_problem(422, "invalid-fields");
    }
    // Names in a form are shorter.
    let name = "x".repeat((64 << 10) + 1);
    let long = json(
        format!("{{\"fields\":{{\"{name}\":1}}}}"),
        "application/json",
    );
    long.await.is_problem(422, "invalid-fields");
    for body in [form(600_000, "a"), form(10_001, "a")] {
        let refused = app.post_form(&path, &body);
        let (refused, id) = tokio::join!(refused, app.publish(&other, "1"));
        refused.is_problem(422, "invalid-fields");
        published.push(id);
    }
    let post = app
        .client
        .post(app.url(&path))
        .header("content-type", "application/x-ndjson");
    let summary = app.send(post.body(lines)).await.json();
    assert_eq!(
        (&summary["appended"], &summary["failed"]),
        (&0.into(), &1.into()),
        "{summary}"
    );
    assert_eq!(
        app.get(&format!("/v1/streams/{other}/entries")).await.ids(),
        published
    );
    app.get(&format!("/v1/streams/{wide}"))
        .await
        .is_problem(404, "stream-not-found");
    for (bound, count) in [("fields", 5), ("field_name", 1)] {
        let name = format!("refused_total{{bound=\"{bound}\"}}");
        assert_eq!(app.metric_if_any(&name).await, Some(count), "{bound}");
    }
    assert_eq!(app.post_form(&path, &form(10_000, "a")).await.status, 201);
}

#[tokio::test]
async fn those_who_ask_for_much_and_read_nothing_take_no_more_memory_than_there_is_for_it() {
    let app = TestApp::start_with(|settings| settings.api.answer_memory = 20 << 20).await;
    let stream = unique("much");
    for _ in 0..2 {
        app.publish(&stream, &"x".repeat(4 << 20)).await;
    }
    let path = format!("/v1/streams/{stream}/entries?max_bytes=16777216");
    let get = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let mut greedy = Vec::new();
    for _ in 0..6 {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        stream.write_all(get.as_bytes()).await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        greedy.push((stream, String::from_utf8_lossy(&first).into_owned()));
    }
    let served = greedy
        .iter()
        .filter(|(_, first)| first == "HTTP/1.1 200")
        .count();
    assert!((1..=4).contains(&served), "{served} are served at once");
    assert!(
        greedy
            .iter()
            .all(|(_, first)| first == "HTTP/1.1 200" || first == "HTTP/1.1 503")
    );
    app.get(&path).await.is_problem(503, "overloaded");
    assert!(app.metric("answer_bytes").await <= 20 << 20);
    assert_eq!(
        app.get("/v1/streams?limit=1").await.status,
        200,
        "small answers go on"
    );
    drop(greedy);
    eventually("there is room again", async || {
        app.get(&path).await.status == 200
    })
    .await;
    eventually("all is given back", async || {
        app.metric("answer_bytes").await == 0
    })
    .await;
}

#[tokio::test]
async fn those_who_read_much_at_once_wait_for_each_other_and_hold_up_nobody_else() {
    let app = TestApp::start_with(|settings| {
        settings.pool.large_reads = 16 << 20;
        settings.api.answer_memory = 1 << 30;
        // A busy machine must not make the small reads fail.
        settings.pool.response_timeout = PATIENCE;
    })
    .await;
    let (large, small) = (unique("large"), unique("small"));
    for _ in 0..4 {
        app.publish(&large, &"x".repeat(3 << 20)).await;
    }
    app.publish(&small, "1").await;
    let (large, small) = (
        format!("/v1/streams/{large}/entries"),
        format!("/v1/streams/{small}"),
    );
    let path = format!("{large}?max_bytes=16777216");
    let asked = Arc::new(AtomicUsize::new(0));
    let greedy = join_all((0..60).map(async |_| {
        let answer = app.get(&path).await;
        asked.fetch_add(1, Ordering::Relaxed);
        answer
    }));
    let others = async {
        let mut served = 0;
        while asked.load(Ordering::Relaxed) < 60 {
            assert_eq!(app.get(&format!("{small}/entries")).await.status, 200);
            served += 1;
        }
        served
    };
    let (answers, others_served) = tokio::join!(greedy, others);
    let served = answers.iter().filter(|answer| answer.status == 200).count();
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        answer.is_problem(503, "overloaded");
    }
    assert!(served > 0);
    // One such read takes most of the memory. Others may wait for one on its thread, but not for all:
    // then a client that asks again and again would get a handful of answers meanwhile.
    assert!(others_served > 60, "others got {others_served} answers");
    let refused = app.metric_if_any("refused_total{bound=\"reads\"}").await;
    assert_eq!(refused, Some(60 - served));
    assert_eq!(app.metric("read_bytes").await, 0);
}
