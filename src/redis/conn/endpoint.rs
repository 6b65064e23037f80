//! The server that is used: where it is, and the pools of connections to it.
//!
//! Where Redis is named by its address there is one of these for good. Where sentinels name it,
//! another takes its place when they name another server; whatever still goes on with the one before
//! is told by `left`, and ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{Manager as _, Object, Pool, PoolError, TimeoutType};
use deadpool_redis::redis::{ConnectionAddr, ConnectionInfo};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_rustls::rustls::ClientConfig;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::redis::conn::dial::{Dialer, Target, Wire};
use crate::redis::error::{StoreError, from_pool};

/// What a blocking call may take beyond the time it asked Redis to block.
const BLOCK_MARGIN: Duration = Duration::from_secs(3);

/// The longest wait for replicas or the disk.
pub const MAX_DURABILITY_WAIT: Duration = Duration::from_secs(10);

/// Who knows which server is the master.
#[derive(Clone, Debug)]
pub struct Sentinels {
    /// Where they are, and as whom to log in there.
    pub nodes: Vec<ConnectionInfo>,
    /// What they call the master.
    pub master: String,
}

/// How to reach Redis, and how much of it to use.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// Where Redis is, and as whom to log in. Where there are sentinels, they say where.
    pub connection: ConnectionInfo,
    /// Who knows where it is, if it is to be asked.
    pub sentinels: Option<Sentinels>,
    /// Certificates, for an address of TLS.
    pub tls: Option<Arc<ClientConfig>>,
    /// A file with the password of Redis, read for each new connection.
    pub password_file: Option<PathBuf>,
    /// For making a connection.
    pub connect_timeout: Duration,
    /// For the answer to a command that does not block.
    pub response_timeout: Duration,
    /// Threads that serve connections: each has a shared connection for writes, and one more is for
    /// what else writes.
    pub workers: usize,
    /// Shared connections for reads.
    pub readers: usize,
    /// Blocking connections.
    pub blocking: usize,
    /// How long the blocking calls block at most.
    pub block: Duration,
    /// Connections for writes that wait for replicas or the disk.
    pub durable: usize,
    /// Bytes of large reads at once.
    pub large_reads: usize,
}

/// Which pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::redis) enum Kind {
    Shared,
    Blocking,
    Durable,
}

impl Kind {
    pub(in crate::redis) const ALL: [Self; 3] = [Self::Shared, Self::Blocking, Self::Durable];

    pub(in crate::redis) const fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Blocking => "blocking",
            Self::Durable => "durable",
        }
    }
}

/// A server, and the connections to it.
pub(in crate::redis) struct Site {
    pub target: Target,
    /// Another took its place: nothing is to be begun here, and what waits is to end.
    pub left: CancellationToken,
    pools: [Pool<Dialer>; 3],
    /// Makes a connection beside the pools.
    dialer: Dialer,
    patience: Duration,
}

impl Site {
    /// Prepares the pools; connects to nothing yet. `tell` is called when a connection has ended.
    pub(in crate::redis) fn new(
        settings: &PoolSettings,
        info: ConnectionInfo,
        tell: &Arc<Notify>,
    ) -> Result<Self, StoreError> {
        let (target, tasks) = (Target::new(settings, info), TaskTracker::new());
        let patience = settings.connect_timeout;
        let dialer =
            |response: Duration| Dialer::new(target.clone(), (patience, response), &tasks, tell);
        let pool = |size: usize, response: Duration| {
            Pool::builder(dialer(response))
                .max_size(size)
                .wait_timeout(Some(patience))
                .create_timeout(Some(patience))
                .recycle_timeout(Some(patience))
                .runtime(Runtime::Tokio1)
                .build()
                .map_err(|error| StoreError::Unexpected(error.to_string()))
        };
        let pools = [
            pool(
                settings.readers + settings.workers + 1,
                settings.response_timeout,
            )?,
            pool(settings.blocking, settings.block + BLOCK_MARGIN)?,
            pool(settings.durable, MAX_DURABILITY_WAIT + BLOCK_MARGIN)?,
        ];
        let dialer = dialer(settings.response_timeout);
        Ok(Self {
            target,
            left: CancellationToken::new(),
            pools,
            dialer,
            patience,
        })
    }

    fn pool(&self, kind: Kind) -> &Pool<Dialer> {
        &self.pools[kind as usize]
    }

    /// Connections open now.
    pub(in crate::redis) fn open(&self, kind: Kind) -> usize {
        self.pool(kind).status().size
    }

    /// A connection, or nothing if the site was left meanwhile: another has to be asked.
    pub(in crate::redis) async fn take(
        &self,
        kind: Kind,
    ) -> Option<Result<Object<Dialer>, StoreError>> {
        let taken = self.left.run_until_cancelled(self.pool(kind).get()).await?;
        if self.left.is_cancelled() {
            return None;
        }
        Some(taken.map_err(|error| match error {
            PoolError::Timeout(TimeoutType::Create) => self.too_slow(),
            error => from_pool(error, kind.name()),
        }))
    }

    /// A server that speaks no TLS may wait for more of what it takes for a command.
    fn too_slow(&self) -> StoreError {
        StoreError::Unreachable(match self.target.info.addr() {
            ConnectionAddr::TcpTls { .. } => {
                "connecting took too long (rediss:// is for a server that speaks TLS at this port)"
                    .to_owned()
            }
            _ => "connecting took too long".to_owned(),
        })
    }

    /// A connection made now and shared with nobody.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] and other outages.
    pub(in crate::redis) async fn fresh(&self) -> Result<Wire, StoreError> {
        match timeout(self.patience, self.dialer.create()).await {
            Ok(made) => made,
            Err(_) => Err(self.too_slow()),
        }
    }

    /// Ends what waits here, and closes what nobody uses.
    pub(in crate::redis) fn leave(&self) {
        self.left.cancel();
        self.pools.iter().for_each(Pool::close);
    }
}
