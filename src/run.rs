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
use crate::store::private::PrivateRedis;

/// How long the start waits for Redis before listening all the same.
const REDIS_PATIENCE: Duration = Duration::from_secs(1);

/// Runs until a signal says stop. The exit code is 0 after an orderly stop.
pub async fn run(mut settings: Settings, mode: Mode) -> ExitCode {
    let tracker = TaskTracker::new();
    let listener = match TcpListener::bind(settings.server.listen).await {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(
                "cannot listen on {}: {error}; choose another address with --listen",
                settings.server.listen
            );
            return ExitCode::FAILURE;
        }
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
    let code = serve(&settings, mode, listener).await;
    if let Some(private) = private {
        private.stop().await;
    }
    tracker.close();
    tracker.wait().await;
    tracing::info!("stopped");
    code
}

async fn serve(settings: &Settings, mode: Mode, listener: TcpListener) -> ExitCode {
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
    let drain = app.drain();
    tokio::join!(app.serve(listener), signals.cancel(drain));
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
