//! The commands of README.md and docs, run as they stand, and the answers shown compared with the real ones.
//!
//! Blocks of one page run in order in one shell, on a gateway and a Redis of the page. `sh` blocks are
//! commands; `python`, `js` and `php` blocks are programs. A `json` or `text` block after one of these
//! is its answer, in which `…` stands for anything, and ids and times are not compared. `html` blocks
//! without `…` are pages for a browser, and must log something. Blocks of other languages do not run.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use axum::response::Html;
use axum::routing::{get, post};
use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::support::PATIENCE;
use crate::support::chromium::Browser;
use crate::support::gateway::{BINARY, Gateway};
use crate::support::process::{start_tied, tied};
use crate::support::redis::{Server, free_port};

/// Pages that start their own gateway.
const STARTS_GATEWAY: [&str; 2] = ["docs/auth.md", "docs/webhooks.md"];

/// A marker that no answer contains.
const MARK: &str = "--8<-- block";

/// Commands as a reader has them, except that they fail on an error status and end a stream after 3 s.
const PRELUDE: &str = r#"set -eu
curl() { command curl --silent --show-error $FAIL --max-time 3 "$@" || [ $? = 28 ]; }
streamgate() {
    [ "$1" = serve ] || { command streamgate "$@"; return; }
    shift
    at=$STREAMGATE_LISTEN before=
    for word; do
        [ "$before" != --listen ] || at=$word
        before=$word
    done
    if command streamgate healthcheck --listen "$at" 2>/dev/null; then
        command streamgate config check "$@" >/dev/null
    else
        $TIED "$BINARY" serve "$@" 2>gateway.log & GATEWAY=$!
        trap 'kill $GATEWAY; wait' EXIT
        n=0
        until command streamgate healthcheck --listen "$at" 2>/dev/null; do
            n=$((n + 1)); [ $n -lt 200 ] || { cat gateway.log >&2; exit 1; }
            sleep 0.05
        done
    fi
}
"#;

/// A fenced block of a page.
#[derive(Debug)]
struct Block {
    line: usize,
    language: String,
    text: String,
    /// Only blank lines separate this block from the one before.
    adjoins: bool,
}

fn blocks(page: &str) -> Vec<Block> {
    let (mut blocks, mut open, mut adjoins): (Vec<Block>, Option<Block>, bool) =
        (Vec::new(), None, false);
    for (number, line) in page.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => {
                open = Some(Block {
                    line: number + 1,
                    language: language.to_owned(),
                    text: String::new(),
                    adjoins,
                });
            }
            (Some(_), Some("")) => {
                blocks.extend(open.take());
                adjoins = true;
            }
            (Some(block), _) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => adjoins &= line.trim().is_empty(),
        }
    }
    assert!(open.is_none(), "a block does not end: {open:?}");
    blocks
}

/// A block that runs, with the answer that the page shows.
struct Step<'a> {
    block: &'a Block,
    answer: Option<&'a Block>,
}

fn steps(blocks: &[Block]) -> Vec<Step<'_>> {
    let runs = |block: &Block| matches!(&*block.language, "sh" | "python" | "js" | "php");
    let answer = |next: Option<&'_ Block>| {
        next.is_some_and(|next| next.adjoins && matches!(&*next.language, "json" | "text"))
    };
    let mut steps = Vec::new();
    for (at, block) in blocks.iter().enumerate().filter(|(_, block)| runs(block)) {
        let next = blocks.get(at + 1);
        steps.push(Step {
            block,
            answer: next.filter(|_| answer(next)),
        });
    }
    steps
}

