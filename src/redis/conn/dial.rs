//! New connections to Redis: the socket, TLS, the login, and a first command that detects a server
//! which rejects every command.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use deadpool_redis::redis::aio::{AsyncPushSender, MultiplexedConnection};
use deadpool_redis::redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, ErrorKind, Pipeline, ProtocolVersion,
    RedisConnectionInfo, RedisError, Value,
};
use futures_util::future::select_ok;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::model::name::OWN_PREFIX;
use crate::redis::conn::settings::PoolSettings;
use crate::redis::conn::watched_socket::{CloseOnDrop, ConnectionState, MonitoredSocket, Socket};
use crate::redis::error::StoreError;

/// The address, login and TLS settings of a server.
#[derive(Clone, Debug)]
pub(in crate::redis) struct Target {
    /// Address and login of the server.
    pub info: ConnectionInfo,
    tls: Option<Arc<ClientConfig>>,
    /// File with the password, which replaces the one in `info`.
    password_file: Option<PathBuf>,
    protocol: ProtocolVersion,
}

/// A multiplexed connection that several callers share.
#[derive(Clone)]
pub(in crate::redis) struct MultiplexedHandle {
    pub handle: MultiplexedConnection,
    pub link: Arc<ConnectionState>,
    /// Closes the connection when the last clone is dropped.
    _driver: Arc<AbortOnDropHandle<()>>,
}

impl Target {
    /// Creates the target for `info`, with TLS and the password file from the settings.
    pub fn new(settings: &PoolSettings, info: ConnectionInfo) -> Self {
        let password_file = settings.password_file.clone();
        Self {
            info,
            tls: settings.tls.clone(),
            password_file,
            protocol: ProtocolVersion::RESP2,
        }
    }

    /// Creates a target whose login comes from `info` alone, not from the password file.
    pub fn with_own_login(settings: &PoolSettings, info: ConnectionInfo) -> Self {
        Self {
            password_file: None,
            ..Self::new(settings, info)
        }
    }

    /// Returns the login, with the current contents of the password file.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] when the file cannot be read.
    pub async fn login(&self) -> Result<RedisConnectionInfo, StoreError> {
        let login = self
            .info
            .redis_settings()
            .clone()
            .set_protocol(self.protocol);
        let Some(path) = &self.password_file else {
            return Ok(login);
        };
        match tokio::fs::read_to_string(path).await {
            Ok(password) => Ok(login.set_password(password.trim_end_matches(['\r', '\n']))),
            Err(error) => Err(StoreError::Unreachable(format!(
                "cannot read the password file {}: {error}",
                path.display()
            ))),
        }
    }

    /// Opens a socket to the server.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] with the cause.
    pub async fn socket(&self) -> Result<Box<dyn Socket>, StoreError> {
        let opened: io::Result<Box<dyn Socket>> = match self.info.addr() {
            ConnectionAddr::Tcp(host, port) => match tcp(host, *port).await {
                Ok(socket) => Ok(Box::new(socket)),
                Err(error) => Err(error),
            },
            ConnectionAddr::TcpTls { host, port, .. } => match self.tls(host, *port).await {
                Ok(socket) => Ok(socket),
                Err(error) => Err(error),
            },
            ConnectionAddr::Unix(path) => match UnixStream::connect(path).await {
                Ok(socket) => Ok(Box::new(socket)),
                Err(error) => Err(error),
            },
            _ => Err(io::ErrorKind::Unsupported.into()),
        };
        opened.map_err(|error| StoreError::Unreachable(error.to_string()))
    }

    async fn tls(&self, host: &str, port: u16) -> io::Result<Box<dyn Socket>> {
        let config = self.tls.clone().ok_or(io::ErrorKind::Unsupported)?;
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let socket = tcp(host, port).await?;
        let secured = TlsConnector::from(config).connect(name, socket).await;
        let hint = |error: io::Error| match error.kind() {
            io::ErrorKind::InvalidData => io::Error::other(format!(
                "{error} (rediss:// requires a server with TLS on this port)"
            )),
            _ => error,
        };
        Ok(Box::new(secured.map_err(hint)?))
    }

    /// Connects and logs in. `tell` is notified when the connection ends.
    ///
    /// # Errors
    /// The cause of the failure; nothing but the login was sent.
    pub async fn connect(
        &self,
        config: &AsyncConnectionConfig,
        tasks: &TaskTracker,
        tell: &Arc<Notify>,
    ) -> Result<MultiplexedHandle, StoreError> {
        let (login, socket) = (self.login().await?, self.socket().await?);
        let link = Arc::new(ConnectionState::default());
        let socket = MonitoredSocket::new(socket, link.clone());
        let made = MultiplexedConnection::new_with_config(&login, socket, config.clone()).await;
        let (handle, driver) = made.map_err(refused)?;
        let guard = CloseOnDrop {
            link: link.clone(),
            tell: tell.clone(),
        };
        let driver = tasks.spawn(async move {
            let _guard = guard;
            driver.await;
        });
        Ok(MultiplexedHandle {
            handle,
            link,
            _driver: Arc::new(AbortOnDropHandle::new(driver)),
        })
    }
}

