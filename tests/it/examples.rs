//! The example workers, run unmodified.

use crate::support::process::{Process, start_tied, tied};
use crate::support::{TestApp, eventually, unique};

/// Starts a worker on a group `mailers`. Returns a function that reads what it has printed.
fn start(
    app: &TestApp,
    stream: &str,
    (program, script): (&str, &str),
) -> (Process, impl Fn() -> String) {
    let group = app.url(&format!("/v1/streams/{stream}/groups/mailers"));
    let mut command = tied(program);
    command.args([&format!("examples/{script}"), &group, "w1"]);
    let output = tempfile::NamedTempFile::new().unwrap();
    let file = output.reopen().unwrap();
    command.stdout(file.try_clone().unwrap()).stderr(file);
    let worker = start_tied(command);
    (worker, move || {
        std::fs::read_to_string(output.path()).unwrap()
    })
}

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
    let (_worker, printed) = start(&app, &stream, (program, script));
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
    assert!(text.lines().count() <= 45, "about forty lines");
    starts_from_nothing((program, script)).await;
    refuses_a_plain_group((program, script)).await;
}

/// Without a stream or a group, the worker creates both, with a policy.
async fn starts_from_nothing(script: (&str, &str)) {
    let app = TestApp::start().await;
    let stream = unique("nothing");
    let (_worker, printed) = start(&app, &stream, script);
    eventually("it waits", async || app.metric("waiting_reads").await == 1).await;
    let entries = format!("/v1/streams/{stream}/entries");
    app.post_form(&entries, "to=alice").await;
    eventually("it works", async || printed() == "mail to alice\n").await;
    let path = format!("/v1/streams/{stream}/groups/mailers");
    let group = app.get(&path).await.json();
    assert_eq!(group["policy"]["max_deliveries"], 5, "{group}");
}

/// In a group without a policy, the worker takes nothing, says why, and ends.
async fn refuses_a_plain_group(script: (&str, &str)) {
    let app = TestApp::start().await;
    let stream = app.stream_of("plain", 1).await;
    let group = format!("/v1/streams/{stream}/groups/mailers");
    app.put_json(&group, "{}").await;
    let (mut worker, printed) = start(&app, &stream, script);
    eventually("it ends", async || worker.try_wait().unwrap().is_some()).await;
    assert!(
        printed().contains("requires a group with a policy; set one with PATCH"),
        "{}",
        printed()
    );
    assert_eq!(app.get(&group).await.json()["pending"], 0);
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

#[tokio::test]
async fn the_demo_keeps_the_order_while_workers_are_killed() {
    let app = TestApp::start().await;
    let stream = app.url(&format!("/v1/streams/{}", unique("demo")));
    let mut command = tied("python3");
    command.args(["examples/ordering_demo.py", &stream]);
    let done = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let shown = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{done:?}");
    assert!(shown.contains(" 0 accounts out of order"), "{shown}");
}
