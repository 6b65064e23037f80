//! What people do with streams, from beginning to end, over HTTP alone.

use serde_json::{Value, json};

use crate::support::{Answer, TestApp, unique};

struct Stream<'a> {
    app: &'a TestApp,
    path: String,
}

impl<'a> Stream<'a> {
    fn new(app: &'a TestApp, name: &str) -> Self {
        Self { app, path: format!("/v1/streams/{}", unique(name)) }
    }

    async fn append(&self, query: &str, fields: &Value) -> Answer {
        let path = format!("{}/entries?{query}", self.path);
        self.app.post_json(&path, &json!({ "fields": fields }).to_string()).await
    }

    async fn entries(&self, query: &str) -> Answer {
        let answer = self.app.get(&format!("{}/entries?{query}", self.path)).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer
    }

    async fn group(&self, group: &str, call: &str, form: &str) -> Answer {
        let path = format!("{}/groups/{group}/{call}", self.path);
        let answer = self.app.post_form(&path, form).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer
    }

    async fn seen(&self) -> Value {
        self.app.get(&self.path).await.json()
    }
}

#[tokio::test]
async fn a_client_publishes_consumes_acknowledges_and_trims_to_nothing() {
    let app = TestApp::start().await;
    let stream = Stream::new(&app, "client");
    for name in ["a", "b", "c"] {
        assert_eq!(stream.append("", &json!({ "name": name })).await.status, 201);
    }
    let group = format!("{}/groups/readers", stream.path);
    assert_eq!(app.put_json(&group, "{}").await.status, 201);
    assert_eq!(app.put_json(&group, "{}").await.status, 200, "one that exists is no failure");
    let read = stream.group("readers", "read", "consumer=me&count=2").await;
    let ids: String = read.ids().iter().map(|id| format!("ids={id}&")).collect::<Vec<_>>().concat();
    assert_eq!(stream.group("readers", "ack", &ids).await.json()["acknowledged"], 2);
    assert_eq!(stream.seen().await["length"], 3, "acknowledging deletes nothing");
    assert_eq!(stream.group("readers", "read", "consumer=me").await.ids().len(), 1);
    let trimmed = app.post_form(&format!("{}/trim", stream.path), "maxlen=0&exact=true").await;
    assert_eq!(trimmed.json()["trimmed"], 3);
    assert_eq!(stream.entries("").await.ids().len(), 0);
    assert_eq!(stream.group("readers", "read", "consumer=me").await.ids().len(), 0);
}

#[tokio::test]
async fn a_producer_numbers_its_entries_and_keeps_the_newest() {
    let app = TestApp::start().await;
    let stream = Stream::new(&app, "numbered");
    for n in 1..=30 {
        let answer =
            stream.append(&format!("id={n}-0&maxlen=10&exact=true"), &json!({ "n": n })).await;
        assert_eq!(answer.json()["id"], format!("{n}-0"));
    }
    stream.append("id=30-0", &json!({"n": 30})).await.is_problem(409, "id-not-monotonic");
    assert_eq!(stream.seen().await["length"], 10);
    assert_eq!(stream.entries("start=24&end=26").await.ids(), ["24-0", "25-0", "26-0"]);
    assert_eq!(stream.entries("start=24&end=26&order=desc").await.ids(), ["26-0", "25-0", "24-0"]);
    assert_eq!(stream.entries("last=1").await.ids(), ["30-0"]);
    let gone = app.get(&format!("{}/entries?after=5-0:5", stream.path)).await;
    assert_eq!(gone.is_problem(410, "entries-trimmed")["lost"], 15);
}

#[tokio::test]
async fn an_event_store_replays_from_a_version_and_refuses_stale_writers() {
    let app = TestApp::start().await;
    let account = Stream::new(&app, "account");
    // Versions are ids: 1-0, 2-0, …; a writer states the version it has seen.
    let change = async |version: u32, seen: Option<u32>, amount: i32| {
        let path = format!("{}/entries?id={version}-0", account.path);
        let request = app.client.post(app.url(&path)).header("content-type", "application/json");
        let request = match seen {
            Some(seen) => request.header("if-match", format!("\"{seen}-0\"")),
            None => request.header("if-none-match", "*"),
        };
        app.send(request.body(json!({"fields": {"amount": amount}}).to_string())).await
    };
    assert_eq!(change(1, None, 100).await.status, 201);
    assert_eq!(change(2, Some(1), -30).await.status, 201);
    change(2, Some(1), -90).await.is_problem(412, "precondition-failed");
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