/// Connects to the first address of a host name that answers.
async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
    if addresses.is_empty() {
        return Err(io::Error::other("the host name has no address"));
    }
    let all = addresses
        .into_iter()
        .map(|address| Box::pin(TcpStream::connect(address)));
    let (socket, _) = select_ok(all).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// Converts the error of a failed login, before which nothing else was sent.
fn refused(error: RedisError) -> StoreError {
    let text = error
        .detail()
        .map_or_else(|| error.to_string(), ToOwned::to_owned);
    match error.kind() {
        ErrorKind::Parse => StoreError::Unreachable(format!("no Redis server answers: {text}")),
        ErrorKind::Io => StoreError::Unreachable(format!(
            "the server closed the connection: {error} (a server with TLS requires rediss://)"
        )),
        ErrorKind::AuthenticationFailed => {
            StoreError::LoggedOut("the user or the password is wrong".to_owned())
        }
        _ => nothing_sent(error.into()),
    }
}

/// Converts an error of an unused connection, on which no command was sent.
fn nothing_sent(error: StoreError) -> StoreError {
    match error {
        StoreError::AfterOthers(error) => nothing_sent(*error),
        StoreError::Broken(text) => StoreError::Unreachable(text),
        StoreError::Timeout => StoreError::Unreachable("no answer in time".to_owned()),
        error => error,
    }
}

/// Checks whether a server accepts commands, with PING and with EXISTS on a key.
///
/// # Errors
/// An outage, see [`StoreError::is_outage`]. A server that rejects only these commands is healthy.
pub(in crate::redis) async fn greet(handle: &MultiplexedConnection) -> Result<(), StoreError> {
    let mut greeting = Pipeline::with_capacity(2);
    greeting.cmd("PING").cmd("EXISTS").arg(probe_key());
    let answered = greeting
        .query_async::<Vec<Value>>(&mut handle.clone())
        .await;
    match answered.map_err(StoreError::from) {
        Err(StoreError::AfterOthers(error)) if error.is_outage() => Err(*error),
        Err(error) if error.is_outage() => Err(error),
        _ => Ok(()),
    }
}

/// Returns the name of a key that never exists.
pub(in crate::redis) fn probe_key() -> String {
    format!("{OWN_PREFIX}probe")
}

/// The factory for a pool's connections.
pub(in crate::redis) struct Dialer {
    pub target: Target,
    config: AsyncConnectionConfig,
    tasks: TaskTracker,
    tell: Arc<Notify>,
}

impl Dialer {
    /// Creates a dialer with a connect and a response timeout. `tell` is notified when a connection
    /// ends.
    pub fn new(
        target: Target,
        (connect, response): (Duration, Duration),
        tasks: &TaskTracker,
        tell: &Arc<Notify>,
    ) -> Self {
        let config = connecting(connect)
            .set_response_timeout(Some(response))
            .set_pipeline_buffer_size(1024);
        Self {
            target,
            config,
            tasks: tasks.clone(),
            tell: tell.clone(),
        }
    }
}

impl Dialer {
    /// Returns a dialer for connections that speak RESP3, with a receiver for what the server
    /// reports by itself.
    pub fn reporting(&self, report: impl AsyncPushSender) -> Self {
        let mut target = self.target.clone();
        target.protocol = ProtocolVersion::RESP3;
        Self {
            target,
            config: self.config.clone().set_push_sender(report),
            tasks: self.tasks.clone(),
            tell: self.tell.clone(),
        }
    }
}

/// Returns a configuration with `patience` as the timeout for connecting and for each response.
pub(in crate::redis) fn connecting(patience: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(patience))
        .set_response_timeout(Some(patience))
}

impl Manager for Dialer {
    type Type = MultiplexedHandle;
    type Error = StoreError;

    async fn create(&self) -> Result<MultiplexedHandle, StoreError> {
        let wire = self
            .target
            .connect(&self.config, &self.tasks, &self.tell)
            .await?;
        greet(&wire.handle).await.map_err(nothing_sent)?;
        Ok(wire)
    }

    async fn recycle(
        &self,
        wire: &mut MultiplexedHandle,
        _: &Metrics,
    ) -> RecycleResult<StoreError> {
        if wire.link.is_closed() {
            return Err(RecycleError::message("the connection was closed"));
        }
        greet(&wire.handle).await.map_err(RecycleError::Backend)
    }
}
