//! Batches whose entries succeed or fail independently, and trace context stored with appends.

use serde_json::json;

use crate::support::{TestApp, unique};

fn entries(stream: &str) -> String {
    format!("/v1/streams/{stream}/entries")
}

#[tokio::test]
async fn each_entry_of_a_batch_can_stand_for_itself() {
    let app = TestApp::start().await;
    let stream = unique("each");
    let batch = json!({"entries": [
        {"fields": {"n": 1}, "id": "5-0"},
        {"fields": {"n": null}},
        {"fields": {"n": 2}, "id": "4-0"},
        {"fields": {"n": 3}, "id": "x"},
        {"fields": {"n": 4}, "key": "k"},
        {"fields": {"n": 4}, "key": "k"},
        {"fields": {"n": 5}, "key": "k"},
        {"fields": {"n": 6}},
    ]});
    let path = format!("{}?atomic=false", entries(&stream));
    let answer = app.post_json(&path, &batch.to_string()).await;
    assert_eq!(answer.status, 207, "{}", answer.body);
    let told = answer.json();
    assert_eq!(
        (&told["stream"], &told["appended"]),
        (&json!(stream), &json!(3))
    );
    assert_eq!(answer.header("idempotency-window"), "10m");
    let results = told["results"].as_array().unwrap();
    assert_eq!(results[0], json!({"id": "5-0"}));
    assert_eq!(
        (&results[5]["id"], &results[5]["replayed"]),
        (&results[4]["id"], &json!(true))
    );
    for (index, status, code, pointer) in [
        (1, 422, "invalid-fields", "/entries/1/fields/n"),
        (2, 409, "id-not-monotonic", "/entries/2/id"),
        (3, 400, "invalid-id", "/entries/3/id"),
        (6, 422, "idempotency-key-reused", "/entries/6/key"),
    ] {
        let error = &results[index]["error"];
        assert_eq!(
            (&error["status"], &error["code"]),
            (&json!(status), &json!(code)),
            "{told:#}"
        );
        assert_eq!(error["errors"][0]["pointer"], pointer);
        assert_eq!(error["request_id"], answer.header("x-request-id"));
    }
    let ids = app
        .get(&format!("{}?after=0", entries(&stream)))
        .await
        .ids();
    let given = [0, 4, 7].map(|index: usize| results[index]["id"].as_str().unwrap().to_owned());
    assert_eq!(ids, given);
}

#[tokio::test]
async fn a_batch_of_which_nothing_is_refused_is_answered_like_any_other() {
    let app = TestApp::start().await;
    let stream = unique("all");
    let path = format!("{}?atomic=false", entries(&stream));
    let batch = r#"{"entries":[{"fields":{"n":1},"key":"a"},{"fields":{"n":2},"key":"b"}]}"#;
    let answer = app.post_json(&path, batch).await;
    assert_eq!(
        (answer.status, &answer.json()["appended"]),
        (201, &json!(2))
    );
    let again = app.post_json(&path, batch).await;
    assert_eq!((again.status, &again.json()["appended"]), (200, &json!(0)));
    let plain = r#"{"entries":[{"fields":{"n":1}},{"fields":{"n":2}}]}"#;
    assert_eq!(app.post_json(&path, plain).await.status, 201);
}

#[tokio::test]
async fn what_keeps_all_entries_out_is_one_problem() {
    let app = TestApp::start().await;
    let stream = unique("nothing");
    let batch = r#"{"entries":[{"fields":{"n":1}},{"fields":{"n":2}}]}"#;
    let path = format!("{}?atomic=false&create=false", entries(&stream));
    app.post_json(&path, batch)
        .await
        .is_problem(404, "stream-not-found");
    crate::support::redis::shared()
        .await
        .command(&["SET", &stream, "text"])
        .await;
    let path = format!("{}?atomic=false", entries(&stream));
    app.post_json(&path, batch)
        .await
        .is_problem(409, "not-a-stream");
    let keyed = app
        .client
        .post(app.url(&path))
        .header("content-type", "application/json");
    let keyed = keyed.header("idempotency-key", "k").body(batch);
    let problem = app.send(keyed).await.is_problem(400, "invalid-request");
    assert!(
        problem["detail"].as_str().unwrap().contains("`key`"),
        "{problem:#}"
    );
}

