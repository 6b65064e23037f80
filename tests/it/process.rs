//! The binary: its commands, settings and messages.

use std::process::{Command, Stdio};

use tokio::net::TcpStream;

use crate::support::app::{answer, client};
use crate::support::auth::{AuthFile, record};
use crate::support::gateway::{BINARY, Gateway, run};
use crate::support::process::{start_tied, tied};
use crate::support::redis::shared;
use crate::support::{PATIENCE, eventually, unique};

#[test]
fn settings_that_cannot_be_are_refused_all_at_once() {
    let (code, out, err) = run(
        &["serve", "--listen", "0.0.0.0:80", "--heartbeat", "15"],
        &[("STREAMGATE_MAX_BDOY", "1")],
    );
    assert_eq!((code, out.as_str()), (Some(2), ""));
    for part in [
        "--insecure",
        "heartbeat (--heartbeat): a duration needs a unit",
        "STREAMGATE_MAX_BODY",
        "--redis-url",
        "--data-dir",
    ] {
        assert!(err.contains(part), "{part}: {err}");
    }
}

#[test]
fn settings_are_checked_and_printed_with_their_sources() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gate.toml");
    std::fs::write(&file, "redis_url = \"redis://user:s3cret@localhost/1\"\nallow_origin = [\"http://a\", \"http://b\"]\n").unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(run(&["config", "check", "--config", file], &[]).0, Some(0));
    let (code, out, _) = run(
        &["config", "print", "--max-body", "1MiB"],
        &[("STREAMGATE_CONFIG", file)],
    );
    assert_eq!(code, Some(0));
    for line in [
        "max_body = \"1MiB\" # --max-body".to_owned(),
        format!("redis_url = \"redis://user:***@localhost/1\" # {file}"),
        format!("allow_origin = [\"http://a\", \"http://b\"] # {file}"),
        "heartbeat = \"15s\" # default".to_owned(),
    ] {
        assert!(out.contains(&line), "{line}: {out}");
    }
    std::fs::write(file, "redis_url = [").unwrap();
    let (code, _, err) = run(&["config", "check", "--config", file], &[]);
    assert_eq!(code, Some(2));
    assert!(err.contains("gate.toml"), "{err}");
    assert_eq!(
        run(&["serve", "--config", "/nowhere/gate.toml"], &[]).0,
        Some(2)
    );
}

#[test]
fn who_could_read_the_auth_file_can_read_it_with_a_new_key() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("auth.toml");
    let path = file.to_str().unwrap();
    let new_key = |name| run(&["keys", "new", name, "--admin", "--auth-file", path], &[]);
    assert_eq!(new_key("first").0, Some(0));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    // Changing the owner of a file requires root, and a file rewritten by root could lock a gateway
    // out.
    let _ = chown(&file, Some(10001), Some(10001));
    let before = std::fs::metadata(&file).unwrap();
    let (code, _, err) = new_key("second");
    assert_eq!(code, Some(0), "{err}");
    let after = std::fs::metadata(&file).unwrap();
    let access = |of: &std::fs::Metadata| (of.mode(), of.uid(), of.gid());
    assert_eq!(access(&after), access(&before));
    assert!(after.len() > before.len());
}

#[test]
fn whoever_reads_only_the_beginning_of_what_is_printed_gets_that() {
    let script =
        format!("{BINARY} openapi | head -c 9; echo; {BINARY} openapi >/dev/full; echo $?");
    let done = Command::new("sh").args(["-c", &script]).output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr),
    );
    assert!(
        out.ends_with("\n1\n") && !err.contains("panicked"),
        "{out}: {err}"
    );
    assert_eq!(err.lines().count(), 1, "{err}");
}

