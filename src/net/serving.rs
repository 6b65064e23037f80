//! The settings and state that connections share.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio_rustls::TlsAcceptor;

use crate::metrics::{GaugeGuard, Metrics};
use crate::net::client_limiter::ClientSlot;
use crate::net::io::linger::Linger;
use crate::net::shutdown_flag::ShutdownFlag;

/// The settings and state shared by all connections.
pub(crate) struct Serving {
    pub(crate) header_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) handshake_timeout: Duration,
    pub(crate) linger: Linger,
    pub(crate) max_header_size: usize,
    pub(crate) max_streams: u32,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) unread: Counter,
    pub(crate) lingered: Counter,
    pub(crate) metrics: Metrics,
    /// The shutdown phase, advanced by the accept loop.
    pub(crate) shutdown: ShutdownFlag,
}

impl Serving {
    pub(crate) fn refused(&self, bound: &'static str) {
        self.metrics.refuse(bound);
    }
}

/// A guard that counts a connection as open until it is dropped.
pub(crate) struct OpenGuard {
    pub(crate) _held: GaugeGuard,
    pub(crate) _place: Option<ClientSlot>,
}
