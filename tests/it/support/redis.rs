//! Redis servers for tests: real processes, started on a free port, ended with this one.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, mpsc};
use std::time::Duration;

use deadpool_redis::redis::{AsyncConnectionConfig, Client, Cmd, Value};
use tempfile::TempDir;

use super::eventually;

/// The time a test's own command may take, connecting included twice.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// A server of one test's own.
pub struct Server {
    pub port: u16,
    dir: TempDir,
    child: Mutex<Option<Child>>,
}

/// The server most tests share; each keeps to names of its own.
pub async fn shared() -> &'static Server {
    static SHARED: tokio::sync::OnceCell<Server> = tokio::sync::OnceCell::const_new();
    SHARED.get_or_init(Server::start).await
}

/// Starts processes from one thread that lives as long as this process: the kernel ends a child
/// tied to its parent when the *thread* that started it ends.
fn spawn(mut command: Command) -> Child {
    type Request = (Command, mpsc::Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Request>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (requests, incoming) = mpsc::channel::<Request>();
        std::thread::spawn(move || {
            for (mut command, answer) in incoming {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(requests)
    });
    command.stdin(Stdio::null());
    let (answer, answered) = mpsc::channel();
    spawner.lock().unwrap().send((command, answer)).unwrap();
    answered
        .recv()
        .unwrap()
        .expect("the process can be started")
}

/// A command that ends with this process, where the platform can do that.
pub fn tied(program: &str) -> Command {
    if cfg!(target_os = "linux") {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", program]);
        command
    } else {
        Command::new(program)
    }
}

/// Starts a tied command.
pub fn start_tied(command: Command) -> Child {
    spawn(command)
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
        }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    async fn launch(&self, settings: &[&str]) {
        self.begin_again_with(settings);
        let answers = async || match self.try_command(&["PING"]).await {
            Ok(_) => true,
            // A server that asks for a password has started, too.
            Err(error) => error.code() == Some("NOAUTH"),
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
        *self.child.lock().unwrap() = Some(spawn(command));
    }

    pub fn pid(&self) -> u32 {
        self.child.lock().unwrap().as_ref().unwrap().id()
    }

    /// Kills the server as a crash would.
    pub fn kill(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
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
        let client = Client::open(self.url().replace("//", &format!("//{login}")))?;
        // The defaults, 1 s and 500 ms, are too short for a busy machine.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(COMMAND_TIMEOUT))
            .set_response_timeout(Some(COMMAND_TIMEOUT));
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let mut command = Cmd::new();
        for word in words {
            command.arg(*word);
        }
        command.query_async(&mut connection).await
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

    /// Waits until everything answered so far is in the append-only file, so that a crash does not
    /// lose it. The server puts off writing for up to 2 s while a slow disk syncs.
    pub async fn until_written(&self) {
        eventually("the append-only file is written", async || {
            let Value::BulkString(info) = self.command(&["INFO", "persistence"]).await else {
                panic!("no info")
            };
            let info = String::from_utf8_lossy(&info).into_owned();
            info.lines()
                .any(|line| line.trim() == "aof_buffer_length:0")
        })
        .await;
    }

    /// Connections of clients, as the server counts them.
    pub async fn clients(&self) -> usize {
        let Value::BulkString(list) = self.command(&["CLIENT", "LIST"]).await else {
            panic!("no list")
        };
        String::from_utf8_lossy(&list).lines().count() - 1
    }
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

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
