//! Connections from clients: accepting, bounding, handing them to the workers, and ending them.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::ServerSettings;
use crate::connection::Accepted;
use crate::metrics::Metrics;
use crate::workers::{Here, Worker};

/// Connections beyond the bound that are answered with a problem rather than cut.
const TOLD: usize = 256;

/// Serves on threads, one for each of `here`, until `drain`; then lets open connections finish
/// for the grace.
pub async fn serve(
    listener: TcpListener,
    here: Vec<Here>,
    settings: &ServerSettings,
    metrics: &Metrics,
    drain: &CancellationToken,
) {
    let hard = CancellationToken::new();
    let unread = metrics.refused.get_or_create_owned(&[("bound", "unread")]);
    let workers: Result<Vec<_>, _> =
        here.into_iter().enumerate().map(|(n, here)| Worker::start(n, here, &hard)).collect();
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
            held,
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
