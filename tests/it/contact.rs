//! Connections to Redis: log lines and readiness, changing credentials, and connections that the
//! server closes.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::support::app::{answer, client};
use crate::support::gateway::Gateway;
use crate::support::redis::{Server, free_port};
use crate::support::{Answer, PATIENCE, TestApp, elapse, eventually, unique};

/// Starts a gateway process that also answers probes at a second address.
fn gateway(url: &str) -> Gateway {
    let listen = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--metrics-listen",
        "127.0.0.1:0",
    ];
    Gateway::start(&[&listen, &["--redis-url", url][..]].concat())
}

/// Returns the next log line that contains this text, including lines from before the gateway
/// listened.
fn logged(gateway: &mut Gateway, text: &str) -> String {
    if let Some(at) = gateway.before.iter().position(|line| line.contains(text)) {
        return gateway.before.remove(at);
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = gateway
            .log
            .recv_timeout(left)
            .unwrap_or_else(|_| panic!("never: {text}"));
        if line.contains(text) {
            return line;
        }
    }
}

async fn get(url: String) -> Answer {
    answer(client().get(url)).await.unwrap()
}

#[tokio::test]
async fn a_redis_that_is_not_there_at_the_start_is_told_with_its_cause_and_so_is_its_coming() {
    let server = Server::on(free_port());
    let address = format!("127.0.0.1:{}", server.port);
    let mut gateway = gateway(&server.url());
    let line = logged(&mut gateway, "cannot reach Redis");
    assert!(
        line.contains(&address) && line.contains("refused"),
        "{line}"
    );
    let metrics = logged(&mut gateway, "metrics available at ");
    let probes = metrics
        .split_once("at ")
        .unwrap()
        .1
        .trim()
        .replace("/metrics", "/readyz");
    let problem = get(probes.clone())
        .await
        .is_problem(503, "redis-unavailable");
    assert!(
        problem["cause"].as_str().unwrap().contains("refused"),
        "{problem:#}"
    );
    let public = get(format!("http://{}/readyz", gateway.address)).await;
    assert_eq!(
        public.is_problem(503, "redis-unavailable")["cause"],
        serde_json::json!(null)
    );
    // The line is repeated although nothing has changed.
    logged(&mut gateway, "cannot reach Redis");
    server.start_again().await;
    let line = logged(&mut gateway, "connected to ");
    assert!(line.contains(&format!(" at {address}")), "{line}");
    assert!(
        line.contains("connected to Redis ") || line.contains("connected to Valkey "),
        "{line}"
    );
    eventually("it is ready", async || {
        get(probes.clone()).await.status == 200
    })
    .await;
    server.kill();
    let line = logged(&mut gateway, "cannot reach Redis");
    assert!(line.contains(&address), "{line}");
    let away = async || {
        let ready = get(probes.clone()).await;
        ready.status == 200
            && ready.json()["redis"] == "down"
            && ready.json()["cause"]
                .as_str()
                .is_some_and(|cause| !cause.is_empty())
    };
    eventually("it is away", away).await;
}

#[tokio::test]
async fn whatever_keeps_a_gateway_from_redis_is_said_in_the_log() {
    let server = Server::start().await;
    server
        .command(&[
            "ACL", "SETUSER", "gate", "on", ">right", "~*", "&*", "+@all",
        ])
        .await;
    let locked = Server::start_with(&["--requirepass", "s3cret"]).await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let web = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let at = |login: &str, port: u16| format!("redis://{login}127.0.0.1:{port}/");
    for (url, cause) in [
        (
            at("gate:wr0ng@", server.port),
            "the user or the password is wrong",
        ),
        (
            at("nobody:wr0ng@", server.port),
            "the user or the password is wrong",
        ),
        (at("", locked.port), "Authentication required"),
        (at("", web), "no Redis server answers"),
        (format!("rediss://127.0.0.1:{}/", server.port), "rediss://"),
        ("redis://no-such-host.invalid:6379/".to_owned(), "lookup"),
    ] {
        let mut gateway = gateway(&url);
        let line = logged(&mut gateway, "cannot reach Redis at ");
        assert!(line.contains(cause), "{url}: {line}");
        assert!(!line.contains("wr0ng"), "{line}");
        let ready = get(format!("http://{}/readyz", gateway.address)).await;
        ready.is_problem(503, "redis-unavailable");
    }
}

#[tokio::test]
async fn a_gateway_is_not_ready_with_a_redis_that_refuses_every_command() {
    let locked = Server::start_with(&["--requirepass", "s3cret"]).await;
    let alone = Server::start_with(&["--replica-serve-stale-data", "no"]).await;
    alone.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let down = Server::start_with(&["--cluster-enabled", "yes"]).await;
    let mut apps = Vec::new();
    for server in [&locked, &alone, &down] {
        let app = TestApp::on_server(server).await;
        app.get("/readyz")
            .await
            .is_problem(503, "redis-unavailable");
        apps.push(app);
    }
    locked
        .command_as("default:s3cret@", &["CONFIG", "SET", "requirepass", ""])
        .await;
    alone.command(&["REPLICAOF", "NO", "ONE"]).await;
    down.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"])
        .await;
    for app in &apps {
        eventually("it is ready", async || {
            app.get("/readyz").await.status == 200
        })
        .await;
    }
}