#[tokio::test]
async fn a_wide_entry_goes_where_no_script_is_needed() {
    let app = TestApp::start().await;
    let stream = unique("wide");
    let fields: Vec<_> = (0..4000).map(|n| json!([format!("f{n}"), n])).collect();
    let (wide, plain) = (json!({"pairs": fields}), json!({"fields": {"n": 1}}));
    let batch = |last: serde_json::Value| json!({"entries": [plain, wide, last]}).to_string();
    let path = entries(&stream);
    let answer = app.post_json(&path, &batch(plain.clone())).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let keyed = batch(json!({"fields": {"n": 1}, "key": "k"}));
    let problem = app
        .post_json(&path, &keyed)
        .await
        .is_problem(422, "invalid-fields");
    assert_eq!(problem["errors"][0]["pointer"], "/entries/1");
    let told = app.post_json(&format!("{path}?atomic=false"), &keyed).await;
    assert_eq!((told.status, &told.json()["appended"]), (207, &json!(2)));
    assert_eq!(
        told.json()["results"][1]["error"]["errors"][0]["pointer"],
        "/entries/1"
    );
}

#[tokio::test]
async fn the_trace_an_entry_belongs_to_is_kept_with_it_if_wanted() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let post = async |app: &TestApp, stream: &str, parent: &str| {
        let post = app
            .client
            .post(app.url(&entries(stream)))
            .header("traceparent", parent);
        let post = post
            .header("content-type", "application/x-www-form-urlencoded")
            .body("n=1");
        assert_eq!(app.send(post).await.status, 201);
    };
    let app = TestApp::start_with(|settings| settings.api.trace_context = true).await;
    let stream = unique("trace");
    post(&app, &stream, parent).await;
    post(&app, &stream, "00-nonsense").await;
    let own = format!("n=1&traceparent={}", "mine");
    app.post_form(&entries(&stream), &own).await;
    let read = app
        .get(&format!("{}?after=0", entries(&stream)))
        .await
        .json();
    let fields = |index: usize| read["entries"][index]["fields"].clone();
    assert_eq!(fields(0), json!({"n": "1", "traceparent": parent}));
    assert_eq!(fields(1), json!({"n": "1"}));
    assert_eq!(fields(2), json!({"n": "1", "traceparent": "mine"}));

    let app = TestApp::start().await;
    let stream = unique("untraced");
    post(&app, &stream, parent).await;
    let read = app
        .get(&format!("{}?after=0", entries(&stream)))
        .await
        .json();
    assert_eq!(read["entries"][0]["fields"], json!({"n": "1"}));
}

const LAST_MS: &str = "18446744073709551615";

/// Creates a stream that has three ids left.
async fn nearly_full(name: &str) -> String {
    let stream = unique(name);
    let redis = crate::support::redis::shared().await;
    redis
        .command(&[
            "XADD",
            &stream,
            &format!("{LAST_MS}-18446744073709551612"),
            "n",
            "0",
        ])
        .await;
    stream
}

fn batch_of(count: usize, key: bool) -> String {
    let entry = |n: usize| match key {
        true => json!({"fields": {"n": n}, "key": format!("k{n}")}),
        false => json!({"fields": {"n": n}}),
    };
    json!({"entries": (1..=count).map(entry).collect::<Vec<_>>()}).to_string()
}

