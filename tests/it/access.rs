//! Authorization: every operation requires a right, and no request succeeds without it.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::auth::{AuthFile, Signer, claims, issuer, record};
use crate::support::{Answer, TestApp, unique};

/// Paths that need no credential.
const PUBLIC: [&str; 4] = ["/", "/livez", "/readyz", "/openapi.json"];
/// Operations that need a credential or a signature, but no right to a particular stream.
const OF_NO_STREAM: [&str; 4] = [
    "list_streams",
    "read_capabilities",
    "make_ticket",
    "receive_delivery",
];

/// Returns the right that an operation requires.
fn right(operation: &str) -> &'static str {
    match operation {
        "append_entries" => "publish",
        "read_entries" | "read_entry" | "read_stream" | "follow_events" | "read_many"
        | "follow_many" => "subscribe",
        "list_groups"
        | "read_group"
        | "read_as_consumer"
        | "read_many_as_consumer"
        | "ack_entries"
        | "ack_entries_of_many"
        | "nack_entries"
        | "nack_entries_of_many"
        | "reject_entries"
        | "reject_entries_of_many"
        | "extend_entries"
        | "extend_entries_of_many"
        | "push_entries"
        | "list_pending"
        | "claim_entries"
        | "autoclaim_entries"
        | "list_consumers"
        | "read_consumer"
        | "list_dead_letters"
        | "read_dead_letter"
        | "list_keys"
        | "read_key" => "consume",
        "create_stream"
        | "patch_stream"
        | "delete_stream"
        | "delete_entries"
        | "delete_entry"
        | "trim_stream"
        | "create_group"
        | "move_group"
        | "delete_group"
        | "create_consumer"
        | "delete_consumer"
        | "purge_dead_letters"
        | "delete_dead_letter"
        | "list_scheduled"
        | "read_scheduled"
        | "cancel_scheduled"
        | "redrive_dead_letters"
        | "free_key"
        | "metrics" => "manage",
        other => panic!("which right does {other} take?"),
    }
}

struct Operation {
    name: String,
    method: Method,
    path: String,
}

fn operations() -> Vec<Operation> {
    let document: Value = serde_json::from_str(&streamgate::http::openapi::text()).unwrap();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let name = operation["operationId"].as_str().unwrap().to_owned();
            all.push(Operation {
                name,
                method,
                path: path.clone(),
            });
        }
    }
    all
}

impl Operation {
    /// Returns a request of this operation about `stream`. Everything in it except the caller can
    /// be invalid.
    fn on(&self, app: &TestApp, stream: &str) -> reqwest::RequestBuilder {
        self.with(app, stream, "_")
    }

    /// Returns the same request with this query parameter.
    fn with(&self, app: &TestApp, stream: &str, parameter: &str) -> reqwest::RequestBuilder {
        let path = self
            .path
            .replace("{stream}", stream)
            .replace("{group}", "g");
        let path = path
            .replace("{id}", "1-0")
            .replace("{consumer}", "c")
            .replace("{token}", "1-0");
        let query = match self.name.as_str() {
            "read_many" | "follow_many" => format!("?stream={stream}@0&{parameter}"),
            _ => format!("?{parameter}"),
        };
        let receipt = format!("{stream}@1-0");
        let body = match self.name.as_str() {
            "read_many_as_consumer" => Some(json!({"streams": [stream], "consumer": "c"})),
            "ack_entries_of_many" | "nack_entries_of_many" | "reject_entries_of_many" => {
                Some(json!({"ids": [receipt]}))
            }
            "extend_entries_of_many" => Some(json!({"ids": [receipt], "lease": "1s"})),
            "move_group" => Some(json!({"last_delivered_id": "0"})),
            // These routes accept no body and reject a request with one.
            "create_consumer" => None,
            _ if self.method == Method::DELETE => None,
            _ if self.method != Method::GET => Some(json!({})),
            _ => None,
        };
        let request = app
            .client
            .request(self.method.clone(), app.url(&(path + &query)));
        match body {
            Some(body) => request
                .header("content-type", "application/json")
                .body(body.to_string()),
            None => request,
        }
    }
}

