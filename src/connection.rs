//! One connection from a client: hyper's, with the time-outs that `axum::serve` cannot be given.

use std::pin::pin;
use std::time::Duration;

use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::metrics::counter::Counter;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::api::OverConnectionLimit;
use crate::metrics::Held;
use crate::unread::Unread;

/// A connection that is yet to be served.
pub(crate) struct Accepted {
    pub(crate) stream: std::net::TcpStream,
    /// It is one too many, and is told so.
    pub(crate) over: bool,
    pub(crate) header_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) unread: Counter,
    pub(crate) drain: CancellationToken,
    pub(crate) hard: CancellationToken,
    /// Counts it for as long as it lasts.
    pub(crate) held: Held,
}

impl Accepted {
    /// Serves it on the runtime of the caller, to its end.
    pub(crate) async fn serve(self, router: axum::Router) {
        let (over, drain, hard, _held) = (self.over, self.drain, self.hard, self.held);
        // Small frames must not wait for each other.
        let _ = self.stream.set_nodelay(true);
        let stream = match TcpStream::from_std(self.stream) {
            Ok(stream) => Unread::new(stream, self.write_timeout, self.unread),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be served");
                return;
            }
        };
        let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
            if over {
                request.extensions_mut().insert(OverConnectionLimit);
            }
            router.clone().oneshot(request)
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(self.header_timeout).keep_alive(!over);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut draining = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection broke");
                    }
                    return;
                }
                () = hard.cancelled() => return,
                () = drain.cancelled(), if !draining => {
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}