#[tokio::test]
async fn a_batch_that_runs_out_of_ids_says_which_of_its_entries_are_there() {
    let app = TestApp::start().await;
    for keyed in [false, true] {
        let stream = nearly_full("stopped").await;
        let answer = app.post_json(&entries(&stream), &batch_of(5, keyed)).await;
        let problem = answer.is_problem(409, "id-not-monotonic");
        assert_eq!(problem["side_effects"], "unknown", "{problem:#}");
        assert_eq!(
            (
                &problem["appended"],
                problem["results"].as_array().unwrap().len()
            ),
            (&json!(3), 3)
        );
        let ids = app
            .get(&format!("{}?after=0", entries(&stream)))
            .await
            .ids();
        assert_eq!(problem["results"][2]["id"], ids[3]);
        assert_eq!(ids.len(), 4, "{ids:?}");
        assert_eq!(
            app.metric("published_entries_total").await,
            if keyed { 6 } else { 3 }
        );
        // A batch of which nothing was appended is an ordinary rejection.
        let answer = app.post_json(&entries(&stream), &batch_of(2, false)).await;
        let problem = answer.is_problem(409, "id-not-monotonic");
        assert_eq!(
            (&problem["side_effects"], &problem["results"]),
            (&json!("none"), &json!(null))
        );
    }
    // With independent entries, the appended ones are reported and the rest are rejected.
    for keyed in [false, true] {
        let stream = nearly_full("each").await;
        let path = format!("{}?atomic=false", entries(&stream));
        let answer = app.post_json(&path, &batch_of(5, keyed)).await;
        assert_eq!(
            (answer.status, &answer.json()["appended"]),
            (207, &json!(3)),
            "{}",
            answer.body
        );
        assert_eq!(
            answer.json()["results"][4]["error"]["code"],
            "id-not-monotonic"
        );
    }
    let stream = nearly_full("lines").await;
    let lines = "{\"fields\":{\"n\":1}}\n".repeat(5);
    let post = app
        .client
        .post(app.url(&entries(&stream)))
        .header("content-type", "application/x-ndjson");
    let answer = app.send(post.body(lines)).await;
    let told = answer.json();
    assert_eq!(
        (answer.status, &told["appended"], &told["failed"]),
        (207, &json!(3), &json!(2))
    );
}

#[tokio::test]
async fn a_key_of_a_batch_that_was_stopped_is_not_remembered() {
    let app = TestApp::start().await;
    let stream = nearly_full("key").await;
    let post = |body: String| {
        let request = app
            .client
            .post(app.url(&entries(&stream)))
            .header("idempotency-key", "k");
        app.send(
            request
                .header("content-type", "application/json")
                .body(body),
        )
    };
    let problem = post(batch_of(5, false))
        .await
        .is_problem(409, "id-not-monotonic");
    assert_eq!(
        (&problem["side_effects"], &problem["appended"]),
        (&json!("unknown"), &json!(3))
    );
    let again = post(batch_of(5, false))
        .await
        .is_problem(409, "id-not-monotonic");
    assert_eq!(again["side_effects"], "none", "{again:#}");
}

#[tokio::test]
async fn a_stream_without_ids_says_so_and_names_none_that_nobody_gave() {
    let app = TestApp::start().await;
    let stream = unique("end");
    let post = async |query: &str| {
        app.post_form(&format!("{}?{query}", entries(&stream)), "n=1")
            .await
    };
    assert_eq!(post("id=5-18446744073709551615").await.status, 201);
    // This millisecond has no sequence number left, on any server.
    let problem = post("id=5-*").await.is_problem(409, "id-not-monotonic");
    assert_eq!(problem["side_effects"], "none");
    let batch = r#"{"entries":[{"fields":{"n":1},"id":"5-*"},{"fields":{"n":1}}]}"#;
    app.post_json(&entries(&stream), batch)
        .await
        .is_problem(409, "id-not-monotonic");
    let answer = app
        .post_json(&format!("{}?atomic=false", entries(&stream)), batch)
        .await;
    assert_eq!(
        answer.json()["results"][0]["error"]["code"],
        "id-not-monotonic",
        "{}",
        answer.body
    );
    assert_eq!(
        post(&format!("id={LAST_MS}-18446744073709551615"))
            .await
            .status,
        201
    );
    for query in ["_", "id=*", "maxlen=5"] {
        let problem = post(query).await.is_problem(409, "id-not-monotonic");
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.contains("the stream has reached the greatest possible id"),
            "{query}: {detail}"
        );
        assert_eq!(
            (&problem["side_effects"], &problem["errors"]),
            (&json!("none"), &json!(null))
        );
    }
    let keyed = r#"{"fields":{"n":1},"key":"k"}"#;
    let problem = app
        .post_json(&entries(&stream), keyed)
        .await
        .is_problem(409, "id-not-monotonic");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("greatest possible id"),
        "{problem:#}"
    );
}
