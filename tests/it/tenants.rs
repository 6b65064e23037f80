//! Namespaces: a tenant works in one part of the key space and never sees the rest.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::auth::{AuthFile, record};
use crate::support::{encode, unique};

/// Creates two tenants and an administrator.
fn tenants() -> (AuthFile, String, String) {
    let (a, b) = (format!("{}:", unique("a")), format!("{}:", unique("b")));
    let tenant =
        |name: &str, prefix: &str| record(name, &["* *"]) + &format!("prefix = {prefix:?}\n");
    let file = AuthFile::new(&(record("root", &["* *"]) + &tenant("a", &a) + &tenant("b", &b)));
    (file, a, b)
}

#[tokio::test]
async fn a_tenant_sees_its_own_streams_by_their_own_names() {
    let (file, prefix, _) = tenants();
    let app = file.app().await;
    let (root, a, b) = (app.as_key("root"), app.as_key("a"), app.as_key("b"));
    let published = a.publish("orders", "1").await;
    assert_eq!(published.status, 201, "{}", published.body);
    let location = published.header("location").to_owned();
    assert!(
        location.starts_with("/v1/streams/orders/entries/"),
        "{location}"
    );
    assert_eq!(a.get(&location).await.status, 200);
    assert_eq!(b.get(&location).await.status, 404);
    assert_eq!(
        root.get(&format!(
            "/v1/streams/{}",
            encode(&format!("{prefix}orders"))
        ))
        .await
        .status,
        200
    );

    // No response to a tenant contains its prefix.
    let group = "/v1/streams/orders/groups/g";
    let policy = json!({"policy": {"max_deliveries": 1}});
    let mut seen: Vec<String> = Vec::new();
    let mut see = |answer: crate::support::Answer, status: u16| {
        assert_eq!(answer.status, status, "{}", answer.body);
        seen.push(format!("{:?} {}", answer.headers, answer.body));
        answer.body
    };
    see(a.call("PUT", group, policy).await, 201);
    let read = see(
        a.call("POST", &format!("{group}/read"), json!({"consumer": "w"}))
            .await,
        200,
    );
    let receipt = serde_json::from_str::<Value>(&read).unwrap()["entries"][0]["receipt"].clone();
    see(
        a.call(
            "POST",
            &format!("{group}/reject"),
            json!({"receipts": [receipt], "reason": "no"}),
        )
        .await,
        200,
    );
    let dead = see(a.get(&format!("{group}/dead-letters")).await, 200);
    let dead: Value = serde_json::from_str(&dead).unwrap();
    assert_eq!(dead["stream"], "{orders}.dead");
    let id = dead["dead_letters"][0]["id"].as_str().unwrap().to_owned();
    see(a.get(&format!("{group}/dead-letters/{id}")).await, 200);
    let letters = see(
        a.get(&format!("/v1/streams/{}/entries", encode("{orders}.dead")))
            .await,
        200,
    );
    assert!(
        letters.contains("\"streamgate-stream\":\"orders\""),
        "{letters}"
    );
    see(a.get("/v1/streams?match=*").await, 200);
    see(a.get("/v1/streams/orders").await, 200);
    see(a.get("/v1/streams/orders?full=true").await, 200);
    see(a.get("/v1/streams/orders/groups").await, 200);
    see(
        a.get("/v1/entries?stream=orders@0&stream=missing@0").await,
        200,
    );
    see(
        a.call(
            "POST",
            "/v1/groups/g/read",
            json!({"streams": ["orders"], "consumer": "w"}),
        )
        .await,
        200,
    );
    see(
        a.call(
            "POST",
            "/v1/groups/g/read",
            json!({"streams": ["nothing"], "consumer": "w"}),
        )
        .await,
        404,
    );
    see(
        a.call(
            "POST",
            &format!("{group}/dead-letters/redrive"),
            json!({"ids": [id]}),
        )
        .await,
        200,
    );
    see(
        a.call(
            "PATCH",
            group,
            json!({"policy": {"dead_letter": "{other}.x"}}),
        )
        .await,
        422,
    );
    see(
        a.call("PATCH", group, json!({"policy": {"dead_letter": "orders"}}))
            .await,
        422,
    );
    see(a.get("/v1/streams/missing").await, 404);
    see(
        a.call(
            "POST",
            "/v1/streams/orders/trim",
            json!({"maxlen": 0, "exact": true}),
        )
        .await,
        200,
    );
    see(a.call("DELETE", "/v1/streams/orders", json!({})).await, 204);
    for text in &seen {
        assert!(
            !text.contains(&prefix) && !text.contains(&encode(&prefix)),
            "{text}"
        );
    }
}

