//! Tickets: their owners, permissions and lifetimes.

use reqwest::Method;
use serde_json::json;

use streamgate::auth::KeyHash;
use streamgate::config::SPECS;

use crate::support::auth::{AuthFile, Signer, claims, issuer, key, record};
use crate::support::proxy::Proxy;
use crate::support::redis::Server;
use crate::support::{TestApp, eventually, unique};

fn two(stream: &str) -> AuthFile {
    AuthFile::new(
        &(record("root", &["* *"])
            + &record(
                "page",
                &[
                    &format!("subscribe {stream}"),
                    &format!("publish {stream}"),
                    "subscribe news:*",
                ],
            )),
    )
}

#[tokio::test]
async fn a_ticket_follows_what_it_names_as_often_as_it_likes() {
    let stream = unique("ticket");
    let app = two(&stream).app().await;
    app.as_key("root").publish(&stream, "1").await;
    let ticket = app.as_key("page").ticket(&[&stream], "1h").await;
    for _ in 0..2 {
        let mut events = app
            .follow(&format!(
                "/v1/streams/{stream}/events?after=0&ticket={ticket}"
            ))
            .await;
        events.expect("$open").await;
        assert_eq!(events.values(1).await, ["1"]);
    }
    let path = format!("/v1/streams/{stream}/entries?after=0&ticket={ticket}");
    let page = app.get(&path).await;
    assert_eq!(page.status, 200, "{}", page.body);
    assert!(!page.body.contains(&ticket) && !page.header("link").contains(&ticket));
    let many = app
        .get(&format!("/v1/entries?ticket={ticket}&stream={stream}@0"))
        .await;
    assert_eq!(many.status, 200, "{}", many.body);
}

#[tokio::test]
async fn a_ticket_is_for_nothing_else() {
    let stream = unique("narrow");
    let app = two(&stream).app().await;
    app.as_key("root").publish(&stream, "1").await;
    app.as_key("root").publish("other", "1").await;
    let page = app.as_key("page");
    let ticket = page.ticket(&[&stream, "news:eu:*"], "1h").await;
    let get = async |path: &str| app.get(&format!("{path}ticket={ticket}")).await;
    get("/v1/streams/other/entries?")
        .await
        .is_problem(403, "forbidden");
    get("/v1/streams/news:us/entries?")
        .await
        .is_problem(403, "forbidden");
    assert_eq!(get("/v1/streams/news:eu:x/entries?").await.status, 404);
    get(&format!("/v1/streams/{stream}/groups?"))
        .await
        .is_problem(403, "forbidden");
    get("/metrics?").await.is_problem(403, "forbidden");
    let post = app
        .client
        .post(app.url(&format!("/v1/streams/{stream}/entries?ticket={ticket}")));
    app.send(post.body("n=1"))
        .await
        .is_problem(401, "unauthenticated");
    // A ticket is not a bearer token, and it cannot create other tickets.
    app.bearing(&ticket)
        .get("/v1/streams")
        .await
        .is_problem(401, "unauthenticated");
    for (streams, code) in [
        (json!(["other"]), 403),
        (json!(["news*"]), 403),
        (json!(["*"]), 403),
        (json!([""]), 400),
        (json!(["a\u{0}b"]), 400),
        (json!([]), 400),
        (json!(["news:x"]), 200),
    ] {
        let answer = page
            .call("POST", "/v1/tickets", json!({"streams": streams}))
            .await;
        assert_eq!(answer.status, code, "{streams}: {}", answer.body);
    }
    for ttl in ["0s", "8d", "500ms"] {
        let answer = page
            .call(
                "POST",
                "/v1/tickets",
                json!({"streams": ["news:x"], "ttl": ttl}),
            )
            .await;
        answer.is_problem(400, "invalid-request");
    }
    let many: Vec<String> = (0..1000).map(|n| format!("news:{n}")).collect();
    page.call("POST", "/v1/tickets", json!({"streams": many}))
        .await
        .is_problem(400, "invalid-request");
}

