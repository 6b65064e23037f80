//! `examples/webhook-forwarder`, with a receiver that fails in every way before it accepts.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::support::gateway::signal;
use crate::support::process::{Process, start_tied, tied};
use crate::support::{TestApp, elapse, eventually, unique};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// An answer of the receiver.
#[derive(Clone, Copy, Debug)]
enum Reply {
    Status(u16),
    RetryAfter(u16, &'static str),
    /// None before the forwarder gives up.
    None,
}

/// A message that the receiver got.
#[derive(Clone, Debug)]
struct Message {
    at: Instant,
    headers: HeaderMap,
    body: Bytes,
}

impl Message {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Checks the signature as the specification of Standard Webhooks describes it.
    fn verify(&self) {
        let secret = STANDARD
            .decode(SECRET.strip_prefix("whsec_").unwrap())
            .unwrap();
        let (id, timestamp) = (self.header("webhook-id"), self.header("webhook-timestamp"));
        let signature = self.header("webhook-signature").strip_prefix("v1,");
        let signature = STANDARD.decode(signature.unwrap()).unwrap();
        let signed = [format!("{id}.{timestamp}.").as_bytes(), &self.body].concat();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        hmac::verify(&key, &signed, &signature).expect("a valid signature");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let sent: u64 = timestamp.parse().unwrap();
        assert!(now.as_secs().abs_diff(sent) < 60, "{timestamp}");
        assert!(!id.contains('.'), "the signed text is ambiguous: {id}");
    }
}

/// An endpoint that gives these replies, and then the last one again and again.
struct Receiver {
    url: String,
    got: Arc<Mutex<Vec<Message>>>,
    _task: AbortOnDropHandle<()>,
}

impl Receiver {
    async fn start(replies: &'static [Reply]) -> Self {
        let got: Arc<Mutex<Vec<Message>>> = Arc::default();
        let kept = got.clone();
        let receive = async move |headers: HeaderMap, body: Bytes| -> Response {
            let reply = {
                let mut kept = kept.lock().unwrap();
                let at = Instant::now();
                kept.push(Message { at, headers, body });
                replies[(kept.len() - 1).min(replies.len() - 1)]
            };
            match reply {
                Reply::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
                Reply::RetryAfter(status, after) => {
                    let status = StatusCode::from_u16(status).unwrap();
                    (status, [("retry-after", after)]).into_response()
                }
                Reply::None => {
                    elapse(60_000, "the endpoint never answers").await;
                    StatusCode::OK.into_response()
                }
            }
        };
        let app = axum::Router::new().route("/hook", axum::routing::post(receive));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            url,
            got,
            _task: AbortOnDropHandle::new(task),
        }
    }

    fn messages(&self) -> Vec<Message> {
        self.got.lock().unwrap().clone()
    }

    async fn got(&self, count: usize) {
        eventually(&format!("{count} messages"), async || {
            self.messages().len() >= count
        })
        .await;
    }
}

struct Forwarder(Process);

