//! Dead letters of entries with more fields than a Lua script can append.

use serde_json::{Value, json};
use streamgate::config::Settings;

use crate::support::redis::{Server, json as plain};
use crate::support::{PATIENCE, TestApp, eventually};

const GROUP: &str = "/v1/streams/s/groups/g";

/// Returns names and values of `count` fields. The first two fields share a name.
fn fields(count: usize) -> Vec<String> {
    let name = |n: usize| {
        if n == 1 {
            "f0".to_owned()
        } else {
            format!("f{n}")
        }
    };
    let value = |n: usize| {
        if n == 1000 {
            "v".repeat(70_000)
        } else {
            format!("value {n}")
        }
    };
    (0..count).flat_map(|n| [name(n), value(n)]).collect()
}

/// Starts a gateway whose group `g` of the stream `s` dead-lettered entries with these fields.
async fn given_up(entries: &[Vec<String>]) -> (Server, TestApp) {
    given_up_with("", entries).await
}

/// Does the same with more members of the policy.
async fn given_up_with(more: &str, entries: &[Vec<String>]) -> (Server, TestApp) {
    let server = Server::start().await;
    // A debug build on a busy machine needs more than the default for replies of 40,000 fields.
    let patient = |settings: &mut Settings| settings.pool.response_timeout = PATIENCE;
    let app = TestApp::on(&server.url(), patient).await;
    let policy = format!(r#"{{"policy":{{"lease":"1h","max_deliveries":1{more}}}}}"#);
    assert_eq!(app.put_json(GROUP, &policy).await.status, 201);
    for (n, fields) in entries.iter().enumerate() {
        let id = format!("{}-0", n + 1);
        let mut words = vec!["XADD", "s", id.as_str()];
        words.extend(fields.iter().map(String::as_str));
        server.command(&words).await;
    }
    let read = app.post_form(&format!("{GROUP}/read"), "consumer=w").await;
    assert_eq!(read.status, 200, "{:.500}", read.body);
    assert_eq!(read.ids().len(), entries.len(), "{:.500}", read.body);
    let ids = read
        .ids()
        .iter()
        .map(|id| format!("ids={id}"))
        .collect::<Vec<_>>()
        .join("&");
    let nack = app.post_form(&format!("{GROUP}/nack"), &ids).await;
    assert_eq!(nack.json()["dead_lettered"], entries.len(), "{}", nack.body);
    (server, app)
}

async fn letters(app: &TestApp) -> Vec<Value> {
    let list = app.get(&format!("{GROUP}/dead-letters")).await;
    assert_eq!(list.status, 200, "{}", list.body);
    list.json()["dead_letters"].as_array().unwrap().clone()
}

/// Returns the fields of an entry in a response that shows pairs.
fn pairs(entry: &Value) -> Vec<String> {
    let pairs = entry["pairs"]
        .as_array()
        .unwrap_or_else(|| panic!("{entry:.300}"))
        .iter();
    pairs
        .flat_map(|pair| [0, 1].map(|at| pair[at].as_str().unwrap().to_owned()))
        .collect()
}

async fn stored(server: &Server, stream: &str) -> Vec<Value> {
    let mut found = Value::Null;
    // The response is large and may time out under load.
    eventually("the entries are read", async || {
        let read = server.try_command(&["XRANGE", stream, "-", "+"]).await;
        read.is_ok_and(|read| {
            found = plain(&read);
            true
        })
    })
    .await;
    found
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry[1].clone())
        .collect()
}

#[tokio::test]
async fn a_dead_letter_has_all_fields_of_its_entry_however_many() {
    let counts = [3_500, 3_501, 40_000];
    let entries = counts.map(fields);
    let (server, app) = given_up(&entries).await;
    let raw = stored(&server, "{s}.dead").await;
    assert_eq!(raw[0].as_array().unwrap().len(), 2 * (3_500 + 7));
    for letter in &raw[1..] {
        assert_eq!(
            letter.as_array().unwrap().len(),
            2 * (1 + 7),
            "one field and where it came from"
        );
        assert_eq!(letter[0], "streamgate-fields");
        assert_eq!(letter[2], "streamgate-stream");
    }
    let letters = letters(&app).await;
    for (letter, entry) in letters.iter().zip(&entries) {
        assert!(pairs(letter) == *entry, "{}", letter["entry"]);
        let path = format!("{GROUP}/dead-letters/{}", letter["id"].as_str().unwrap());
        assert!(
            pairs(&app.get(&path).await.json()) == *entry,
            "{}",
            letter["entry"]
        );
    }
    assert_eq!(letters.len(), 3);
}

