//! Typical uses of streams, from beginning to end, over HTTP only.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::app::answer;
use crate::support::gateway::Gateway;
use crate::support::redis::{Server, json as plain, properties};
use crate::support::{Answer, TestApp, eventually, unique};

struct Stream<'a> {
    app: &'a TestApp,
    name: String,
    path: String,
}

impl<'a> Stream<'a> {
    fn new(app: &'a TestApp, name: &str) -> Self {
        let name = unique(name);
        Self {
            app,
            path: format!("/v1/streams/{name}"),
            name,
        }
    }

    async fn append(&self, query: &str, fields: &Value) -> Answer {
        let path = format!("{}/entries?{query}", self.path);
        self.app
            .post_json(&path, &json!({ "fields": fields }).to_string())
            .await
    }

    async fn entries(&self, query: &str) -> Answer {
        let answer = self
            .app
            .get(&format!("{}/entries?{query}", self.path))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer
    }

    async fn group(&self, group: &str, call: &str, form: &str) -> Answer {
        let path = format!("{}/groups/{group}/{call}", self.path);
        let answer = self.app.post_form(&path, form).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer
    }

    async fn join(&self, group: &str) {
        let made = self
            .app
            .put_json(&format!("{}/groups/{group}", self.path), "{}")
            .await;
        assert_eq!(made.status, 201, "{}", made.body);
    }

    /// Returns the number of pending entries of a group, and their consumers.
    async fn pending(&self, group: &str) -> (u64, Value) {
        let answer = self
            .app
            .get(&format!("{}/groups/{group}/pending", self.path))
            .await
            .json();
        (
            answer["summary"]["count"].as_u64().unwrap(),
            answer["summary"]["consumers"].clone(),
        )
    }

