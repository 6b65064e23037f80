//! A real headless browser, with its own profile.

use std::os::unix::process::CommandExt as _;
use std::process::Stdio;

use super::PATIENCE;
use super::process::{Process, start_tied, tied};

/// Names and paths of possible Chromium programs.
const BROWSERS: [&str; 5] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];

/// Flags of every browser of a test.
pub const FLAGS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
];

/// Returns the Chromium program.
pub fn program() -> String {
    let there = |name: &&&str| {
        std::process::Command::new(name)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok()
    };
    let found = std::env::var("CHROMIUM").ok();
    let found = found.or_else(|| BROWSERS.iter().find(there).map(|name| (*name).to_owned()));
    found.expect("no Chromium on PATH: `make test` installs it, or name one by CHROMIUM")
}

/// Returns a page after its scripts have finished, and the log of the browser.
pub async fn dump(url: &str) -> (String, String) {
    let profile = tempfile::tempdir().unwrap();
    let command = tokio::process::Command::new(program())
        .args(FLAGS)
        .arg("--enable-logging=stderr")
        .args(["--virtual-time-budget=10000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .env("TMPDIR", profile.path())
        .arg(url)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(3 * PATIENCE, command)
        .await
        .expect("a page in time")
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// A browser that shows one page.
pub struct Browser(
    Process,
    #[expect(dead_code, reason = "removed with the browser")] tempfile::TempDir,
);

impl Browser {
    pub fn open(url: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let program = program();
        let mut command = tied(&program);
        command
            .args(FLAGS)
            .arg("--remote-debugging-port=0")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("TMPDIR", profile.path())
            .process_group(0)
            .arg(url)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(start_tied(command), profile)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

/// Ends a browser that leads a process group. The whole group is killed: a remaining process would
/// go on writing to the profile.
pub fn end(browser: &mut Process) {
    let group = format!("-{}", browser.id());
    let _ = std::process::Command::new("kill")
        .args(["-KILL", "--", &group])
        .status();
    let _ = browser.wait();
}
