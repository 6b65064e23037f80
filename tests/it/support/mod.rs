//! Helpers for integration tests.

pub mod app;
pub mod auth;
pub mod certs;
pub mod chromium;
pub mod clusters;
pub mod cutting;
pub mod gateway;
pub mod lines;
pub mod page;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod sentinels;
pub mod sse;

use std::io::Write as _;
use std::time::{Duration, Instant};

pub use app::{Answer, TestApp};

/// Maximum time to wait for anything in a test.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Returns a name that no other test uses.
pub fn unique(name: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!(
        "t{}-{}-{name}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}

/// Polls until `check` returns true. Panics after [`PATIENCE`].
pub async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !check().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until `ms` milliseconds have passed, because a test is about time: a lease that ends, a
/// client that is slow, a while in which nothing happens. Everything else is awaited with
/// [`eventually`].
pub async fn elapse(ms: u64, _why: &str) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// The reason why a test with many connections is skipped.
pub const FEW_FILES: &str = "the hard limit on open files is too low";

/// Raises the limit on open files for this many connections, of this process and of those that it
/// starts. Returns whether it is high enough.
pub fn may_connect(count: usize) -> bool {
    streamgate::net::rlimit::allow(count).is_none()
}

/// Returns a figure of a process in `/proc/PID/status`, like `VmRSS`, in KiB.
pub fn memory(pid: u32, figure: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Prints why a test proves nothing on this server. Not with `eprintln`, whose output the test
/// harness shows only for failed tests.
pub fn skipped(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or_default();
    std::io::stderr()
        .write_all(format!("skipped {test}: {why}\n").as_bytes())
        .unwrap();
}

/// Percent-encodes text for a path or a query.
pub fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