#[test]
fn help_lists_the_options_of_its_command_only() {
    let help = |command: &[&str]| {
        let (code, out, err) = run(&[command, &["--help"]].concat(), &[]);
        assert_eq!(code, Some(0), "{command:?}: {err}");
        out
    };
    assert!(help(&["serve"]).contains("--redis-url") && help(&["dev"]).contains("--data-dir"));
    assert!(help(&["config", "check"]).contains("--max-body"));
    for (command, has, has_not) in [
        (&["openapi"][..], "Print the OpenAPI document", "--listen"),
        (&["healthcheck"], "--listen", "--redis-url"),
        (&["keys", "new"], "--grant", "--listen"),
        (&["keys", "list"], "--auth-file", "--grant"),
        (&["keys", "revoke"], "--auth-file", "--max-body"),
        (&["keys", "hash"], "standard input", "--auth-file"),
    ] {
        let text = help(command);
        assert!(
            text.contains(has) && !text.contains(has_not),
            "{command:?}: {text}"
        );
    }
}

#[test]
fn an_address_of_redis_without_a_scheme_is_answered_with_its_url() {
    for (given, told) in [
        ("localhost:6379", "write redis://localhost:6379"),
        ("10.0.0.5:6379/2", "write redis://10.0.0.5:6379/2"),
        ("/run/redis.sock", "write unix:///run/redis.sock"),
    ] {
        let (code, _, err) = run(&["config", "check", "--redis-url", given], &[]);
        assert_eq!(code, Some(2), "{given}");
        assert!(err.contains(told), "{given}: {err}");
    }
    let (_, _, err) = run(
        &["config", "check", "--redis-url", "user:secret@host:6379"],
        &[],
    );
    assert!(!err.contains("secret"), "{err}");
}

#[tokio::test]
async fn a_port_alone_is_where_to_listen() {
    let url = shared().await.url();
    for listen in ["0", ":0"] {
        let gateway = Gateway::start(&["serve", "--listen", listen, "--redis-url", &url]);
        assert!(gateway.address.ip().is_loopback(), "{}", gateway.address);
    }
}

#[test]
fn the_document_is_printed() {
    let (code, out, _) = run(&["openapi"], &[]);
    assert_eq!(code, Some(0));
    assert!(out == include_str!("../../openapi/openapi.json"));
}

#[tokio::test]
async fn a_health_check_tells_a_ready_gateway_from_none() {
    let url = shared().await.url();
    let gateway = Gateway::start(&["serve", "--listen", "127.0.0.1:0", "--redis-url", &url]);
    let listen = gateway.address.to_string();
    assert_eq!(run(&["healthcheck", "--listen", &listen], &[]).0, Some(0));
    assert!(gateway.stop().success());
    let (code, _, err) = run(&["healthcheck", "--listen", &listen], &[]);
    assert_eq!(code, Some(1));
    assert!(err.contains("cannot reach"), "{err}");
}

#[tokio::test]
async fn an_address_in_use_is_told_with_the_way_out() {
    let gateway = Gateway::start(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--redis-url",
        &shared().await.url(),
    ]);
    let listen = gateway.address.to_string();
    let (code, _, err) = run(
        &[
            "serve",
            "--listen",
            &listen,
            "--redis-url",
            &shared().await.url(),
        ],
        &[],
    );
    assert_eq!(code, Some(1));
    assert!(
        err.contains("cannot listen on") && err.contains("--listen"),
        "{err}"
    );
}

#[tokio::test]
async fn a_redis_on_a_unix_socket_can_be_named() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("r.sock");
    let mut command = tied("redis-server");
    command
        .args(["--port", "0", "--save", "", "--unixsocket"])
        .arg(&socket)
        .stdout(Stdio::null());
    let mut server = start_tied(command);
    crate::support::eventually("the socket is there", async || socket.exists()).await;
    let url = format!("unix://{}", socket.display());
    let gateway = Gateway::start(&["serve", "--listen", "127.0.0.1:0", "--redis-url", &url]);
    let post = client().post(format!("http://{}/v1/streams/s/entries", gateway.address));
    let posted = answer(
        post.header("content-type", "application/x-www-form-urlencoded")
            .body("a=1"),
    )
    .await
    .unwrap();
    assert_eq!(posted.status, 201);
    drop(gateway);
    server.kill().unwrap();
    server.wait().unwrap();
}

