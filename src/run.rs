//! Running a gateway from start to exit: the private Redis, signals, what is printed.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use deadpool_redis::redis::{ConnectionAddr, IntoConnectionInfo as _};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::quick_start;
use crate::app::App;
use crate::config::{Mode, RedisSource, Settings};
use crate::net::files;
use crate::store::private::PrivateRedis;

/// How long the start waits for Redis before listening all the same.
const REDIS_PATIENCE: Duration = Duration::from_secs(1);

/// Runs until a signal says stop. The exit code is 0 after an orderly stop.
pub async fn run(mut settings: Settings, mode: Mode) -> ExitCode {
    let tracker = TaskTracker::new();
    let connections = settings.server.max_connections;
    // Whoever tries it out has not asked for so many.
    if let Some((may, needed)) = files::allow(connections).filter(|_| mode == Mode::Serve) {
        tracing::warn!(
            "this process may have {may} files open, and {connections} connections need {needed}: raise \
             its limit (ulimit -n, LimitNOFILE), or lower --max-connections"
        );
    }
    let Some(listener) = bind(settings.server.listen, "listen").await else {
        return ExitCode::FAILURE;
    };
    let probes = match settings.server.metrics_listen {
        Some(address) => match bind(address, "metrics-listen").await {
            Some(listener) => Some(listener),
            None => return ExitCode::FAILURE,
        },
        None => None,
    };
    let private = match &settings.redis {
        RedisSource::Url(_) => None,
        RedisSource::Private(dir) => match PrivateRedis::start(dir, &tracker).await {
            Ok(private) => Some(private),
            Err(error) => {
                tracing::error!("{error}");
                return ExitCode::FAILURE;
            }
        },
    };
    if let Some(private) = &private {
        let address = ConnectionAddr::Unix(private.socket().to_owned());
        match address.into_connection_info() {
            Ok(info) => settings.pool.connection = info,
            Err(error) => {
                tracing::error!("{error}");
                return ExitCode::FAILURE;
            }
        }
        tracing::info!(dir = %private.dir().display(), "a private Redis keeps the streams");
    }
    let code = serve(&settings, mode, listener, probes).await;
    if let Some(private) = private {
        private.stop().await;
    }
    tracker.close();
    tracker.wait().await;
    tracing::info!("stopped");
    code
}

async fn bind(address: SocketAddr, setting: &str) -> Option<TcpListener> {
    let bound = TcpListener::bind(address).await;
    let told = |error: &std::io::Error| {
        tracing::error!(
            "cannot listen on {address}: {error}; choose another address with --{setting}"
        );
    };
    bound.inspect_err(told).ok()
}

async fn serve(
    settings: &Settings,
    mode: Mode,
    listener: TcpListener,
    probes: Option<TcpListener>,
) -> ExitCode {
    let app = match App::new(settings) {
        Ok(app) => app,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!("signals cannot be received: {error}");
            return ExitCode::FAILURE;
        }
    };
    app.reach_redis(REDIS_PATIENCE).await;
    match listener.local_addr() {
        Ok(address) => announce(address, settings, mode),
        Err(error) => tracing::warn!("the address is unknown: {error}"),
    }
    if let Some(Ok(address)) = probes.as_ref().map(TcpListener::local_addr) {
        tracing::info!("metrics are at http://{address}/metrics");
    }
    let drain = app.drain();
    tokio::join!(app.serve(listener, probes), signals.cancel(drain));
    ExitCode::SUCCESS
}

/// Serves what publishing is held against, until the process is ended.
#[doc(hidden)]
pub async fn serve_limit(settings: &Settings) -> ExitCode {
    let (Ok(app), Ok(listener)) =
        (App::new(settings), TcpListener::bind(settings.server.listen).await)
    else {
        return ExitCode::FAILURE;
    };
    app.serve_limit(listener).await;
    ExitCode::SUCCESS
}

fn announce(address: SocketAddr, settings: &Settings, mode: Mode) {
    let scheme = if settings.server.tls.is_some() { "https" } else { "http" };
    let base = format!("{scheme}://{address}");
    tracing::info!("listening on {base}");
    if mode == Mode::Dev {
        println!("{}", quick_start(&base, settings.auth.is_on()));
    }
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Cancels `drain` on the first signal; returns once it is cancelled, by whomever.
    async fn cancel(mut self, drain: CancellationToken) {
        let name = tokio::select! {
            () = drain.cancelled() => return,
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "stopping");
        drain.cancel();
    }
}
