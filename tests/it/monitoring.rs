//! Figures of Redis about streams, groups and consumers: the gateway shows each one unchanged.

use deadpool_redis::redis::Value as Redis;
use serde_json::{Map, Value, json};

use crate::support::redis::{Server, json as plain, properties, shared};
use crate::support::{TestApp, skipped, unique};

/// Maximum difference between two readings of a clock, in milliseconds.
const MOMENT_MS: u64 = 20_000;

/// Creates a stream with two groups, consumers that hold entries, a consumer that never read, and
/// deleted entries.
async fn lived(app: &TestApp, name: &str) -> String {
    let stream = app.stream_of(name, 9).await;
    let path = format!("/v1/streams/{stream}");
    app.put_json(&format!("{path}/groups/g"), "{}").await;
    app.put_json(&format!("{path}/groups/h"), r#"{"start":"$"}"#)
        .await;
    app.post_form(&format!("{path}/groups/g/read"), "consumer=w1&count=3")
        .await;
    app.post_form(&format!("{path}/groups/g/read"), "consumer=w2&count=2")
        .await;
    app.post_form(
        &format!("{path}/groups/g/claim"),
        "consumer=w2&ids=1-0&retry_count=7",
    )
    .await;
    app.put_json(&format!("{path}/groups/g/consumers/idle"), "")
        .await;
    app.delete(&format!("{path}/entries/2-0")).await;
    app.post_form(&format!("{path}/trim"), "maxlen=7&exact=true")
        .await;
    stream
}

async fn xinfo(words: &[&str]) -> Value {
    plain(&shared().await.command(&[&["XINFO"], words].concat()).await)
}

fn list(json: &Value) -> &Vec<Value> {
    json.as_array()
        .unwrap_or_else(|| panic!("not a list: {json}"))
}

/// Converts `[id, [name, value, …]]` to an entry of the gateway.
fn entry(raw: &Value) -> Value {
    let fields = raw[1].as_array().unwrap().chunks(2);
    let fields: Map<String, Value> = fields
        .map(|pair| (pair[0].as_str().unwrap().to_owned(), pair[1].clone()))
        .collect();
    json!({"id": raw[0], "fields": fields})
}

/// Compares every property of XINFO STREAM, with and without FULL, with the response of the
/// gateway.
fn compare_stream(raw: &Map<String, Value>, ours: &Value) {
    for (name, value) in raw {
        let (shown, value) = match name.as_str() {
            "length" => (&ours["length"], value.clone()),
            "radix-tree-keys" => (&ours["radix_tree_keys"], value.clone()),
            "radix-tree-nodes" => (&ours["radix_tree_nodes"], value.clone()),
            "last-generated-id" => (&ours["last_id"], value.clone()),
            "max-deleted-entry-id" => (&ours["max_deleted_id"], value.clone()),
            "entries-added" => (&ours["entries_added"], value.clone()),
            "recorded-first-entry-id" => (&ours["recorded_first_id"], value.clone()),
            "groups" if value.is_number() => (&ours["groups"], value.clone()),
            "first-entry" => (&ours["first_entry"], entry(value)),
            "last-entry" => (&ours["last_entry"], entry(value)),
            "entries" => {
                let all = value.as_array().unwrap().iter().map(entry).collect();
                (&ours["full"]["entries"], all)
            }
            "idmp-duration" => (&ours["idmp"]["duration_s"], value.clone()),
            "idmp-maxsize" => (&ours["idmp"]["max_size"], value.clone()),
            "pids-tracked" => (&ours["idmp"]["producers"], value.clone()),
            "iids-tracked" => (&ours["idmp"]["ids"], value.clone()),
            "iids-added" => (&ours["idmp"]["added"], value.clone()),
            "iids-duplicates" => (&ours["idmp"]["duplicates"], value.clone()),
            "groups" => continue, // With FULL: compared one by one.
            unknown => panic!("{unknown} is shown nowhere"),
        };
        assert_eq!(*shown, value, "{name}");
    }
}

fn compare_group(raw: &Map<String, Value>, ours: &Value) {
    for (name, value) in raw {
        if name == "lag" && ours["lag"].is_null() {
            continue; // Entries were removed, so that only counting would tell.
        }
        let shown = match name.as_str() {
            "name" => &ours["group"],
            "last-delivered-id" => &ours["last_delivered_id"],
            "entries-read" => &ours["entries_read"],
            "lag" => &ours["lag"],
            "pel-count" => &ours["pending"],
            "pending" if value.is_number() => &ours["pending"],
            "consumers" if value.is_number() => &ours["consumer_count"],
            "pending" | "consumers" => continue, // With FULL: compared one by one.
            unknown => panic!("{unknown} is shown nowhere"),
        };
        assert_eq!(shown, value, "{name}");
    }
}

fn compare_consumer(raw: &Map<String, Value>, ours: &Value) {
    for (name, value) in raw {
        let about = |shown: &Value| match (shown.as_u64(), value.as_i64()) {
            (None, Some(-1)) => true,
            (Some(shown), Some(then)) => u64::try_from(then).unwrap().abs_diff(shown) < MOMENT_MS,
            _ => false,
        };
        let never = if *value == -1 {
            Value::Null
        } else {
            value.clone()
        };
        match name.as_str() {
            "name" => assert_eq!(ours["consumer"], *value),
            "pel-count" => assert_eq!(ours["pending"], *value),
            "pending" if value.is_number() => assert_eq!(ours["pending"], *value),
            "idle" => assert!(about(&ours["idle_ms"]), "{ours} {raw:?}"),
            "inactive" => assert!(about(&ours["inactive_ms"]), "{ours} {raw:?}"),
            "seen-time" => assert_eq!(ours["seen_time"], *value),
            "active-time" => assert_eq!(ours["active_time"], never),
            "pending" => {}
            unknown => panic!("{unknown} is shown nowhere"),
        }
    }
}

#[tokio::test]
async fn every_figure_of_a_stream_its_groups_and_consumers_is_shown_as_redis_has_it() {
    let app = TestApp::start().await;
    let stream = lived(&app, "figures").await;
    let path = format!("/v1/streams/{stream}");
    compare_stream(
        &properties(&xinfo(&["STREAM", &stream]).await),
        &app.get(&path).await.json(),
    );
    let ours = app.get(&format!("{path}/groups")).await.json();
    for (index, raw) in list(&xinfo(&["GROUPS", &stream]).await).iter().enumerate() {
        compare_group(&properties(raw), &ours["groups"][index]);
    }
    let ours = app.get(&format!("{path}/groups/g/consumers")).await.json();
    let raw = xinfo(&["CONSUMERS", &stream, "g"]).await;
    assert_eq!(list(&raw).len(), 3);
    for (index, raw) in list(&raw).iter().enumerate() {
        compare_consumer(&properties(raw), &ours["consumers"][index]);
    }
    // A stream that holds no entries any more.
    app.post_form(&format!("{path}/trim"), "maxlen=0&exact=true")
        .await;
    let ours = app.get(&path).await.json();
    assert!(
        ours["first_entry"].is_null()
            && ours["last_entry"].is_null()
            && ours["oldest_id"].is_null()
    );
}

#[tokio::test]
async fn the_full_view_shows_all_that_redis_shows_up_to_a_count() {
    let app = TestApp::start().await;
    let stream = lived(&app, "full").await;
    let path = format!("/v1/streams/{stream}");
    for count in ["1", "2", "1000"] {
        let ours = app
            .get(&format!("{path}?full=true&count={count}"))
            .await
            .json();
        let raw = properties(&xinfo(&["STREAM", &stream, "FULL", "COUNT", count]).await);
        compare_stream(&raw, &ours);
        let groups = list(&ours["full"]["groups"]);
        assert_eq!(groups.len(), list(&raw["groups"]).len());
        for (raw, group) in list(&raw["groups"]).iter().map(properties).zip(groups) {
            compare_group(&raw, group);
            let pending = |one: &Value| {
                json!([
                    one["id"],
                    one["consumer"],
                    one["delivery_time"],
                    one["deliveries"]
                ])
            };
            let pending: Value = list(&group["pending_entries"])
                .iter()
                .map(pending)
                .collect();
            assert_eq!(pending, raw["pending"]);
            let consumers = list(&group["consumers"]);
            assert_eq!(consumers.len(), list(&raw["consumers"]).len());
            for (raw, consumer) in list(&raw["consumers"])
                .iter()
                .map(properties)
                .zip(consumers)
            {
                compare_consumer(&raw, consumer);
                let pending =
                    |one: &Value| json!([one["id"], one["delivery_time"], one["deliveries"]]);
                let held = list(&consumer["pending_entries"]).iter().map(pending);
                assert_eq!(held.collect::<Value>(), raw["pending"]);
            }
        }
    }
    let seen = app
        .get(&format!("{path}?full=true&count=1000"))
        .await
        .json();
    let group = &seen["full"]["groups"][0];
    assert_eq!(
        (&group["group"], &group["pending"]),
        (&json!("g"), &json!(5))
    );
    assert_eq!(group["pending_entries"][0]["deliveries"], 7);
    assert_eq!(seen["full"]["entries"].as_array().unwrap().len(), 7);
    assert!(app.get(&path).await.json().get("full").is_none());
}

#[tokio::test]
async fn the_full_view_is_bounded() {
    let app = TestApp::start().await;
    let stream = app.stream_of("bounded", 12).await;
    let path = format!("/v1/streams/{stream}");
    let seen = app.get(&format!("{path}?full=true")).await;
    assert_eq!(seen.json()["full"]["entries"].as_array().unwrap().len(), 10);
    assert_eq!(seen.header("etag"), "\"12-0\"");
    for query in [
        "full=true&count=0",
        "full=true&count=1001",
        "count=5",
        "full=1",
    ] {
        app.get(&format!("{path}?{query}"))
            .await
            .is_problem(400, "invalid-request");
    }
    let nowhere = format!("/v1/streams/{}?full=true", unique("none"));
    app.get(&nowhere).await.is_problem(404, "stream-not-found");
    let text = unique("text");
    shared().await.command(&["SET", &text, "x"]).await;
    app.get(&format!("/v1/streams/{text}?full=true"))
        .await
        .is_problem(409, "not-a-stream");
}

#[tokio::test]
async fn what_is_not_text_and_numbers_beyond_lua_are_shown_in_full() {
    let app = TestApp::start().await;
    let stream = unique("strange");
    let path = format!("/v1/streams/{stream}");
    let pairs = r#"{"pairs":[["a","1"],["a",{"base64":"/w=="}]]}"#;
    app.post_json(&format!("{path}/entries?id=1-0"), pairs)
        .await;
    app.put_json(&format!("{path}/groups/g"), "{}").await;
    let most = i64::MAX.to_string();
    app.post_form(&format!("{path}/groups/g/read"), "consumer=w")
        .await;
    app.post_form(
        &format!("{path}/groups/g/claim"),
        &format!("consumer=w&ids=1-0&retry_count={most}"),
    )
    .await;
    let seen = app.get(&format!("{path}?full=true")).await.json();
    assert_eq!(
        seen["full"]["entries"],
        json!([{"id": "1-0", "pairs": [["a", "1"], ["a", {"base64": "/w=="}]]}])
    );
    assert_eq!(
        seen["full"]["groups"][0]["pending_entries"][0]["deliveries"],
        json!(i64::MAX)
    );
}

#[tokio::test]
async fn a_redis_that_is_full_can_still_be_looked_at() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let stream = app.stream_of("oom", 3).await;
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let path = format!("/v1/streams/{stream}");
    assert_eq!(
        app.get(&format!("{path}?full=true")).await.json()["length"],
        3
    );
}