/// Replaces ids and times by words.
fn without_ids_and_times(text: &str) -> String {
    let bytes = text.as_bytes();
    let digits = |from: usize| {
        let rest = &bytes[from..];
        rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let (mut out, mut at) = (String::new(), 0);
    while at < text.len() {
        let run = digits(at);
        let time = text.get(at..at + 20).is_some_and(|time| {
            let shape = time
                .bytes()
                .map(|b| if b.is_ascii_digit() { b'0' } else { b });
            shape.take(19).eq("0000-00-00T00:00:00".bytes())
        });
        if time {
            let fraction = if bytes[at + 19] == b'.' {
                1 + digits(at + 20)
            } else {
                0
            };
            out.push_str("<time>");
            at += 19 + fraction;
        } else if run == 13 {
            let sequence = if bytes.get(at + 13) == Some(&b'-') {
                1 + digits(at + 14)
            } else {
                0
            };
            out.push_str("<id>");
            at += 13 + sequence;
        } else if run > 0 {
            out.push_str(&text[at..at + run]);
            at += run;
        } else {
            let next = text[at..].chars().next().unwrap();
            out.push(next);
            at += next.len_utf8();
        }
    }
    out
}

/// JSON values in sequence, each on a line without spaces.
fn compact(text: &str) -> String {
    let mut out = String::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>() {
        let value = value.unwrap_or_else(|error| panic!("{error} in {text}"));
        writeln!(out, "{value}").unwrap();
    }
    out
}

/// Whether `text` is `pattern`, in which `…` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('…');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap()) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in between {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn is_shown(answer: &Block, real: &str) -> bool {
    let canonical = |text: &str| {
        let text = match &*answer.language {
            "json" => compact(text),
            _ => text
                .lines()
                .map(str::trim_end)
                .collect::<Vec<_>>()
                .join("\n"),
        };
        without_ids_and_times(text.trim())
    };
    // A string of an ellipsis alone stands for any JSON value.
    let pattern = canonical(&answer.text).replace("\"…\"", "…");
    matches(&pattern, &canonical(real))
}

/// Runs the blocks of a page.
async fn run(page: &str) -> usize {
    let text = std::fs::read_to_string(page).unwrap();
    let blocks = blocks(&text);
    let steps = steps(&blocks);
    if steps.is_empty() {
        return 0;
    }
    let (server, dir) = (Server::start().await, tempfile::tempdir().unwrap());
    let (redis, page_port) = (server.url(), free_port());
    let origin = format!("http://127.0.0.1:{page_port}");
    let gateway = (!STARTS_GATEWAY.contains(&page)).then(|| {
        let args = ["serve", "--listen", "127.0.0.1:0", "--redis-url", &redis];
        Gateway::start(&[&args[..], &["--allow-origin", &origin]].concat())
    });
    let address = match &gateway {
        Some(gateway) => gateway.address.to_string(),
        None => format!("127.0.0.1:{}", free_port()),
    };
    let other = format!("127.0.0.1:{}", free_port());
    let here = |text: &str| {
        text.replace("127.0.0.1:8080", &address)
            .replace("127.0.0.1:8081", &other)
            .replace("redis://localhost:6379", redis.trim_end_matches('/'))
    };
    let mut script = format!("{PRELUDE}\n");
    for (number, step) in steps.iter().enumerate() {
        let refused = step
            .answer
            .is_some_and(|answer| answer.text.contains("urn:streamgate:problem"));
        let fail = if refused { "" } else { "--fail-with-body" };
        let (interpreter, ending) = match &*step.block.language {
            "python" => ("python3", "py"),
            "js" => ("node", "mjs"),
            "php" => ("php", "php"),
            _ => ("", ""),
        };
        write!(script, "echo '{MARK}'\nFAIL={fail}\n").unwrap();
        if interpreter.is_empty() {
            script.push_str(&here(&step.block.text));
        } else {
            let file = dir.path().join(format!("program{number}.{ending}"));
            std::fs::write(&file, here(&step.block.text)).unwrap();
            writeln!(script, "{interpreter} {}", file.display()).unwrap();
        }
    }
    let file = dir.path().join("page.sh");
    std::fs::write(&file, script).unwrap();
    let (succeeded, out, err) = run_script(&file, dir.path(), &server, &address).await;
    let outputs: Vec<&str> = out.split(&format!("{MARK}\n")).skip(1).collect();
    for (step, real) in steps.iter().zip(&outputs) {
        let at = format!("{page}:{}", step.block.line);
        if let Some(answer) = step.answer {
            assert!(
                is_shown(answer, real),
                "{at}: the answer is not as shown, but\n{real}"
            );
        } else {
            let problem = real.contains("urn:streamgate:problem");
            assert!(!problem, "{at}:\n{}\n{real}", step.block.text);
        }
    }
    assert!(
        outputs.len() == steps.len() && succeeded,
        "{page} ends at its step {} of {}:\n{}\n{out}\n{}",
        outputs.len(),
        steps.len(),
        steps[outputs.len().saturating_sub(1)].block.text,
        err
    );
    let is_page = |block: &&Block| block.language == "html" && !block.text.contains('…');
    for block in blocks.iter().filter(is_page) {
        open_page(here(&block.text), page_port).await;
    }
    steps.len()
}

