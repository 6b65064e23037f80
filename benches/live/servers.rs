//! The servers of a run.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::ops::Deref;
use std::process::Command;
use std::time::{Duration, Instant};

use deadpool_redis::redis::{self, Connection};

use crate::process::{self, Process};

/// Maximum number of nginx connections. nginx allocates memory for all of them at startup.
const MOST_CONNECTIONS: usize = 30_000;

/// A server of a run.
pub struct Server {
    process: Process,
    /// The directory for its data on disk.
    dir: Option<tempfile::TempDir>,
}

impl Deref for Server {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl Server {
    fn start(program: &str, args: impl FnOnce(&mut Command, &str)) -> Self {
        Self {
            process: Process::start(program, args),
            dir: None,
        }
    }

    /// Starts a Redis that writes nothing to disk.
    pub fn redis() -> Self {
        Self::start("redis-server", |command, port| {
            let bind = [
                "--port",
                port,
                "--bind",
                "127.0.0.1",
                "--maxclients",
                "20000",
            ];
            command
                .args(bind)
                .args(["--save", "", "--appendonly", "no"]);
        })
    }

    /// Starts the gateway with `args` in addition to its defaults. The binary is the one just
    /// built, or `BENCH_GATEWAY`.
    pub fn streamgate(redis: &Self, args: &[&str]) -> Self {
        Self::start(&process::gateway(), |command, port| {
            command.args(["serve", "--redis-url", &redis.redis_url(), "--listen"]);
            command.arg(format!("127.0.0.1:{port}")).args(args);
        })
    }

    /// Starts nginx with nchan, which stores its messages in Redis.
    pub fn nchan(redis: &Self, workers: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Self::start("nginx", |command, port| {
            // Several workers share connections evenly only if each has its own socket.
            let reuse = if workers > 1 { "reuseport" } else { "" };
            let path = dir.path().display();
            let text = format!(
                "load_module {modules}/ngx_nchan_module.so;
                user root; daemon off; pid {path}/pid; error_log /dev/null;
                worker_processes {workers}; worker_rlimit_nofile {files};
                events {{ worker_connections {connections}; }}
                http {{ access_log off; tcp_nodelay on; keepalive_requests 1000000000;
                    client_body_temp_path {path}/b; proxy_temp_path {path}/p;
                    fastcgi_temp_path {path}/f; uwsgi_temp_path {path}/u; scgi_temp_path {path}/s;
                    nchan_shared_memory_size 512M;
                    upstream redis {{ nchan_redis_server {redis}; }}
                    server {{ listen 127.0.0.1:{port} {reuse};
                        location = /pub {{ nchan_publisher; nchan_channel_id $arg_id;
                            nchan_redis_pass redis; nchan_message_buffer_length 20000;
                            nchan_message_timeout 10m; }}
                        location = /sub {{ nchan_subscriber eventsource; nchan_channel_id $arg_id;
                            nchan_subscriber_first_message newest; nchan_redis_pass redis; }}
                    }} }}",
                modules = modules_of_nginx(),
                files = open_files(),
                connections = open_files().min(MOST_CONNECTIONS),
                redis = redis.redis_url(),
            );
            let config = dir.path().join("nginx.conf");
            fs::write(&config, text).unwrap();
            command.arg("-c").arg(config);
        });
        server.dir = Some(dir);
        server.process.wait_for_children(workers);
        let deadline = Instant::now() + Duration::from_secs(5);
        // Each worker connects to Redis separately, and refuses requests until then.
        let mut in_a_row = 0;
        while in_a_row < 20 {
            assert!(Instant::now() < deadline, "nchan does not reach Redis");
            in_a_row = if answers_well(server.port) {
                in_a_row + 1
            } else {
                0
            };
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }

    /// Starts the floor, which shows the limit of the machine: see `floor.rs`.
    pub fn floor() -> Self {
        let own = std::env::current_exe().unwrap();
        Self::start(own.to_str().unwrap(), |command, port| {
            command.arg("--floor").arg(port);
        })
    }

    fn redis_url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Connects to this Redis with the client name `bench`.
    pub fn connect(&self) -> Connection {
        let mut connection = redis::Client::open(self.redis_url())
            .unwrap()
            .get_connection()
            .unwrap();
        redis::cmd("CLIENT")
            .arg("SETNAME")
            .arg("bench")
            .exec(&mut connection)
            .unwrap();
        connection
    }

    /// Returns the number of other connections to this Redis.
    pub fn connections(&self) -> usize {
        let text: String = redis::cmd("CLIENT")
            .arg("LIST")
            .query(&mut self.connect())
            .unwrap();
        let others = text.lines().filter(|line| !line.contains("name=bench"));
        others.count()
    }
}

/// Returns whether nchan accepts a message.
fn answers_well(port: u16) -> bool {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let request = "POST /pub?id=ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
        Content-Length: 1\r\n\r\n.";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 20")
}

fn modules_of_nginx() -> String {
    let output = Command::new("nginx").arg("-V").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let path = text
        .split("--modules-path=")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    path.unwrap_or("/usr/lib/nginx/modules").to_owned()
}

/// Returns the soft limit of open files of this process.
pub fn open_files() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .unwrap();
    line.split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap_or(1 << 20)
}