#[tokio::test]
async fn a_password_that_changes_is_read_again_and_meanwhile_every_write_is_told_to_retry() {
    let server = Server::start_with(&["--requirepass", "old"]).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "old\n").unwrap();
    let path = file.clone();
    let app = TestApp::on(&server.url(), |settings| {
        settings.pool.password_file = Some(path);
    })
    .await;
    let stream = unique("rotated");
    app.publish(&stream, "before").await;
    let mut events = app
        .follow(&format!("/v1/streams/{stream}/events?after=0"))
        .await;
    events.expect("$open").await;
    events.values(1).await;
    server
        .command_as(":old@", &["CONFIG", "SET", "requirepass", "new"])
        .await;
    server
        .command_as(":new@", &["CLIENT", "KILL", "TYPE", "normal"])
        .await;
    let path = format!("/v1/streams/{stream}/entries");
    let keyed = async || {
        let post = app
            .client
            .post(app.url(&path))
            .header("idempotency-key", "k");
        let post = post.header("content-type", "application/x-www-form-urlencoded");
        app.send(post.body(format!("n={}", "x".repeat(20_000))))
            .await
    };
    let plain = async || app.post_form(&path, "n=lost").await;
    for _ in 0..3 {
        for answer in [keyed().await, plain().await] {
            let problem = answer.is_problem(503, "redis-unavailable");
            assert_eq!(problem["retryable"], true);
            assert_eq!(problem["side_effects"], "none", "{problem:#}");
        }
    }
    std::fs::write(&file, "new\n").unwrap();
    let began = Instant::now();
    eventually("it recovers", async || plain().await.status == 201).await;
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(keyed().await.status, 201);
    assert_eq!(events.values(1).await, ["lost"]);
}

#[test]
fn two_passwords_of_one_redis_and_characters_that_end_one_are_refused_with_a_hint() {
    let check = |args: &[&str]| {
        let (code, _, err) =
            crate::support::gateway::run(&[&["config", "check"], args].concat(), &[]);
        assert_eq!(code, Some(2), "{err}");
        assert!(!err.contains("s3cret"), "{err}");
        err
    };
    for url in [
        "redis://me:12#s3cret@host:6379",
        "redis://:s3cret#@host",
        "redis://:12/s3cret@host",
        "redis://:1?s3cret@host",
        "rediss://me:p#s3cret@host",
    ] {
        let told = check(&["--redis-url", url]);
        assert!(
            told.contains("%23") && told.contains("%2F"),
            "{url}: {told}"
        );
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let told = check(&[
        "--redis-url",
        "redis://:s3cret@host",
        "--redis-password-file",
        path,
    ]);
    assert!(told.contains("exclude each other"), "{told}");
    let told = check(&[
        "--redis-url",
        "redis://host",
        "--redis-password-file",
        "/none",
    ]);
    assert!(
        told.contains("redis-password-file: cannot read /none"),
        "{told}"
    );
}

#[tokio::test]
async fn connections_that_redis_closes_cost_no_write() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let stream = unique("closed");
    for round in 0..20 {
        server.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
        elapse(round % 4 * 10, "immediately after the response, and later").await;
        for _ in 0..3 {
            let answer = app
                .post_form(&format!("/v1/streams/{stream}/entries"), "n=1")
                .await;
            assert_eq!(answer.status, 201, "round {round}: {}", answer.body);
        }
    }
    let there = app.get(&format!("/v1/streams/{stream}")).await.json();
    assert_eq!(there["length"], 60, "each once");
}

#[tokio::test]
async fn a_closed_connection_is_replaced_before_anybody_asks() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    app.publish(&unique("replaced"), "1").await;
    let began = Instant::now();
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    eventually("they are there again", async || server.clients().await >= 2).await;
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_right_that_the_gateway_lacks_is_told_once() {
    let server = Server::start().await;
    let mut gateway = gateway(&server.url());
    logged(&mut gateway, "connected to ");
    server
        .command(&["ACL", "SETUSER", "default", "-xadd"])
        .await;
    let url = format!(
        "http://{}/v1/streams/{}/entries",
        gateway.address,
        unique("denied")
    );
    for _ in 0..3 {
        let post = client()
            .post(&url)
            .header("content-type", "application/x-www-form-urlencoded");
        let problem = answer(post.body("n=1"))
            .await
            .unwrap()
            .is_problem(503, "redis-unavailable");
        assert_eq!(problem["retryable"], true, "{problem:#}");
    }
    let line = logged(&mut gateway, "lacks a permission");
    assert!(line.contains("xadd"), "{line}");
    let further: Vec<_> = gateway.log.try_iter().collect();
    let again = further
        .iter()
        .filter(|line| line.contains("lacks a permission"))
        .count();
    assert_eq!(again, 0, "{further:#?}");
}
