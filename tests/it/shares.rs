//! Fair shares: a caller that uses its share of a limit, and others that are still served.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use streamgate::config::Settings;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::auth::{AuthFile, Signer, claims, issuer, key, record};
use crate::support::redis::{Server, shared};
use crate::support::{TestApp, eventually, unique};

/// Starts a gateway with the keys `greedy`, `modest` and `large`, which has the share 50, of the
/// keys `a1`, `a2` and `b1` of two tenants, and of an issuer.
async fn gateway(change: impl FnOnce(&mut Settings)) -> (TestApp, Signer) {
    gateway_on(&shared().await.url(), change).await
}

async fn gateway_on(url: &str, change: impl FnOnce(&mut Settings)) -> (TestApp, Signer) {
    let signer = Signer::Secret(vec![7; 32]);
    let mut text = ["greedy", "modest", "root"]
        .map(|name| record(name, &["* *"]))
        .concat();
    text += &(record("large", &["* *"]) + "share = 50\n");
    for (name, prefix) in [("a1", "a:"), ("a2", "a:"), ("b1", "b:")] {
        text += &(record(name, &["* *"]) + &format!("prefix = {prefix:?}\n"));
    }
    let own = "[[issuer.key]]\nid = \"k\"\nalgorithm = \"HS256\"\nsecret_file = \"k.secret\"";
    text += &issuer(own, &["* *"]);
    let file = AuthFile::new("");
    file.beside("k.secret", &[7; 32]);
    file.write(&text);
    let auth = file.auth();
    let signs = auth.clone();
    let app = TestApp::on(url, |settings| {
        settings.auth = auth;
        change(settings);
    })
    .await;
    eventually("tickets can be made", async || signs.signs_tickets()).await;
    (app, signer)
}

/// Sends a request with a credential, and reads its answer in a task, so that dropping the task
/// ends it.
fn waiting(app: &TestApp, credential: &str, path: &str) -> JoinHandle<u16> {
    let request = app.bearing(credential).request(Method::GET, path).send();
    tokio::spawn(async move { request.await.unwrap().status().as_u16() })
}

async fn refusals(app: &TestApp, bound: &str) -> u64 {
    let metrics = app.as_key("root").get("/metrics").await.body;
    let line = format!("streamgate_refused_total{{bound=\"{bound}_of_principal\"}} ");
    let count = metrics.lines().find_map(|text| text.strip_prefix(&line));
    count.unwrap().parse().unwrap()
}

async fn gauge(app: &TestApp, name: &str) -> u64 {
    let metrics = app.as_key("root").get("/metrics").await.body;
    let line = format!("streamgate_{name} ");
    let value = metrics.lines().find_map(|text| text.strip_prefix(&line));
    value.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_caller_with_its_share_of_waiting_reads_leaves_the_rest_to_others() {
    let (app, signer) = gateway(|settings| settings.limits.max_waiting = 8).await;
    let stream = unique("waiting");
    let path = format!("/v1/streams/{stream}/entries?after=$&wait=50s");
    let short = format!("/v1/streams/{stream}/entries?after=$&wait=10ms");
    let token = signer.token("k", &claims(&["* *"]));
    let callers = [(key("greedy"), 2), (token, 2), (key("large"), 4)];
    for (credential, share) in &callers {
        // The share is whole again each time after all reads were dropped.
        for _ in 0..2 {
            let held: Vec<_> = (0..*share)
                .map(|_| waiting(&app, credential, &path))
                .collect();
            eventually("all wait", async || {
                gauge(&app, "waiting_reads").await == *share
            })
            .await;
            let problem = app.bearing(credential).get(&short).await;
            let problem = problem.is_problem(429, "share-exceeded");
            let percent = share * 100 / 8;
            let told = format!("its share ({percent} %) of waiting reads");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains(&told), "{detail}");
            assert_eq!(problem["retryable"], true);
            // A read in a group counts as well; one that does not wait needs no share.
            let group = format!("/v1/streams/{stream}/groups/g/read");
            let read = json!({"consumer": "c", "wait": "10ms", "create": true});
            let read = app.bearing(credential).call("POST", &group, read).await;
            read.is_problem(429, "share-exceeded");
            let now = app.bearing(credential).get(&path.replace("50s", "0")).await;
            assert_ne!(now.status, 429);
            let modest = app.as_key("modest").get(&short).await;
            assert_eq!(modest.status, 200, "{}", modest.body);
            held.iter().for_each(JoinHandle::abort);
            join_all(held).await;
            eventually("none waits", async || {
                gauge(&app, "waiting_reads").await == 0
            })
            .await;
        }
    }
    assert_eq!(refusals(&app, "waiting_reads").await, 12);
}

