//! Connections from clients: accepting, bounding, handing them to the workers, and ending them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::api::TurnedAway;
use crate::config::ServerSettings;
use crate::metrics::Metrics;
use crate::net::connection::{Accepted, Open, Serving};
use crate::net::ending::Ending;
use crate::net::visitors::Visitors;
use crate::net::workers::{Here, Worker};

/// Connections beyond the bound that are answered with a problem rather than cut.
const TOLD: usize = 256;

/// Serves on threads, one for each of `here`, until `drain`; then lets open connections finish
/// for the grace.
pub async fn serve(
    listener: TcpListener,
    here: Vec<Here>,
    settings: &ServerSettings,
    tls: Option<TlsAcceptor>,
    metrics: &Metrics,
    drain: &CancellationToken,
) {
    let hard = CancellationToken::new();
    let serving = Arc::new(Serving {
        header_timeout: settings.header_timeout,
        write_timeout: settings.write_timeout,
        handshake_timeout: settings.handshake_timeout,
        max_header_size: settings.max_header_size,
        max_streams: settings.max_streams,
        tls,
        unread: metrics.refused.get_or_create_owned(&[("bound", "unread")]),
        metrics: metrics.clone(),
        drain: drain.clone(),
        ending: Ending::default(),
    });
    let visitors = Visitors::new(settings.visitors.clone(), metrics.clone());
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
        let accepted = accepted.and_then(|(stream, peer)| Ok((stream.into_std()?, peer.ip())));
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                metrics.refuse("accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let held = Metrics::hold(&metrics.connections);
        let open = usize::try_from(metrics.connections.get()).unwrap_or(0);
        let over = (open > settings.max_connections).then_some(TurnedAway::Overloaded);
        if over.is_some() {
            metrics.refuse("connections");
        }
        if open > settings.max_connections + TOLD {
            continue;
        }
        let Some((visitor, place)) = visitors.come(peer, over) else { continue };
        let open = Open { _held: held, _place: place };
        let accepted = Accepted { stream, visitor, open, serving: serving.clone() };
        if let Some(least) = workers.iter().min_by_key(|worker| worker.load()) {
            least.give(accepted).await;
        }
    }
    serving.ending.begin();
    drop(listener);
    let mut ended = std::pin::pin!(join_all(workers.into_iter().map(Worker::finish)));
    if tokio::time::timeout(settings.shutdown_grace, ended.as_mut()).await.is_err() {
        let open = metrics.connections.get();
        tracing::warn!(open, "connections are still open after the grace; cutting them");
        hard.cancel();
        ended.await;
    }
}