    /// Reads in a group. Returns the id and the field `n` of each entry.
    async fn read_numbers(&self, group: &str, form: &str) -> Vec<(String, u32)> {
        let json = self.group(group, "read", form).await.json();
        let one = |entry: &Value| {
            let number = entry["fields"]["n"].as_str().unwrap().parse().unwrap();
            (entry["id"].as_str().unwrap().to_owned(), number)
        };
        json["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(one)
            .collect()
    }

    async fn ack(&self, group: &str, ids: impl Iterator<Item = &str>) -> Value {
        let form = ids
            .map(|id| format!("ids={id}"))
            .collect::<Vec<_>>()
            .join("&");
        self.group(group, "ack", &form).await.json()["acknowledged"].clone()
    }

    async fn seen(&self) -> Value {
        self.app.get(&self.path).await.json()
    }
}

/// Returns the field `n` of each entry, by stream, from a response about several streams.
fn values(answer: &Answer) -> Vec<Vec<String>> {
    assert_eq!(answer.status, 200, "{}", answer.body);
    let value = |entry: &Value| entry["fields"]["n"].as_str().unwrap().to_owned();
    let of_one = |item: &Value| {
        item["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(value)
            .collect::<Vec<_>>()
    };
    answer.json()["streams"]
        .as_array()
        .unwrap()
        .iter()
        .map(of_one)
        .collect()
}

/// Creates two streams, one with ten entries and one with five.
async fn two_notebooks(app: &TestApp) -> (Stream<'_>, Stream<'_>) {
    let (one, two) = (Stream::new(app, "one"), Stream::new(app, "two"));
    for n in 0..10 {
        assert_eq!(one.append("", &json!({ "n": n })).await.status, 201);
    }
    for n in 10..15 {
        assert_eq!(two.append("", &json!({ "n": n })).await.status, 201);
    }
    (one, two)
}

#[tokio::test]
async fn a_notebook_reads_on_waits_for_nothing_and_reads_two_streams_at_once() {
    let app = TestApp::start().await;
    let (one, two) = two_notebooks(&app).await;
    assert_eq!(one.seen().await["length"], 10);
    let first = one.entries("after=0&limit=2").await;
    let rest = one.entries(&format!("after={}", first.ids()[1])).await;
    let all = one.entries("").await.ids();
    assert_eq!([first.ids(), rest.ids()].concat(), all);

    let began = Instant::now();
    let nothing = one.entries(&format!("after={}&wait=500ms", all[9])).await;
    let waited = began.elapsed();
    assert_eq!(nothing.ids(), Vec::<String>::new());
    assert!(
        waited >= Duration::from_millis(500) && waited < Duration::from_secs(2),
        "{waited:?}"
    );

    let last = app
        .get(&format!("/v1/entries?stream={}@%2B", one.name))
        .await;
    assert_eq!(values(&last), [["9"]]);
    let both = format!(
        "/v1/entries?stream={}@{}&stream={}@0&limit=3",
        one.name, all[6], two.name
    );
    assert_eq!(
        values(&app.get(&both).await),
        [["7", "8", "9"], ["10", "11", "12"]]
    );
}

#[tokio::test]
async fn a_notebook_has_two_groups_over_one_and_over_two_streams() {
    let app = TestApp::start().await;
    let (one, two) = two_notebooks(&app).await;
    one.join("first").await;
    one.join("second").await;
    two.join("second").await;
    let read = async |group: &str, call: Value| {
        app.post_json(&format!("/v1/groups/{group}/read"), &call.to_string())
            .await
    };
    // One group with two consumers: the second gets the entries that the first did not.
    let of_a = read(
        "first",
        json!({"streams": [one.name], "consumer": "a", "count": 4}),
    )
    .await;
    let of_b = read(
        "first",
        json!({"streams": [one.name], "consumer": "b", "count": 4}),
    )
    .await;
    assert_eq!(values(&of_a), [["0", "1", "2", "3"]]);
    assert_eq!(values(&of_b), [["4", "5", "6", "7"]]);
    // Another group over both streams has lost nothing to the first.
    let both = json!({"streams": [one.name, two.name], "consumer": "c", "count": 2});
    assert_eq!(
        values(&read("second", both.clone()).await),
        [["0", "1"], ["10", "11"]]
    );

    let held = json!([{"name": "a", "count": 4}, {"name": "b", "count": 4}]);
    assert_eq!(one.pending("first").await, (8, held));
    assert_eq!(one.pending("second").await.0, 2);
    let ids: Vec<Value> = of_a.json()["streams"][0]["entries"]
        .as_array()
        .unwrap()
        .clone();
    let ids: Vec<&Value> = ids.iter().map(|entry| &entry["id"]).collect();
    let ack = json!({"ids": ids}).to_string();
    let acked = app
        .post_json(&format!("{}/groups/first/ack", one.path), &ack)
        .await;
    assert_eq!(acked.json()["acknowledged"], 4);
    assert_eq!(
        one.pending("first").await,
        (4, json!([{"name": "b", "count": 4}]))
    );
    assert_eq!(
        one.pending("second").await.0,
        2,
        "groups do not acknowledge for each other"
    );
    assert_eq!(
        one.seen().await["length"],
        10,
        "acknowledging deletes nothing"
    );

    let all: String = one
        .entries("")
        .await
        .ids()
        .iter()
        .map(|id| format!("id={id}&"))
        .collect::<Vec<_>>()
        .concat();
    let deleted = app.delete(&format!("{}/entries?{all}", one.path)).await;
    assert_eq!(deleted.json()["deleted"], 10);
    assert_eq!(one.seen().await["length"], 0);
    let rest = read("second", both).await;
    assert_eq!(values(&rest), [&[][..], &["12", "13"]]);
}

#[tokio::test]
async fn a_client_publishes_consumes_acknowledges_and_trims_to_nothing() {
    let app = TestApp::start().await;
    let stream = Stream::new(&app, "client");
    for name in ["a", "b", "c"] {
        assert_eq!(
            stream.append("", &json!({ "name": name })).await.status,
            201
        );
    }
    let group = format!("{}/groups/readers", stream.path);
    assert_eq!(app.put_json(&group, "{}").await.status, 201);
    assert_eq!(
        app.put_json(&group, "{}").await.status,
        200,
        "one that exists is no failure"
    );
    let read = stream.group("readers", "read", "consumer=me&count=2").await;
    let ids: String = read
        .ids()
        .iter()
        .map(|id| format!("ids={id}&"))
        .collect::<Vec<_>>()
        .concat();
    assert_eq!(
        stream.group("readers", "ack", &ids).await.json()["acknowledged"],
        2
    );
    assert_eq!(
        stream.seen().await["length"],
        3,
        "acknowledging deletes nothing"
    );
    assert_eq!(
        stream
            .group("readers", "read", "consumer=me")
            .await
            .ids()
            .len(),
        1
    );
    let trimmed = app
        .post_form(&format!("{}/trim", stream.path), "maxlen=0&exact=true")
        .await;
    assert_eq!(trimmed.json()["trimmed"], 3);
    assert_eq!(stream.entries("").await.ids().len(), 0);
    assert_eq!(
        stream
            .group("readers", "read", "consumer=me")
            .await
            .ids()
            .len(),
        0
    );
}

#[tokio::test]
async fn a_producer_numbers_its_entries_and_keeps_the_newest() {
    let app = TestApp::start().await;
    let stream = Stream::new(&app, "numbered");
    for n in 1..=30 {
        let answer = stream
            .append(
                &format!("id={n}-0&maxlen=10&exact=true"),
                &json!({ "n": n }),
            )
            .await;
        assert_eq!(answer.json()["id"], format!("{n}-0"));
    }
    stream
        .append("id=30-0", &json!({"n": 30}))
        .await
        .is_problem(409, "id-not-monotonic");
    assert_eq!(stream.seen().await["length"], 10);
    assert_eq!(
        stream.entries("start=24&end=26").await.ids(),
        ["24-0", "25-0", "26-0"]
    );
    assert_eq!(
        stream.entries("start=24&end=26&order=desc").await.ids(),
        ["26-0", "25-0", "24-0"]
    );
    assert_eq!(stream.entries("last=1").await.ids(), ["30-0"]);
    let gone = app
        .get(&format!("{}/entries?after=5-0:5", stream.path))
        .await;
    assert_eq!(gone.is_problem(410, "entries-trimmed")["lost"], 15);
}

#[tokio::test]
async fn an_event_store_replays_from_a_version_and_refuses_stale_writers() {
    let app = TestApp::start().await;
    let account = Stream::new(&app, "account");
    // Versions are ids: 1-0, 2-0, …. A writer states the version it has seen.
    let change = async |version: u32, seen: Option<u32>, amount: i32| {
        let path = format!("{}/entries?id={version}-0", account.path);
        let request = app
            .client
            .post(app.url(&path))
            .header("content-type", "application/json");
        let request = match seen {
            Some(seen) => request.header("if-match", format!("\"{seen}-0\"")),
            None => request.header("if-none-match", "*"),
        };
        app.send(request.body(json!({"fields": {"amount": amount}}).to_string()))
            .await
    };
    assert_eq!(change(1, None, 100).await.status, 201);
    assert_eq!(change(2, Some(1), -30).await.status, 201);
    change(2, Some(1), -90)
        .await
        .is_problem(412, "precondition-failed");
    assert_eq!(change(3, Some(2), -60).await.status, 201);
    let amounts = async |query: &str| {
        let json = account.entries(query).await.json();
        let entries = json["entries"].as_array().unwrap().iter();
        entries
            .map(|entry| entry["fields"]["amount"].as_str().unwrap().parse().unwrap())
            .collect::<Vec<i32>>()
    };
    assert_eq!(amounts("after=0").await, [100, -30, -60]);
    assert_eq!(amounts("after=1-0").await, [-30, -60]);
    assert_eq!(amounts("after=0&end=2-0").await.iter().sum::<i32>(), 70);
}

#[tokio::test]
async fn a_broker_delivers_in_order_at_least_once_and_shows_what_redis_shows() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let (orders, payments) = (Stream::new(&app, "orders"), Stream::new(&app, "payments"));
    for stream in [&orders, &payments] {
        app.put_json(&format!("{}/groups/workers", stream.path), "{}")
            .await;
    }
    let numbers = |read: &[(String, u32)]| read.iter().map(|(_, n)| *n).collect::<Vec<_>>();

    // A waiting read gets an entry that is published meanwhile.
    let publish = async {
        eventually("it waits", async || app.metric("waiting_reads").await == 1).await;
        orders.append("", &json!({"n": 1})).await
    };
    let (first, published) = tokio::join!(
        orders.read_numbers("workers", "consumer=w1&wait=20s"),
        publish
    );
    assert_eq!(published.json()["id"], first[0].0);
    assert_eq!(
        orders
            .ack("workers", first.iter().map(|(id, _)| id.as_str()))
            .await,
        1
    );

    // Each stream keeps its order, whatever happens in the other.
    for n in 2..=30 {
        orders.append("", &json!({ "n": n })).await;
        payments.append("", &json!({ "n": 100 + n })).await;
    }
    let (mut of_orders, mut of_payments) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        of_orders.extend(orders.read_numbers("workers", "consumer=w1&count=4").await);
        of_payments.extend(
            payments
                .read_numbers("workers", "consumer=w1&count=7")
                .await,
        );
    }
    assert_eq!(numbers(&of_orders), (2..=21).collect::<Vec<_>>());
    assert_eq!(numbers(&of_payments), (102..=130).collect::<Vec<_>>());
    assert_eq!(
        orders
            .ack("workers", of_orders.iter().map(|(id, _)| id.as_str()))
            .await,
        20
    );