#[tokio::test]
async fn a_ticket_ends_by_itself_and_with_its_maker() {
    let stream = unique("ends");
    let file = two(&stream);
    let app = file.app().await;
    let short = app.as_key("page").ticket(&[&stream], "2s").await;
    let long = app.as_key("page").ticket(&[&stream], "1h").await;
    let path = |ticket: &str| format!("/v1/streams/{stream}/events?ticket={ticket}");
    let mut of_short = app.follow(&path(&short)).await;
    let mut of_long = app.follow(&path(&long)).await;
    of_short.expect("$open").await;
    of_long.expect("$open").await;
    assert_eq!(
        of_short.expect("$end").await.json(),
        json!({"reason": "expired"})
    );
    app.get(&path(&short))
        .await
        .is_problem(401, "unauthenticated");
    // The key that made the ticket loses its right to this stream, and then is deleted.
    file.write(&(record("root", &["* *"]) + &record("page", &["publish *"])));
    assert_eq!(
        of_long.expect("$end").await.json(),
        json!({"reason": "expired"})
    );
    app.get(&path(&long)).await.is_problem(403, "forbidden");
    file.write(&record("root", &["* *"]));
    eventually("the maker is gone", async || {
        app.get(&path(&long)).await.status == 401
    })
    .await;
}

#[tokio::test]
async fn a_ticket_outlives_neither_the_token_it_was_made_with_nor_its_issuer() {
    let stream = unique("issuer");
    let signer = Signer::ec();
    let file = AuthFile::new("");
    file.beside(
        "keys.json",
        json!({"keys": [signer.jwk("k")]}).to_string().as_bytes(),
    );
    let all =
        |ceiling: &[&str]| record("root", &["* *"]) + &issuer("jwks_file = \"keys.json\"", ceiling);
    file.write(&all(&["* *"]));
    let app = file.app().await;
    let mut of_page = claims(&[&format!("subscribe {stream}")]);
    let expires = crate::support::auth::from_now(30);
    of_page["exp"] = json!(expires);
    let token = signer.token("k", &of_page);
    let made = app
        .bearing(&token)
        .call(
            "POST",
            "/v1/tickets",
            json!({"streams": [stream], "ttl": "1d"}),
        )
        .await;
    let until = made.json()["expires"]
        .as_str()
        .unwrap()
        .parse::<streamgate::model::time::Time>()
        .unwrap();
    assert!(
        until.unix_ms(0) / 1000 <= u64::try_from(expires).unwrap(),
        "{}",
        made.body
    );
    let ticket = made.json()["ticket"].as_str().unwrap().to_owned();
    let path = format!("/v1/streams/{stream}/events?ticket={ticket}");
    app.follow(&path).await.expect("$open").await;
    file.write(&all(&["publish *"]));
    eventually("the issuer gives it no more", async || {
        app.get(&path).await.status == 403
    })
    .await;
    file.write(&record("root", &["* *"]));
    eventually("the issuer is gone", async || {
        app.get(&path).await.status == 401
    })
    .await;
}