/// Returns only the status, because some responses never end.
async fn status(request: reqwest::RequestBuilder) -> u16 {
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn whoever_shows_nothing_gets_nowhere_but_to_what_is_public() {
    let file = AuthFile::new(&record("root", &["* *"]));
    let app = file.app().await;
    let mut public = BTreeSet::new();
    for operation in operations() {
        let request = operation.on(&app, "orders");
        if PUBLIC.contains(&operation.path.as_str()) {
            public.insert(operation.path.clone());
            assert_eq!(status(request).await, 200, "{}", operation.name);
            continue;
        }
        let answer = app.send(request).await;
        answer.is_problem(401, "unauthenticated");
        assert_eq!(
            answer.header("www-authenticate"),
            "Bearer realm=\"streamgate\""
        );
    }
    assert_eq!(public.len(), PUBLIC.len());
    for path in [
        "/v1/nothing",
        "/nothing",
        "/v1/streams/a/b",
        "/docs/../v1/streams",
        "//v1/streams",
    ] {
        let answer = app.get(path).await;
        assert!(
            matches!(answer.status, 401 | 404),
            "{path}: {}",
            answer.body
        );
    }
    assert_eq!(app.get("/docs/").await.status, 200);
}

#[tokio::test]
async fn each_operation_takes_its_right_and_no_other() {
    let (own, foreign) = (unique("own"), unique("foreign"));
    let rights = ["publish", "subscribe", "consume", "manage"];
    let mut text = String::new();
    for right in rights {
        text += &record(right, &[&format!("{right} {own}")]);
    }
    text += &record(
        "elsewhere",
        &[&format!("* {foreign}"), &format!("* {own}:*")],
    );
    text += &record("all", &["* *"]);
    let app = AuthFile::new(&text);
    let app = app.app().await;
    for operation in operations() {
        if PUBLIC.contains(&operation.path.as_str()) || OF_NO_STREAM.contains(&&*operation.name) {
            continue;
        }
        let ask = async |who: &str| {
            let bearer = crate::support::auth::key(who);
            status(operation.on(&app, &own).bearer_auth(bearer)).await
        };
        let name = &operation.name;
        assert_eq!(ask("elsewhere").await, 403, "{name}, by a stranger");
        for right_of_caller in rights {
            let status = ask(right_of_caller).await;
            // Metrics are about all streams, so they require every right to all streams.
            let fits = right(name) == right_of_caller && name != "metrics";
            assert_eq!(
                status != 403,
                fits,
                "{name} with {right_of_caller}: {status}"
            );
            assert_ne!(status, 401, "{name}");
        }
        assert!(
            !matches!(ask("all").await, 401 | 403),
            "{name}, by the administrator"
        );
    }
}

/// Sends every kind of credential in every supported way, and checks the rights each one has.
#[tokio::test]
async fn each_kind_of_credential_gives_what_it_is_for() {
    let (own, foreign, unknown) = (unique("own"), unique("foreign"), unique("unknown"));
    let grants = [format!("* {own}"), format!("* {unknown}")];
    let grants: Vec<&str> = grants.iter().map(String::as_str).collect();
    let signer = Signer::Secret(vec![7; 32]);
    let file = AuthFile::new("");
    file.beside("secret", &[7; 32]);
    file.write(
        &(record("worker", &grants)
            + &record("root", &["* *"])
            + &issuer(
                "[[issuer.key]]\nid = \"k\"\nalgorithm = \"HS256\"\nsecret_file = \"secret\"",
                &["* *"],
            )),
    );
    let app = file.app().await;
    for stream in [&own, &foreign] {
        assert_eq!(app.as_key("root").publish(stream, "1").await.status, 201);
        let path = format!("/v1/streams/{stream}/groups/g");
        assert_eq!(
            app.as_key("root")
                .call("PUT", &path, json!({}))
                .await
                .status,
            201
        );
    }
    let key = crate::support::auth::key("worker");
    let token = signer.token("k", &claims(&grants));
    let ticket = app.as_key("worker").ticket(&[&own, &unknown], "1h").await;
    let shown = |request: reqwest::RequestBuilder, kind: &str| match kind {
        "bearer" => request.bearer_auth(&key),
        "x-api-key" => request.header("x-api-key", &key),
        "token" => request.bearer_auth(&token),
        "cookie" => request.header("cookie", format!("a=b; streamgate_ticket={ticket}; c=d")),
        _ => request,
    };
    for operation in operations() {
        let name = operation.name.as_str();
        if PUBLIC.contains(&operation.path.as_str())
            || OF_NO_STREAM.contains(&name)
            || name == "metrics"
        {
            continue;
        }
        for kind in ["none", "bearer", "x-api-key", "token", "ticket", "cookie"] {
            for stream in [&foreign, &unknown] {
                let parameter = format!("ticket={}", if kind == "ticket" { &ticket } else { "" });
                let parameter = if kind == "ticket" { &parameter } else { "_" };
                let request = operation.with(&app, stream, parameter);
                let status = status(shown(request, kind)).await;
                let is_get = operation.method == Method::GET;
                let follows = matches!(name, "follow_events" | "follow_many");
                let is_known = match kind {
                    "none" => false,
                    "ticket" => is_get,
                    "cookie" => follows,
                    _ => true,
                };
                let has_right = !matches!(kind, "ticket" | "cookie") || right(name) == "subscribe";
                let expected = match () {
                    () if !is_known => status == 401,
                    () if !has_right || *stream == foreign => status == 403,
                    () => status != 401 && status != 403,
                };
                assert!(expected, "{name} with {kind} on {stream}: {status}");
            }
        }
    }
}

#[tokio::test]
async fn lists_show_what_the_caller_has_any_right_to() {
    let (a, b) = (unique("list:a"), unique("list:b"));
    let file =
        AuthFile::new(&(record("root", &["* *"]) + &record("a", &[&format!("publish {a}")])));
    let app = file.app().await;
    for stream in [&a, &b] {
        app.as_key("root").publish(stream, "1").await;
    }
    let listed = async |who: &str| {
        let (mut names, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!(
                "/v1/streams?match=t{}-*&limit=1000{cursor}",
                std::process::id()
            );
            let page = app.as_key(who).get(&path).await.json();
            let found = page["streams"].as_array().unwrap().clone();
            names.extend(
                found
                    .into_iter()
                    .map(|item| item["stream"].as_str().unwrap().to_owned()),
            );
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return names,
            }
        }
    };
    assert_eq!(listed("a").await, [a.as_str()]);
    let all = listed("root").await;
    assert!(all.contains(&a) && all.contains(&b));
}