    // A consumer reads through another gateway and dies with it before it acknowledges anything.
    let mut other = Gateway::start(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--redis-url",
        &server.url(),
    ]);
    let url = format!(
        "http://{}{}/groups/workers/read",
        other.address, orders.path
    );
    let form = app
        .client
        .post(url)
        .header("content-type", "application/x-www-form-urlencoded");
    let lost = answer(form.body("consumer=w2&count=5"))
        .await
        .unwrap()
        .ids();
    assert_eq!(lost.len(), 5);
    other.signal("KILL");
    other.wait();
    let rest = orders
        .read_numbers("workers", "consumer=w3&count=100")
        .await;
    assert_eq!(
        numbers(&rest),
        (27..=30).collect::<Vec<_>>(),
        "nobody gets what w2 holds"
    );
    let claim = async |min_idle: &str| {
        let form = format!("consumer=w3&min_idle={min_idle}");
        orders.group("workers", "autoclaim", &form).await
    };
    assert_eq!(claim("1h").await.ids().len(), 0);
    let idle = format!("{}/groups/workers/pending?min_idle=50ms", orders.path);
    eventually("all are idle", async || {
        app.get(&idle).await.ids().len() == 9
    })
    .await;
    let claimed = claim("50ms").await;
    let others: Vec<&String> = rest.iter().map(|(id, _)| id).collect();
    let all: Vec<&String> = lost.iter().chain(others.iter().copied()).collect();
    assert_eq!(
        claimed.ids().iter().collect::<Vec<_>>(),
        all,
        "what w2 held comes again, in order"
    );
    assert_eq!(claimed.json()["entries"][0]["fields"]["n"], "22");

    // The figures are those that Redis itself reports.
    shows_what_redis_shows(&server, &orders).await;
    assert_eq!(
        orders.ack("workers", lost.iter().map(String::as_str)).await,
        5
    );
    shows_what_redis_shows(&server, &orders).await;

    // A trim removes the oldest entries. Those that were pending stay pending, and a claim reports
    // them as deleted.
    let trimmed = app
        .post_form(&format!("{}/trim", orders.path), "maxlen=2&exact=true")
        .await;
    assert_eq!(trimmed.json()["trimmed"], 28);
    assert_eq!(
        orders.entries("").await.ids().iter().collect::<Vec<_>>(),
        others[2..]
    );
    shows_what_redis_shows(&server, &orders).await;
    let left = claim("0").await.json();
    assert_eq!(
        (&left["deleted"], &left["entries"].as_array().unwrap().len()),
        (&json!(others[..2]), &2)
    );
    assert_eq!(
        orders
            .ack("workers", others[2..].iter().map(|id| id.as_str()))
            .await,
        2
    );
    assert_eq!(
        app.get(&format!("{}/groups/workers", orders.path))
            .await
            .json()["pending"],
        0
    );
    shows_what_redis_shows(&server, &orders).await;
}

