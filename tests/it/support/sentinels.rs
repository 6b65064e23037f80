//! A Redis master with replicas, and the sentinels that monitor them: real processes.

use std::process::{Command, Stdio};
use std::sync::Mutex;

use deadpool_redis::redis::{Client, Cmd, RedisError, Value};
use tempfile::TempDir;

use super::eventually;
use super::process::{Process, start_tied, tied};
use super::redis::{Server, free_port, json, program};

/// Name of the master in the configuration of the sentinels.
pub const NAME: &str = "mymaster";

/// A sentinel process.
pub struct Sentinel {
    pub port: u16,
    dir: TempDir,
    child: Mutex<Option<Process>>,
    /// Credentials for the sentinel in a URL, such as `user:password@`.
    login: String,
}

impl Sentinel {
    /// Starts a sentinel that monitors the server on this port. `further` are more lines of its
    /// configuration file.
    pub async fn start(master: u16, quorum: usize, further: &str) -> Self {
        Self::start_as(master, quorum, further, "").await
    }

    pub async fn start_as(master: u16, quorum: usize, further: &str, login: &str) -> Self {
        let (port, dir) = (free_port(), tempfile::tempdir().unwrap());
        let file = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\n\
             sentinel monitor {NAME} 127.0.0.1 {master} {quorum}\n\
             sentinel down-after-milliseconds {NAME} 400\n\
             sentinel failover-timeout {NAME} 2000\n\
             sentinel parallel-syncs {NAME} 2\n{further}\n",
            dir.path().display(),
        );
        std::fs::write(dir.path().join("sentinel.conf"), file).unwrap();
        let sentinel = Self {
            port,
            dir,
            child: Mutex::new(None),
            login: login.to_owned(),
        };
        sentinel.start_again().await;
        sentinel
    }

    /// Starts the sentinel again with its last known state.
    pub async fn start_again(&self) {
        let mut command: Command = tied(&program());
        command
            .arg(self.dir.path().join("sentinel.conf"))
            .arg("--sentinel");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        *self.child.lock().unwrap() = Some(start_tied(command));
        eventually("the sentinel answers", async || {
            self.ask(&["PING"]).await.is_ok()
        })
        .await;
    }

    pub fn kill(&self) {
        drop(self.child.lock().unwrap().take());
    }

    pub async fn ask(&self, words: &[&str]) -> Result<Value, RedisError> {
        let client = Client::open(format!("redis://{}127.0.0.1:{}/", self.login, self.port))?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut command = Cmd::new();
        for word in words {
            command.arg(*word);
        }
        command.query_async(&mut connection).await
    }

    /// Returns the port of the server that the sentinel considers the master.
    pub async fn names(&self) -> u16 {
        let named = self
            .ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME])
            .await
            .unwrap();
        json(&named)[1].as_str().unwrap().parse().unwrap()
    }

    /// Makes the sentinel start a failover.
    pub async fn fail_over(&self) {
        let begun = async || self.ask(&["SENTINEL", "FAILOVER", NAME]).await.is_ok();
        eventually("it hands over", begun).await;
    }

    async fn knows(&self, replicas: usize, sentinels: usize) -> bool {
        let Ok(Value::Array(facts)) = self.ask(&["SENTINEL", "MASTER", NAME]).await else {
            return false;
        };
        let is = |name: &str, value: &str| {
            facts
                .chunks(2)
                .any(|pair| json(&pair[0]) == name && json(&pair[1]) == value)
        };
        is("num-slaves", &replicas.to_string())
            && is("num-other-sentinels", &(sentinels - 1).to_string())
            && is("flags", "master")
    }
}

/// A master, its replicas, and sentinels that know all of them.
pub struct Watched {
    /// Servers, of which the first is the initial master.
    pub servers: Vec<Server>,
    pub sentinels: Vec<Sentinel>,
}

impl Watched {
    pub async fn start(replicas: usize, sentinels: usize) -> Self {
        let mut servers: Vec<Server> = Vec::new();
        for _ in 0..=replicas {
            let server = Server::on(free_port());
            // Without this setting, a replica waits five seconds for others that might want the
            // same copy.
            let mut settings = vec!["--repl-diskless-sync-delay", "0"];
            let master = servers.first().map(|master| master.port.to_string());
            if let Some(port) = &master {
                settings.extend(["--replicaof", "127.0.0.1", port]);
            }
            server.start_again_with(&settings).await;
            servers.push(server);
        }
        Self::over(servers, sentinels).await
    }

    async fn over(servers: Vec<Server>, count: usize) -> Self {
        let (master, quorum) = (&servers[0], count / 2 + 1);
        let replicas = servers.len() - 1;
        let all = replicas.to_string();
        let follow = async || json(&master.command(&["WAIT", &all, "100"]).await) == replicas;
        eventually("all replicas follow", follow).await;
        let mut sentinels = Vec::new();
        for _ in 0..count {
            sentinels.push(Sentinel::start(master.port, quorum, "").await);
        }
        for sentinel in &sentinels {
            let known = async || sentinel.knows(replicas, count).await;
            eventually("the sentinel knows all", known).await;
        }
        Self { servers, sentinels }
    }

    /// Returns the value for `--redis-url`, with database 1.
    pub fn url(&self) -> String {
        url(&self
            .sentinels
            .iter()
            .map(|sentinel| sentinel.port)
            .collect::<Vec<_>>())
    }

    pub fn master(&self) -> &Server {
        &self.servers[0]
    }

    /// Returns the promoted server, once all running sentinels agree on it.
    pub async fn promoted(&self) -> &Server {
        let before = self.servers[0].port;
        for sentinel in &self.sentinels {
            let changed = async || sentinel.names().await != before;
            eventually("another is the master", changed).await;
        }
        let port = self.sentinels[0].names().await;
        self.servers
            .iter()
            .find(|server| server.port == port)
            .unwrap()
    }
}

/// Returns the value for `--redis-url`: sentinels on these ports, and database 1.
pub fn url(ports: &[u16]) -> String {
    let nodes: Vec<_> = ports
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    format!(
        "redis-sentinel://{}/1?sentinelMasterId={NAME}",
        nodes.join(",")
    )
}
