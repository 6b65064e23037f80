//! The client files in `clients`, in their own processes, through failures of every part around them.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::gateway::{Gateway, signal};
use crate::support::process::{Process, start_tied, tied};
use crate::support::proxy::Proxy;
use crate::support::redis::{Server, free_port};
use crate::support::{TestApp, elapse, eventually, unique};

/// Maximum time for a client to get over the failures of a test.
const PATIENCE: Duration = Duration::from_secs(60);

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[derive(Clone, Copy, Debug)]
enum Language {
    Python,
    TypeScript,
}

/// Runs the TypeScript compiler, which must find no error.
fn compile(file: &Path, out: &Path) {
    let output = tied("node")
        .arg(format!(
            "{ROOT}/target/clients/node_modules/typescript/bin/tsc"
        ))
        .args(["--strict", "--noUnusedLocals", "--erasableSyntaxOnly"])
        .args(["--target", "es2022", "--module", "esnext"])
        .args(["--moduleResolution", "bundler", "--lib", "es2022,dom"])
        .args(["--rewriteRelativeImportExtensions", "--outDir"])
        .args([out, file])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let hint = "`make test-clients` installs the compiler";
    assert!(output.status.success(), "{hint}: {text}");
}

/// Returns `clients/streamgate.ts`, compiled for versions of Node.js that do not strip types.
fn typescript() -> PathBuf {
    static COMPILED: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = COMPILED.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let file = Path::new(ROOT).join("clients/streamgate.ts");
        compile(&file, dir.path());
        std::fs::write(dir.path().join("package.json"), r#"{"type":"module"}"#).unwrap();
        dir
    });
    dir.path().join("streamgate.js")
}

#[test]
fn the_typescript_of_the_documentation_compiles() {
    let page = std::fs::read_to_string(format!("{ROOT}/docs/clients.md")).unwrap();
    let (_, block) = page.split_once("```ts\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let source = format!("declare const process: any;\n{block}");
    std::fs::write(dir.path().join("example.ts"), source).unwrap();
    std::fs::copy(
        format!("{ROOT}/clients/streamgate.ts"),
        dir.path().join("streamgate.ts"),
    )
    .unwrap();
    compile(&dir.path().join("example.ts"), &dir.path().join("out"));
}

/// A client in its own process, which prints a line of JSON for each thing that happens.
struct Client {
    child: Process,
    lines: Arc<Mutex<Vec<Value>>>,
    reader: Option<JoinHandle<()>>,
}

impl Client {
    fn start(language: Language, task: &str, url: &str, stream: &str, more: &Value) -> Self {
        let mut command = match language {
            Language::Python => {
                let mut command = tied("python3");
                command.arg(format!("{ROOT}/tests/clients/helper.py"));
                command.arg(format!("{ROOT}/clients"));
                command
            }
            Language::TypeScript => {
                let mut command = tied("node");
                command.arg(format!("{ROOT}/tests/clients/helper.mjs"));
                command.arg(typescript());
                command
            }
        };
        command.args([task, url, stream, &more.to_string()]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = start_tied(command);
        let lines: Arc<Mutex<Vec<Value>>> = Arc::default();
        let (out, kept) = (BufReader::new(child.stdout.take().unwrap()), lines.clone());
        let reader = std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                kept.lock()
                    .unwrap()
                    .push(serde_json::from_str(&line).unwrap());
            }
        });
        Self {
            child,
            lines,
            reader: Some(reader),
        }
    }

    fn lines(&self) -> Vec<Value> {
        self.lines.lock().unwrap().clone()
    }

    /// Returns the values of a member of the lines that have it.
    fn all(&self, member: &str) -> Vec<Value> {
        let lines = self.lines();
        let with = lines.iter().filter(|line| !line[member].is_null());
        with.map(|line| line[member].clone()).collect()
    }

    /// Returns the field `n` of the entries that a follower got.
    fn entries(&self) -> Vec<String> {
        let lines = self.lines();
        let entries = lines.iter().filter(|line| line["kind"] == "entry");
        let n = |line: &Value| line["data"]["fields"]["n"].as_str().unwrap().to_owned();
        entries.map(n).collect()
    }

    /// Waits until the lines are as expected.
    async fn until(&self, what: &str, mut check: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !check(self) {
            let late = Instant::now() >= deadline;
            assert!(!late, "never: {what}: {:#?}", self.lines());
            elapse(20, "before the next look").await;
        }
    }

    /// Waits for the end of the process. Returns its exit code and what it wrote to standard error.
    async fn end(mut self) -> (Option<i32>, String, Vec<Value>) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < deadline,
                "it does not end: {:?}",
                self.lines()
            );
            elapse(20, "before the next look").await;
        };
        let mut text = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut text).unwrap();
        self.reader.take().unwrap().join().unwrap();
        (status.code(), text, self.lines())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A gateway process on an address that stays the same over restarts.
