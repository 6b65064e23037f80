//! Redis servers for tests: real processes, started on a free port, ended with this one.

use std::net::TcpListener;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{AsyncConnectionConfig, Client, Cmd, Value};
use tempfile::TempDir;

use super::clusters::Cluster;
use super::eventually;
use super::process::{Process, start_tied, tied};

/// The time a test's own command may take, connecting included twice.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// A server of one test's own.
pub struct Server {
    pub port: u16,
    dir: TempDir,
    child: Mutex<Option<Process>>,
    /// Whether the gateway uses the server as a node of a cluster.
    clustered: bool,
}

/// The server most tests share; each keeps to names of its own. With `REDIS_CLUSTER=1`, a node of a
/// cluster of three masters.
pub async fn shared() -> &'static Server {
    &all_shared().await[0]
}

/// The shared server, or all nodes of the shared cluster: for commands that are about no key.
pub async fn all_shared() -> &'static [Server] {
    static SHARED: tokio::sync::OnceCell<[Server; 1]> = tokio::sync::OnceCell::const_new();
    static CLUSTER: tokio::sync::OnceCell<Cluster> = tokio::sync::OnceCell::const_new();
    if is_clustered() {
        let cluster = CLUSTER.get_or_init(|| Cluster::start(3, false)).await;
        return &cluster.nodes;
    }
    SHARED.get_or_init(async || [Server::start().await]).await
}

/// Returns whether the shared server is a node of a cluster.
pub fn is_clustered() -> bool {
    std::env::var_os("REDIS_CLUSTER").is_some()
}

/// The server program: `REDIS_SERVER`, or what is on `PATH`.
pub fn program() -> String {
    std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned())
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Connects to a server with a login, like `user:password@`, or without one.
async fn connect(
    port: u16,
    login: &str,
) -> Result<MultiplexedConnection, deadpool_redis::redis::RedisError> {
    let client = Client::open(format!("redis://{login}127.0.0.1:{port}/"))?;
    // The defaults, 1 s and 500 ms, are too short for a busy machine.
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(COMMAND_TIMEOUT))
        .set_response_timeout(Some(COMMAND_TIMEOUT));
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

impl Server {
    pub async fn start() -> Self {
        let server = Self::on(free_port());
        server.launch(&[]).await;
        server
    }

    /// One with further settings.
    pub async fn start_with(settings: &[&str]) -> Self {
        let server = Self::on(free_port());
        server.launch(settings).await;
        server
    }

    /// Where it keeps its files.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// One that does not run yet.
    pub fn on(port: u16) -> Self {
        Self {
            port,
            dir: tempfile::tempdir().unwrap(),
            child: Mutex::new(None),
            clustered: false,
        }
    }

    /// Lets the gateway use the server as a node of a cluster, and commands follow its redirects.
    pub fn in_cluster(self) -> Self {
        Self {
            clustered: true,
            ..self
        }
    }

    pub fn url(&self) -> String {
        let scheme = if self.clustered {
            "redis-cluster"
        } else {
            "redis"
        };
        format!("{scheme}://127.0.0.1:{}/", self.port)
    }

    async fn launch(&self, settings: &[&str]) {
        self.begin_again_with(settings);
        let answers = async || {
            if self.has_ended() {
                // A connection of another test had one of its ports.
                self.begin_again_with(settings);
            }
            match self.try_command(&["PING"]).await {
                Ok(_) => true,
                // A server that asks for a password has started, too.
                Err(error) => error.code() == Some("NOAUTH"),
            }
        };
        eventually("Redis answers", answers).await;
    }

