//! API keys: created by a command, revoked without a restart; and the defaults without any key.

use std::process::Command;

use serde_json::json;

use crate::support::auth::{AuthFile, key, record};
use crate::support::gateway::{BINARY, Gateway};
use crate::support::{eventually, unique};

fn keys(args: &[&str]) -> (bool, String, String) {
    let done = Command::new(BINARY)
        .arg("keys")
        .args(args)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        done.status.success(),
        text(&done.stdout),
        text(&done.stderr),
    )
}

#[tokio::test]
async fn one_command_makes_a_key_that_works() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("auth.toml");
    let file = file.to_str().unwrap();
    let (done, out, err) = keys(&[
        "new",
        "ci",
        "--grant",
        "publish builds",
        "--auth-file",
        file,
    ]);
    assert!(done && err.contains("shown only once"), "{err}");
    // Standard output is the key alone, for `KEY=$(streamgate keys new …)`.
    let made = out.trim_end();
    assert_eq!(out, format!("{made}\n"));
    assert!(!made.contains(char::is_whitespace), "{out}");
    let kept = std::fs::read_to_string(file).unwrap();
    assert!(!kept.contains(made), "the key itself is kept nowhere");
    let bits =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(file).unwrap().permissions());
    assert_eq!(bits & 0o777, 0o600);
    // A second key of the same name is rejected and changes nothing.
    let (done, _, err) = keys(&["new", "ci", "--admin", "--auth-file", file]);
    assert!(!done && err.contains("same name"), "{err}");
    assert_eq!(std::fs::read_to_string(file).unwrap(), kept);
    let (done, _, err) = keys(&[
        "new",
        "x",
        "--grant",
        "read everything",
        "--auth-file",
        file,
    ]);
    assert!(!done && err.contains("is not a grant"), "{err}");

    let gateway = Gateway::start(&[
        "dev",
        "--listen",
        "127.0.0.1:0",
        "--auth-file",
        file,
        "--data-dir",
        dir.path().join("data").to_str().unwrap(),
    ]);
    let url = format!("http://{}/v1/streams/builds/entries", gateway.address);
    let client = crate::support::app::client();
    let post = |key: &str| {
        client
            .post(&url)
            .bearer_auth(key)
            .header("content-type", "application/x-www-form-urlencoded")
            .body("n=1")
    };
    assert_eq!(post(made).send().await.unwrap().status(), 201);
    assert_eq!(post("sgk_wrong").send().await.unwrap().status(), 401);
    assert_eq!(gateway.stop().code(), Some(0));
}

#[test]
fn a_key_has_only_the_rights_that_were_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("auth.toml");
    let path = file.to_str().unwrap();
    let (done, out, err) = keys(&["new", "ci", "--auth-file", path]);
    assert!(
        !done && out.is_empty() && err.contains("--grant") && err.contains("--admin"),
        "{err}"
    );
    assert!(!file.exists(), "nothing was written");
    let (done, _, err) = keys(&["new", "ci", "--admin", "--grant", "publish a"]);
    assert!(!done && err.contains("exclude each other"), "{err}");
    let (done, out, err) = keys(&["new", "ci", "--admin"]);
    assert!(done && out.contains("grants = [\"* *\"]"), "{out}{err}");
}

