//! The private Redis: a server that the gateway starts on a unix socket in a data directory, with
//! an append-only file. The gateway restarts it when it dies and stops it on exit.
//!
//! Invariant: no server outlives its gateway.
//!
//! - On an orderly exit, the gateway stops the server with a command.
//! - On a panic, dropping the handle kills the server.
//! - If the gateway dies without either, the kernel ends the server (Linux, with
//!   `setpriv --pdeathsig`).
//! - A server that is still left over is stopped before the next one is started. The lock file
//!   keeps a second gateway from stopping the server of a running one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use deadpool_redis::redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, ServerErrorKind};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Program names of the server, in the order of search.
const SERVERS: [&str; 2] = ["redis-server", "valkey-server"];
/// Maximum path length of the unix socket in bytes; slightly below the kernel's limit.
const MAX_SOCKET_PATH: usize = 100;
/// Timeout from start to the first reply, not counting the time to load data.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout from SHUTDOWN to the end of the process.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Shortest and longest pause between restarts. The pause doubles each time, and is reset after a
/// run longer than the longest pause.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Errors of starting the private Redis. The texts are for the person who started the gateway.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    /// No server program was found.
    #[error(
        "neither redis-server nor valkey-server is on PATH: install one, or name a Redis with --redis-url"
    )]
    NoServer,
    /// Another gateway holds the lock.
    #[error("another gateway is running on {0}: stop it, or use another --data-dir")]
    InUse(PathBuf),
    /// The path of the socket is too long.
    #[error("{0} is too long for a unix socket: use a --data-dir with a shorter path")]
    PathTooLong(PathBuf),
    /// The data directory is unusable.
    #[error("cannot use the data directory {path}: {error}")]
    Directory {
        /// Path of the directory or file.
        path: PathBuf,
        /// Error of the operating system.
        error: io::Error,
    },
    /// The server was started but did not become ready.
    #[error("{server} did not start; the last lines of {log}:\n{tail}")]
    DidNotStart {
        /// Path of the server program.
        server: PathBuf,
        /// Path of its log file.
        log: PathBuf,
        /// Last lines of the log.
        tail: String,
    },
}

/// A running private server.
pub struct PrivateRedis {
    home: Home,
    stopping: CancellationToken,
    stopped: CancellationToken,
    /// Kept open for the lifetime of the gateway; closing the file releases the lock.
    _lock: File,
}

#[derive(Clone)]
struct Home {
    server: PathBuf,
    dir: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    tied: bool,
}

impl PrivateRedis {
    /// Starts a server in `dir` and waits until it answers. Creates `dir` if necessary.
    ///
    /// # Errors
    /// [`PrivateError`], with the remedy.
    /// # Cancel safety
    /// If dropped, the server is killed.
    pub async fn start(dir: &Path, tracker: &TaskTracker) -> Result<Self, PrivateError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |error| PrivateError::Directory { path, error }
        };
        let server = SERVERS
            .iter()
            .find_map(|name| on_path(name))
            .ok_or(PrivateError::NoServer)?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(unusable(dir))?;
        let dir = fs::canonicalize(dir).map_err(unusable(dir))?;
        let socket = dir.join("redis.sock");
        if socket.as_os_str().len() > MAX_SOCKET_PATH {
            return Err(PrivateError::PathTooLong(socket));
        }
        let lock_path = dir.join("streamgate.lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path);
        let lock = lock.map_err(unusable(&lock_path))?;
        lock.try_lock()
            .map_err(|_| PrivateError::InUse(dir.clone()))?;
        let tied = ties_children().await;
        let home = Home {
            server,
            log: dir.join("redis.log"),
            dir,
            socket,
            tied,
        };
        home.stop_leftover().await;
        let child = home.launch().await?;
        let private = Self {
            home: home.clone(),
            stopping: CancellationToken::new(),
            stopped: CancellationToken::new(),
            _lock: lock,
        };
        tracker.spawn(supervise(
            home,
            child,
            private.stopping.clone(),
            private.stopped.clone(),
        ));
        Ok(private)
    }

    /// Returns the path of the server's unix socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.home.socket
    }

    /// Returns the data directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.home.dir
    }

    /// Stops the server and waits until it has written all data and exited.
    pub async fn stop(self) {
        self.stopping.cancel();
        self.stopped.cancelled().await;
    }
}