#[tokio::test]
async fn a_ticket_ends_with_the_very_key_that_it_was_made_with() {
    let stream = unique("rotated");
    let (old, new) = (Signer::ec(), Signer::ec());
    let file = AuthFile::new("");
    let keys = |signers: &[(&str, &Signer)]| {
        let keys: Vec<_> = signers.iter().map(|(id, signer)| signer.jwk(id)).collect();
        file.beside("keys.json", json!({ "keys": keys }).to_string().as_bytes());
    };
    let secret = Signer::Secret(vec![b'x'; 40]);
    file.beside("secret", &[b'x'; 40]);
    let issuer = issuer(
        "jwks_file = \"keys.json\"\n[[issuer.key]]\nid = \"hs\"\nalgorithm = \"HS256\"\nsecret_file = \"secret\"",
        &["* *"],
    );
    let two_keys = format!(
        "[\"{}\", \"{}\"]",
        KeyHash::of(&key("a")),
        KeyHash::of(&key("b"))
    );
    let page = |hash: &str| {
        format!("[[key]]\nname = \"page\"\nhash = {hash}\ngrants = [\"subscribe *\"]\n{issuer}")
    };
    keys(&[("old", &old), ("new", &new)]);
    file.write(&page(&two_keys));
    let app = file.app().await;
    let path = |ticket: &str| format!("/v1/streams/{stream}/events?ticket={ticket}");
    let claims = claims(&["subscribe *"]);
    let mut tickets = Vec::new();
    for credential in [
        key("a"),
        key("b"),
        old.token("old", &claims),
        new.token("new", &claims),
        secret.token("hs", &claims),
    ] {
        tickets.push(app.bearing(&credential).ticket(&[&stream], "1h").await);
    }
    let [by_a, by_b, by_old, by_new, by_secret] = &tickets[..] else {
        unreachable!()
    };
    let mut open = app.follow(&path(by_old)).await;
    open.expect("$open").await;
    let good = async |ticket: &str| {
        app.get(&format!(
            "/v1/streams/{stream}/entries?after=0&wait=1ms&ticket={ticket}"
        ))
        .await
        .status
    };
    for ticket in &tickets {
        assert_eq!(good(ticket).await, 200);
    }

    keys(&[("old", &new), ("new", &new)]);
    assert_eq!(
        open.expect("$end").await.json(),
        json!({"reason": "expired"})
    );
    eventually("the old key is gone", async || good(by_old).await == 401).await;
    assert_eq!(
        good(by_new).await,
        200,
        "another key of the same name does not stand for it"
    );

    file.write(&page(&format!("\"{}\"", KeyHash::of(&key("a")))));
    eventually("the second key is gone", async || good(by_b).await == 401).await;
    assert_eq!((good(by_a).await, good(by_secret).await), (200, 200));
    file.beside("secret", &[b'y'; 40]);
    eventually("the secret is another", async || {
        good(by_secret).await == 401
    })
    .await;
    eventually("the others are as they were", async || {
        good(by_new).await == 200
    })
    .await;
    assert_eq!(good(by_a).await, 200);
}

#[tokio::test]
async fn a_ticket_as_a_cookie_is_for_subscriptions_alone() {
    let stream = unique("cookie");
    let app = two(&stream).app().await;
    let call = json!({"streams": [stream], "ttl": "1h", "cookie": true});
    let made = app.as_key("page").call("POST", "/v1/tickets", call).await;
    assert_eq!(made.json()["ticket"], json!(null));
    let set = made.header("set-cookie");
    for part in [
        "streamgate_ticket=t1.",
        "HttpOnly",
        "Secure",
        "SameSite=Strict",
        "Path=/v1",
        "Max-Age=3",
    ] {
        assert!(set.contains(part), "{set}");
    }
    let cookie = set.split(';').next().unwrap().to_owned();
    let with = |method: Method, path: String| {
        app.client
            .request(method, app.url(&path))
            .header("cookie", &cookie)
    };
    let events = with(Method::GET, format!("/v1/streams/{stream}/events"))
        .send()
        .await
        .unwrap();
    assert_eq!(events.status(), 200);
    let entries = with(Method::GET, format!("/v1/streams/{stream}/entries"));
    app.send(entries).await.is_problem(401, "unauthenticated");
    let post = with(Method::POST, format!("/v1/streams/{stream}/entries")).body("n=1");
    app.send(post).await.is_problem(401, "unauthenticated");
}

#[tokio::test]
async fn any_gateway_takes_a_ticket_also_after_redis_has_lost_everything() {
    let stream = unique("replicas");
    let server = Server::start().await;
    let proxy = Proxy::to(server.port).await;
    let file = two(&stream);
    let on = async || {
        let auth = file.auth();
        TestApp::on(&proxy.url(), |settings| settings.auth = auth).await
    };
    let (one, two) = (on().await, on().await);
    let call = json!({"streams": [stream]});
    eventually("tickets are made", async || {
        one.as_key("page")
            .call("POST", "/v1/tickets", call.clone())
            .await
            .status
            == 200
    })
    .await;
    let ticket = one.as_key("page").ticket(&[&stream], "1h").await;
    let path = format!("/v1/streams/{stream}/events?ticket={ticket}");
    eventually("the other takes it", async || {
        two.get_status(&path).await == 200
    })
    .await;
    // While Redis is down, a gateway still accepts the tickets it knows.
    proxy.cut();
    let mut events = one.follow(&path).await;
    let ended = events.expect("$end").await.json();
    assert_eq!(ended, json!({"reason": "redis-unavailable"}));
    server.kill();
    server.start_empty().await;
    proxy.restore();
    eventually("and again", async || {
        one.get_status(&path).await == 200 && two.get_status(&path).await == 200
    })
    .await;
    let third = on().await;
    eventually("a new one, too", async || {
        third.get_status(&path).await == 200
    })
    .await;
}

