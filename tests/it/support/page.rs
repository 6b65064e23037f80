//! A page in a real browser that a test controls by the debugging protocol of Chromium. The protocol
//! runs over two named pipes, which need neither a WebSocket client nor a port.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::PATIENCE;
use super::chromium::{FLAGS, end, program};
use super::process::{Process, start_tied, tied};

/// A page of a browser of its own.
pub struct Page {
    browser: Process,
    calls: Mutex<File>,
    answers: tokio::sync::Mutex<mpsc::UnboundedReceiver<Value>>,
    last_call: std::sync::atomic::AtomicU64,
    session: String,
    /// Exceptions and errors that the page logged.
    troubles: Arc<Mutex<Vec<String>>>,
    _profile: tempfile::TempDir,
}

/// Opens a named pipe. A pipe opened for both directions does not wait for the other end.
fn pipe(path: &Path) -> File {
    let made = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
    File::options().read(true).write(true).open(path).unwrap()
}

/// Returns what the page logged, if the message is an error of the page.
fn trouble(message: &Value) -> Option<String> {
    let params = &message["params"];
    match message["method"].as_str()? {
        "Runtime.exceptionThrown" => Some(params["exceptionDetails"].to_string()),
        "Page.javascriptDialogOpening" => Some(format!("a dialog: {params}")),
        // Answers with an error status are logged, too; the tests cause some.
        "Log.entryAdded" if params["entry"]["source"] == "network" => None,
        "Log.entryAdded" => Some(params["entry"]["text"].to_string()),
        _ => None,
    }
}

/// Returns the parameters of a call that evaluates an expression and waits for its promise.
fn evaluation(expression: &str) -> Value {
    json!({"expression": expression, "awaitPromise": true, "returnByValue": true})
}