#[tokio::test]
async fn tickets_and_the_keys_of_a_tenant_use_one_share() {
    let (app, _) = gateway(|settings| settings.limits.max_waiting = 8).await;
    let stream = unique("together");
    let path = format!("/v1/streams/{stream}/entries?after=$&wait=50s");
    let short = format!("/v1/streams/{stream}/entries?after=$&wait=10ms");
    let ticket = app.as_key("greedy").ticket(&[&stream], "1h").await;
    let by_ticket = format!("{path}&ticket={ticket}");
    let by_ticket = app.client.get(app.url(&by_ticket)).send();
    let by_ticket = tokio::spawn(async move { by_ticket.await.unwrap().status() });
    let by_key = waiting(&app, &key("greedy"), &path);
    let of_tenant = ["a1", "a2"].map(|name| waiting(&app, &key(name), &path));
    eventually("all wait", async || gauge(&app, "waiting_reads").await == 4).await;
    for name in ["greedy", "a1", "a2"] {
        let refused = app.as_key(name).get(&short).await;
        refused.is_problem(429, "share-exceeded");
    }
    let refused = app.get(&format!("{short}&ticket={ticket}")).await;
    refused.is_problem(429, "share-exceeded");
    assert_eq!(app.as_key("b1").get(&short).await.status, 200);
    by_ticket.abort();
    by_key.abort();
    of_tenant.iter().for_each(JoinHandle::abort);
    eventually("none waits", async || {
        gauge(&app, "waiting_reads").await == 0
    })
    .await;
    for name in ["greedy", "a1", "a2"] {
        assert_eq!(app.as_key(name).get(&short).await.status, 200);
    }
}

#[tokio::test]
async fn a_caller_with_its_share_of_followed_streams_leaves_the_rest_to_others() {
    let (app, _) = gateway(|settings| settings.live.max_streams = 8).await;
    let names: Vec<_> = (0..4).map(|_| unique("followed")).collect();
    let path = |index: usize| format!("/v1/streams/{}/events", names[index]);
    let (greedy, modest) = (app.as_key("greedy"), app.as_key("modest"));
    // Twice, because what a subscription held must be free after it, whatever connection it had.
    for _ in 0..2 {
        let mut held = Vec::new();
        for index in [0, 1, 0, 1, 1] {
            let mut events = greedy.follow(&path(index)).await;
            events.expect("$open").await;
            held.push(events);
        }
        let mut refused = greedy.follow(&path(2)).await;
        assert_eq!(
            refused.expect("$end").await.json(),
            json!({"reason": "overloaded"})
        );
        greedy
            .get(&format!("/v1/streams/{}/entries?after=$&wait=1s", names[2]))
            .await
            .is_problem(429, "share-exceeded");
        // A stream that others follow costs its share, too, and then they pay alone.
        for index in [2, 0] {
            modest.follow(&path(index)).await.expect("$open").await;
        }
        app.as_key("greedy").publish(&names[1], "1").await;
        assert_eq!(held.last_mut().unwrap().values(1).await, ["1"]);
        drop(held);
        eventually("the streams are not followed any more", async || {
            gauge(&app, "followed_streams").await == 0
        })
        .await;
    }
    let many = |count: usize| {
        let streams = names[..count].iter().map(|name| format!("stream={name}@$"));
        format!("/v1/events?{}", streams.collect::<Vec<_>>().join("&"))
    };
    let mut refused = greedy.follow(&many(3)).await;
    refused.expect("$end").await;
    app.as_key("large")
        .follow(&many(4))
        .await
        .expect("$open")
        .await;
    // Prefixes have shares of their own.
    let mut held = Vec::new();
    for (name, event) in names.iter().zip(["$open", "$open", "$end"]) {
        let path = format!("/v1/events?match={name}-p*");
        let mut events = greedy.follow(&path).await;
        events.expect(event).await;
        held.push(events);
    }
    modest
        .follow(&format!("/v1/events?match={}-p*", names[3]))
        .await
        .expect("$open")
        .await;
    assert_eq!(refusals(&app, "followed_streams").await, 6);
}

#[tokio::test]
async fn a_caller_with_its_share_of_subscriptions_leaves_the_rest_to_others() {
    let (app, _) = gateway(|settings| settings.limits.max_subscriptions = 8).await;
    let path = format!("/v1/streams/{}/events", unique("subscriptions"));
    for (name, share) in [("greedy", 2), ("large", 4), ("greedy", 2)] {
        let mut held = Vec::new();
        for _ in 0..share {
            let mut events = app.as_key(name).follow(&path).await;
            events.expect("$open").await;
            held.push(events);
        }
        app.as_key(name).follow(&path).await.expect("$end").await;
        app.as_key("modest")
            .follow(&path)
            .await
            .expect("$open")
            .await;
        drop(held);
        eventually("all have ended", async || {
            gauge(&app, "subscriptions").await == 0
        })
        .await;
    }
    assert_eq!(refusals(&app, "subscriptions").await, 3);
}