#[test]
fn keys_are_listed_and_revoked_and_the_rest_of_the_file_stays_as_it_is() {
    let head = "# Who may call.\n\n# The first.\n";
    let tail = "# The last, with a comment beside it.\n";
    let (one, two) = (
        record("one", &["* *"]),
        record("two", &["publish a", "consume b*"]),
    );
    let two_more = format!("{two}expires = \"2027-01-01T00:00:00Z\"\nprefix = \"acme:\"\n");
    let file = AuthFile::new(&format!(
        "{head}{one}\n{two_more}\n{tail}{}",
        record("three", &["* c"])
    ));
    let path = file.path();
    let path = path.to_str().unwrap();
    let (done, out, err) = keys(&["list", "--auth-file", path]);
    assert!(done, "{err}");
    let rows: Vec<Vec<&str>> = out.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows[0], ["NAME", "KEYS", "GRANTS", "PREFIX", "EXPIRES"]);
    assert_eq!(
        rows[2],
        [
            "two",
            "1",
            "publish a; consume b*",
            "acme:",
            "2027-01-01T00:00:00Z"
        ]
    );
    assert_eq!(rows.len(), 4);
    assert!(!out.contains("sha256"), "{out}");

    let (done, out, err) = keys(&["revoke", "two", "--auth-file", path]);
    assert!(done && out.contains("two"), "{out}{err}");
    let left = std::fs::read_to_string(path).unwrap();
    assert_eq!(
        left,
        format!("{head}{one}\n{tail}{}", record("three", &["* c"]))
    );
    for (args, part) in [
        (
            &["revoke", "two", "--auth-file", path][..],
            "there is no key named \"two\"",
        ),
        (&["revoke", "two"], "--auth-file"),
        (
            &["list", "--auth-file", "/nowhere/auth.toml"],
            "/nowhere/auth.toml",
        ),
    ] {
        let (done, _, err) = keys(args);
        assert!(!done && err.contains(part), "{args:?}: {err}");
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), left);
}

#[test]
fn a_gateway_that_others_can_reach_asks_who_they_are() {
    let refused = |args: &[&str]| {
        let base = [
            "config",
            "check",
            "--redis-url",
            "redis://localhost",
            "--listen",
            "0.0.0.0:80",
        ];
        let done = Command::new(BINARY).args(base).args(args).output().unwrap();
        (
            !done.status.success(),
            String::from_utf8(done.stderr).unwrap(),
        )
    };
    let (is_refused, why) = refused(&[]);
    assert!(
        is_refused && why.contains("--auth-file") && why.contains("--insecure"),
        "{why}"
    );
    let file = AuthFile::new(&record("a", &["* *"]));
    let path = file.path();
    assert!(!refused(&["--auth-file", path.to_str().unwrap()]).0);
    assert!(!refused(&["--insecure"]).0);
    // All errors in the file are reported at once, without any secret.
    file.write(
        "[[key]]\nname = \"a/b\"\nhash = \"sha256:00\"\n\
         [[key]]\nname = \"c\"\nhash = \"secret-in-the-clear\"\ngrants = [\"fly *\"]\n",
    );
    let (is_refused, why) = refused(&["--auth-file", path.to_str().unwrap()]);
    assert!(
        is_refused && why.contains("a/b") && why.contains("fly"),
        "{why}"
    );
    assert!(!why.contains("secret-in-the-clear"), "{why}");
    file.write("[[key]]\nname = \"a\"\nhash = \"x\"\ngrant = []\n");
    let (is_refused, why) = refused(&["--auth-file", path.to_str().unwrap()]);
    assert!(is_refused && why.contains("unknown field `grant`"), "{why}");
}

#[tokio::test]
async fn keys_come_and_go_without_a_restart_and_take_their_subscriptions_along() {
    let stream = unique("rotate");
    let file = AuthFile::new(&(record("root", &["* *"]) + &record("old", &["subscribe *"])));
    let app = file.app().await;
    let root = app.as_key("root");
    root.publish(&stream, "1").await;
    let path = format!("/v1/streams/{stream}/events?after=0");
    let mut of_old = app.as_key("old").follow(&path).await;
    let mut of_root = root.follow(&path).await;
    for events in [&mut of_old, &mut of_root] {
        events.expect("$open").await;
        assert_eq!(events.values(1).await, ["1"]);
    }
    // An invalid file is ignored, and everything stays as it was.
    file.write("[[key]]\nname = 7");
    eventually("the mistake is counted", async || {
        let metrics = root.get("/metrics").await.body;
        metrics
            .lines()
            .any(|line| line.starts_with("streamgate_auth_file_errors_total 1"))
    })
    .await;
    assert_eq!(
        app.as_key("old")
            .get(&format!("/v1/streams/{stream}"))
            .await
            .status,
        200
    );

    file.write(&(record("root", &["* *"]) + &record("new", &["subscribe *"])));
    assert_eq!(
        of_old.expect("$end").await.json(),
        json!({"reason": "expired"})
    );
    assert_eq!(of_old.next().await, None);
    app.as_key("old")
        .get(&path)
        .await
        .is_problem(401, "unauthenticated");
    assert_eq!(
        app.as_key("new")
            .get(&format!("/v1/streams/{stream}"))
            .await
            .status,
        200
    );
    // A subscription whose record did not change continues.
    root.publish(&stream, "2").await;
    assert_eq!(of_root.values(1).await, ["2"]);
}

