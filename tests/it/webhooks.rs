//! Webhook sources: every scheme, and everything that a sender or a stranger can get wrong.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::Method;
use ring::hmac;
use serde_json::{Value, json};

use crate::support::auth::{AuthFile, from_now, record};
use crate::support::redis::{Server, json as shown};
use crate::support::{Answer, TestApp, eventually, unique};

/// The secret of all sources, and the one that replaces it.
pub const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const NEXT: &[u8] = b"fedcba9876543210fedcba9876543210";

/// Returns the record of a source whose secret is in `shop.secret`.
pub fn source(name: &str, stream: &str, scheme: &str, more: &str) -> String {
    format!(
        "[[source]]\nname = {name:?}\nstream = {stream:?}\nscheme = {scheme:?}\n\
         secret_file = \"shop.secret\"\n{more}\n"
    )
}

/// A request to a source.
#[derive(Clone)]
pub struct Delivery {
    headers: Vec<(String, String)>,
    body: String,
}

fn sign(secret: &[u8], text: impl AsRef<[u8]>) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    hmac::sign(&key, text.as_ref()).as_ref().to_vec()
}

/// Returns the signature of a body, as GitHub sends it.
pub fn github_signature(body: &[u8], secret: &[u8]) -> String {
    format!("sha256={}", hex(&sign(secret, body)))
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

impl Delivery {
    fn new(body: &str, headers: &[(&str, String)]) -> Self {
        let headers = headers.iter();
        Self {
            headers: headers
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
            body: body.to_owned(),
        }
    }

    pub fn github(id: &str, body: &str, secret: &[u8]) -> Self {
        let signature = github_signature(body.as_bytes(), secret);
        Self::new(
            body,
            &[
                ("x-hub-signature-256", signature),
                ("x-github-delivery", id.to_owned()),
                ("x-github-event", "push".to_owned()),
                ("content-type", "application/json".to_owned()),
            ],
        )
    }

    fn standard(id: &str, body: &str, time: i64) -> Self {
        let signature = BASE64_STANDARD.encode(sign(SECRET, format!("{id}.{time}.{body}")));
        let old = BASE64_STANDARD.encode([1; 32]);
        Self::new(
            body,
            &[
                ("webhook-id", id.to_owned()),
                ("webhook-timestamp", time.to_string()),
                (
                    "webhook-signature",
                    format!("v1,{old} v1a,x v1,{signature}"),
                ),
            ],
        )
    }

    fn stripe(body: &str, time: i64) -> Self {
        let signature = hex(&sign(SECRET, format!("{time}.{body}")));
        let old = "00".repeat(32);
        let header = format!("t={time},v1={old},v1={signature},v0={old}");
        Self::new(body, &[("stripe-signature", header)])
    }

    fn slack(body: &str, time: i64) -> Self {
        let signature = hex(&sign(SECRET, format!("v0:{time}:{body}")));
        Self::new(
            body,
            &[
                ("x-slack-request-timestamp", time.to_string()),
                ("x-slack-signature", format!("v0={signature}")),
            ],
        )
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub async fn send(&self, app: &TestApp, name: &str) -> Answer {
        let url = app.url(&format!("/v1/sources/{name}"));
        let mut request = reqwest::Client::new().post(url).body(self.body.clone());
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        app.send(request).await
    }
}

/// A gateway with one source, on a stream of its own.
struct Shop {
    app: TestApp,
    file: AuthFile,
    stream: String,
}

impl Shop {
    async fn start(scheme: &str, more: &str) -> Self {
        let stream = unique("deliveries");
        let text = record("root", &["* *"]) + &source("shop", &stream, scheme, more);
        let file = AuthFile::new(&text);
        let secret = match scheme {
            "standard-webhooks" => format!("whsec_{}\n", BASE64_STANDARD.encode(SECRET)).into(),
            _ => [SECRET, b"\n"].concat(),
        };
        file.beside("shop.secret", &secret);
        let app = file.app().await;
        Self { app, file, stream }
    }

    async fn send(&self, delivery: &Delivery) -> Answer {
        delivery.send(&self.app, "shop").await
    }

    /// Sends a delivery that is appended, and returns its entry.
    async fn stores(&self, delivery: &Delivery) -> Value {
        let answer = self.send(delivery).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let receipt = answer.json();
        assert_eq!(receipt["replayed"], false, "{receipt}");
        let entry = self.entries().await.pop().unwrap();
        assert_eq!(entry["id"], receipt["id"]);
        entry
    }

    async fn entries(&self) -> Vec<Value> {
        let path = format!("/v1/streams/{}/entries?limit=100", self.stream);
        let answer = self.app.as_key("root").get(&path).await;
        match answer.status {
            404 => Vec::new(),
            _ => answer.json()["entries"].as_array().unwrap().clone(),
        }
    }

    async fn refuses(&self, delivery: &Delivery) -> String {
        let before = self.entries().await.len();
        let problem = self.send(delivery).await.is_problem(401, "unauthenticated");
        assert_eq!(self.entries().await.len(), before, "nothing is stored");
        problem["detail"].as_str().unwrap().to_owned()
    }

    async fn counted(&self, outcome: &str) -> u64 {
        let text = self.app.as_key("root").get("/metrics").await.body;
        let name = format!("streamgate_webhooks_total{{outcome=\"{outcome}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&name));
        line.unwrap().parse().unwrap()
    }
}

#[tokio::test]
async fn a_delivery_of_every_scheme_is_stored_once_and_a_changed_byte_is_refused() {
    let now = from_now(0);
    let signed = |body: &str| BASE64_STANDARD.encode(sign(SECRET, body));
    let body = r#"{"id":"evt_1","event_id":"Ev1","type":"order"}"#;
    let generic = "header = \"X-Shop-Hmac\"\nid_header = \"X-Shop-Id\"";
    let cases = [
        ("github", "", Delivery::github("id-1", body, SECRET)),
        (
            "standard-webhooks",
            "",
            Delivery::standard("msg_1", body, now),
        ),
        ("stripe", "", Delivery::stripe(body, now)),
        ("slack", "", Delivery::slack(body, now)),
        (
            "hmac-sha256",
            generic,
            Delivery::new(
                body,
                &[("x-shop-hmac", signed(body)), ("x-shop-id", "1".to_owned())],
            ),
        ),
    ];
    for (scheme, more, delivery) in cases {
        let shop = Shop::start(scheme, more).await;
        let entry = shop.stores(&delivery).await;
        assert_eq!(entry["fields"]["data"], body, "{scheme}");
        let again = shop.send(&delivery).await;
        assert_eq!(again.status, 200, "{scheme}: {}", again.body);
        assert_eq!(
            again.json(),
            json!({"id": entry["id"], "replayed": true}),
            "{scheme}"
        );
        for at in [0, body.len() / 2, body.len() - 1] {
            let mut bytes = body.as_bytes().to_vec();
            bytes[at] ^= 1;
            let changed = Delivery {
                body: String::from_utf8(bytes).unwrap(),
                ..delivery.clone()
            };
            shop.refuses(&changed).await;
        }
        for missing in 0..delivery.headers.len() {
            let mut without = delivery.clone();
            let (name, _) = without.headers.remove(missing);
            if !["signature", "hmac", "timestamp", "webhook-id"]
                .iter()
                .any(|part| name.contains(part))
            {
                continue;
            }
            shop.refuses(&without).await;
        }
        // Two different values of a signed header: nobody knows which one is meant.
        let (name, _) = &delivery.headers[0];
        shop.refuses(&delivery.clone().with(name, "x")).await;
        assert_eq!(shop.entries().await.len(), 1, "{scheme}");
        assert_eq!(
            (shop.counted("stored").await, shop.counted("replayed").await),
            (1, 1)
        );
        assert!(shop.counted("signature").await >= 4, "{scheme}");
        shop.app.stop().await;
    }
}

#[tokio::test]
async fn chosen_headers_become_fields() {
    let shop = Shop::start("github", "headers = [\"X-GitHub-Event\", \"ce-*\"]").await;
    let delivery = Delivery::github("id-1", "{}", SECRET)
        .with("ce-type", "order.paid")
        .with("x-other", "1");
    let entry = shop.stores(&delivery).await;
    assert_eq!(
        entry["fields"],
        json!({"data": "{}", "content-type": "application/json", "x-github-event": "push", "ce-type": "order.paid"})
    );
    // The sender repeats the delivery, and a header differs. The id stands for the event.
    let again = Delivery::github("id-1", "{}", SECRET).with("ce-type", "another");
    let answer = shop.send(&again).await;
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({"replayed": true}))
    );
    assert_eq!(shop.entries().await.len(), 1);
}

#[tokio::test]
async fn an_id_that_the_operator_chose_does_not_stand_for_other_content() {
    let more = "header = \"X-Shop-Hmac\"\nid_header = \"X-Shop-Id\"";
    let shop = Shop::start("hmac-sha256", more).await;
    let delivery = |body: &str| {
        let signature = format!("sha256={}", hex(&sign(SECRET, body)));
        Delivery::new(body, &[("x-shop-hmac", signature)])
    };
    shop.stores(&delivery("a").with("x-shop-id", "1")).await;
    let reused = delivery("b").with("x-shop-id", "1");
    let problem = shop.send(&reused).await;
    problem.is_problem(422, "idempotency-key-reused");
    // Without an id, two deliveries are two events.
    shop.stores(&delivery("a")).await;
    shop.stores(&delivery("a")).await;
    assert_eq!(shop.entries().await.len(), 3);
}

#[tokio::test]
async fn a_delivery_with_a_stale_time_is_refused_and_its_time_is_part_of_the_signature() {
    let stale = "too far from the time of the gateway";
    for (scheme, delivery) in [
        (
            "standard-webhooks",
            (|time| Delivery::standard("msg_1", "{}", time)) as fn(i64) -> _,
        ),
        ("stripe", |time| Delivery::stripe("{}", time)),
        ("slack", |time| Delivery::slack("{}", time)),
    ] {
        let shop = Shop::start(scheme, "tolerance = \"1m\"").await;
        for seconds in [-120, 120, -100_000_000] {
            let detail = shop.refuses(&delivery(from_now(seconds))).await;
            assert!(detail.contains(stale), "{scheme} {seconds}: {detail}");
        }
        assert_eq!(shop.counted("stale").await, 3);
        // A stranger who changes the time of an old delivery has no signature for it, and does not
        // learn that the source exists.
        let (old, now) = (from_now(-120).to_string(), from_now(0).to_string());
        let mut forged = delivery(from_now(-120));
        for (_, value) in &mut forged.headers {
            *value = value.replace(&old, &now);
        }
        let detail = shop.refuses(&forged).await;
        assert!(!detail.contains(stale), "{scheme}: {detail}");
        shop.stores(&delivery(from_now(-30))).await;
    }
}

#[tokio::test]
async fn a_guessed_url_gets_the_response_of_a_wrong_signature() {
    let shop = Shop::start("github", "").await;
    let forged = Delivery::github("id-1", "{}", NEXT);
    let wrong = shop.send(&forged).await.is_problem(401, "unauthenticated");
    for name in ["guessed", "SHOP", "shop%00", "..%2Fshop", "%F0%9F%98%80"] {
        let answer = forged.send(&shop.app, name).await;
        let problem = answer.is_problem(401, "unauthenticated");
        assert_eq!(problem["detail"], wrong["detail"], "{name}");
    }
    assert_eq!(shop.entries().await.len(), 0);
    // A key of the gateway is no signature, and a signature is no key.
    let path = shop.app.url("/v1/sources/shop");
    let root = shop.app.as_key("root");
    let keyed = root.call("POST", "/v1/sources/shop", json!({})).await;
    keyed.is_problem(401, "unauthenticated");
    let mut elsewhere = reqwest::Client::new().post(path.replace("sources/shop", "tickets"));
    for (name, value) in &Delivery::github("id-1", "{}", SECRET).headers {
        elsewhere = elsewhere.header(name, value);
    }
    let answer = shop.app.send(elsewhere.body("{}")).await;
    answer.is_problem(401, "unauthenticated");
    // Without an auth file there is no source.
    let open = TestApp::start().await;
    let delivery = Delivery::github("id-1", "{}", SECRET);
    let answer = delivery.send(&open, "shop").await;
    answer.is_problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_secret_is_rotated_without_a_refused_delivery() {
    let shop = Shop::start("github", "").await;
    let (old, new) = (
        |id: &str| Delivery::github(id, "{}", SECRET),
        |id: &str| Delivery::github(id, "{}", NEXT),
    );
    shop.stores(&old("id-1")).await;
    shop.refuses(&new("id-2")).await;
    let record = |files: &str| {
        let one = source("shop", &shop.stream, "github", "");
        let both = one.replace("\"shop.secret\"", files);
        record("root", &["* *"]) + &both
    };
    shop.file.beside("new.secret", NEXT);
    shop.file
        .write(&record("[\"new.secret\", \"shop.secret\"]"));
    eventually("both secrets are accepted", async || {
        shop.send(&new("id-2")).await.status == 200
    })
    .await;
    assert_eq!(shop.send(&old("id-3")).await.status, 200);
    shop.file.write(&record("\"new.secret\""));
    eventually("the old secret is refused", async || {
        shop.send(&old("id-3")).await.status == 401
    })
    .await;
    assert_eq!(shop.send(&new("id-4")).await.status, 200);
    // The contents of a secret file may change, too.
    shop.file.beside("new.secret", SECRET);
    eventually("the file is read again", async || {
        shop.send(&old("id-5")).await.status == 200
    })
    .await;
    // A file with a mistake is not used.
    shop.file.beside("new.secret", b"short");
    shop.file
        .write(&record("[\"new.secret\", \"shop.secret\"]"));
    eventually("the mistake is counted", async || {
        let text = shop.app.as_key("root").get("/metrics").await.body;
        text.contains("streamgate_auth_file_errors_total 1")
    })
    .await;
    assert_eq!(shop.send(&old("id-6")).await.status, 200);
}

#[tokio::test]
async fn a_stream_that_cannot_take_a_delivery_gets_it_later() {
    let server = Server::start().await;
    let text = record("root", &["* *"]) + &source("shop", "orders", "github", "");
    let file = AuthFile::new(&text);
    file.beside("shop.secret", SECRET);
    let auth = file.auth();
    let app = TestApp::on(&server.url(), |settings| settings.auth = auth).await;
    let delivery = Delivery::github("id-1", "{}", SECRET);
    let send = || delivery.send(&app, "shop");

    server.command(&["SET", "orders", "text"]).await;
    send().await.is_problem(409, "not-a-stream");
    server.command(&["DEL", "orders"]).await;

    server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let full = send().await.is_problem(503, "redis-out-of-memory");
    assert_eq!(
        (full["retryable"].clone(), full["side_effects"].clone()),
        (true.into(), "none".into())
    );
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).await;

    let last = "18446744073709551615-18446744073709551615";
    server.command(&["XADD", "orders", last, "n", "1"]).await;
    send().await.is_problem(409, "id-not-monotonic");
    server.command(&["DEL", "orders"]).await;

    // The id of a delivery that was not stored is free.
    assert_eq!(send().await.json()["replayed"], false);
    assert_eq!(shown(&server.command(&["XLEN", "orders"]).await), 1);
    server.kill();
    eventually("the outage is noticed", async || send().await.status >= 503).await;
}

#[tokio::test]
async fn slack_and_cloudevents_check_a_url_before_they_send() {
    let shop = Shop::start("slack", "").await;
    let check = r#"{"type":"url_verification","challenge":"3eZbrw1a","token":"x"}"#;
    let answer = shop.send(&Delivery::slack(check, from_now(0))).await;
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({"challenge": "3eZbrw1a"}))
    );
    let mut forged = Delivery::slack(check, from_now(0));
    forged.body.push(' ');
    let detail = shop.refuses(&forged).await;
    assert!(!detail.contains("3eZbrw1a"));
    assert_eq!(shop.entries().await.len(), 0, "a check is no event");
    // An event that is about a challenge is an event.
    let event = r#"{"type":"event_callback","challenge":"x","event_id":"Ev1"}"#;
    shop.stores(&Delivery::slack(event, from_now(0))).await;
    // A form has no id. The same request is stored once, and another time is another event.
    let form = "command=%2Fdeploy&text=now";
    let early = Delivery::slack(form, from_now(-5));
    shop.stores(&early).await;
    assert_eq!(shop.send(&early).await.json()["replayed"], true);
    shop.stores(&Delivery::slack(form, from_now(-3))).await;

    let ask = async |name: &str| {
        let url = shop.app.url(&format!("/v1/sources/{name}"));
        let request = shop.app.client.request(Method::OPTIONS, url);
        let request = request
            .header("webhook-request-origin", "events.example.com")
            .header("webhook-request-rate", "120");
        shop.app.send(request).await
    };
    let allowed = ask("shop").await;
    assert_eq!(allowed.status, 200, "{}", allowed.body);
    assert_eq!(
        allowed.header("webhook-allowed-origin"),
        "events.example.com"
    );
    assert_eq!(allowed.header("webhook-allowed-rate"), "*");
    assert!(allowed.header("allow").contains("POST"));
    let unknown = ask("guessed").await;
    unknown.is_problem(401, "unauthenticated");
    assert_eq!(unknown.header("webhook-allowed-origin"), "");
    assert_eq!(shop.counted("handshake").await, 2);
}