#[tokio::test]
async fn matching_streams_are_followed_as_far_as_they_are_granted() {
    let prefix = unique("match");
    let (mine, theirs) = (format!("{prefix}:mine:1"), format!("{prefix}:theirs"));
    let file = AuthFile::new(
        &(record("root", &["* *"])
            + &record(
                "reader",
                &[&format!("subscribe {prefix}:mine:*"), "subscribe x"],
            )),
    );
    let app = file.app().await;
    for stream in [&mine, &theirs] {
        app.as_key("root").publish(stream, "1").await;
    }
    let reader = app.as_key("reader");
    let mut events = reader
        .follow(&format!("/v1/events?match={prefix}*&after=0"))
        .await;
    let open = events.expect("$open").await.json();
    assert_eq!(open["streams"], json!([mine]));
    assert_eq!(events.expect("message").await.json()["stream"], mine);
    let later = format!("{prefix}:mine:2");
    app.as_key("root").publish(&theirs, "2").await;
    app.as_key("root").publish(&later, "3").await;
    let next = events.expect("message").await.json();
    assert_eq!(
        (next["stream"].as_str(), next["fields"]["n"].as_str()),
        (Some(&*later), Some("3"))
    );
    let none = reader
        .get(&format!("/v1/events?match={prefix}:theirs*"))
        .await;
    none.is_problem(403, "forbidden");
}