impl Forwarder {
    fn start(app: &TestApp, stream: &str, to: &str) -> Self {
        let mut command = tied("python3");
        command
            .arg("examples/webhook-forwarder/forwarder.py")
            .args(["--gateway", &app.url(""), "--stream", stream, "--to", to])
            .args(["--backoff", "200ms,200ms,200ms,200ms,200ms"])
            .args(["--timeout", "1", "--consumer", "f1"])
            .env("WEBHOOK_SECRET", SECRET)
            .stderr(Stdio::null());
        Self(start_tied(command))
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn publish(app: &TestApp, stream: &str, form: &str) -> String {
    let path = format!("/v1/streams/{stream}/entries");
    let answer = app.post_form(&path, form).await;
    answer.json()["id"].as_str().unwrap().to_owned()
}

async fn dead_letters(app: &TestApp, stream: &str) -> Vec<Value> {
    let path = format!("/v1/streams/{stream}/groups/webhooks/dead-letters");
    let answer = app.get(&path).await;
    match answer.status {
        200 => answer.json()["dead_letters"].as_array().unwrap().clone(),
        _ => Vec::new(),
    }
}

async fn settled(app: &TestApp, stream: &str) {
    eventually("nothing is pending", async || {
        let seen = app
            .get(&format!("/v1/streams/{stream}/groups/webhooks"))
            .await
            .json();
        seen["pending"] == 0 && seen["lag"] == 0
    })
    .await;
}

#[tokio::test]
async fn a_message_is_signed_and_repeated_until_the_receiver_accepts_it() {
    let app = TestApp::start().await;
    let stream = unique("hooks");
    let receiver = Receiver::start(&[
        Reply::Status(500),
        Reply::None,
        Reply::RetryAfter(429, "1"),
        Reply::Status(302),
        Reply::Status(204),
    ])
    .await;
    let mut forwarder = Forwarder::start(&app, &stream, &receiver.url);
    let id = publish(&app, &stream, "type=order.paid&user=alice&total=9.50").await;
    receiver.got(5).await;
    settled(&app, &stream).await;
    let messages = receiver.messages();
    assert_eq!(messages.len(), 5);
    for message in &messages {
        message.verify();
        assert_eq!(
            message.header("webhook-id"),
            messages[0].header("webhook-id")
        );
        assert_eq!(message.body, messages[0].body);
        assert_eq!(message.header("content-type"), "application/json");
    }
    assert!(messages[0].header("webhook-id").ends_with(&id));
    let body = messages[0].json();
    assert_eq!(body["type"], "order.paid");
    assert_eq!(body["data"], json!({"user": "alice", "total": "9.50"}));
    assert!(body["timestamp"].as_str().unwrap().ends_with('Z'));
    let after = messages[3].at - messages[2].at;
    assert!(
        after >= Duration::from_millis(950),
        "Retry-After: {after:?}"
    );
    let waited = messages[1].at - messages[0].at;
    assert!(waited >= Duration::from_millis(190), "backoff: {waited:?}");
    assert_eq!(dead_letters(&app, &stream).await, Vec::<Value>::new());
    publish(&app, &stream, "user=bob").await;
    receiver.got(6).await;
    let next = receiver.messages()[5].clone();
    next.verify();
    assert_eq!(
        next.json()["type"],
        stream,
        "the stream is the default type"
    );
    assert_ne!(next.header("webhook-id"), messages[0].header("webhook-id"));
    settled(&app, &stream).await;
    signal(forwarder.0.id(), "TERM");
    eventually("it stops", async || {
        forwarder.0.try_wait().unwrap().is_some()
    })
    .await;
    assert!(forwarder.0.wait().unwrap().success());
}

#[tokio::test]
async fn what_is_never_accepted_becomes_a_dead_letter_with_the_reason() {
    let app = TestApp::start().await;
    let stream = unique("refused");
    let receiver = Receiver::start(&[Reply::Status(503)]).await;
    let _forwarder = Forwarder::start(&app, &stream, &receiver.url);
    publish(&app, &stream, "user=alice").await;
    eventually("a dead letter", async || {
        dead_letters(&app, &stream).await.len() == 1
    })
    .await;
    let letter = &dead_letters(&app, &stream).await[0];
    assert_eq!(letter["reason"], "the endpoint answered 503");
    assert_eq!(letter["deliveries"], 6);
    assert_eq!(receiver.messages().len(), 6, "five delays, six attempts");
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_not_tried_again() {
    let app = TestApp::start().await;
    let stream = unique("gone");
    let receiver = Receiver::start(&[Reply::Status(410)]).await;
    let _forwarder = Forwarder::start(&app, &stream, &receiver.url);
    publish(&app, &stream, "user=alice").await;
    eventually("a dead letter", async || {
        dead_letters(&app, &stream).await.len() == 1
    })
    .await;
    let letter = &dead_letters(&app, &stream).await[0];
    assert_eq!(letter["reason"], "the endpoint answered 410");
    assert_eq!(receiver.messages().len(), 1);
}