#[tokio::test]
async fn gateways_share_a_secret_again_at_once_whoever_wrote_it_last() {
    let stream = unique("flushed");
    let server = Server::start().await;
    let file = two(&stream);
    let on = async || {
        let auth = file.auth();
        let signs = auth.clone();
        let app = TestApp::on(&server.url(), |settings| settings.auth = auth).await;
        eventually("tickets can be made", async || signs.signs_tickets()).await;
        app
    };
    let (one, two) = (on().await, on().await);
    let path = |ticket: &str| format!("/v1/streams/{stream}/events?ticket={ticket}");
    let before = one.as_key("page").ticket(&[&stream], "1h").await;
    assert_eq!(two.get_status(&path(&before)).await, 200);
    for round in 0..5 {
        // Another secret, as if written first by another gateway.
        let secret = format!("another secret of 32 bytes or more {round}");
        server
            .command(&["SET", "streamgate:{tickets}:secret", &secret])
            .await;
        let of_one = one.as_key("page").ticket(&[&stream], "1h").await;
        assert_eq!(two.get_status(&path(&of_one)).await, 200, "round {round}");
        let of_two = two.as_key("page").ticket(&[&stream], "1h").await;
        assert_eq!(one.get_status(&path(&of_two)).await, 200, "round {round}");
    }
    server
        .command(&[
            "SET",
            "streamgate:{tickets}:secret",
            "the last one, of 32 bytes or more",
        ])
        .await;
    let last = one.as_key("page").ticket(&[&stream], "1h").await;
    server.command(&["FLUSHALL"]).await;
    let third = on().await;
    for app in [&one, &two, &third] {
        let ticket = app.as_key("page").ticket(&[&stream], "1h").await;
        for other in [&one, &two, &third] {
            assert_eq!(other.get_status(&path(&ticket)).await, 200);
        }
    }
    assert_eq!(
        one.get_status(&path(&last)).await,
        200,
        "what was handed out stays good"
    );
}

#[tokio::test]
async fn a_secret_from_a_file_needs_no_redis_and_changes_with_the_file() {
    let stream = unique("file");
    let server = Server::start().await;
    let file = two(&stream);
    let secret = |text: &str| file.beside("secret", text.as_bytes());
    secret("a secret of thirty-two bytes, or more\n");
    let path = file.dir.path().join("secret");
    let auth_file = file.path();
    let on = async || {
        let settings = crate::support::app::settings(&[
            (&SPECS.redis_url, &server.url()),
            (&SPECS.auth_file, auth_file.to_str().unwrap()),
            (&SPECS.ticket_secret_file, path.to_str().unwrap()),
        ]);
        TestApp::of(&settings).await
    };
    let (one, two) = (on().await, on().await);
    let events = |ticket: &str| format!("/v1/streams/{stream}/events?ticket={ticket}");
    let ticket = one.as_key("page").ticket(&[&stream], "1h").await;
    assert_eq!(two.get_status(&events(&ticket)).await, 200);
    let there = server
        .command(&["EXISTS", "streamgate:{tickets}:secret"])
        .await;
    assert_eq!(there, deadpool_redis::redis::Value::Int(0));
    secret("another secret of thirty-two bytes\n");
    for app in [&one, &two] {
        eventually("it is read", async || {
            app.get_status(&events(&ticket)).await == 401
        })
        .await;
    }
    let ticket = two.as_key("page").ticket(&[&stream], "1h").await;
    assert_eq!(one.get_status(&events(&ticket)).await, 200);
    secret("short");
    let (code, _, told) = crate::support::gateway::run(
        &[
            "config",
            "check",
            "--redis-url",
            "redis://h",
            "--auth-file",
            auth_file.to_str().unwrap(),
            "--ticket-secret-file",
            path.to_str().unwrap(),
        ],
        &[],
    );
    assert!(
        code == Some(2) && told.contains("fewer than 32 bytes"),
        "{told}"
    );
    assert!(!told.contains("short"), "{told}");
}