#[tokio::test]
async fn the_quick_start_works_as_printed() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = Gateway::dev(dir.path());
    let text = answer(client().get(format!("http://{}/", gateway.address)))
        .await
        .unwrap()
        .body;
    let commands: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("  "))
        .map(str::trim)
        .collect();
    let [publish, follow, work] = commands[..] else {
        panic!("not three commands: {text}")
    };
    let shell = |command: String| {
        let output = Command::new("sh")
            .args(["-c", &command])
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let published: serde_json::Value = serde_json::from_str(&shell(publish.to_owned())).unwrap();
    let id = published["id"].as_str().unwrap();
    // Ctrl-C ends following; this test ends it after two seconds.
    let followed = shell(follow.replacen("curl", "curl -s --max-time 2", 1));
    assert!(
        followed.contains("data: {\"stream\":\"orders\""),
        "{followed}"
    );
    assert!(
        followed.contains(&format!("\nid: {id}:1\n\n")),
        "{followed}"
    );
    let worked = shell(work.to_owned());
    assert!(
        worked.contains(&format!("{{\"id\":\"{id}\",\"outcome\":\"acknowledged\"}}")),
        "{worked}"
    );
    assert!(text.contains(&gateway.address.to_string()));
    let page = client()
        .get(format!("http://{}/", gateway.address))
        .header("accept", "text/html");
    assert!(
        answer(page)
            .await
            .unwrap()
            .body
            .starts_with("<!doctype html>")
    );
}

#[tokio::test]
async fn the_log_has_a_line_for_what_went_wrong_and_none_for_what_went_well() {
    let mut command = tied(BINARY);
    command.args([
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--log-format",
        "json",
        "--redis-url",
        &shared().await.url(),
    ]);
    let mut child = start_tied({
        command.stderr(Stdio::piped());
        command
    });
    let mut log = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut log, &mut line).unwrap();
        serde_json::from_str::<serde_json::Value>(&line).unwrap()
    };
    let address = loop {
        let message = next()["message"].as_str().unwrap().to_owned();
        if let Some(address) = message.strip_prefix("listening on ") {
            break address.to_owned();
        }
    };
    assert_eq!(
        answer(client().get(format!("{address}/livez")))
            .await
            .unwrap()
            .status,
        200
    );
    let refused = answer(client().get(format!("{address}/nope?token=s3cret")))
        .await
        .unwrap();
    let line = next();
    assert_eq!(
        (&line["status"], &line["path"], &line["method"]),
        (&404.into(), &"/nope".into(), &"GET".into())
    );
    assert_eq!(line["request_id"], refused.header("x-request-id"));
    assert!(
        !line.to_string().contains("s3cret"),
        "queries stay out of the log"
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn those_who_look_after_a_gateway_may_have_an_address_of_their_own() {
    let file = AuthFile::new(&record("root", &["* *"]));
    let url = shared().await.url();
    let gateway = Gateway::start(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--metrics-listen",
        "127.0.0.1:0",
        "--redis-url",
        &url,
        "--auth-file",
        file.path().to_str().unwrap(),
    ]);
    let line = gateway.log.recv_timeout(PATIENCE).unwrap();
    let (_, metrics) = line
        .split_once("metrics available at ")
        .unwrap_or_else(|| panic!("{line}"));
    let base = metrics.trim().strip_suffix("/metrics").unwrap().to_owned();
    let get = async |url: String, host: &str| {
        answer(client().get(url).header("host", host))
            .await
            .unwrap()
    };
    let shown = get(format!("{base}/metrics"), "gateway.example:9090").await;
    assert_eq!(shown.status, 200, "{}", shown.body);
    assert!(
        shown.body.contains("streamgate_connections 0"),
        "they are none of the clients'"
    );
    assert_eq!(get(format!("{base}/livez"), "x").await.status, 200);
    eventually("it is ready", async || {
        get(format!("{base}/readyz"), "x").await.status == 200
    })
    .await;
    for path in ["/v1/streams", "/docs", "/", "/openapi.json"] {
        get(format!("{base}{path}"), "localhost")
            .await
            .is_problem(404, "route-not-found");
    }
    let post = client()
        .post(format!("{base}/v1/streams/s/entries"))
        .body("n=1");
    answer(post)
        .await
        .unwrap()
        .is_problem(404, "route-not-found");
    // Nothing has changed at the public address.
    let all = format!("http://{}/metrics", gateway.address);
    get(all, "localhost")
        .await
        .is_problem(401, "unauthenticated");
    assert_eq!(gateway.stop().code(), Some(0));

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, err) = run(
        &[
            "serve",
            "--redis-url",
            &url,
            "--listen",
            "127.0.0.1:0",
            "--metrics-listen",
            &address,
        ],
        &[],
    );
    assert!(code == Some(1) && err.contains("--metrics-listen"), "{err}");
}

