//! The gateway's own Redis user: the rules in docs/redis.md are sufficient for every operation.

use deadpool_redis::redis::Value;
use serde_json::json;

use crate::support::auth::{AuthFile, record};
use crate::support::redis::{Server, json as shown};
use crate::support::{TestApp, eventually};
use crate::webhooks::{Delivery, SECRET, source};

/// Returns the rules in docs/redis.md, for streams that start with `orders`.
fn rules() -> Vec<String> {
    let page = std::fs::read_to_string("docs/redis.md").unwrap();
    let begin = page.find("ACL SETUSER streamgate ").expect("the rules");
    let end = begin + page[begin..].find("```").unwrap();
    page[begin..end]
        .split_whitespace()
        .map(|word| word.trim_matches('\\').to_owned())
        .filter(|word| !word.is_empty())
        .collect()
}

async fn with_user(server: &Server) -> (AuthFile, TestApp) {
    let mut rules = rules();
    for newer in ["waitaof", "client|setinfo"] {
        if server.command(&["COMMAND", "INFO", newer]).await == Value::Array(vec![Value::Nil]) {
            rules.retain(|word| word[1..] != *newer);
        }
    }
    let words: Vec<&str> = rules.iter().map(String::as_str).collect();
    assert!(words.contains(&">PASSWORD"), "{words:?}");
    server.command(&words).await;
    let file = AuthFile::new(&(record("root", &["* *"]) + &source("shop", "orders", "github", "")));
    file.beside("shop.secret", SECRET);
    let auth = file.auth();
    let url = server
        .url()
        .replace("redis://", "redis://streamgate:PASSWORD@");
    let app = TestApp::on(&url, |settings| {
        settings.auth = auth;
        settings.jobs.sweep_every = std::time::Duration::from_millis(50);
    })
    .await;
    (file, app)
}

