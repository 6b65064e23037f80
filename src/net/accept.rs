//! The accept loop: accepts client connections, limits them, assigns them to workers and shuts them
//! down.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::http::RejectedRequest;
use crate::metrics::Metrics;
use crate::net::ServerSettings;
use crate::net::client_limiter::ClientLimiter;
use crate::net::connection::Accepted;
use crate::net::io::linger::Linger;
use crate::net::serving::{OpenGuard, Serving};
use crate::net::shutdown_flag::ShutdownFlag;
use crate::net::worker::{Worker, WorkerSetup};

/// Connections over the limit that get a problem response. Any further ones are closed at once.
const TOLD: usize = 256;

/// The shutdown signals of the accept loop.
pub struct AcceptShutdown<'a> {
    /// Starts the lame-duck period.
    pub drain: &'a CancellationToken,
    /// Ends the lame-duck period early.
    pub hurry: &'a CancellationToken,
}

impl AcceptShutdown<'_> {
    /// Waits for a shutdown and then for the end of its lame-duck period. During that period,
    /// answers carry `Connection: close`. Returns the time at which the shutdown started.
    async fn lame_duck(&self, lasts: Duration, flag: &ShutdownFlag) -> Instant {
        self.drain.cancelled().await;
        let began = Instant::now();
        flag.drain();
        if !lasts.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(lasts) => {}
                () = self.hurry.cancelled() => {}
            }
        }
        began
    }
}

/// Accepts connections until the end of the lame-duck period, then gives open connections the rest
/// of the grace period to finish. Starts one worker thread for each element of `here`.
pub async fn serve(
    listener: TcpListener,
    here: Vec<WorkerSetup>,
    settings: &ServerSettings,
    tls: Option<TlsAcceptor>,
    metrics: &Metrics,
    stop: AcceptShutdown<'_>,
) {
    let hard = CancellationToken::new();
    let serving = Arc::new(Serving {
        header_timeout: settings.header_timeout,
        idle_timeout: settings.idle_timeout,
        write_timeout: settings.write_timeout,
        handshake_timeout: settings.handshake_timeout,
        linger: Linger::from(settings),
        max_header_size: settings.max_header_size,
        max_streams: settings.max_streams,
        tls,
        unread: metrics.refused.get_or_create_owned(&[("bound", "unread")]),
        lingered: metrics.refused.get_or_create_owned(&[("bound", "linger")]),
        metrics: metrics.clone(),
        shutdown: ShutdownFlag::default(),
    });
    let visitors = ClientLimiter::new(settings.visitors.clone(), metrics.clone());
    let workers: Result<Vec<_>, _> = here
        .into_iter()
        .enumerate()
        .map(|(n, here)| Worker::start(n, here, &hard))
        .collect();
    let workers = match workers {
        Ok(workers) => workers,
        Err(error) => {
            tracing::error!(%error, "cannot start a worker thread");
            stop.drain.cancel();
            return;
        }
    };
    let mut lame_duck = pin!(stop.lame_duck(settings.lame_duck, &serving.shutdown));
    let began = loop {
        let accepted = tokio::select! {
            began = &mut lame_duck => break began,
            accepted = listener.accept() => accepted,
        };
        // On an error such as exhausted file descriptors, open connections continue and may close.
        let accepted = accepted.and_then(|(stream, peer)| Ok((stream.into_std()?, peer.ip())));
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                metrics.refuse("accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let held = Metrics::raise(&metrics.connections);
        let open = usize::try_from(metrics.connections.get()).unwrap_or(0);
        let over = (open > settings.max_connections).then_some(RejectedRequest::Overloaded);
        if over.is_some() {
            metrics.refuse("connections");
        }
        if open > settings.max_connections + TOLD {
            continue;
        }
        let Some((visitor, place)) = visitors.come(peer, over) else {
            continue;
        };
        let open = OpenGuard {
            _held: held,
            _place: place,
        };
        let accepted = Accepted {
            stream,
            visitor,
            open,
            serving: serving.clone(),
        };
        if let Some(least) = workers.iter().min_by_key(|worker| worker.load()) {
            least.send(accepted).await;
        }
    };
    serving.shutdown.close();
    drop(listener);
    let mut ended = pin!(join_all(workers.into_iter().map(Worker::finish)));
    let left = settings.shutdown_grace.saturating_sub(began.elapsed());
    if tokio::time::timeout(left, ended.as_mut()).await.is_err() {
        let open = metrics.connections.get();
        tracing::warn!(
            open,
            "connections are still open after the grace period; closing them"
        );
        hard.cancel();
        ended.await;
    }
}
