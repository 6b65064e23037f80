//! The real binary, run as a process.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::PATIENCE;
use super::process::{Process, start_tied, tied};

pub const BINARY: &str = env!("CARGO_BIN_EXE_streamgate");

/// A gateway process.
pub struct Gateway {
    pub child: Process,
    pub address: SocketAddr,
    /// Lines that the gateway logged before it listened.
    pub before: Vec<String>,
    /// Lines that the gateway logged afterwards.
    pub log: mpsc::Receiver<String>,
}

impl Gateway {
    /// Starts a gateway and waits until it logs its address.
    pub fn start(args: &[&str]) -> Self {
        let mut command = tied(BINARY);
        command.args(args);
        Self::by(command)
    }

    /// Starts a gateway by a command that executes the binary.
    pub fn by(mut command: Command) -> Self {
        command.stderr(Stdio::piped()).stdout(Stdio::null());
        // No load balancer has to notice a shutdown.
        command.env("STREAMGATE_LAME_DUCK", "0");
        let mut child = start_tied(command);
        let (lines, log) = mpsc::channel();
        let stderr = child.stderr.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        let mut before = Vec::new();
        let address = loop {
            let line = log
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("it does not listen: {before:#?}"));
            if let Some((_, url)) = line.split_once("listening on ") {
                let (_, address) = url.split_once("://").unwrap();
                break address.trim().parse().unwrap();
            }
            before.push(line);
        };
        Self {
            child,
            address,
            before,
            log,
        }
    }

    /// Starts a gateway in `dev` mode, with its private Redis in `dir`.
    pub fn dev(dir: &std::path::Path) -> Self {
        Self::start(&[
            "dev",
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
            dir.to_str().unwrap(),
        ])
    }

    /// Sends a signal, given by its name.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits until the process has exited.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the gateway does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }
}

pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

/// Runs the binary to its end. Returns exit code, standard output and standard error.
pub fn run(args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let output = Command::new(BINARY)
        .args(args)
        .envs(env.iter().copied())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// Returns the pids of processes whose command line contains `text`.
pub fn processes(text: &str) -> Vec<u32> {
    let output = Command::new("ps")
        .args(["-eo", "pid=,args="])
        .output()
        .unwrap();
    let lines = String::from_utf8_lossy(&output.stdout);
    let of = |line: &str| {
        line.split_whitespace()
            .next()
            .and_then(|pid| pid.parse().ok())
    };
    lines
        .lines()
        .filter(|line| line.contains(text) && !line.contains("streamgate "))
        .filter_map(of)
        .collect()
}