/// No right can be bypassed through another operation.
#[tokio::test]
async fn nothing_is_reached_by_way_of_something_else() {
    let stream = unique("way");
    let dead = format!("{{{stream}}}.other");
    let file = AuthFile::new(
        &(record("root", &["* *"])
            + &record("worker", &[&format!("consume {stream}")])
            + &record("manager", &[&format!("manage,consume {stream}")])),
    );
    let app = file.app().await;
    let (root, worker, manager) = (
        app.as_key("root"),
        app.as_key("worker"),
        app.as_key("manager"),
    );
    root.publish(&stream, "1").await;
    let group = format!("/v1/streams/{stream}/groups/g");
    let refused = |answer: Answer| answer.is_problem(403, "forbidden");
    let policy = json!({"policy": {"dead_letter": dead}});
    refused(manager.call("PUT", &group, policy.clone()).await);
    assert_eq!(
        manager
            .call("PUT", &group, json!({"policy": {}}))
            .await
            .status,
        201
    );
    refused(manager.call("PATCH", &group, policy).await);
    let redrive = format!("{group}/dead-letters/redrive");
    refused(
        manager
            .call("POST", &redrive, json!({"all": true, "to": dead}))
            .await,
    );
    for refs in ["keep", "delete"] {
        let path = format!("{group}/ack?delete=true&refs={refs}");
        refused(worker.call("POST", &path, json!({"ids": ["1-0"]})).await);
        let many = format!("/v1/groups/g/ack?delete=true&refs={refs}");
        refused(
            worker
                .call("POST", &many, json!({"ids": [format!("{stream}@1-0")]}))
                .await,
        );
    }
    let ack = worker
        .call(
            "POST",
            &format!("{group}/ack?delete=true"),
            json!({"ids": ["1-0"]}),
        )
        .await;
    assert_eq!(ack.status, 200, "{}", ack.body);
    // A single foreign stream makes the whole request fail.
    let both = format!("/v1/entries?stream={stream}@0&stream=foreign@0");
    refused(manager.get(&both).await);
}

#[tokio::test]
async fn pages_of_listed_origins_may_ask_before_they_ask_and_read_what_they_need() {
    const ORIGIN: &str = "https://app.example.com";
    let file = AuthFile::new(&record("root", &["* *"]));
    let auth = file.auth();
    let app = TestApp::start_with(|settings| {
        settings.auth = auth;
        settings.api.origins = vec![ORIGIN.to_owned()];
    })
    .await;
    for operation in operations() {
        let preflight = |origin: &str| {
            let request = operation.on(&app, "orders").build().unwrap();
            let mut asked = app.client.request(Method::OPTIONS, request.url().clone());
            asked = asked.header("origin", origin).header(
                "access-control-request-headers",
                "authorization,x-api-key,last-event-id,idempotency-key",
            );
            asked.header("access-control-request-method", operation.method.as_str())
        };
        let answer = app.send(preflight(ORIGIN)).await;
        assert_eq!(answer.status, 200, "{}", operation.name);
        assert_eq!(answer.header("access-control-allow-origin"), ORIGIN);
        assert!(
            answer
                .header("access-control-allow-methods")
                .contains(operation.method.as_str())
        );
        for name in [
            "authorization",
            "x-api-key",
            "last-event-id",
            "idempotency-key",
        ] {
            assert!(
                answer.header("access-control-allow-headers").contains(name),
                "{name}"
            );
        }
        let foreign = app.send(preflight("https://evil.example.com")).await;
        match operation.path.as_str() {
            // Probes may use any host name and reveal nothing.
            "/livez" | "/readyz" => assert_eq!(foreign.header("access-control-allow-origin"), ""),
            _ => drop(foreign.is_problem(403, "origin-not-allowed")),
        }
    }
    // A page can read a rejection, too.
    let refused = app
        .client
        .get(app.url("/v1/streams"))
        .header("origin", ORIGIN);
    let answer = app.send(refused).await;
    answer.is_problem(401, "unauthenticated");
    assert_eq!(answer.header("access-control-allow-origin"), ORIGIN);
    for name in [
        "etag",
        "link",
        "location",
        "retry-after",
        "x-request-id",
        "www-authenticate",
    ] {
        assert!(
            answer
                .header("access-control-expose-headers")
                .contains(name),
            "{name}"
        );
    }
}