/// Compares stream, group, consumers and pending entries with XINFO and XPENDING.
async fn shows_what_redis_shows(server: &Server, stream: &Stream<'_>) {
    let key = stream.path.rsplit('/').next().unwrap();
    let raw = async |words: &[&str]| plain(&server.command(words).await);
    let (seen, info) = (
        stream.seen().await,
        properties(&raw(&["XINFO", "STREAM", key]).await),
    );
    assert_eq!(seen["length"], raw(&["XLEN", key]).await);
    for (ours, theirs) in [
        ("length", "length"),
        ("entries_added", "entries-added"),
        ("last_id", "last-generated-id"),
        ("max_deleted_id", "max-deleted-entry-id"),
        ("groups", "groups"),
    ] {
        assert_eq!(seen[ours], info[theirs], "{ours}");
    }
    let path = format!("{}/groups/workers", stream.path);
    let (group, groups) = (
        stream.app.get(&path).await.json(),
        raw(&["XINFO", "GROUPS", key]).await,
    );
    let info = properties(&groups[0]);
    for (ours, theirs) in [
        ("group", "name"),
        ("consumer_count", "consumers"),
        ("pending", "pending"),
        ("last_delivered_id", "last-delivered-id"),
        ("entries_read", "entries-read"),
        ("lag", "lag"),
    ] {
        assert_eq!(group[ours], info[theirs], "{ours}");
    }
    let consumers = raw(&["XINFO", "CONSUMERS", key, "workers"]).await;
    assert_eq!(
        group["consumers"].as_array().unwrap().len(),
        consumers.as_array().unwrap().len()
    );
    for (ours, theirs) in group["consumers"]
        .as_array()
        .unwrap()
        .iter()
        .zip(consumers.as_array().unwrap())
    {
        let theirs = properties(theirs);
        assert_eq!(
            (&ours["consumer"], &ours["pending"]),
            (&theirs["name"], &theirs["pending"])
        );
        let (ours, theirs) = (
            ours["idle_ms"].as_u64().unwrap(),
            theirs["idle"].as_u64().unwrap(),
        );
        assert!(
            ours <= theirs && theirs - ours < 20_000,
            "{ours} ms, {theirs} ms"
        );
    }
    let seen = stream
        .app
        .get(&format!("{path}/pending?limit=1000"))
        .await
        .json();
    let summary = raw(&["XPENDING", key, "workers"]).await;
    let of = &seen["summary"];
    assert_eq!(
        (&of["count"], &of["min_id"], &of["max_id"]),
        (&summary[0], &summary[1], &summary[2])
    );
    let held: Value = of["consumers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| json!([one["name"], one["count"].to_string()]))
        .collect();
    assert_eq!(
        held,
        if summary[3].is_null() {
            json!([])
        } else {
            summary[3].clone()
        }
    );
    let pending = raw(&["XPENDING", key, "workers", "-", "+", "1000"]).await;
    let (ours, theirs) = (
        seen["entries"].as_array().unwrap(),
        pending.as_array().unwrap(),
    );
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert_eq!((&ours["id"], &ours["consumer"]), (&theirs[0], &theirs[1]));
        assert_eq!(ours["deliveries"], theirs[3]);
        assert!(ours["idle_ms"].as_u64() <= theirs[2].as_u64());
    }
}