#[tokio::test]
async fn a_caller_with_its_share_of_body_memory_leaves_the_rest_to_others() {
    let (app, _) = gateway(|settings| settings.api.body_memory = 16 << 20).await;
    let path = format!("/v1/streams/{}/entries", unique("bodies"));
    let part = (2 << 20) + (64 << 10);
    for kind in ["text/plain", "application/x-ndjson"] {
        let mut held = Vec::new();
        for _ in 0..2 {
            let request = format!(
                "POST {path}?payload=d HTTP/1.1\r\nhost: localhost\r\nx-api-key: {}\r\n\
                 content-type: {kind}\r\ncontent-length: {}\r\n\r\n",
                key("greedy"),
                part + 1
            );
            let mut client = TcpStream::connect(app.address).await.unwrap();
            client.write_all(request.as_bytes()).await.unwrap();
            client.write_all(&vec![b'x'; part]).await.unwrap();
            held.push(client);
        }
        eventually("the bodies have come", async || {
            gauge(&app, "body_bytes").await == 4 << 20
        })
        .await;
        let send = async |name: &str| {
            let request = app
                .as_key(name)
                .request(Method::POST, &format!("{path}?payload=d"));
            let request = request.header("content-type", "application/octet-stream");
            app.send(request.body(vec![b'x'; 1 << 20])).await
        };
        send("greedy").await.is_problem(429, "share-exceeded");
        assert_eq!(
            app.as_key("greedy")
                .publish(&unique("small"), "1")
                .await
                .status,
            201
        );
        assert_eq!(send("modest").await.status, 201);
        drop(held);
        eventually("all is given back", async || {
            gauge(&app, "body_bytes").await == 0
        })
        .await;
        assert_eq!(send("greedy").await.status, 201);
    }
    assert_eq!(refusals(&app, "bodies").await, 2);
}

#[tokio::test]
async fn a_caller_with_its_share_of_answer_memory_leaves_the_rest_to_others() {
    let (app, _) = gateway(|settings| settings.api.answer_memory = 60 << 20).await;
    let (root, stream, large) = (app.as_key("root"), unique("answers"), unique("large"));
    for _ in 0..2 {
        root.publish(&stream, &"x".repeat(7_800_000)).await;
    }
    root.publish(&large, &"x".repeat(900_000)).await;
    let path = format!("/v1/streams/{stream}/entries?max_bytes=16777216");
    let get = |name: &str| {
        let key = key(name);
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {key}\r\n\r\n")
    };
    let mut unread = TcpStream::connect(app.address).await.unwrap();
    unread.write_all(get("greedy").as_bytes()).await.unwrap();
    unread.read_exact(&mut [0; 12]).await.unwrap();
    let path = format!("/v1/streams/{large}/entries");
    app.as_key("greedy")
        .get(&path)
        .await
        .is_problem(429, "share-exceeded");
    for name in ["modest", "large"] {
        assert_eq!(app.as_key(name).get(&path).await.status, 200);
    }
    drop(unread);
    eventually("all is given back", async || {
        gauge(&app, "answer_bytes").await == 0
    })
    .await;
    assert_eq!(app.as_key("greedy").get(&path).await.status, 200);
    assert_eq!(refusals(&app, "answers").await, 1);
}

#[tokio::test]
async fn a_caller_with_its_share_of_durable_connections_leaves_the_rest_to_others() {
    let server = Server::start().await;
    let (app, _) = gateway_on(&server.url(), |settings| settings.pool.durable = 4).await;
    let path = format!(
        "/v1/streams/{}/entries?durability=replicas:1",
        unique("durable")
    );
    let post = |name: &str, timeout: &str| {
        let path = format!("{path}&durability_timeout={timeout}");
        let request = app.as_key(name).request(Method::POST, &path);
        request
            .header("content-type", "application/x-www-form-urlencoded")
            .body("n=1")
    };
    // Without a replica, the append waits to its end.
    let held = tokio::spawn(post("greedy", "10s").send());
    eventually("the append waits", async || {
        let info = server.command(&["CLIENT", "LIST"]).await;
        format!("{info:?}").contains("cmd=wait")
    })
    .await;
    let refused = app.send(post("greedy", "50ms")).await;
    refused.is_problem(429, "share-exceeded");
    let of_modest = app.send(post("modest", "50ms")).await;
    of_modest.is_problem(504, "durability-not-reached");
    held.abort();
    let _ = held.await;
    eventually("the connection is free again", async || {
        app.send(post("greedy", "50ms")).await.status == 504
    })
    .await;
    assert!(refusals(&app, "durable_connections").await >= 1);
}

#[test]
fn a_share_is_a_percentage() {
    for share in [0, 101] {
        let file = AuthFile::new(&(record("a", &["* *"]) + &format!("share = {share}\n")));
        let wrong = streamgate::auth::Auth::from_file(&file.path(), 25).unwrap_err();
        let told = "key \"a\": share: must be a percentage between 1 and 100";
        assert_eq!(wrong, [told]);
    }
}