#[tokio::test]
async fn more_may_connect_than_a_process_may_have_files_open_to_begin_with() {
    let url = shared().await.url();
    let start = |limit: &str| {
        let mut command = tied("sh");
        command.args([
            "-c",
            &format!("ulimit {limit} && exec \"$0\" \"$@\""),
            BINARY,
            "serve",
        ]);
        command.args([
            "--listen",
            "127.0.0.1:0",
            "--max-connections",
            "500",
            "--redis-url",
            &url,
        ]);
        Gateway::by(command)
    };
    let gateway = start("-Sn 64");
    let mut open = Vec::new();
    for _ in 0..200 {
        open.push(TcpStream::connect(gateway.address).await.unwrap());
    }
    let base = format!("http://{}", gateway.address);
    let metrics = answer(client().get(format!("{base}/metrics")))
        .await
        .unwrap()
        .body;
    assert!(metrics.contains("streamgate_connections 201"), "{metrics}");
    let warned = |gateway: &Gateway| {
        gateway
            .before
            .iter()
            .any(|line| line.contains("LimitNOFILE"))
    };
    assert!(!warned(&gateway), "{:?}", gateway.before);
    let bounded = start("-n 400");
    assert!(warned(&bounded), "{:?}", bounded.before);
}

#[tokio::test]
async fn a_refused_request_is_logged_with_who_sent_it_and_is_no_warning() {
    let url = shared().await.url();
    let args = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--redis-url",
        &url,
        "--trusted-proxy",
        "127.0.0.1",
    ];
    let gateway = Gateway::start(&args);
    let client = crate::support::app::client();
    let of = |path: &str| format!("http://{}{path}", gateway.address);
    let missing = client.get(of("/v1/streams/none%20such"));
    let missing = missing
        .header("x-forwarded-for", "203.0.113.9")
        .header("user-agent", "probe \"1\"");
    assert_eq!(missing.send().await.unwrap().status(), 404);
    let foreign = client
        .get(of("/v1/streams"))
        .header("origin", "https://evil.example");
    assert_eq!(foreign.send().await.unwrap().status(), 403);
    let mut lines = std::iter::from_fn(|| gateway.log.recv_timeout(PATIENCE).ok())
        .filter(|line| line.contains("request refused"));
    let line = lines.next().unwrap();
    for part in [
        " INFO request refused method=GET path=/v1/streams/none%20such status=404 ms=",
        " code=stream-not-found client=203.0.113.9 agent=\"probe \\\"1\\\"\" request_id=",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let line = lines.next().unwrap();
    let part = " code=origin-not-allowed client=127.0.0.1 agent=streamgate-tests origin=https://evil.example";
    assert!(line.contains(part), "{line}");
    // An append takes the fast path.
    let text = unique("text");
    shared().await.command(&["SET", &text, "x"]).await;
    let append = client.post(of(&format!("/v1/streams/{text}/entries")));
    let append = append.header("x-forwarded-for", "203.0.113.9");
    let append = append.header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(append.body("n=1").send().await.unwrap().status(), 409);
    let line = lines.next().unwrap();
    assert!(line.contains(" client=203.0.113.9 "), "{line}");
}

#[tokio::test]
async fn a_path_that_is_nearly_right_is_answered_with_the_right_one() {
    let app = crate::support::TestApp::start().await;
    for (path, hint) in [
        ("/healthz", "/livez"),
        ("/v1/streams/", "/v1/streams"),
        ("/v2", "/v1"),
    ] {
        let problem = app.get(path).await.is_problem(404, "route-not-found");
        assert!(
            problem["detail"].as_str().unwrap().contains(hint),
            "{problem}"
        );
    }
}
