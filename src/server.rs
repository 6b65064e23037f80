//! Connections from clients: accepting, bounding, serving, and ending them.
//! They are served by `workers`.
//!
//! Built on hyper's connection builder because `axum::serve` cannot be given a time-out for the
//! head of a request.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::join_all;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::metrics::counter::Counter;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::api::OverConnectionLimit;
use crate::config::ServerSettings;
use crate::metrics::{Held, Metrics};
use crate::unread::Unread;
use crate::workers::Worker;

/// Connections beyond the bound that are answered with a problem rather than cut.
const TOLD: usize = 256;

/// Serves the routers, each on a thread of its own, until `drain`; then lets open connections finish
/// for the grace.
pub async fn serve(
    listener: TcpListener,
    routers: Vec<axum::Router>,
    settings: &ServerSettings,
    metrics: &Metrics,
    drain: &CancellationToken,
) {
    let hard = CancellationToken::new();
    let unread = metrics.refused.get_or_create_owned(&[("bound", "unread")]);
    let workers: Result<Vec<_>, _> =
        routers.into_iter().enumerate().map(|(n, router)| Worker::start(n, router)).collect();
    let workers = match workers {
        Ok(workers) => workers,
        Err(error) => {
            tracing::error!(%error, "a thread cannot be started");
            drain.cancel();
            return;
        }
    };
    loop {
        let accepted = tokio::select! {
            () = drain.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        // Out of file descriptors, say: what is open goes on, and may close.
        let stream = match accepted.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                metrics.refuse("accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let held = Metrics::hold(&metrics.connections);
        let open = usize::try_from(metrics.connections.get()).unwrap_or(0);
        let over = open > settings.max_connections;
        if over {
            metrics.refuse("connections");
        }
        if open > settings.max_connections + TOLD {
            continue;
        }
        let accepted = Accepted {
            stream,
            over,
            header_timeout: settings.header_timeout,
            write_timeout: settings.write_timeout,
            unread: unread.clone(),
            drain: drain.clone(),
            hard: hard.clone(),
            _held: held,
        };
        if let Some(least) = workers.iter().min_by_key(|worker| worker.load()) {
            least.give(accepted).await;
        }
    }
    drop(listener);
    let mut ended = std::pin::pin!(join_all(workers.into_iter().map(Worker::finish)));
    if tokio::time::timeout(settings.shutdown_grace, ended.as_mut()).await.is_err() {
        let open = metrics.connections.get();
        tracing::warn!(open, "connections are still open after the grace; cutting them");
        hard.cancel();
        ended.await;
    }
}

/// A connection that is yet to be served.
pub(crate) struct Accepted {
    stream: std::net::TcpStream,
    /// It is one too many, and is told so.
    over: bool,
    header_timeout: Duration,
    write_timeout: Duration,
    unread: Counter,
    drain: CancellationToken,
    hard: CancellationToken,
    _held: Held,
}

impl Accepted {
    /// Serves it on the runtime of the caller, to its end.
    pub(crate) async fn serve(self, router: axum::Router) {
        let (over, drain, hard) = (self.over, self.drain, self.hard);
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
