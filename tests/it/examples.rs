//! The example workers, run unmodified.

use std::process::Stdio;

use crate::support::process::{start_tied, tied};
use crate::support::{TestApp, eventually, unique};

/// Checks that a worker processes what it can, returns what it cannot, and survives a temporary
/// failure.
async fn works(program: &str, script: &str) {
    let app = TestApp::start().await;
    let stream = unique("example");
    let group = format!("/v1/streams/{stream}/groups/mailers");
    let policy = r#"{"policy":{"lease":"5s","max_deliveries":2}}"#;
    assert_eq!(app.put_json(&group, policy).await.status, 201);
    let entries = format!("/v1/streams/{stream}/entries");
    for to in ["to=alice", "subject=nobody", "to=bob"] {
        assert_eq!(app.post_form(&entries, to).await.status, 201);
    }
    let mut command = tied(program);
    command
        .arg(format!("examples/{script}"))
        .arg(app.url(&group))
        .arg("w1");
    let output = tempfile::NamedTempFile::new().unwrap();
    command
        .stdout(output.reopen().unwrap())
        .stderr(Stdio::inherit());
    let _worker = start_tied(command);
    let idle = async || {
        let seen = app.get(&group).await.json();
        let last = app.get(&format!("/v1/streams/{stream}")).await.json()["last_id"].clone();
        seen["pending"] == 0 && seen["last_delivered_id"] == last
    };
    eventually("it works them off", idle).await;
    eventually("it waits for more", async || {
        app.metric("waiting_reads").await == 1
    })
    .await;
    app.post_form(&entries, "to=carol").await;
    let printed = || std::fs::read_to_string(output.path()).unwrap();
    eventually("it works that off", async || printed().contains("carol")).await;
    eventually("nothing is left", idle).await;
    assert_eq!(
        printed(),
        "mail to alice\nmail to bob\nmail to carol\n",
        "{program}"
    );
    let letters = app.get(&format!("{group}/dead-letters")).await.json();
    let letters = letters["dead_letters"].as_array().unwrap();
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(
        (&letters[0]["fields"]["subject"], &letters[0]["deliveries"]),
        (&"nobody".into(), &2.into())
    );
    assert!(!letters[0]["reason"].as_str().unwrap().is_empty());
    let text = std::fs::read_to_string(format!("examples/{script}")).unwrap();
    assert!(text.lines().count() <= 40, "some thirty lines");
}

#[tokio::test]
async fn the_worker_in_python_works() {
    works("python3", "worker.py").await;
}

#[tokio::test]
async fn the_worker_in_node_works() {
    works("node", "worker.mjs").await;
}

#[tokio::test]
async fn the_worker_in_php_works() {
    works("php", "worker.php").await;
}

#[tokio::test]
async fn the_worker_in_bash_works() {
    works("bash", "worker.sh").await;
}
