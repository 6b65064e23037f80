//! Settings of connections from clients.

use std::net::SocketAddr;
use std::time::Duration;

use crate::net::client_limiter::VisitorSettings;
use crate::net::tls::TlsFiles;

/// What connections from clients may do.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where else to answer probes, and who wants the metrics.
    pub metrics_listen: Option<SocketAddr>,
    /// Over TLS, with this certificate.
    pub tls: Option<TlsFiles>,
    /// Connections served at once.
    pub max_connections: usize,
    /// Requests at once on a connection of HTTP/2.
    pub max_streams: u32,
    /// Bytes of a request's head.
    pub max_header_size: usize,
    /// Until TLS must stand.
    pub handshake_timeout: Duration,
    /// Until a request's head must have come.
    pub header_timeout: Duration,
    /// Between two requests on a connection.
    pub idle_timeout: Duration,
    /// The longest a connection is read on after an answer that its client may not have read.
    pub linger_timeout: Duration,
    /// The most bytes that are read then.
    pub linger_bytes: usize,
    /// How long a client may leave an answer unread.
    pub write_timeout: Duration,
    /// From the beginning of a stop until idle connections close and no more are accepted.
    pub lame_duck: Duration,
    /// From the beginning of a stop to its end, whatever is still open.
    pub shutdown_grace: Duration,
    /// What one client may do.
    pub visitors: VisitorSettings,
}
