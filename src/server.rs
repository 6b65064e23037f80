//! Connections from clients: accepting, bounding, serving, and ending them.
//!
//! Built on hyper's connection builder because `axum::serve` cannot be given a time-out for the
//! head of a request.

use std::pin::pin;
use std::time::Duration;

use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::api::OverConnectionLimit;
use crate::config::ServerSettings;
use crate::metrics::{Held, Metrics};
use crate::unread::Unread;

/// Connections beyond the bound that are answered with a problem rather than cut.
const TOLD: usize = 256;

/// Serves `router` until `drain`, then lets open connections finish for the grace.
pub async fn serve(
    listener: TcpListener,
    router: axum::Router,
    settings: &ServerSettings,
    metrics: &Metrics,
    drain: &CancellationToken,
) {
    let connections = TaskTracker::new();
    let hard = CancellationToken::new();
    let unread = metrics.refused.get_or_create_owned(&[("bound", "unread")]);
    loop {
        let accepted = tokio::select! {
            () = drain.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, say: what is open goes on, and may close.
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
        let one = Connection {
            router: router.clone(),
            over,
            header_timeout: settings.header_timeout,
            _held: held,
        };
        // Small frames must not wait for each other.
        let _ = stream.set_nodelay(true);
        let stream = Unread::new(stream, settings.write_timeout, unread.clone());
        connections.spawn(one.serve(stream, drain.clone(), hard.clone()));
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(settings.shutdown_grace, connections.wait()).await.is_err() {
        tracing::warn!(
            open = connections.len(),
            "connections are still open after the grace; cutting them"
        );
        hard.cancel();
        connections.wait().await;
    }
}

struct Connection {
    router: axum::Router,
    over: bool,
    header_timeout: Duration,
    _held: Held,
}

impl Connection {
    async fn serve(
        self,
        stream: Unread<TcpStream>,
        drain: CancellationToken,
        hard: CancellationToken,
    ) {
        let (router, over) = (self.router, self.over);
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