struct Restarted {
    redis: String,
    listen: String,
    gateway: Option<Gateway>,
}

impl Restarted {
    fn start(server: &Server) -> Self {
        let mut this = Self {
            redis: server.url(),
            listen: format!("127.0.0.1:{}", free_port()),
            gateway: None,
        };
        this.again();
        this
    }

    fn kill(&mut self) {
        self.gateway = None;
    }

    fn again(&mut self) {
        let arguments = [
            "serve",
            "--listen",
            &self.listen,
            "--redis-url",
            &self.redis,
        ];
        self.gateway = Some(Gateway::start(&arguments));
    }

    fn port(&self) -> u16 {
        self.listen.rsplit(':').next().unwrap().parse().unwrap()
    }

    fn url(&self) -> String {
        format!("http://{}", self.listen)
    }
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|n| n.to_string()).collect()
}

/// Returns the field `n` of all entries of a stream.
async fn stored(server: &Server, stream: &str) -> Vec<String> {
    let reply = server.command(&["XRANGE", stream, "-", "+"]).await;
    let entries = crate::support::redis::json(&reply);
    let n = |entry: &Value| entry[1][1].as_str().unwrap().to_owned();
    entries.as_array().unwrap().iter().map(n).collect()
}

/// Every entry is appended once and in order, although answers are cut off, the gateway is killed
/// and Redis restarts.
async fn publishes_once(language: Language) {
    const COUNT: usize = 400;
    let server = Server::start().await;
    let mut gateway = Restarted::start(&server);
    let proxy = Proxy::to(gateway.port()).await;
    let stream = unique("published");
    let url = format!("http://{}", proxy.address);
    let more = json!({"count": COUNT, "pause": 0.02});
    let client = Client::start(language, "publish", &url, &stream, &more);
    client
        .until("the first entries", |client| client.all("id").len() > 10)
        .await;
    let progress = async |client: &Client| {
        let seen = client.all("id").len();
        client
            .until("it goes on", |client| client.all("id").len() > seen + 5)
            .await;
    };
    for _ in 0..3 {
        proxy.cut_answers();
        elapse(300, "answers on their way arrive").await;
        // It may have been stored before its answer was cut off.
        eventually("an append without an answer", async || {
            stored(&server, &stream).await.len() > client.all("id").len()
        })
        .await;
        proxy.restore();
        progress(&client).await;
    }
    gateway.kill();
    elapse(300, "the client works meanwhile").await;
    gateway.again();
    progress(&client).await;
    server.kill();
    elapse(500, "the client works meanwhile").await;
    server.start_again().await;
    let (code, errors, _) = client.end().await;
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(stored(&server, &stream).await, numbers(COUNT));
}

