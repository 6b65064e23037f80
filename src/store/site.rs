//! The server that is used: where it is, and the pools of connections to it.
//!
//! Where Redis is named by its address there is one of these for good. Where sentinels name it,
//! another takes its place when they name another server; whatever still goes on with the one before
//! is told by `left`, and ends.

use std::time::Duration;

use deadpool_redis::redis::{AsyncConnectionConfig, ConnectionInfo};
use deadpool_redis::{Connection, Manager, Pool, Runtime};
use tokio_util::sync::CancellationToken;

use super::error::{StoreError, from_pool};

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
pub(super) enum Kind {
    Shared,
    Blocking,
    Durable,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Shared, Self::Blocking, Self::Durable];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Blocking => "blocking",
            Self::Durable => "durable",
        }
    }
}

/// A server, and the connections to it.
pub(super) struct Site {
    pub info: ConnectionInfo,
    /// Another took its place: nothing is to be begun here, and what waits is to end.
    pub left: CancellationToken,
    pools: [Pool; 3],
}

impl Site {
    /// Prepares the pools; connects to nothing yet.
    pub(super) fn new(settings: &PoolSettings, info: ConnectionInfo) -> Result<Self, StoreError> {
        let pool = |size: usize, response: Duration| {
            let config = connecting(settings.connect_timeout)
                .set_response_timeout(Some(response))
                .set_pipeline_buffer_size(1024);
            Manager::new_with_config(info.clone(), config)
                .map_err(|error| StoreError::Unexpected(error.to_string()))
                .and_then(|manager| {
                    Pool::builder(manager)
                        .max_size(size)
                        .wait_timeout(Some(settings.connect_timeout))
                        .create_timeout(Some(settings.connect_timeout))
                        .recycle_timeout(Some(settings.connect_timeout))
                        .runtime(Runtime::Tokio1)
                        .build()
                        .map_err(|error| StoreError::Unexpected(error.to_string()))
                })
        };
        let pools = [
            pool(settings.readers + settings.workers + 1, settings.response_timeout)?,
            pool(settings.blocking, settings.block + BLOCK_MARGIN)?,
            pool(settings.durable, MAX_DURABILITY_WAIT + BLOCK_MARGIN)?,
        ];
        Ok(Self { info, left: CancellationToken::new(), pools })
    }

    fn pool(&self, kind: Kind) -> &Pool {
        &self.pools[kind as usize]
    }

    /// Connections open now.
    pub(super) fn open(&self, kind: Kind) -> usize {
        self.pool(kind).status().size
    }

    /// A connection, or nothing if the site was left meanwhile: another has to be asked.
    pub(super) async fn take(&self, kind: Kind) -> Option<Result<Connection, StoreError>> {
        let taken = self.left.run_until_cancelled(self.pool(kind).get()).await?;
        if self.left.is_cancelled() {
            return None;
        }
        Some(taken.map_err(|error| from_pool(error, kind.name())))
    }

    /// Ends what waits here, and closes what nobody uses.
    pub(super) fn leave(&self) {
        self.left.cancel();
        self.pools.iter().for_each(Pool::close);
    }
}

/// Neither to connect nor to be answered takes longer than this.
pub(super) fn connecting(patience: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(patience))
        .set_response_timeout(Some(patience))
}
