//! The server processes of a benchmark, with their CPU time and memory.
#![allow(dead_code, reason = "each benchmark uses a part")]

#[path = "../tests/it/support/process.rs"]
mod tied;

use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Returns the gateway to measure: the one just built, or `BENCH_GATEWAY`.
#[expect(
    clippy::disallowed_methods,
    reason = "selects another binary to measure"
)]
pub fn gateway() -> String {
    let built = env!("CARGO_BIN_EXE_streamgate").to_owned();
    std::env::var("BENCH_GATEWAY").unwrap_or(built)
}

/// A server with its child processes, which end on drop.
pub struct Process {
    child: tied::Process,
    /// The process ids of the server and its children.
    pids: Vec<u32>,
    pub port: u16,
}

impl Process {
    /// Starts a program on a free port, and waits until it listens.
    pub fn start(program: &str, args: impl FnOnce(&mut Command, &str)) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut command = tied::tied(program);
        args(&mut command, &port.to_string());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = tied::start_tied(command);
        let server = Self {
            pids: vec![child.id()],
            child,
            port,
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "{program} does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }

    /// Waits until the server has at least `count` child processes, which count from then on.
    pub fn wait_for_children(&mut self, count: usize) {
        let deadline = Instant::now() + Duration::from_secs(5);
        let own = self.child.id();
        while self.pids.len() <= count {
            assert!(Instant::now() < deadline, "the server has no children");
            self.pids.truncate(1);
            self.pids.extend(children_of(own));
        }
    }

    /// Returns the CPU time so far of all threads that still run, in user and kernel mode. The
    /// scheduler counts it exactly; ticks would be too high for a server that timers wake.
    pub fn cpu(&self) -> Duration {
        let threads = |pid: &u32| fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let threads = self.pids.iter().flat_map(threads);
        let nanoseconds = |thread: io::Result<fs::DirEntry>| -> u64 {
            let path = thread.unwrap().path().join("schedstat");
            // A thread may have ended since.
            let text = fs::read_to_string(path).unwrap_or_default();
            let first = text.split_whitespace().next();
            first.map_or(0, |first| first.parse().unwrap())
        };
        Duration::from_nanos(threads.map(nanoseconds).sum())
    }

    /// Returns the resident memory in KiB. Memory that the processes share counts once.
    pub fn memory(&self) -> u64 {
        let (mut own, mut shared) = (0, 0);
        for pid in &self.pids {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let of = |name: &str| -> u64 {
                let line = status
                    .lines()
                    .find_map(|line| line.strip_prefix(name))
                    .unwrap();
                line.trim().trim_end_matches(" kB").parse().unwrap()
            };
            own += of("VmRSS:") - of("RssShmem:");
            shared = shared.max(of("RssShmem:"));
        }
        own + shared
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A killed nginx master leaves its workers running.
        if self.pids.len() > 1 {
            let _ = Command::new("kill")
                .arg(self.child.id().to_string())
                .status();
            let _ = self.child.wait();
        }
    }
}

/// Returns the CPU time of this process so far, with that of threads that have ended.
pub fn own_cpu() -> Duration {
    ticks(11)
}

/// Returns the CPU time of the child processes that have ended and were waited for.
pub fn children_cpu() -> Duration {
    ticks(13)
}

/// Returns the sum of two fields of `/proc/self/stat`, counted after the name: a time in user mode
/// and the same in kernel mode.
fn ticks(first: usize) -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let ticks = rest.split_whitespace().skip(first).take(2);
    let ticks: u64 = ticks.map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    // Linux reports the time in hundredths of a second.
    Duration::from_millis(ticks * 10)
}

fn children_of(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(path).unwrap();
    text.split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect()
}
