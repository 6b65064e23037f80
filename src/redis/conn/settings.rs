//! Settings of the connections to Redis.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::redis::ConnectionInfo;
use tokio_rustls::rustls::ClientConfig;

use crate::redis::cluster::redirect::NodeAddress;

/// Addresses that cluster nodes announce, with those at which the gateway reaches them.
#[derive(Clone, Debug, Default)]
pub struct AddressMap(pub Vec<(NodeAddress, NodeAddress)>);

impl AddressMap {
    /// Returns the address at which the gateway reaches a node.
    #[must_use]
    pub fn apply(&self, announced: NodeAddress) -> NodeAddress {
        let mapped = self.0.iter().find(|(from, _)| *from == announced);
        mapped.map_or(announced, |(_, to)| to.clone())
    }
}

/// The sentinels that name the master.
#[derive(Clone, Debug)]
pub struct Sentinels {
    /// Addresses and logins of the sentinels.
    pub nodes: Vec<ConnectionInfo>,
    /// Name of the master in the sentinels' configuration.
    pub master: String,
}

/// Settings of the connections to Redis: address, login, timeouts and pool sizes.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// Address and login of Redis. Sentinels, if configured, replace the address.
    pub connection: ConnectionInfo,
    /// The sentinels to ask for the master's address, if configured.
    pub sentinels: Option<Sentinels>,
    /// Nodes of a cluster that are asked first for all others; empty for a single server.
    pub seeds: Vec<NodeAddress>,
    /// Addresses of cluster nodes that the gateway reaches at another address.
    pub address_map: AddressMap,
    /// TLS configuration, for a TLS address.
    pub tls: Option<Arc<ClientConfig>>,
    /// File with the Redis password, read for each new connection.
    pub password_file: Option<PathBuf>,
    /// Timeout for opening a connection.
    pub connect_timeout: Duration,
    /// Timeout for the reply to a command that does not block.
    pub response_timeout: Duration,
    /// Number of worker threads. Each has a shared connection for writes; one more is for writes
    /// outside the workers.
    pub workers: usize,
    /// Number of shared connections for reads.
    pub readers: usize,
    /// Maximum number of connections for blocking calls.
    pub blocking: usize,
    /// Maximum block time of a blocking call.
    pub block: Duration,
    /// Maximum number of connections for writes that wait for replicas or the disk.
    pub durable: usize,
    /// Budget for concurrent large reads, in bytes.
    pub large_reads: usize,
}

impl PoolSettings {
    /// Returns the addresses of the seeds, for the log.
    pub(in crate::redis) fn seed_list(&self) -> String {
        let seeds: Vec<_> = self.seeds.iter().map(ToString::to_string).collect();
        seeds.join(", ")
    }
}