/// Opens a page in a browser and waits until it logs something.
async fn open_page(page: String, port: u16) {
    let (tell, mut told) = mpsc::unbounded_channel::<String>();
    let report = r#"<!doctype html><script>
console.log = (...words) => fetch("/log", { method: "POST", body: JSON.stringify(words) });
</script>"#;
    let page = format!("{report}{page}");
    let log = async move |line: String| tell.send(line).unwrap();
    let app = axum::Router::new()
        .route("/", get(async move || Html(page)))
        .route("/log", post(log));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port))
        .await
        .unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let _server = AbortOnDropHandle::new(server);
    let _browser = Browser::open(&format!("http://127.0.0.1:{port}/"));
    let line = tokio::time::timeout(PATIENCE, told.recv()).await;
    line.expect("the page logs something in time").unwrap();
}

/// Runs a script in `dir`: whether it succeeded, its output, and its errors.
async fn run_script(
    file: &Path,
    dir: &Path,
    server: &Server,
    address: &str,
) -> (bool, String, String) {
    let bin = dir.join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(BINARY, bin.join("streamgate")).unwrap();
    let client = format!(
        "#!/bin/sh\nPATH=${{PATH#*:}}\ncommand -v redis-cli >/dev/null && exec redis-cli -p {0} \"$@\"\nexec valkey-cli -p {0} \"$@\"\n",
        server.url().trim_matches('/').rsplit(':').next().unwrap()
    );
    let program = bin.join("redis-cli");
    std::fs::write(&program, client).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, executable).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let work = dir.join("work");
    std::fs::create_dir(&work).unwrap();
    let read = |name: &str| std::fs::File::create(dir.join(name)).unwrap();
    let mut command = tied("sh");
    command
        .arg(file)
        .current_dir(work)
        .env("PATH", path)
        .env(
            "PYTHONPATH",
            concat!(env!("CARGO_MANIFEST_DIR"), "/clients"),
        )
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("BINARY", BINARY)
        .env("STREAMGATE_LISTEN", address)
        .env("STREAMGATE_LAME_DUCK", "0")
        .env(
            "TIED",
            if cfg!(target_os = "linux") {
                "setpriv --pdeathsig KILL"
            } else {
                ""
            },
        )
        .stdin(Stdio::null())
        .stdout(read("out"))
        .stderr(read("err"));
    let mut child = start_tied(command);
    let status = tokio::task::spawn_blocking(move || child.wait().unwrap())
        .await
        .unwrap();
    let text =
        |name: &str| String::from_utf8_lossy(&std::fs::read(dir.join(name)).unwrap()).into_owned();
    (status.success(), text("out"), text("err"))
}

/// README.md and the pages of docs.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![PathBuf::from("README.md")];
    let mut docs: Vec<PathBuf> = std::fs::read_dir("docs")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    docs.sort();
    pages.extend(docs);
    pages
}

#[tokio::test]
async fn every_command_works_as_it_stands_and_answers_as_shown() {
    let only = std::env::var("PAGE").ok();
    let pages = pages().into_iter().map(|page| page.display().to_string());
    let pages: Vec<String> = pages
        .filter(|page| only.as_ref().is_none_or(|only| page == only))
        .collect();
    let runs = pages.iter().map(|page| run(page));
    let steps: usize = join_all(runs).await.into_iter().sum();
    assert!(only.is_some() || steps >= 30, "only {steps} blocks run");
}

#[test]
fn an_answer_is_compared_but_for_ids_times_and_ellipses() {
    let block = |language: &str, text: &str| Block {
        line: 1,
        language: language.to_owned(),
        text: text.to_owned(),
        adjoins: true,
    };
    let id = r#"{"id": "1795232709004-0", "at": "2026-09-20T08:30:00Z", "receipt": "…"}"#;
    let real = r#"{"id":"1799999999999-1","at":"2026-11-26T23:07:37.619Z","receipt":"x"}"#;
    assert!(is_shown(&block("json", id), real));
    assert!(!is_shown(
        &block("json", id),
        &real.replace("receipt", "other")
    ));
    assert!(is_shown(&block("text", "a\n…\nd\n"), "a\nb\nc\nd\n"));
    assert!(!is_shown(&block("text", "a\n…\nd\n"), "a\nb\nc\n"));
    assert!(!is_shown(&block("text", "5-0"), "5-1"));
}