    /// Starts it again on the same port and waits for nothing.
    pub fn begin_again_with(&self, settings: &[&str]) {
        let mut command = tied(&program());
        command.args([
            "--port",
            &self.port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "yes",
        ]);
        command.args(settings);
        command
            .arg("--dir")
            .arg(self.dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        *self.child.lock().unwrap() = Some(start_tied(command));
    }

    /// Returns whether the process has ended by itself.
    fn has_ended(&self) -> bool {
        let mut child = self.child.lock().unwrap();
        let ended = child.as_mut().map(|child| child.try_wait());
        matches!(ended, Some(Ok(Some(_))))
    }

    pub fn pid(&self) -> u32 {
        self.child.lock().unwrap().as_ref().unwrap().id()
    }

    /// Kills the server as a crash would.
    pub fn kill(&self) {
        drop(self.child.lock().unwrap().take());
    }

    /// Starts it again on the same port, with what it had written.
    pub async fn start_again(&self) {
        self.launch(&[]).await;
    }

    /// Starts it again on the same port, with further settings.
    pub async fn start_again_with(&self, settings: &[&str]) {
        self.launch(settings).await;
    }

    /// Starts it again on the same port, with nothing.
    pub async fn start_empty(&self) {
        self.clear();
        self.launch(&[]).await;
    }

    fn clear(&self) {
        for file in std::fs::read_dir(self.dir.path()).unwrap() {
            let path = file.unwrap().path();
            let _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
        }
    }

    /// A copy of what is on its disk, which is all that it has answered.
    pub fn backup(&self) -> TempDir {
        let backup = tempfile::tempdir().unwrap();
        copy(self.dir.path(), backup.path());
        backup
    }

    /// Starts it again on the same port, with what was in a backup.
    pub async fn start_from(&self, backup: &TempDir) {
        self.clear();
        copy(backup.path(), self.dir.path());
        self.launch(&[]).await;
    }

    pub async fn command(&self, words: &[&str]) -> Value {
        self.try_command(words).await.unwrap()
    }

    /// With a login, like `user:password@`.
    pub async fn command_as(&self, login: &str, words: &[&str]) -> Value {
        self.try_command_as(login, words).await.unwrap()
    }

    pub async fn try_command(
        &self,
        words: &[&str],
    ) -> Result<Value, deadpool_redis::redis::RedisError> {
        self.try_command_as("", words).await
    }

    async fn try_command_as(
        &self,
        login: &str,
        words: &[&str],
    ) -> Result<Value, deadpool_redis::redis::RedisError> {
        match self.command_on(self.port, login, words).await {
            Err(error) if self.clustered && error.code() == Some("MOVED") => {
                let detail = error.detail().unwrap_or_default();
                let port = detail.rsplit(':').next().unwrap().parse().unwrap();
                self.command_on(port, login, words).await
            }
            reply => reply,
        }
    }

    async fn command_on(
        &self,
        port: u16,
        login: &str,
        words: &[&str],
    ) -> Result<Value, deadpool_redis::redis::RedisError> {
        let mut connection = connect(port, login).await?;
        let mut command = Cmd::new();
        for word in words {
            command.arg(*word);
        }
        command.query_async(&mut connection).await
    }

    /// Runs commands in one round trip. Fails if one of them fails; the others have run then.
    pub async fn pipeline(
        &self,
        commands: &[Vec<String>],
    ) -> Result<Vec<Value>, deadpool_redis::redis::RedisError> {
        let mut connection = connect(self.port, "").await?;
        let mut pipeline = deadpool_redis::redis::pipe();
        for words in commands {
            let mut command = Cmd::new();
            for word in words {
                command.arg(word);
            }
            pipeline.add_command(command);
        }
        pipeline.query_async(&mut connection).await
    }

    /// Waits until all changes are in the append-only file, so that they survive [`Server::kill`].
    pub async fn written(&self) {
        eventually("all is written", async || {
            let info = self.command(&["INFO", "persistence"]).await;
            has_written(&info)
        })
        .await;
    }

    /// Connections that wait in a blocking command.
    pub async fn blocked(&self) -> usize {
        let Value::BulkString(info) = self.command(&["INFO", "clients"]).await else {
            panic!("no info")
        };
        let info = String::from_utf8_lossy(&info).into_owned();
        let blocked = info
            .lines()
            .find_map(|line| line.strip_prefix("blocked_clients:"));
        blocked.unwrap().trim().parse().unwrap()
    }

    /// Returns how often a command was called.
    pub async fn calls(&self, command: &str) -> u64 {
        let Value::BulkString(stats) = self.command(&["INFO", "commandstats"]).await else {
            panic!("no statistics")
        };
        let stats = String::from_utf8(stats).unwrap();
        let prefix = format!("cmdstat_{command}:calls=");
        let calls = stats
            .lines()
            .find_map(|line| line.strip_prefix(&prefix)?.split(',').next()?.parse().ok());
        calls.unwrap_or(0)
    }

    /// Connections of clients, as the server counts them.
    pub async fn clients(&self) -> usize {
        let Value::BulkString(list) = self.command(&["CLIENT", "LIST"]).await else {
            panic!("no list")
        };
        String::from_utf8_lossy(&list).lines().count() - 1
    }
}

/// Returns whether the reply to `INFO persistence` shows an append-only file without a backlog.
pub fn has_written(info: &Value) -> bool {
    let Value::BulkString(info) = info else {
        panic!("no info: {info:?}")
    };
    String::from_utf8_lossy(info)
        .lines()
        .any(|line| line == "aof_buffer_length:0")
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let target = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy(&file.path(), &target);
        } else {
            std::fs::copy(file.path(), target).unwrap();
        }
    }
}

/// A reply as JSON, for comparing: strings, numbers, lists, null.
pub fn json(reply: &Value) -> serde_json::Value {
    match reply {
        Value::Nil => serde_json::Value::Null,
        Value::Int(number) => (*number).into(),
        Value::Array(list) => list.iter().map(json).collect(),
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into(),
        other => panic!("not for comparing: {other:?}"),
    }
}

/// `[name, value, name, value, …]` as an object.
pub fn properties(flat: &serde_json::Value) -> serde_json::Map<String, serde_json::Value> {
    let flat = flat
        .as_array()
        .unwrap_or_else(|| panic!("no properties: {flat}"));
    let pair = |pair: &[serde_json::Value]| (pair[0].as_str().unwrap().to_owned(), pair[1].clone());
    flat.chunks(2).map(pair).collect()
}