#[tokio::test]
async fn what_redis_itself_remembers_of_producers_is_shown() {
    let app = TestApp::start().await;
    let redis = shared().await;
    if redis.command(&["COMMAND", "INFO", "XCFGSET"]).await == Redis::Array(vec![Redis::Nil]) {
        return skipped("this server stores no ids of producers");
    }
    let stream = unique("idmp");
    for id in ["a", "a", "b"] {
        redis
            .command(&["XADD", &stream, "IDMP", "producer", id, "*", "n", "1"])
            .await;
    }
    let seen = app.get(&format!("/v1/streams/{stream}")).await.json();
    let idmp = &seen["idmp"];
    assert_eq!(
        (&idmp["producers"], &idmp["ids"]),
        (&json!(1), &json!(2)),
        "{seen}"
    );
    assert_eq!(
        (&idmp["added"], &idmp["duplicates"]),
        (&json!(2), &json!(1)),
        "{seen}"
    );
    compare_stream(&properties(&xinfo(&["STREAM", &stream]).await), &seen);
}

#[tokio::test]
async fn every_series_with_known_labels_is_there_before_anything_happens() {
    let app = TestApp::start().await;
    let text = app.get("/metrics").await.body;
    let at_zero = |series: &str| text.contains(&format!("streamgate_{series} 0\n"));
    for bound in streamgate::metrics::BOUNDS {
        assert!(
            at_zero(&format!("refused_total{{bound=\"{bound}\"}}")),
            "{bound}: {text}"
        );
    }
    for reason in ["gone", "max-deliveries", "rejected"] {
        assert!(
            at_zero(&format!("dead_letters_total{{reason=\"{reason}\"}}")),
            "{reason}: {text}"
        );
    }
    for outcome in ["done", "failed", "timeout"] {
        assert!(
            at_zero(&format!("tls_handshakes_total{{outcome=\"{outcome}\"}}")),
            "{outcome}"
        );
    }
    let route = "route=\"/v1/streams/{stream}/entries\"";
    for (method, status) in [("POST", 201), ("POST", 503), ("GET", 200)] {
        let series = format!("requests_total{{method=\"{method}\",{route},status=\"{status}\"}}");
        assert!(at_zero(&series), "{series}: {text}");
    }
    // Counters without labels are present, too.
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, _) = line.split_once(' ').unwrap();
        let any = text
            .lines()
            .any(|line| line.starts_with(name) && !line.starts_with('#'));
        assert!(any, "{name} has no series");
    }
}
