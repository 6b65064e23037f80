//! Histograms, figures of groups and of the process, and the dashboard and alerts that use them.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use streamgate::config::Settings;

use crate::support::redis::Server;
use crate::support::{TestApp, eventually, unique};

/// Returns settings that measure these groups often.
fn measuring(patterns: &'static [&str], limit: usize) -> impl FnOnce(&mut Settings) {
    move |settings| {
        let patterns = patterns.iter().map(|text| text.parse().unwrap());
        settings.jobs.metrics_groups = patterns.collect();
        settings.jobs.max_metrics_groups = limit;
        settings.jobs.measure_every = Duration::from_millis(50);
    }
}

/// Returns the value of a series, which is named as it is written, or `None` without the series.
async fn series(app: &TestApp, name: &str) -> Option<f64> {
    let text = app.get("/metrics").await.body;
    let line = text.lines().find(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(' '))
    });
    line?.rsplit(' ').next()?.parse().ok()
}

async fn count(app: &TestApp, histogram: &str, labels: &str) -> u64 {
    let name = format!("streamgate_{histogram}_seconds_count{labels}");
    let value = series(app, &name).await;
    let value = value.unwrap_or_else(|| panic!("no {name}"));
    value.to_string().parse().unwrap()
}

#[tokio::test]
async fn requests_commands_and_deliveries_are_timed() {
    let app = TestApp::start().await;
    let append = "{method=\"POST\",route=\"/v1/streams/{stream}/entries\"}";
    let read = "{method=\"GET\",route=\"/v1/streams/{stream}/entries\"}";
    let writes = "{kind=\"write\"}";
    // All series exist from the start.
    assert_eq!(count(&app, "request_duration", append).await, 0);
    assert_eq!(count(&app, "delivery_delay", "").await, 0);
    let commands = count(&app, "redis_command_duration", writes).await;

    let stream = unique("timed");
    let path = format!("/v1/streams/{stream}");
    app.publish(&stream, "0").await;
    let mut events = app.follow(&format!("{path}/events")).await;
    events.expect("$open").await;
    for n in ["1", "2"] {
        app.publish(&stream, n).await;
        events.expect("message").await;
    }
    assert_eq!(count(&app, "request_duration", append).await, 3);
    assert!(count(&app, "redis_command_duration", writes).await >= commands + 3);
    let delays = count(&app, "delivery_delay", "").await;
    assert!((1..=2).contains(&delays), "{delays}");
    let slow = "streamgate_delivery_delay_seconds_bucket{le=\"10.0\"}";
    let within = series(&app, slow).await;
    assert_eq!(
        within.map(|count| count.to_string()),
        Some(delays.to_string())
    );
    // An id that its writer chose is no time.
    let stream = app.stream_of("chosen", 1).await;
    let mut events = app.follow(&format!("/v1/streams/{stream}/events")).await;
    events.expect("$open").await;
    let chosen = format!("/v1/streams/{stream}/entries?id=2-0");
    assert_eq!(app.post_form(&chosen, "n=1").await.status, 201);
    events.expect("message").await;
    assert_eq!(count(&app, "delivery_delay", "").await, delays);
    // A read that waited says nothing about speed. One that did not wait counts.
    let answer = app.get(&format!("{path}/entries?after=0")).await;
    assert_eq!(answer.status, 200);
    let last = answer.ids().pop().unwrap();
    let waiting = format!("{path}/entries?after={last}&wait=100ms");
    assert_eq!(app.get(&waiting).await.status, 200);
    assert_eq!(count(&app, "request_duration", read).await, 1);
    // A path that is no route has no series.
    app.get("/v1/nothing").await;
    let text = app.get("/metrics").await.body;
    let unknown = "streamgate_request_duration_seconds_count{method=\"GET\",route=\"none\"}";
    assert!(!text.contains(unknown));
    assert!(text.ends_with("# EOF\n"), "one end");
    assert_eq!(text.matches("# EOF").count(), 1);
    app.stop().await;
}