async fn supervise(
    home: Home,
    mut child: Child,
    stopping: CancellationToken,
    stopped: CancellationToken,
) {
    let _told = stopped.drop_guard();
    let mut backoff = BACKOFF.0;
    loop {
        let since = Instant::now();
        tokio::select! {
            () = stopping.cancelled() => return home.stop(child).await,
            status = child.wait() => {
                let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                tracing::error!(status, "the private Redis died; restarting it");
            }
        }
        if since.elapsed() > BACKOFF.1 {
            backoff = BACKOFF.0;
        }
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(backoff) => {}
            }
            backoff = (backoff * 2).min(BACKOFF.1);
            tokio::select! {
                () = stopping.cancelled() => return,
                launched = home.launch() => match launched {
                    Ok(launched) => {
                        child = launched;
                        break;
                    }
                    Err(error) => tracing::error!(%error, "cannot start the private Redis; retrying"),
                }
            }
        }
    }
}

enum Answer {
    Pong,
    Loading,
    Nothing,
}

impl Home {
    fn spawn(&self) -> io::Result<Child> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        let mut command = if self.tied {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "TERM"]).arg(&self.server);
            command
        } else {
            Command::new(&self.server)
        };
        command
            .args([
                "--port",
                "0",
                "--unixsocketperm",
                "700",
                "--daemonize",
                "no",
            ])
            .args([
                "--appendonly",
                "yes",
                "--save",
                "",
                "--always-show-logo",
                "no",
            ])
            .arg("--unixsocket")
            .arg(&self.socket)
            .arg("--dir")
            .arg(&self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C reaches the whole foreground process group, but the server must stop after the
            // gateway.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    async fn launch(&self) -> Result<Child, PrivateError> {
        let _ = fs::remove_file(&self.socket);
        let mut child = self.spawn().map_err(|error| PrivateError::Directory {
            path: self.log.clone(),
            error,
        })?;
        let mut deadline = Instant::now() + START_TIMEOUT;
        loop {
            match self.ask("PING").await {
                Answer::Pong => return Ok(child),
                Answer::Loading => deadline = Instant::now() + START_TIMEOUT,
                Answer::Nothing => {}
            }
            let ended = !matches!(child.try_wait(), Ok(None));
            if ended || Instant::now() > deadline {
                return Err(PrivateError::DidNotStart {
                    server: self.server.clone(),
                    log: self.log.clone(),
                    tail: last_lines(&self.log),
                });
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn stop(&self, mut child: Child) {
        // SHUTDOWN has no reply; the server closes the connection.
        let _ = self.ask("SHUTDOWN").await;
        if tokio::time::timeout(STOP_TIMEOUT, child.wait())
            .await
            .is_err()
        {
            tracing::error!("the private Redis does not stop; killing it");
            let _ = child.kill().await;
        }
        let _ = fs::remove_file(&self.socket);
    }

    /// Stops a server left over from an earlier gateway. This gateway holds the lock, so a server
    /// that answers on the socket has lost its gateway.
    async fn stop_leftover(&self) {
        let is_socket = fs::metadata(&self.socket).is_ok_and(|meta| meta.file_type().is_socket());
        if !is_socket || matches!(self.ask("PING").await, Answer::Nothing) {
            return;
        }
        tracing::warn!("stopping a Redis that an earlier gateway left behind");
        let _ = self.ask("SHUTDOWN").await;
        let deadline = Instant::now() + STOP_TIMEOUT;
        while !matches!(self.ask("PING").await, Answer::Nothing) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn ask(&self, command: &str) -> Answer {
        let address = deadpool_redis::redis::ConnectionAddr::Unix(self.socket.clone());
        let Ok(client) = Client::open(address) else {
            return Answer::Nothing;
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(1)))
            .set_response_timeout(Some(Duration::from_secs(2)));
        let asked = async {
            let mut connection = client
                .get_multiplexed_async_connection_with_config(&config)
                .await?;
            Cmd::new()
                .arg(command)
                .query_async::<()>(&mut connection)
                .await
        };
        match asked.await {
            Ok(()) => Answer::Pong,
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::BusyLoading) => {
                Answer::Loading
            }
            Err(_) => Answer::Nothing,
        }
    }
}

/// Returns whether `setpriv` can make the kernel end a child process with the gateway.
async fn ties_children() -> bool {
    let mut probe = Command::new("setpriv");
    probe
        .args(["--pdeathsig", "TERM", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    matches!(probe.status().await, Ok(status) if status.success())
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

fn last_lines(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}