#[tokio::test]
async fn a_key_can_have_two_hashes_while_it_is_changed() {
    let text = record("a", &["* *"]);
    let other = record("b", &["* *"]);
    let hash = |record: &str| {
        record
            .lines()
            .find(|line| line.starts_with("hash"))
            .unwrap()[7..]
            .to_owned()
    };
    let both = text.replace(
        &hash(&text),
        &format!("[{}, {}]", hash(&text), hash(&other)),
    );
    let app = AuthFile::new(&both);
    let app = app.app().await;
    for name in ["a", "b"] {
        assert_eq!(app.as_key(name).get("/v1/streams").await.status, 200);
    }
}

#[tokio::test]
async fn what_a_key_has_open_ends_when_it_does() {
    let stream = unique("expiry");
    let soon = crate::support::auth::from_now(3) * 1000;
    let file = AuthFile::new(
        &(record("a", &["* *"]) + &format!("expires = \"{soon}\"\n") + &record("root", &["* *"])),
    );
    let app = file.app().await;
    let group = format!("/v1/streams/{stream}/groups/g");
    assert_eq!(
        app.as_key("root")
            .call("PUT", &group, json!({"policy": {}}))
            .await
            .status,
        201
    );
    let mut events = app
        .as_key("a")
        .follow(&format!("/v1/streams/{stream}/events"))
        .await;
    let mut pushed = app
        .as_key("a")
        .follow(&format!("{group}/events?consumer=w"))
        .await;
    for session in [&mut events, &mut pushed] {
        session.expect("$open").await;
        assert_eq!(
            session.expect("$end").await.json(),
            json!({"reason": "expired"})
        );
    }
    app.as_key("a")
        .get("/v1/streams")
        .await
        .is_problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_key_has_only_so_many_subscriptions() {
    let stream = unique("many");
    let file = AuthFile::new(
        &(record("a", &["* *"]) + "max_subscriptions = 2\n" + &record("b", &["* *"])),
    );
    let app = file.app().await;
    let path = format!("/v1/streams/{stream}/events");
    let mut first = app.as_key("a").follow(&path).await;
    let mut second = app.as_key("a").follow(&path).await;
    first.expect("$open").await;
    second.expect("$open").await;
    // An EventSource would give up on a status.
    let mut third = app.as_key("a").follow(&path).await;
    assert_eq!(
        (third.status, third.expect("$end").await.json()),
        (200, json!({"reason": "overloaded"}))
    );
    app.as_key("a")
        .get(&path)
        .await
        .is_problem(429, "too-many-connections");
    app.as_key("b").follow(&path).await.expect("$open").await;
    drop(first);
    eventually("there is room again", async || {
        app.as_key("a")
            .follow(&path)
            .await
            .next()
            .await
            .is_some_and(|event| event.event == "$open")
    })
    .await;
}

#[tokio::test]
async fn credentials_are_read_strictly_and_never_repeated() {
    let file = AuthFile::new(&record("a", &["* *"]));
    let app = file.app().await;
    let secret = key("a");
    for (header, value) in [
        ("authorization", secret.clone()),
        ("authorization", format!("Basic {secret}")),
        ("authorization", format!("Bearer {secret}x")),
        ("authorization", format!("Bearer {}", &secret[1..])),
        ("authorization", "Bearer ".to_owned()),
        ("x-api-key", format!("Bearer {secret}")),
        ("x-api-key", "\u{e4}".to_owned()),
    ] {
        let answer = app.showing(header, &value).get("/v1/streams").await;
        answer.is_problem(401, "unauthenticated");
        assert!(!answer.body.contains(&secret[4..]), "{}", answer.body);
    }
    let both = app
        .as_key("a")
        .request(reqwest::Method::GET, "/v1/streams")
        .header("x-api-key", &secret);
    app.send(both).await.is_problem(401, "unauthenticated");
    let twice = app
        .as_key("a")
        .request(reqwest::Method::GET, "/v1/streams")
        .header("authorization", "Bearer x");
    app.send(twice).await.is_problem(401, "unauthenticated");
    for good in ["bearer", "BEARER", "Bearer"] {
        let answer = app
            .showing("authorization", &format!("{good} {secret}"))
            .get("/v1/streams")
            .await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}

#[tokio::test]
async fn two_principals_never_share_an_idempotency_key() {
    let stream = unique("scope");
    let file = AuthFile::new(&(record("a", &["* *"]) + &record("b", &["* *"])));
    let app = file.app().await;
    let path = format!("/v1/streams/{stream}/entries");
    let post = async |who: &str| {
        let request = app.as_key(who).request(reqwest::Method::POST, &path);
        let request = request
            .header("idempotency-key", "k")
            .header("content-type", "application/json");
        app.send(request.body(r#"{"fields":{"n":1}}"#)).await.status
    };
    assert_eq!(
        [post("a").await, post("b").await, post("a").await],
        [201, 201, 200]
    );
}

#[tokio::test]
async fn a_key_may_ask_only_so_often() {
    let file =
        AuthFile::new(&(record("a", &["* *"]) + "rate = \"3/m\"\n" + &record("b", &["* *"])));
    let app = file.app().await;
    for left in [2, 1, 0] {
        let answer = app.as_key("a").get("/v1/streams").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.header("ratelimit-policy"), "\"principal\";q=3;w=60");
        let told = answer.header("ratelimit").to_owned();
        assert!(
            told.starts_with(&format!("\"principal\";r={left};t=")),
            "{told}"
        );
    }
    let refused = app.as_key("a").get("/v1/streams").await;
    refused.is_problem(429, "rate-limited");
    let after: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=20).contains(&after), "{after}");
    assert!(
        refused
            .header("ratelimit")
            .starts_with("\"principal\";r=0;t=")
    );
    // For an EventSource, the response reports the limit and the delay in the stream.
    let mut events = app.as_key("a").follow("/v1/streams/a/events").await;
    let end = events.expect("$end").await;
    assert_eq!(
        (events.status, end.json()),
        (200, json!({"reason": "rate-limited"}))
    );
    assert!(end.retry.unwrap() >= 1000);
    // The limit applies to the key in every header, and to no other key.
    let by_header = app.showing("x-api-key", &key("a")).get("/v1/streams").await;
    by_header.is_problem(429, "rate-limited");
    let answer = app.as_key("b").get("/v1/streams").await;
    assert_eq!((answer.status, answer.header("ratelimit")), (200, ""));
    let wrong = record("a", &[]) + "rate = \"fast\"\n";
    let wrong = AuthFile::new(&wrong);
    let told = streamgate::auth::Auth::from_file(&wrong.path(), 25)
        .unwrap_err()
        .join("; ");
    assert!(told.contains("rate: is not a rate"), "{told}");
}

#[tokio::test]
async fn the_first_commands_show_a_key_where_one_is_needed() {
    let file = AuthFile::new(&record("a", &["* *"]));
    let app = file.app().await;
    let text = app.get("/").await.body;
    let commands: Vec<&str> = text.lines().filter(|line| line.contains("curl ")).collect();
    assert_eq!(commands.len(), 3, "{text}");
    let shown = commands.iter().all(|line| {
        line.matches("curl ").count() == line.matches("-H \"X-API-Key: $KEY\"").count()
    });
    assert!(shown && text.contains("KEY="), "{text}");
    // The first and the last command, unmodified.
    for command in [commands[0], commands[2]] {
        let script = format!("set -eu; KEY={}; {command}", key("a"));
        // The command runs asynchronously, because the gateway runs on this thread.
        let mut shell = tokio::process::Command::new("sh");
        let done = shell.args(["-c", &script]).output().await.unwrap();
        let out = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(
            done.status.success() && !out.contains("problem"),
            "{command}: {out}"
        );
    }
    let wrong = app.as_key("b").get("/v1/streams").await;
    let challenge = wrong.header("www-authenticate");
    assert_eq!(
        challenge,
        "Bearer realm=\"streamgate\", error=\"invalid_token\""
    );
}