/// A follower gets every entry once and in order over restarts of the gateway and of Redis. It tells
/// gaps and resets, and resumes in a new process where the former one was.
async fn follows_exactly(language: Language) {
    let server = Server::start().await;
    let mut gateway = Restarted::start(&server);
    let (stream, dir) = (unique("followed"), tempfile::tempdir().unwrap());
    let more = json!({"store": dir.path().join("position")});
    let start = |url: &str| Client::start(language, "follow", url, &stream, &more);
    let add = async |from: usize, to: usize| {
        for n in from..to {
            server
                .command(&["XADD", &stream, "*", "n", &n.to_string()])
                .await;
        }
    };
    add(0, 5).await;
    let client = start(&gateway.url());
    let got = async |client: &Client, count: usize| {
        client
            .until(&format!("{count} entries"), |client| {
                client.entries().len() >= count
            })
            .await;
    };
    got(&client, 5).await;
    gateway.kill();
    add(5, 10).await;
    gateway.again();
    got(&client, 10).await;
    server.kill();
    elapse(300, "the client works meanwhile").await;
    server.start_again().await;
    add(10, 15).await;
    got(&client, 15).await;
    assert_eq!(client.entries(), numbers(15));
    // The position is stored once the next event is asked for.
    elapse(300, "the client works meanwhile").await;
    drop(client);
    add(15, 20).await;
    let client = start(&gateway.url());
    got(&client, 5).await;
    let expected: Vec<String> = (15..20).map(|n| n.to_string()).collect();
    assert_eq!(client.entries(), expected);
    gateway.kill();
    server.command(&["XTRIM", &stream, "MAXLEN", "0"]).await;
    add(20, 22).await;
    server.command(&["XTRIM", &stream, "MAXLEN", "1"]).await;
    gateway.again();
    got(&client, 6).await;
    let kinds = |client: &Client, kind: &str| {
        let lines = client.lines();
        let of_kind = lines.iter().filter(|line| line["kind"] == kind);
        of_kind.cloned().collect::<Vec<_>>()
    };
    let gaps = kinds(&client, "gap");
    assert_eq!(gaps.len(), 1, "{:?}", client.lines());
    assert_eq!(gaps[0]["data"]["lost"], 1);
    server.command(&["DEL", &stream]).await;
    client
        .until("a reset", |client| kinds(client, "reset").len() == 1)
        .await;
    add(30, 31).await;
    got(&client, 7).await;
    assert_eq!(client.entries()[5..], ["21", "30"]);
}