#[tokio::test]
async fn a_dead_letter_with_many_fields_is_redriven_whole_and_once() {
    let entries = [fields(5_000), fields(3), fields(20_000)];
    let (server, app) = given_up(&entries).await;
    let redrive = async |form: &str| {
        let answer = app
            .post_form(&format!("{GROUP}/dead-letters/redrive"), form)
            .await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    };
    let all = redrive("all=true&to={s}.again").await;
    let outcomes: Vec<_> = all["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| &result["outcome"])
        .collect();
    assert_eq!(outcomes, ["copied"; 3]);
    assert_eq!(
        (&all["redriven"], &all["remaining"]),
        (&3.into(), &0.into())
    );
    assert!(stored(&server, "{s}.again").await == entries.clone().map(|entry| json!(entry)));

    let (server, app) = given_up(&entries[..1]).await;
    let path = format!("{GROUP}/dead-letters/redrive");
    // A redrive to a key that is not a stream moves nothing and loses nothing.
    server.command(&["SET", "{s}.text", "x"]).await;
    let refused = app.post_form(&path, "all=true&to={s}.text").await;
    assert_eq!(refused.status, 409, "{}", refused.body);
    assert_eq!(letters(&app).await.len(), 1);
    // A redrive uses the original while it exists. After that, it needs a copy, which goes to all
    // groups.
    let gone = app.delete("/v1/streams/s/entries/1-0").await;
    assert_eq!(gone.status, 204, "{}", gone.body);
    let answer = app.post_form(&path, "all=true").await.json();
    assert_eq!(answer["results"][0]["outcome"], "gone");
    let calls = (0..5).map(async |_| {
        let answer = app.post_form(&path, "all=true&copy=true").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["redriven"].as_u64().unwrap()
    });
    let redriven: u64 = futures_util::future::join_all(calls).await.iter().sum();
    assert_eq!(redriven, 1, "once, however many ask at the same time");
    assert!(stored(&server, "s").await == [json!(entries[0])]);
    assert_eq!(letters(&app).await.len(), 0);
    eventually("the group gets the copy", async || {
        let read = app.post_form(&format!("{GROUP}/read"), "consumer=w").await;
        read.ids().len() == 1 && pairs(&read.json()["entries"][0]) == entries[0]
    })
    .await;
}

#[tokio::test]
async fn a_copy_of_a_dead_letter_with_many_fields_frees_its_key() {
    let first = fields(5_000);
    let (server, app) = given_up_with(r#","order_by":"f0""#, &[first]).await;
    // The second entry has the key of the first, and waits for its dead letter.
    server.command(&["XADD", "s", "9-0", "f0", "value 0"]).await;
    let read = format!("{GROUP}/read");
    let got = app.post_form(&read, "consumer=w").await;
    assert!(got.ids().is_empty(), "{}", got.body);
    let path = format!("{GROUP}/dead-letters/redrive");
    let copied = app.post_form(&path, "all=true&to={s}.again").await.json();
    assert_eq!(copied["results"][0]["outcome"], "copied", "{copied}");
    let got = app.post_form(&read, "consumer=w&wait=20s").await;
    assert_eq!(got.ids(), ["9-0"]);
    let keys = app.get(GROUP).await.json()["keys"].clone();
    assert_eq!(keys["blocked"], 0, "{keys}");
}

#[tokio::test]
async fn a_field_of_the_name_of_packed_fields_is_a_field_like_any_other() {
    let own = |value: &str| vec!["streamgate-fields".to_owned(), value.to_owned()];
    // The second value looks like packed fields.
    let entries = [own("mine"), own("\u{92}\u{a1}"), own("")];
    let (server, app) = given_up(&entries).await;
    for (letter, entry) in letters(&app).await.iter().zip(&entries) {
        assert_eq!(
            letter["fields"]["streamgate-fields"],
            entry[1].as_str(),
            "{letter}"
        );
    }
    let path = format!("{GROUP}/dead-letters/redrive");
    let all = app.post_form(&path, "all=true&to={s}.again").await.json();
    assert_eq!(all["redriven"], 3, "{all}");
    assert!(stored(&server, "{s}.again").await == entries.map(|entry| json!(entry)));
}