#[tokio::test]
async fn a_user_with_the_least_rights_is_enough() {
    let server = Server::start().await;
    let (_file, app) = with_user(&server).await;
    let root = app.as_key("root");
    let done = async |method: &str, path: &str, body: serde_json::Value| {
        let answer = root.call(method, path, body).await;
        let denied = shown(&server.command(&["ACL", "LOG"]).await);
        assert!(
            answer.status < 300,
            "{method} {path}: {} {denied:#}",
            answer.body
        );
        answer.json_or_null()
    };
    let entries = "/v1/streams/orders/entries";
    done("PUT", "/v1/streams/orders", json!({})).await;
    let mut events = root.follow("/v1/streams/orders/events?after=0").await;
    let mut matched = root.follow("/v1/events?match=orders*&after=0").await;
    events.expect("$open").await;
    matched.expect("$open").await;
    let one = json!({"fields": {"n": "1"}});
    done("POST", entries, one.clone()).await;
    done(
        "POST",
        &format!("{entries}?maxlen=1000&refs=acked"),
        one.clone(),
    )
    .await;
    done("POST", &format!("{entries}?max_age=7d"), one.clone()).await;
    done(
        "POST",
        entries,
        json!({"entries": [{"fields": {"n": "2"}, "key": "k"}, {"fields": {"n": "3"}}]}),
    )
    .await;
    events.values(5).await;
    matched.values(5).await;
    let delivery = Delivery::github("id-1", "{}", SECRET);
    assert_eq!(delivery.send(&app, "shop").await.status, 200);
    events.expect("message").await;
    matched.expect("message").await;
    let retention = json!({"retention": {"maxlen": 1000, "mode": "acked"}});
    done("PATCH", "/v1/streams/orders", retention).await;
    done("POST", entries, one.clone()).await;
    let later = done("POST", &format!("{entries}?delay=1h"), one.clone()).await;
    let token = later["scheduled"].as_str().unwrap();
    done("GET", "/v1/streams/orders/scheduled", json!(null)).await;
    done(
        "DELETE",
        &format!("/v1/streams/orders/scheduled/{token}"),
        json!(null),
    )
    .await;
    done("POST", &format!("{entries}?delay=100ms"), one.clone()).await;
    events.values(2).await;
    matched.values(2).await;
    done(
        "GET",
        &format!("{entries}?since=1h&max_bytes=1000"),
        json!(null),
    )
    .await;
    done("GET", "/v1/streams/orders?full=true", json!(null)).await;
    done("GET", "/v1/streams", json!(null)).await;
    done("GET", "/v1/capabilities", json!(null)).await;
    // A group, without and with a policy, including a dead letter and its redrive.
    let group = "/v1/streams/orders/groups/g";
    done("PUT", group, json!({})).await;
    let read = json!({"consumer": "w", "count": 2, "max_bytes": 100_000});
    let plain = done("POST", &format!("{group}/read"), read.clone()).await;
    done(
        "POST",
        &format!("{group}/claim"),
        json!({"consumer": "v", "min_idle": "0ms", "ids": [plain["entries"][0]["id"]]}),
    )
    .await;
    done(
        "POST",
        &format!("{group}/autoclaim"),
        json!({"consumer": "v", "min_idle": "0ms"}),
    )
    .await;
    done("GET", &format!("{group}/pending"), json!(null)).await;
    done("GET", &format!("{group}/consumers"), json!(null)).await;
    done(
        "PATCH",
        group,
        json!({"policy": {"lease": "1m", "consumer_expiry": "100ms"}}),
    )
    .await;
    let lent = done(
        "POST",
        &format!("{group}/read"),
        json!({"consumer": "u", "count": 10}),
    )
    .await;
    let receipt = |at: usize| lent["entries"][at]["receipt"].clone();
    done(
        "POST",
        &format!("{group}/extend"),
        json!({"receipts": [receipt(0)], "lease": "2m"}),
    )
    .await;
    done(
        "POST",
        &format!("{group}/reject"),
        json!({"receipts": [receipt(1)]}),
    )
    .await;
    done(
        "POST",
        &format!("{group}/nack"),
        json!({"receipts": [receipt(2)]}),
    )
    .await;
    done("GET", &format!("{group}/dead-letters"), json!(null)).await;
    done(
        "POST",
        &format!("{group}/dead-letters/redrive"),
        json!({"all": true}),
    )
    .await;
    // An order by key, and a step that publishes.
    let by_key = "/v1/streams/orders/groups/by-key";
    let policy = json!({"order_by": "n", "max_in_flight": 9, "rate": "9/1s"});
    done("PUT", by_key, json!({"policy": policy})).await;
    let lent = done(
        "POST",
        &format!("{by_key}/read"),
        json!({"consumer": "u", "count": 3}),
    )
    .await;
    let receipt = |at: usize| lent["entries"][at]["receipt"].clone();
    done("GET", &format!("{by_key}/keys"), json!(null)).await;
    done("GET", &format!("{by_key}/keys/1"), json!(null)).await;
    let step = json!({"receipts": [receipt(0)], "publish": [
        {"stream": "{orders}.done", "fields": {"n": "1"}, "key": "k"},
    ]});
    done("POST", &format!("{by_key}/ack"), step).await;
    done(
        "POST",
        &format!("{by_key}/reject"),
        json!({"receipts": [receipt(1)]}),
    )
    .await;
    done("DELETE", &format!("{by_key}/keys/2"), json!(null)).await;
    done("DELETE", &format!("{by_key}/dead-letters"), json!(null)).await;
    done("PATCH", by_key, json!({"policy": {"order_by": null}})).await;
    done("DELETE", by_key, json!({})).await;
    let mut pushed = root.follow(&format!("{group}/events?consumer=p")).await;
    pushed.expect("$open").await;
    pushed.expect("message").await;
    let wait = json!({"consumer": "x", "count": 1, "wait": "200ms"});
    done("POST", &format!("{group}/read"), wait).await;
    done(
        "POST",
        &format!("{group}/ack?delete=true"),
        json!({"ids": [plain["entries"][1]["id"]]}),
    )
    .await;
    eventually("the sweeper works", async || {
        let metrics = root.get("/metrics").await.body;
        metrics
            .lines()
            .any(|line| line.starts_with("streamgate_sweeps_total") && !line.ends_with(" 0"))
    })
    .await;
    eventually("tickets are made", async || {
        root.call("POST", "/v1/tickets", json!({"streams": ["orders"]}))
            .await
            .status
            == 200
    })
    .await;
    done(
        "POST",
        "/v1/streams/orders/trim",
        json!({"maxlen": 1, "exact": true, "refs": "acked"}),
    )
    .await;
    done("DELETE", group, json!({})).await;
    done("DELETE", "/v1/streams/orders", json!({})).await;
    events.expect("$reset").await;

    // Redis denied none of this, but it denies access to other streams.
    let denied = shown(&server.command(&["ACL", "LOG"]).await);
    assert_eq!(denied, json!([]), "{denied:#}");
    root.publish("payments", "1")
        .await
        .is_problem(503, "redis-unavailable");
    root.get("/v1/streams/payments")
        .await
        .is_problem(503, "redis-unavailable");
}