/// `end=` ends the follower; a resume with nothing left ends it, too. An error that a retry cannot
/// fix is raised.
async fn a_follower_ends(language: Language) {
    let app = TestApp::start().await;
    let stream = unique("ended");
    for n in 0..3 {
        app.publish(&stream, &n.to_string()).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let more = json!({"store": dir.path().join("position"), "end": "$"});
    for expected in [numbers(3), Vec::new()] {
        let client = Client::start(language, "follow", &app.url(""), &stream, &more);
        client
            .until("its end", |client| {
                client
                    .lines()
                    .last()
                    .is_some_and(|line| line["kind"] == "complete")
            })
            .await;
        assert_eq!(client.entries(), expected);
        assert_eq!(client.end().await.0, Some(0));
    }
    let more = json!({"end": "nonsense"});
    let client = Client::start(language, "follow", &app.url(""), &stream, &more);
    let (code, errors, _) = client.end().await;
    assert_eq!(code, Some(1));
    assert!(errors.contains("invalid-"), "{errors}");
}

fn job(seconds: f64, concurrency: usize, lease: f64) -> Value {
    json!({"consumer": "w", "seconds": seconds, "concurrency": concurrency, "lease": lease,
           "policy": {"max_deliveries": 9}})
}

async fn group(app: &TestApp, stream: &str) -> Value {
    app.get(&format!("/v1/streams/{stream}/groups/g"))
        .await
        .json()
}

async fn dead_letters(app: &TestApp, stream: &str) -> Value {
    let path = format!("/v1/streams/{stream}/groups/g/dead-letters");
    app.get(&path).await.json()["dead_letters"].clone()
}

/// Returns the deliveries that a worker began, as values of `n` with their counts.
fn began(lines: &[Value]) -> Vec<(String, u64)> {
    let began = lines.iter().filter(|line| line["begins"].is_string());
    let pair = |line: &Value| {
        let n = line["begins"].as_str().unwrap().to_owned();
        (n, line["deliveries"].as_u64().unwrap())
    };
    began.map(pair).collect()
}

/// A worker creates its group, and loses no entry while the gateway is killed and Redis restarts.
async fn a_worker_loses_nothing(language: Language) {
    const COUNT: usize = 60;
    let server = Server::start().await;
    let mut gateway = Restarted::start(&server);
    let app = TestApp::on_server(&server).await;
    let stream = unique("worked");
    let more = job(0.1, 3, 2.0);
    let client = Client::start(language, "work", &gateway.url(), &stream, &more);
    for n in 0..COUNT {
        app.publish(&stream, &n.to_string()).await;
    }
    let ended = async |count: usize| {
        client
            .until("entries are worked off", |client| {
                client.all("ends").len() > count
            })
            .await;
    };
    ended(5).await;
    gateway.kill();
    elapse(500, "the client works meanwhile").await;
    gateway.again();
    ended(25).await;
    server.kill();
    elapse(500, "the client works meanwhile").await;
    server.start_again().await;
    eventually("nothing is left", async || {
        let seen = group(&app, &stream).await;
        seen["pending"] == 0 && seen["lag"] == 0
    })
    .await;
    client
        .until("every entry is worked off", |client| {
            let ends: BTreeSet<String> = client
                .all("ends")
                .iter()
                .map(|n| n.as_str().unwrap().to_owned())
                .collect();
            ends == numbers(COUNT).into_iter().collect()
        })
        .await;
    assert_eq!(dead_letters(&app, &stream).await, json!([]));
}

/// The lease of a job that takes longer is extended, so that nobody else gets it.
async fn a_lease_is_extended(language: Language) {
    let app = TestApp::start().await;
    let stream = unique("long");
    app.publish(&stream, "long").await;
    let client = Client::start(language, "work", &app.url(""), &stream, &job(3.0, 1, 0.9));
    client
        .until("it begins", |client| !client.all("begins").is_empty())
        .await;
    let form = "consumer=other&wait=4s";
    let path = format!("/v1/streams/{stream}/groups/g/read");
    let read = app.post_form(&path, form).await;
    assert_eq!(read.ids(), Vec::<String>::new(), "another gets it");
    client
        .until("it ends", |client| !client.all("ends").is_empty())
        .await;
    eventually("it is acknowledged", async || {
        group(&app, &stream).await["pending"] == 0
    })
    .await;
    assert_eq!(began(&client.lines()), [("long".to_owned(), 1)]);
}

/// At SIGTERM a worker finishes and acknowledges what it holds, and takes nothing more.
async fn a_worker_stops_gracefully(language: Language) {
    let app = TestApp::start().await;
    let stream = unique("stopped");
    for n in 0..5 {
        app.publish(&stream, &n.to_string()).await;
    }
    let url = app.url("");
    let client = Client::start(language, "work", &url, &stream, &job(1.5, 2, 30.0));
    client
        .until("two begin", |client| client.all("begins").len() == 2)
        .await;
    signal(client.child.id(), "TERM");
    let (code, errors, lines) = client.end().await;
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(began(&lines).len(), 2, "{lines:?}");
    assert_eq!(lines.last().unwrap()["stopped"], true);
    let seen = group(&app, &stream).await;
    assert_eq!((&seen["pending"], &seen["lag"]), (&0.into(), &3.into()));
    // A worker that waits for entries stops at once.
    let client = Client::start(language, "work", &url, &unique("idle"), &job(0.0, 1, 30.0));
    eventually("it waits", async || app.metric("waiting_reads").await == 1).await;
    let asked = Instant::now();
    signal(client.child.id(), "TERM");
    assert_eq!(client.end().await.0, Some(0));
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "{:?}",
        asked.elapsed()
    );
}

/// What does not finish within the grace goes back to the group at once.
async fn the_rest_goes_back(language: Language) {
    let app = TestApp::start().await;
    let stream = unique("rest");
    app.publish(&stream, "slow").await;
    let mut more = job(60.0, 1, 600.0);
    more["grace"] = json!(0.5);
    let client = Client::start(language, "work", &app.url(""), &stream, &more);
    client
        .until("it begins", |client| !client.all("begins").is_empty())
        .await;
    signal(client.child.id(), "TERM");
    let (code, errors, _) = client.end().await;
    assert_eq!(code, Some(0), "{errors}");
    let form = "consumer=other&wait=5s";
    let path = format!("/v1/streams/{stream}/groups/g/read");
    let entries = app.post_form(&path, form).await.json();
    assert_eq!(entries["entries"][0]["deliveries"], 2, "{entries}");
}