#[tokio::test]
async fn no_credential_ever_stands_in_the_log_or_in_an_answer() {
    let server = crate::support::redis::Server::start().await;
    let file = AuthFile::new(&record("root", &["* *"]));
    let (path, log) = (file.path(), file.dir.path().join("log"));
    let mut command = crate::support::process::tied(crate::support::gateway::BINARY);
    let listen = format!("127.0.0.1:{}", crate::support::redis::free_port());
    command.args([
        "serve",
        "--redis-url",
        &server.url(),
        "--listen",
        &listen,
        "--log-level",
        "debug",
    ]);
    command
        .arg("--auth-file")
        .arg(path)
        .stderr(std::fs::File::create(&log).unwrap());
    let mut child = crate::support::process::start_tied(command);
    let (client, key) = (
        crate::support::app::client(),
        crate::support::auth::key("root"),
    );
    let base = format!("http://{listen}");
    let ask =
        async |request: reqwest::RequestBuilder| crate::support::app::answer(request).await.ok();
    let body = r#"{"streams":["orders"]}"#;
    let make = || {
        client
            .post(format!("{base}/v1/tickets"))
            .bearer_auth(&key)
            .header("content-type", "application/json")
            .body(body)
    };
    crate::support::eventually("tickets are made", async || {
        ask(make()).await.is_some_and(|answer| answer.status == 200)
    })
    .await;
    let ticket = ask(make()).await.unwrap().json()["ticket"]
        .as_str()
        .unwrap()
        .to_owned();
    let (mut answers, mut seen) = (Vec::new(), String::new());
    for path in [
        "/v1/streams/orders/entries?ticket=TICKET",
        "/v1/streams/orders/entries?limit=x&ticket=TICKET",
        "/v1/streams/orders/entries?tiket=TICKET",
        "/v1/streams/orders/entries?ticket=TICKET&ticket=TICKET",
        "/v1/streams/other/entries?ticket=TICKET",
        "/v1/streams/orders/entries?ticket=TICKETx",
        "/nothing?ticket=TICKET",
        "/v1/streams/orders/groups?ticket=TICKET",
        "/?ticket=TICKET",
        "/metrics?ticket=TICKET",
    ] {
        let url = format!("{base}{}", path.replace("TICKET", &ticket));
        answers.extend(ask(client.get(&url)).await);
        answers.extend(ask(client.post(&url).body("a=b")).await);
        answers.extend(ask(client.get(&url).bearer_auth(&key)).await);
    }
    answers.extend(
        ask(client
            .get(format!("{base}/v1/streams"))
            .bearer_auth(format!("{key}x")))
        .await,
    );
    answers.extend(ask(client.get(format!("{base}/metrics")).bearer_auth(&key)).await);
    assert!(answers.len() > 20);
    for answer in &answers {
        seen.extend(
            answer
                .headers
                .values()
                .filter_map(|value| value.to_str().ok()),
        );
        seen.push_str(&answer.body);
    }
    let _ = child.kill();
    let _ = child.wait();
    let logged = std::fs::read_to_string(log).unwrap();
    assert!(
        logged.contains("/v1/streams/orders/entries") && logged.contains("root"),
        "{logged}"
    );
    // An unknown parameter is reported by name. Its value appears nowhere.
    for secret in [&ticket[3..20], &ticket[ticket.len() - 20..], &key[4..]] {
        assert!(!logged.contains(secret), "{logged}");
        assert!(!seen.contains(secret), "{seen}");
    }
}
