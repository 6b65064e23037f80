//! The Redis endpoint in use: its address and its connection pools.
//!
//! A Redis configured by address has one endpoint, which is replaced only when that address leads
//! to another server. With sentinels, a new endpoint replaces the old one when the sentinels name
//! another master. Calls still running on the old endpoint are cancelled through `replaced`.

use std::sync::Arc;
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{Manager as _, Object, Pool, PoolError, TimeoutType};
use deadpool_redis::redis::aio::AsyncPushSender;
use deadpool_redis::redis::{ConnectionAddr, ConnectionInfo};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::redis::conn::dial::{Dialer, MultiplexedHandle, Target};
use crate::redis::conn::settings::PoolSettings;
use crate::redis::error::{StoreError, from_pool};

/// Time added to the block time of a blocking call to get its response timeout.
const BLOCK_MARGIN: Duration = Duration::from_secs(3);

/// Maximum wait for replicas or the disk.
pub const MAX_DURABILITY_WAIT: Duration = Duration::from_secs(10);

/// The kind of a connection pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::redis) enum PoolKind {
    Shared,
    Blocking,
    DurableConnection,
}

impl PoolKind {
    pub(in crate::redis) const ALL: [Self; 3] =
        [Self::Shared, Self::Blocking, Self::DurableConnection];

    pub(in crate::redis) const fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Blocking => "blocking",
            Self::DurableConnection => "durable",
        }
    }
}

/// A Redis server and the connection pools to it.
pub(in crate::redis) struct Endpoint {
    pub target: Target,
    /// Cancelled when another server has replaced this one. Callers start nothing here then, and
    /// waiting calls end.
    pub replaced: CancellationToken,
    pools: [Pool<Dialer>; 3],
    /// Creates connections outside the pools.
    dialer: Dialer,
    patience: Duration,
}

impl Endpoint {
    /// Creates the pools without connecting yet. `tell` is notified when a connection ends.
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
            replaced: CancellationToken::new(),
            pools,
            dialer,
            patience,
        })
    }

    fn pool(&self, kind: PoolKind) -> &Pool<Dialer> {
        &self.pools[kind as usize]
    }

    /// Returns the number of open connections.
    pub(in crate::redis) fn open(&self, kind: PoolKind) -> usize {
        self.pool(kind).status().size
    }

    /// Takes a connection from a pool. Returns `None` if another server has replaced this one
    /// meanwhile; the caller must then use the new one.
    pub(in crate::redis) async fn take(
        &self,
        kind: PoolKind,
    ) -> Option<Result<Object<Dialer>, StoreError>> {
        let taken = self
            .replaced
            .run_until_cancelled(self.pool(kind).get())
            .await?;
        if self.replaced.is_cancelled() {
            return None;
        }
        Some(taken.map_err(|error| match error {
            PoolError::Timeout(TimeoutType::Create) => self.too_slow(),
            error => from_pool(error, kind.name()),
        }))
    }

    /// Returns the error for a connect timeout. A TLS handshake with a server without TLS may time
    /// out, because the server takes the handshake for an incomplete command.
    fn too_slow(&self) -> StoreError {
        StoreError::Unreachable(match self.target.info.addr() {
            ConnectionAddr::TcpTls { .. } => {
                "connecting timed out (rediss:// requires a server with TLS on this port)"
                    .to_owned()
            }
            _ => "connecting timed out".to_owned(),
        })
    }

    /// Opens a new connection outside the pools.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] and other outages.
    pub(in crate::redis) async fn fresh(&self) -> Result<MultiplexedHandle, StoreError> {
        match timeout(self.patience, self.dialer.create()).await {
            Ok(made) => made,
            Err(_) => Err(self.too_slow()),
        }
    }

    /// Opens a new connection outside the pools that speaks RESP3, and passes what the server
    /// reports by itself to `report`.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] and other outages.
    pub(in crate::redis) async fn reporting(
        &self,
        report: impl AsyncPushSender,
    ) -> Result<MultiplexedHandle, StoreError> {
        let dialer = self.dialer.reporting(report);
        match timeout(self.patience, dialer.create()).await {
            Ok(made) => made,
            Err(_) => Err(self.too_slow()),
        }
    }

    /// Cancels the waiting calls and closes the idle connections.
    pub(in crate::redis) fn leave(&self) {
        self.replaced.cancel();
        self.pools.iter().for_each(Pool::close);
    }
}