#[tokio::test]
async fn the_process_and_its_version_are_shown() {
    let app = TestApp::start().await;
    let version = format!(
        "streamgate_build_info{{version=\"{}\"}}",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(series(&app, &version).await, Some(1.0));
    if !cfg!(target_os = "linux") {
        return;
    }
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    for (name, least, most) in [
        ("process_cpu_seconds_total", 0.0, 1e6),
        ("process_resident_memory_bytes", 1e6, 1e12),
        ("process_virtual_memory_bytes", 1e6, 1e15),
        ("process_open_fds", 3.0, 1e6),
        ("process_max_fds", 3.0, f64::INFINITY),
        ("process_start_time_seconds", now - 3600.0, now + 2.0),
    ] {
        let value = series(&app, name)
            .await
            .unwrap_or_else(|| panic!("no {name}"));
        assert!((least..=most).contains(&value), "{name} {value}");
    }
}

#[tokio::test]
async fn selected_groups_have_figures() {
    let server = Server::start().await;
    let app = TestApp::on(&server.url(), measuring(&["orders:*/b*", "jobs/mail"], 100)).await;
    let post = async |path: &str, body: Value| {
        let answer = app.post_json(path, &body.to_string()).await;
        assert!(answer.status < 300, "{path}: {}", answer.body);
        answer.json_or_null()
    };
    let (eu, jobs) = ("/v1/streams/orders:eu", "/v1/streams/jobs");
    for (stream, group) in [
        (eu, "billing"),
        (eu, "other"),
        (jobs, "mail"),
        (jobs, "other"),
    ] {
        let policy = json!({"policy": {"lease": "1h", "max_deliveries": 1}});
        let body = if stream == jobs { policy } else { json!({}) };
        let path = format!("{stream}/groups/{group}");
        assert_eq!(app.put_json(&path, &body.to_string()).await.status, 201);
    }
    for stream in [eu, jobs] {
        for n in 0..5 {
            post(&format!("{stream}/entries"), json!({"fields": {"n": n}})).await;
        }
    }
    server
        .command(&["XADD", "orders:old", "1000-0", "n", "1"])
        .await;
    server
        .command(&["XGROUP", "CREATE", "orders:old", "b\"1", "0"])
        .await;
    let xread = [
        "XREADGROUP",
        "GROUP",
        "b\"1",
        "w",
        "STREAMS",
        "orders:old",
        ">",
    ];
    server.command(&xread).await;
    let read = json!({"consumer": "w", "count": 2});
    post(&format!("{eu}/groups/billing/read"), read.clone()).await;
    let taken = format!("{jobs}/groups/mail/read");
    let entries = post(&taken, json!({"consumer": "w", "count": 3})).await;
    let receipt = &entries["entries"][0]["receipt"];
    post(
        &format!("{jobs}/groups/mail/reject"),
        json!({"receipts": [receipt]}),
    )
    .await;

    let has = async |name: &str, stream: &str, group: &str, value: Option<f64>| {
        let name = format!("streamgate_group_{name}{{stream=\"{stream}\",group=\"{group}\"}}");
        eventually(&format!("{name} is {value:?}"), async || {
            series(&app, &name).await == value
        })
        .await;
    };
    has("lag", "orders:eu", "billing", Some(3.0)).await;
    has("pending", "orders:eu", "billing", Some(2.0)).await;
    has("leases", "orders:eu", "billing", None).await;
    has("dead_letters", "orders:eu", "billing", None).await;
    has("lag", "jobs", "mail", Some(2.0)).await;
    has("pending", "jobs", "mail", Some(2.0)).await;
    has("leases", "jobs", "mail", Some(2.0)).await;
    has("dead_letters", "jobs", "mail", Some(1.0)).await;
    has("pending", "orders:old", "b\\\"1", Some(1.0)).await;
    let old = "streamgate_group_oldest_pending_age_seconds{stream=\"orders:old\",group=\"b\\\"1\"}";
    assert!(series(&app, old).await.unwrap() > 1e9);
    for (stream, group) in [("orders:eu", "other"), ("jobs", "other")] {
        let name = format!("streamgate_group_pending{{stream=\"{stream}\",group=\"{group}\"}}");
        assert_eq!(series(&app, &name).await, None, "{name}");
    }
    // A group that is gone has no figures.
    app.delete("/v1/streams/orders:eu/groups/billing").await;
    has("pending", "orders:eu", "billing", None).await;
    app.stop().await;
}

#[tokio::test]
async fn an_ordered_group_has_figures_of_its_keys() {
    let server = Server::start().await;
    let app = TestApp::on(&server.url(), measuring(&["*/*"], 100)).await;
    for (group, policy) in [
        ("g", r#"{"order_by":"k","max_deliveries":1}"#),
        ("other", "{}"),
    ] {
        let path = format!("/v1/streams/orders/groups/{group}");
        let body = format!(r#"{{"policy":{policy}}}"#);
        assert_eq!(app.put_json(&path, &body).await.status, 201);
    }
    for (id, key) in [
        ("1000-0", "a"),
        ("1000-1", "a"),
        ("1000-2", "b"),
        ("1000-3", "b"),
    ] {
        server.command(&["XADD", "orders", id, "k", key]).await;
    }
    let has = async |name: &str, value: f64| {
        let name = format!("streamgate_group_{name}{{stream=\"orders\",group=\"g\"}}");
        eventually(&format!("{name} is {value}"), async || {
            series(&app, &name).await == Some(value)
        })
        .await;
    };
    has("keys_in_flight", 0.0).await;
    has("oldest_blocked_age_seconds", 0.0).await;
    let path = "/v1/streams/orders/groups/g";
    let read = app
        .post_form(&format!("{path}/read"), "consumer=w&count=9")
        .await;
    assert_eq!(read.ids(), ["1000-0", "1000-2"]);
    let rejected = app.post_form(&format!("{path}/reject"), "ids=1000-0").await;
    assert_eq!(rejected.json()["dead_lettered"], 1, "{}", rejected.body);
    has("keys_in_flight", 1.0).await;
    has("keys_blocked", 1.0).await;
    has("keys_waiting", 2.0).await;
    let age = "streamgate_group_oldest_blocked_age_seconds{stream=\"orders\",group=\"g\"}";
    assert!(series(&app, age).await.unwrap() > 1e9);
    let keys = app.get(path).await.json()["keys"].clone();
    assert_eq!(keys["oldest_blocked"], "1000-0");
    assert!(keys["oldest_blocked_age_ms"].as_u64().unwrap() > 1_000_000_000_000);
    let other = "streamgate_group_keys_waiting{stream=\"orders\",group=\"other\"}";
    assert_eq!(series(&app, other).await, None);
    app.stop().await;
}

#[tokio::test]
async fn more_groups_than_allowed_are_counted_and_not_shown() {
    let server = Server::start().await;
    let create = "redis.call('XADD', KEYS[1], '1-0', 'n', '1') \
                  for i = 1, 10000 do redis.call('XGROUP', 'CREATE', KEYS[1], 'g' .. i, '0') end";
    server.command(&["EVAL", create, "1", "orders"]).await;
    let app = TestApp::on(&server.url(), measuring(&["orders/*", "orders/g1*"], 50)).await;
    eventually("the groups beyond the limit are counted", async || {
        series(&app, "streamgate_groups_beyond_limit").await == Some(9950.0)
    })
    .await;
    let text = app.get("/metrics").await.body;
    let shown = |name: &str| {
        text.matches(&format!("\nstreamgate_group_{name}{{"))
            .count()
    };
    assert_eq!((shown("pending"), shown("lag")), (50, 50));
    app.stop().await;
}

#[tokio::test]
async fn a_scrape_is_answered_while_redis_is_away() {
    let server = Server::start().await;
    server
        .command(&["XGROUP", "CREATE", "orders", "g", "0", "MKSTREAM"])
        .await;
    let app = TestApp::on(&server.url(), measuring(&["*/*"], 10)).await;
    let lag = "streamgate_group_lag{stream=\"orders\",group=\"g\"}";
    eventually("the group is measured", async || {
        series(&app, lag).await == Some(0.0)
    })
    .await;
    server.kill();
    eventually("the outage is shown", async || {
        series(&app, "streamgate_redis_up").await == Some(0.0)
    })
    .await;
    // The last figures stay, and their time says how old they are.
    assert_eq!(series(&app, lag).await, Some(0.0));
    let measured = "streamgate_groups_measured_timestamp_seconds";
    let at = series(&app, measured).await.unwrap();
    assert!(at > 1e9);
    server.start_empty().await;
    eventually("the group is gone", async || {
        series(&app, lag).await.is_none()
    })
    .await;
    assert!(series(&app, measured).await.unwrap() >= at);
    app.stop().await;
}

/// Returns the metrics that a text names.
fn named(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let words = text.split(|c: char| !is_part(c));
    let words =
        words.filter(|word| word.starts_with("streamgate_") || word.starts_with("process_"));
    words.map(str::to_owned).collect()
}

#[tokio::test]
async fn every_metric_of_the_dashboard_and_of_the_alerts_exists() {
    let server = Server::start().await;
    server.command(&["XADD", "orders", "*", "n", "1"]).await;
    let app = TestApp::on(&server.url(), measuring(&["*/*"], 10)).await;
    let policy = r#"{"policy":{"order_by":"n"}}"#;
    app.put_json("/v1/streams/orders/groups/g", policy).await;
    let group = "streamgate_group_keys_waiting{stream=\"orders\",group=\"g\"}";
    eventually("the group is measured", async || {
        series(&app, group).await.is_some()
    })
    .await;
    let text = app.get("/metrics").await.body;
    let existing: BTreeSet<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(['{', ' ']).next().unwrap())
        .collect();
    for file in [
        "deploy/prometheus/alerts.yml",
        "deploy/prometheus/alerts.test.yml",
        "deploy/grafana/streamgate.json",
    ] {
        let names = named(&std::fs::read_to_string(file).unwrap());
        assert!(names.len() > 5, "{file}: {names:?}");
        for name in names {
            assert!(existing.contains(&*name), "{file} names {name}");
        }
    }
}