/// Failures of the handler: an exception and `Retry` deliver the entry again, `Reject` makes a dead
/// letter.
async fn failures_have_their_outcomes(language: Language) {
    let app = TestApp::start().await;
    let stream = unique("failures");
    for n in ["fail", "retry", "reject", "fine"] {
        app.publish(&stream, n).await;
    }
    let client = Client::start(language, "work", &app.url(""), &stream, &job(0.0, 2, 30.0));
    client
        .until("three end", |client| client.all("ends").len() == 3)
        .await;
    eventually("nothing is pending", async || {
        group(&app, &stream).await["pending"] == 0
    })
    .await;
    let letters = dead_letters(&app, &stream).await;
    assert_eq!(letters.as_array().unwrap().len(), 1, "{letters}");
    assert_eq!(letters[0]["reason"], "nonsense");
    let mut began = began(&client.lines());
    began.sort();
    let one = |n: &str, deliveries| (n.to_owned(), deliveries);
    let expected = [
        one("fail", 1),
        one("fail", 2),
        one("fine", 1),
        one("reject", 1),
        one("retry", 1),
        one("retry", 2),
    ];
    assert_eq!(began, expected);
}

/// A worker goes on after Redis has lost everything. It refuses a group without a policy.
async fn a_flush_does_not_stop_a_worker(language: Language) {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let stream = unique("flushed");
    let more = job(0.0, 1, 30.0);
    let client = Client::start(language, "work", &app.url(""), &stream, &more);
    app.publish(&stream, "before").await;
    client
        .until("the first", |client| client.all("ends").len() == 1)
        .await;
    server.command(&["FLUSHALL"]).await;
    app.publish(&stream, "after").await;
    client
        .until("the second", |client| client.all("ends").len() == 2)
        .await;
    drop(client);
    let plain = unique("plain");
    app.put_json(&format!("/v1/streams/{plain}/groups/g"), "{}")
        .await;
    let client = Client::start(language, "work", &app.url(""), &plain, &more);
    let (code, errors, _) = client.end().await;
    assert_eq!(code, Some(1));
    assert!(
        errors.contains("requires a group with a policy"),
        "{errors}"
    );
}

/// An answer to `extend` that is lost changes the receipt. The worker finds it and acknowledges.
async fn a_lost_answer_loses_no_lease(language: Language) {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let proxy = Proxy::to(app.address.port()).await;
    let stream = unique("receipt");
    app.publish(&stream, "long").await;
    let url = format!("http://{}", proxy.address);
    let client = Client::start(language, "work", &url, &stream, &job(4.0, 1, 3.0));
    client
        .until("it begins", |client| !client.all("begins").is_empty())
        .await;
    proxy.cut_answers();
    elapse(1_300, "the client works meanwhile").await;
    proxy.restore();
    client
        .until("it ends", |client| !client.all("ends").is_empty())
        .await;
    eventually("it is acknowledged", async || {
        group(&app, &stream).await["pending"] == 0
    })
    .await;
    elapse(500, "the client works meanwhile").await;
    assert_eq!(began(&client.lines()), [("long".to_owned(), 1)]);
}

macro_rules! in_both_languages {
    ($($name:ident)*) => {
        mod python {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Language::Python).await;
            })*
        }

        mod typescript {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Language::TypeScript).await;
            })*
        }
    };
}

in_both_languages! {
    publishes_once
    follows_exactly
    a_follower_ends
    a_worker_loses_nothing
    a_lease_is_extended
    a_worker_stops_gracefully
    the_rest_goes_back
    failures_have_their_outcomes
    a_flush_does_not_stop_a_worker
    a_lost_answer_loses_no_lease
}
