//! The life of the gateway process: private Redis, listeners, signals and console output.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use deadpool_redis::redis::{ConnectionAddr, IntoConnectionInfo as _};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::config::{RedisSource, Settings, SettingsMode};
use crate::http::quick_start;
use crate::net::rlimit;
use crate::redis::conn::private::PrivateRedis;

/// Time that startup waits for Redis. After that the gateway listens without it.
const REDIS_PATIENCE: Duration = Duration::from_secs(1);

/// Runs the gateway until SIGTERM or SIGINT. The exit code is 0 after a graceful shutdown; a second
/// signal exits immediately.
pub async fn run(mut settings: Settings, mode: SettingsMode) -> ExitCode {
    let tracker = TaskTracker::new();
    let connections = settings.server.max_connections;
    // In dev mode, `max_connections` is rarely a choice of the user: no warning.
    if let Some((may, needed)) = rlimit::allow(connections).filter(|_| mode == SettingsMode::Serve)
    {
        tracing::warn!(
            "the open file limit is {may}, but {connections} connections need {needed}: raise the limit \
             (ulimit -n, LimitNOFILE) or lower --max-connections"
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
        tracing::info!(dir = %private.dir().display(), "started a private Redis");
    }
    let signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!("cannot install signal handlers: {error}");
            return ExitCode::FAILURE;
        }
    };
    let stop = ShutdownTokens::default();
    let served = async {
        let code = serve(&settings, mode, listener, probes, &stop).await;
        if let Some(private) = private {
            private.stop().await;
        }
        code
    };
    let code = tokio::select! {
        code = served => code,
        never = signals.watch(&stop) => match never {},
    };
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
    mode: SettingsMode,
    listener: TcpListener,
    probes: Option<TcpListener>,
    stop: &ShutdownTokens,
) -> ExitCode {
    let app = match App::new(settings) {
        Ok(app) => app,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::FAILURE;
        }
    };
    app.reach_redis(REDIS_PATIENCE).await;
    match listener.local_addr() {
        Ok(address) => announce(address, settings, mode),
        Err(error) => tracing::warn!("cannot determine the listen address: {error}"),
    }
    if let Some(Ok(address)) = probes.as_ref().map(TcpListener::local_addr) {
        tracing::info!("metrics available at http://{address}/metrics");
    }
    let (drain, hurry) = (app.drain(), app.hurry());
    let stopping = async {
        stop.drain.cancelled().await;
        drain.cancel();
        stop.hurry.cancelled().await;
        hurry.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! { () = app.serve(listener, probes) => {}, () = stopping => {} }
    ExitCode::SUCCESS
}

/// Serves the baseline for publish benchmarks until the process is killed.
#[doc(hidden)]
pub async fn serve_limit(settings: &Settings) -> ExitCode {
    let (Ok(app), Ok(listener)) = (
        App::new(settings),
        TcpListener::bind(settings.server.listen).await,
    ) else {
        return ExitCode::FAILURE;
    };
    app.serve_limit(listener).await;
    ExitCode::SUCCESS
}

fn announce(address: SocketAddr, settings: &Settings, mode: SettingsMode) {
    let scheme = if settings.server.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let base = format!("{scheme}://{address}");
    tracing::info!("listening on {base}");
    if mode == SettingsMode::Dev {
        println!(
            "{}",
            quick_start(&base, settings.auth.is_on(), settings.api.console)
        );
    }
}

/// The shutdown tokens that signals cancel.
#[derive(Default)]
struct ShutdownTokens {
    /// Starts the shutdown. Cancelled by the first signal.
    drain: CancellationToken,
    /// Ends the lame-duck period. Cancelled if no load balancer has to notice the shutdown.
    hurry: CancellationToken,
}

/// The handlers of SIGTERM and SIGINT. Signals are received from construction on.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> (&'static str, SignalKind) {
        tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", SignalKind::terminate()),
            _ = self.interrupt.recv() => ("SIGINT", SignalKind::interrupt()),
        }
    }

    /// Starts a shutdown on the first signal and exits on the second. SIGINT comes from a terminal,
    /// so there is no load balancer to wait for.
    async fn watch(mut self, stop: &ShutdownTokens) -> Infallible {
        let (name, kind) = self.next().await;
        tracing::info!(
            signal = name,
            "shutting down; a second signal exits immediately"
        );
        stop.drain.cancel();
        if kind == SignalKind::interrupt() {
            stop.hurry.cancel();
        }
        let (name, kind) = self.next().await;
        tracing::warn!(signal = name, "second signal; exiting immediately");
        std::process::exit(128 + kind.as_raw_value())
    }
}