impl Page {
    /// Starts a browser and opens an address, in a window of 1280 × 800.
    pub async fn open(url: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let (read, write) = (profile.path().join("calls"), profile.path().join("answers"));
        let (calls, answers) = (pipe(&read), pipe(&write));
        let mut command = tied("sh");
        command
            .args(["-c", "exec \"$@\" 3<\"$CALLS\" 4>\"$ANSWERS\"", "sh"])
            .arg(program())
            .args(FLAGS)
            .arg("--remote-debugging-pipe")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("TMPDIR", profile.path())
            .env("CALLS", &read)
            .env("ANSWERS", &write)
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let browser = start_tied(command);
        let (sender, receiver) = mpsc::unbounded_channel();
        let troubles: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = troubles.clone();
        std::thread::spawn(move || {
            for message in BufReader::new(answers).split(0).map_while(Result::ok) {
                let message: Value = serde_json::from_slice(&message).unwrap();
                kept.lock().unwrap().extend(trouble(&message));
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let mut page = Self {
            browser,
            calls: Mutex::new(calls),
            answers: tokio::sync::Mutex::new(receiver),
            last_call: 0.into(),
            session: String::new(),
            troubles,
            _profile: profile,
        };
        let target = page
            .call("Target.createTarget", json!({"url": "about:blank"}))
            .await;
        let session = page
            .call(
                "Target.attachToTarget",
                json!({"targetId": target["targetId"], "flatten": true}),
            )
            .await;
        session["sessionId"]
            .as_str()
            .unwrap()
            .clone_into(&mut page.session);
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            page.call(domain, json!({})).await;
        }
        page.look(1280, 800, false).await;
        page.go(url).await;
        page
    }

    /// Calls a method of the protocol.
    async fn call(&self, method: &str, params: Value) -> Value {
        let answer = self.send(method, params).await;
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// Calls a method of the protocol. Returns the answer, which may be an error.
    async fn send(&self, method: &str, params: Value) -> Value {
        let id = 1 + self
            .last_call
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut message = json!({"id": id, "method": method, "params": params});
        if !self.session.is_empty() {
            message["sessionId"] = self.session.clone().into();
        }
        let mut bytes = serde_json::to_vec(&message).unwrap();
        bytes.push(0);
        self.calls.lock().unwrap().write_all(&bytes).unwrap();
        let mut answers = self.answers.lock().await;
        let answer = async {
            loop {
                let message = answers.recv().await.expect("the browser runs");
                if message["id"] == id {
                    return message;
                }
            }
        };
        tokio::time::timeout(3 * PATIENCE, answer)
            .await
            .unwrap_or_else(|_| panic!("no answer to {method}"))
    }

    /// Opens another address.
    pub async fn go(&self, url: &str) {
        self.call("Page.navigate", json!({"url": url})).await;
    }

    /// Sets the size of the window and the preferred colours.
    pub async fn look(&self, width: u32, height: u32, dark: bool) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        self.call("Emulation.setDeviceMetricsOverride", size).await;
        let scheme = if dark { "dark" } else { "light" };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", features).await;
    }

    /// Evaluates an expression in the page, and waits for its promise.
    pub async fn eval(&self, expression: &str) -> Value {
        let answer = self.call("Runtime.evaluate", evaluation(expression)).await;
        assert!(
            answer["exceptionDetails"].is_null(),
            "{expression}: {answer:#}"
        );
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub async fn until(&self, condition: &str) {
        let deadline = Instant::now() + 2 * PATIENCE;
        // A page that is just loading has no body yet.
        let guarded = format!(
            "(() => {{ try {{ return Boolean({condition}); }} catch {{ return false; }} }})()"
        );
        // A page that is just left answers with an error.
        let holds = async || {
            let answer = self.send("Runtime.evaluate", evaluation(&guarded)).await;
            answer["result"]["result"]["value"] == true
        };
        while !holds().await {
            if Instant::now() > deadline {
                let text = self.eval("document.body.innerText").await;
                panic!("never: {condition}\n{text}\n{:?}", self.troubles());
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Waits until an element contains a text.
    pub async fn shows(&self, selector: &str, text: &str) {
        let (selector, text) = (json!(selector), json!(text));
        self.until(&format!(
            "[...document.querySelectorAll({selector})].some((node) => node.textContent.includes({text}))"
        ))
        .await;
    }

    /// Waits for an element with this text, and clicks it.
    pub async fn click(&self, selector: &str, text: &str) {
        let found = format!(
            "[...document.querySelectorAll({})].find((node) => node.textContent.includes({}))",
            json!(selector),
            json!(text)
        );
        self.until(&found).await;
        self.eval(&format!("{found}.click()")).await;
    }

    /// Waits for a control, and enters a text.
    pub async fn enter(&self, selector: &str, text: &str) {
        let selector = json!(selector);
        self.until(&format!("document.querySelector({selector})"))
            .await;
        self.eval(&format!(
            "(() => {{ const control = document.querySelector({selector}); control.value = {};\
             control.dispatchEvent(new Event('input', {{ bubbles: true }})); }})()",
            json!(text)
        ))
        .await;
    }

    /// Presses a key, such as `Tab`, at the element that has the focus.
    pub async fn press(&self, key: &str, code: u32) {
        for kind in ["rawKeyDown", "keyUp"] {
            let params =
                json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            self.call("Input.dispatchKeyEvent", params).await;
        }
    }

    /// Returns the violations of WCAG 2.2 A and AA that axe-core finds in the page.
    pub async fn violations(&self, axe: &str) -> Vec<String> {
        self.eval(&format!("{axe}; undefined")).await;
        let run = "axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] })\
             .then(({ violations }) => violations.flatMap(({ id, nodes }) => \
             nodes.map((node) => `${id}: ${node.html} ${node.failureSummary}`)))";
        let found = self.eval(run).await;
        serde_json::from_value(found).unwrap()
    }

    /// Returns a picture of the window as PNG.
    pub async fn picture(&self) -> Vec<u8> {
        let answer = self
            .call("Page.captureScreenshot", json!({"format": "png"}))
            .await;
        let data = answer["data"].as_str().unwrap();
        BASE64_STANDARD.decode(data).unwrap()
    }

    /// Returns the exceptions and errors that the page logged.
    pub fn troubles(&self) -> Vec<String> {
        self.troubles.lock().unwrap().clone()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        end(&mut self.browser);
    }
}