#[tokio::test]
async fn tenants_of_the_same_names_do_not_meet() {
    let (file, a_prefix, _) = tenants();
    let app = file.app().await;
    let (root, a, b) = (app.as_key("root"), app.as_key("a"), app.as_key("b"));
    // The administrator follows the same stream at the same time: pages are shared, names are not.
    let path = format!(
        "/v1/streams/{}/events?after=0",
        encode(&format!("{a_prefix}s"))
    );
    let mut of_root = root.follow(&path).await;
    let mut of_a = a.follow("/v1/streams/s/events?after=0").await;
    let mut all_of_a = a.follow("/v1/events?match=*&after=0").await;
    let mut of_b = b.follow("/v1/events?match=*&stream=s@0").await;
    for events in [&mut of_root, &mut of_a, &mut all_of_a, &mut of_b] {
        events.expect("$open").await;
    }
    for (who, name, value) in [(&a, "s", "1"), (&b, "s", "2"), (&a, "{t}x", "3")] {
        assert_eq!(who.publish(name, value).await.status, 201);
    }
    let told = |event: crate::support::sse::Event| {
        let json = event.json();
        (
            json["stream"].as_str().unwrap().to_owned(),
            json["fields"]["n"].as_str().unwrap().to_owned(),
        )
    };
    let pair = |stream: &str, value: &str| (stream.to_owned(), value.to_owned());
    assert_eq!(
        told(of_root.expect("message").await),
        pair(&format!("{a_prefix}s"), "1")
    );
    assert_eq!(told(of_a.expect("message").await), pair("s", "1"));
    assert_eq!(told(of_b.expect("message").await), pair("s", "2"));
    let mut both = [
        told(all_of_a.expect("message").await),
        told(all_of_a.expect("message").await),
    ];
    both.sort();
    assert_eq!(both, [pair("s", "1"), pair("{t}x", "3")]);
    // After the stream is recreated, each subscriber still gets its own name for it.
    assert_eq!(
        a.call("DELETE", "/v1/streams/s", json!({})).await.status,
        204
    );
    a.publish("s", "4").await;
    assert_eq!(of_a.expect("$reset").await.json(), json!({"stream": "s"}));
    assert_eq!(
        of_root.expect("$reset").await.json(),
        json!({"stream": format!("{a_prefix}s")})
    );
}

/// Tests names that try to leave the namespace, as Redis keys and in URLs.
#[test]
fn no_name_gets_out_of_its_namespace() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (file, prefix, other) = tenants();
    let app = runtime.block_on(file.app());
    let victim = format!("{other}s");
    runtime.block_on(async {
        assert_eq!(app.as_key("b").publish("s", "secret").await.status, 201);
    });
    let parts = [
        victim.clone(),
        other.clone(),
        prefix.clone(),
        "..".to_owned(),
        "/".to_owned(),
        "%2F".to_owned(),
        "%2e%2e".to_owned(),
        "{".to_owned(),
        "}".to_owned(),
        "*".to_owned(),
        "\\".to_owned(),
        "s".to_owned(),
        "streamgate:".to_owned(),
        "\u{0}".to_owned(),
        "@0".to_owned(),
        "?".to_owned(),
        "#".to_owned(),
    ];
    let part = proptest::sample::select(parts.to_vec());
    let name = proptest::collection::vec(part, 1..5).prop_map(|parts| parts.concat());
    let config = ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    runner
        .run(&(name, any::<bool>()), |(name, raw)| {
            let text = if raw {
                name.replace(['?', '#', '\u{0}'], "")
            } else {
                encode(&name)
            };
            let answers = runtime.block_on(async {
                let a = app.as_key("a");
                [
                    a.get(&format!("/v1/streams/{text}/entries?after=0")).await,
                    a.get(&format!("/v1/entries?stream={text}@0")).await,
                    a.get(&format!("/v1/streams?match={text}")).await,
                    a.get(&format!("/v1/streams?match={text}*")).await,
                    a.call(
                        "POST",
                        &format!("/v1/streams/{text}/entries"),
                        json!({"fields": {"n": "x"}}),
                    )
                    .await,
                ]
            });
            for (index, answer) in answers.into_iter().enumerate() {
                prop_assert!(answer.status < 500, "{name:?}: {}", answer.body);
                prop_assert!(!answer.body.contains("secret"), "{name:?}: {}", answer.body);
                // A response can repeat names that the tenant itself sent.
                let is_list = index == 2 || index == 3;
                let echoed = is_list || name.contains(&prefix) || name.contains(&other);
                prop_assert!(
                    echoed || !answer.body.contains(&prefix),
                    "{name:?}: {}",
                    answer.body
                );
            }
            Ok(())
        })
        .unwrap();
    runtime.block_on(async {
        let mine = app.as_key("b").get("/v1/streams/s/entries").await.json();
        assert_eq!(
            mine["entries"].as_array().unwrap().len(),
            1,
            "nobody else wrote there: {mine}"
        );
        let all = app.as_key("b").get("/v1/streams").await.json();
        assert_eq!(all["streams"], json!([{"stream": "s"}]));
        app.stop().await;
    });
}

#[test]
fn prefixes_that_are_parts_of_each_other_are_refused() {
    let tenant =
        |name: &str, prefix: &str| record(name, &["* *"]) + &format!("prefix = {prefix:?}\n");
    let wrong = |text: String| {
        let file = AuthFile::new(&text);
        streamgate::auth::Auth::from_file(&file.path(), 25)
            .unwrap_err()
            .join("; ")
    };
    let meet = wrong(tenant("a", "acme:") + &tenant("b", "acme:eu:"));
    assert!(meet.contains("is the beginning of"), "{meet}");
    for prefix in ["acme", "{a}:", "streamgate:", ""] {
        assert!(
            wrong(tenant("a", prefix)).contains("a prefix must have"),
            "{prefix}"
        );
    }
    // Several keys of one tenant may share a prefix.
    let file = AuthFile::new(&(tenant("a", "acme:") + &tenant("b", "acme:")));
    assert!(streamgate::auth::Auth::from_file(&file.path(), 25).is_ok());
}
