//! Settings of connections from clients.

use std::net::SocketAddr;
use std::time::Duration;

use crate::net::client_limiter::ClientLimits;
use crate::net::tls::TlsFiles;

/// The settings of client connections.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// An additional address for probes and metrics.
    pub metrics_listen: Option<SocketAddr>,
    /// The certificate and key for TLS.
    pub tls: Option<TlsFiles>,
    /// Maximum number of concurrent connections.
    pub max_connections: usize,
    /// Maximum number of concurrent requests on an HTTP/2 connection.
    pub max_streams: u32,
    /// Maximum size of a request head, in bytes.
    pub max_header_size: usize,
    /// Timeout of the TLS handshake.
    pub handshake_timeout: Duration,
    /// Timeout for receiving a request head.
    pub header_timeout: Duration,
    /// Timeout of an idle connection between two requests.
    pub idle_timeout: Duration,
    /// Maximum time to drain a connection after a response that its client may not have read.
    pub linger_timeout: Duration,
    /// Maximum number of bytes to drain.
    pub linger_bytes: usize,
    /// Maximum time for which a client can leave a response unread.
    pub write_timeout: Duration,
    /// Time from the start of a shutdown until the gateway stops accepting and closes idle
    /// connections.
    pub lame_duck: Duration,
    /// Time from the start of a shutdown to its end, even if connections are still open.
    pub shutdown_grace: Duration,
    /// The limits of a client.
    pub visitors: ClientLimits,
}
