//! Redis over TLS, with certificates on both sides. These tests need the server of the
//! distribution, because other builds have no TLS.

use std::path::Path;
use std::time::Duration;

use deadpool_redis::redis::Value;

use streamgate::config::SPECS;

use crate::support::app::settings;
use crate::support::certs::Authority;
use crate::support::gateway::run;
use crate::support::redis::{Server, free_port};
use crate::support::sentinels::{NAME, Sentinel};
use crate::support::{TestApp, eventually, unique};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Starts a server that accepts TLS on the returned port from clients with a certificate of
/// `authority`, and plaintext from tests.
async fn secured(authority: &Authority, dir: &Path) -> (Server, u16) {
    let (server, port) = (Server::on(free_port()), free_port());
    let files = authority.issue(dir);
    let ca = dir.join("ca.pem");
    std::fs::write(&ca, &authority.pem).unwrap();
    let tls_port = port.to_string();
    server
        .start_again_with(&[
            "--tls-port",
            &tls_port,
            "--tls-cert-file",
            text(&files.cert),
            "--tls-key-file",
            text(&files.key),
            "--tls-ca-cert-file",
            text(&ca),
            "--tls-auth-clients",
            "yes",
        ])
        .await;
    (server, port)
}

#[tokio::test]
async fn all_kinds_of_connections_to_redis_go_over_tls() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let (server, port) = secured(&authority, dir.path()).await;
    let own = tempfile::tempdir().unwrap();
    let files = authority.issue(own.path());
    let app = TestApp::of(&settings(&[
        (&SPECS.redis_url, &format!("rediss://localhost:{port}/")),
        (&SPECS.redis_ca, text(&dir.path().join("ca.pem"))),
        (&SPECS.redis_client_cert, text(&files.cert)),
        (&SPECS.redis_client_key, text(&files.key)),
    ]))
    .await;
    let stream = unique("secure");
    let mut live = app.follow(&format!("/v1/streams/{stream}/events")).await;
    live.expect("$open").await;
    app.publish(&stream, "1").await;
    assert_eq!(live.values(1).await, ["1"]);
    let durable =
        format!("/v1/streams/{stream}/entries?durability=replicas:1&durability_timeout=1ms");
    app.post_form(&durable, "n=2")
        .await
        .is_problem(504, "durability-not-reached");
    let group = format!("/v1/streams/{stream}/groups/g");
    app.put_json(&group, r#"{"policy":{}}"#).await;
    let first = app.post_form(&format!("{group}/read"), "consumer=a").await;
    let freed = async {
        let listening = "redis_connections{kind=\"listening\"}";
        eventually("it listens", async || {
            app.metric_if_any(listening).await == Some(1)
        })
        .await;
        app.post_form(&format!("{group}/nack"), &format!("ids={}", first.ids()[0]))
            .await;
    };
    let read = format!("{group}/read");
    let waits = app.post_form(&read, "consumer=b&wait=20s");
    let (second, ()) = tokio::join!(waits, freed);
    assert_eq!(second.ids(), first.ids()[..1]);
    for kind in ["shared", "blocking", "durable", "listening"] {
        let name = format!("redis_connections{{kind=\"{kind}\"}}");
        assert!(
            app.metric_if_any(&name).await.is_some_and(|open| open > 0),
            "{kind}"
        );
    }
    let Value::BulkString(list) = server.command(&["CLIENT", "LIST"]).await else {
        panic!()
    };
    let list = String::from_utf8_lossy(&list).into_owned();
    let of_gateway: Vec<&str> = list
        .lines()
        .filter(|line| !line.contains("cmd=client|list"))
        .collect();
    assert!(of_gateway.len() >= 4, "{list}");
    let secure = format!("laddr=127.0.0.1:{port} ");
    assert!(
        of_gateway.iter().all(|line| line.contains(&secure)),
        "{list}"
    );
    server.kill();
    let answer = app
        .post_form(&format!("/v1/streams/{stream}/entries"), "n=3")
        .await;
    answer.is_problem(503, "redis-unavailable");
}