#[tokio::test]
async fn bodies_are_bounded_and_not_compressed() {
    let text = source("shop", &unique("deliveries"), "github", "");
    let file = AuthFile::new(&text);
    file.beside("shop.secret", SECRET);
    let auth = file.auth();
    let app = TestApp::start_with(|settings| {
        settings.auth = auth;
        settings.api.max_body = 100;
    })
    .await;
    let fits = Delivery::github("id-1", &"x".repeat(100), SECRET);
    assert_eq!(fits.send(&app, "shop").await.status, 200);
    let large = Delivery::github("id-2", &"x".repeat(101), SECRET);
    let problem = large.send(&app, "shop").await.is_problem(413, "too-large");
    assert_eq!(problem["max_bytes"], 100);
    let packed = Delivery::github("id-3", "{}", SECRET).with("content-encoding", "gzip");
    let answer = packed.send(&app, "shop").await;
    answer.is_problem(415, "unsupported-media-type");
    let path = app.url("/v1/sources/shop?token=1");
    let answer = app.send(app.client.post(path).body("{}")).await;
    answer.is_problem(400, "unknown-parameter");
    let answer = app.get("/v1/sources/shop").await;
    answer.is_problem(405, "method-not-allowed");
}

#[test]
fn mistakes_in_the_record_of_a_source_are_found() {
    let file = AuthFile::new("");
    file.beside("shop.secret", SECRET);
    file.beside("short.secret", b"short");
    let good = source("shop", "orders", "github", "");
    for (from, to, part) in [
        ("\"shop\"", "\"a b\"", "a name must have"),
        ("\"shop\"", "\"\"", "a name must have"),
        ("\"orders\"", "\"streamgate:x\"", "stream: "),
        ("\"github\"", "\"gitlab\"", "scheme: must be"),
        (
            "\"github\"",
            "\"standard-webhooks\"\nheader = \"X\"",
            "require the scheme hmac-sha256",
        ),
        ("\"github\"", "\"hmac-sha256\"", "requires `header`"),
        (
            "\"github\"",
            "\"hmac-sha256\"\nheader = \"a b\"",
            "not the name of a header",
        ),
        (
            "\"github\"",
            "\"github\"\ntolerance = \"2h\"",
            "tolerance: must be 1s to 1h",
        ),
        (
            "\"github\"",
            "\"github\"\nheaders = [\"a*b\"]",
            "not the name of a header",
        ),
        ("\"github\"", "\"github\"\nsecret = \"x\"", "secret"),
        ("\"shop.secret\"", "[]", "one or two files"),
        (
            "\"shop.secret\"",
            "[\"a\", \"b\", \"c\"]",
            "one or two files",
        ),
        ("\"shop.secret\"", "\"short.secret\"", "at least 16 bytes"),
        ("\"shop.secret\"", "\"absent.secret\"", "absent.secret: "),
    ] {
        let text = good.replacen(from, to, 1);
        file.write(&text);
        let wrong = streamgate::auth::Auth::from_file(&file.path(), 25).unwrap_err();
        assert!(
            wrong.iter().any(|one| one.contains(part)),
            "{text}: {wrong:?}"
        );
    }
    file.write(&(good.clone() + &good));
    let wrong = streamgate::auth::Auth::from_file(&file.path(), 25).unwrap_err();
    assert!(wrong[0].contains("the same name"), "{wrong:?}");
    let plain = "plain text, no base64 at all";
    file.beside("shop.secret", plain.as_bytes());
    file.write(&source("shop", "orders", "standard-webhooks", ""));
    let wrong = streamgate::auth::Auth::from_file(&file.path(), 25).unwrap_err();
    assert!(wrong[0].contains("`whsec_` and base64"), "{wrong:?}");
    assert!(!wrong[0].contains("plain"), "a secret is never shown");
}