#[tokio::test]
async fn a_redis_is_not_believed_whose_certificate_nobody_signed_nor_one_without_ours() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let (_server, port) = secured(&authority, dir.path()).await;
    let (stranger, own) = (Authority::new(), tempfile::tempdir().unwrap());
    let files = authority.issue(own.path());
    let foreign = own.path().join("foreign.pem");
    std::fs::write(&foreign, &stranger.pem).unwrap();
    let (url, ca) = (
        format!("rediss://localhost:{port}/"),
        dir.path().join("ca.pem"),
    );
    let ours = [
        (&SPECS.redis_client_cert, text(&files.cert)),
        (&SPECS.redis_client_key, text(&files.key)),
    ];
    for flags in [
        vec![
            (&SPECS.redis_url, url.as_str()),
            (&SPECS.redis_ca, text(&ca)),
        ],
        [
            &[
                (&SPECS.redis_url, url.as_str()),
                (&SPECS.redis_ca, text(&foreign)),
            ][..],
            &ours,
        ]
        .concat(),
        [&[(&SPECS.redis_url, url.as_str())][..], &ours].concat(),
    ] {
        let mut settings = settings(&flags);
        settings.pool.connect_timeout = Duration::from_millis(300);
        let app = TestApp::of(&settings).await;
        app.get("/readyz")
            .await
            .is_problem(503, "redis-unavailable");
        app.post_form("/v1/streams/a/entries", "n=1")
            .await
            .is_problem(503, "redis-unavailable");
    }
}

#[tokio::test]
async fn sentinels_and_the_master_they_name_are_reached_over_tls() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let (_server, port) = secured(&authority, dir.path()).await;
    let (path, tls_port) = (text(dir.path()), free_port());
    let further = format!(
        "tls-port {tls_port}\ntls-replication yes\ntls-cert-file {path}/cert.pem\n\
         tls-key-file {path}/key.pem\ntls-ca-cert-file {path}/ca.pem"
    );
    let _sentinel = Sentinel::start(port, 1, &further).await;
    let url = format!("rediss-sentinel://localhost:{tls_port}?sentinelMasterId={NAME}");
    let flags = [
        (&SPECS.redis_url, url.as_str()),
        (&SPECS.redis_ca, &format!("{path}/ca.pem")),
        (&SPECS.redis_client_cert, &format!("{path}/cert.pem")),
        (&SPECS.redis_client_key, &format!("{path}/key.pem")),
    ];
    let app = TestApp::of(&settings(&flags)).await;
    app.publish(&unique("secure"), "1").await;
    let mut settings = settings(&flags[..2]);
    settings.pool.connect_timeout = Duration::from_millis(300);
    let app = TestApp::of(&settings).await;
    app.get("/readyz")
        .await
        .is_problem(503, "redis-unavailable");
}

#[test]
fn certificates_for_redis_that_make_no_sense_are_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let files = Authority::new().issue(dir.path());
    for (flags, problem) in [
        (
            &["--redis-url", "redis://h", "--redis-ca", "/x"][..],
            "rediss://",
        ),
        (
            &["--redis-url", "rediss://h", "--redis-ca", "/x"],
            "cannot read /x",
        ),
        (
            &["--redis-url", "rediss://h", "--redis-ca", text(&files.key)],
            "no certificate in PEM",
        ),
        (
            &[
                "--redis-url",
                "rediss://h",
                "--redis-client-cert",
                text(&files.cert),
            ],
            "redis-client-cert requires redis-client-key",
        ),
        (
            &["--redis-url", "rediss://:s3cret@h/#insecure"],
            "always verified",
        ),
    ] {
        let (code, _, err) = run(&[&["config", "check"], flags].concat(), &[]);
        assert_eq!(code, Some(2), "{flags:?}");
        assert!(
            err.contains(problem) && !err.contains("s3cret"),
            "{flags:?}: {err}"
        );
    }
}
