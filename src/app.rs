//! The assembled gateway, used by `main` and by the integration tests.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::OptionFuture;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::background::Background;
use crate::config::Settings;
use crate::http;
use crate::http::FastPath;
use crate::http::openapi;
use crate::http::state::{AppState, StateFields};
use crate::jobs::{Jobs, auth_reload};
use crate::live::Hub;
use crate::log_sampler::LogSampler;
use crate::metrics::Metrics;
use crate::net::ServerSettings;
use crate::net::accept;
use crate::net::client_limiter::ClientLimits;
use crate::net::tls::Shown;
use crate::net::{Routes, WorkerSetup};
use crate::redis::{RedisHealth, Store, StoreError};
use crate::service::Services;
use crate::trace::Tracer;

/// Time limit for background tasks to end after the last connection has closed.
const TASKS_END_WITHIN: Duration = Duration::from_secs(3);

/// Maximum concurrent connections on the probe and metrics listener.
const PROBE_CONNECTIONS: usize = 64;

/// A gateway that is not yet listening.
pub struct App {
    state: AppState,
    server: ServerSettings,
    background: Background,
    workers: usize,
    /// Ends background work, after the last request.
    stop: CancellationToken,
    /// Ends the lame-duck period of a shutdown early.
    hurry: CancellationToken,
}

impl App {
    /// Assembles a gateway and starts connecting to Redis in the background.
    ///
    /// # Errors
    /// [`StoreError::Unexpected`] if the settings cannot produce a connection pool.
    pub fn new(settings: &Settings) -> Result<Self, StoreError> {
        let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
        let background = Background::here();
        let document = openapi::document();
        let store = Store::new(&settings.pool)?;
        let metrics = Metrics {
            command_times: store.command_times(),
            ..Metrics::with_known_series(openapi::expected_requests(&document))
        };
        let hub = Hub::new(
            store.clone(),
            settings.live.clone(),
            metrics.clone(),
            background.clone(),
            drain.clone(),
        );
        let jobs = Jobs::start(
            store.clone(),
            settings.jobs.clone(),
            metrics.clone(),
            &hub,
            &background,
            drain.clone(),
        );
        let supervised = store.clone();
        let until = stop.clone();
        background.spawn(async move { supervised.supervise(until).await });
        let auth = settings.auth.clone();
        if auth.is_on() {
            let watched = || (auth.clone(), hub.clone(), stop.clone());
            for by_url in [false, true] {
                let (auth, hub, stop) = watched();
                background.spawn(auth_reload::watch_keys(auth, hub, by_url, stop));
            }
            let (auth, hub, stop) = watched();
            match settings.ticket_secret_file.clone() {
                Some(file) => {
                    background.spawn(auth_reload::watch_secret(auth.clone(), file, stop.clone()));
                }
                None => {
                    background.spawn(auth_reload::share(
                        auth.clone(),
                        store.clone(),
                        stop.clone(),
                    ));
                }
            }
            background.spawn(auth_reload::watch_file(auth, hub, metrics.clone(), stop));
        }
        let tracer = settings.traces.clone().map(|traces| {
            let (tracer, exporting) = Tracer::new(traces, metrics.clone(), stop.clone());
            background.spawn(exporting);
            tracer
        });
        let services = Services {
            store,
            hub,
            jobs,
            metrics,
            limits: settings.limits.clone(),
            drain,
        };
        let state = AppState::new(StateFields {
            services: Arc::new(services),
            auth,
            settings: settings.api.clone(),
            openapi: Arc::new(openapi::file(&document)),
            tracer,
            refusals: Arc::new(LogSampler::new(settings.log.refusals)),
        });
        let workers = settings.pool.workers;
        let hurry = CancellationToken::new();
        Ok(Self {
            state,
            server: settings.server.clone(),
            background,
            workers,
            stop,
            hurry,
        })
    }

    /// The token that starts a graceful shutdown when cancelled.
    #[must_use]
    pub fn drain(&self) -> CancellationToken {
        self.state.drain.clone()
    }

    /// Returns the metrics of the gateway.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.state.metrics.clone()
    }

    /// Returns the tracker of background tasks.
    #[must_use]
    pub fn background(&self) -> Background {
        self.background.clone()
    }

    /// The token that ends the lame-duck period of a shutdown when cancelled.
    #[must_use]
    pub fn hurry(&self) -> CancellationToken {
        self.hurry.clone()
    }

    /// Waits until Redis is reachable, for at most `patience`.
    pub async fn reach_redis(&self, patience: Duration) {
        let mut health = self.state.store.health();
        let reached = health.wait_for(|health| matches!(health, RedisHealth::Up));
        let _ = tokio::time::timeout(patience, reached).await;
    }

    /// Serves requests until [`App::drain`] is cancelled and all connections and tasks have ended.
    ///
    /// `probes` is an optional second listener for health checks and metrics. It answers until the
    /// end of the shutdown.
    pub async fn serve(self, listener: TcpListener, probes: Option<TcpListener>) {
        let asked = probes.map(|listener| {
            let settings = ServerSettings {
                max_connections: PROBE_CONNECTIONS,
                shutdown_grace: TASKS_END_WITHIN,
                lame_duck: Duration::ZERO,
                visitors: ClientLimits::default(),
                ..self.server.clone()
            };
            let router = http::probes_router(self.state.for_probes());
            let here = vec![WorkerSetup {
                routes: router.into(),
                beside: Box::pin(std::future::pending()),
            }];
            let (stop, hurry) = (self.stop.clone(), self.hurry.clone());
            // Separate metrics: connections of probes must not count as client connections.
            let metrics = Metrics::default();
            async move {
                let stop = accept::AcceptShutdown {
                    drain: &stop,
                    hurry: &hurry,
                };
                accept::serve(listener, here, &settings, None, &metrics, stop).await;
            }
        });
        let served = self.serve_as(listener, |state| Routes {
            // Without this line, all requests take the normal path.
            fast: FastPath::new(&state),
            ..http::router(state).into()
        });
        tokio::join!(served, OptionFuture::from(asked));
    }

    /// Serves a constant answer to every append, as a baseline for publish benchmarks.
    #[doc(hidden)]
    pub async fn serve_limit(self, listener: TcpListener) {
        self.serve_as(listener, |state| http::limit_router(state).into())
            .await;
    }

    async fn serve_as(self, listener: TcpListener, routes: fn(AppState) -> Routes) {
        let here = |worker| {
            let state = self.state.on_worker(worker);
            let beside = Box::pin(state.hub.clone().serve_wake_queue());
            WorkerSetup {
                routes: routes(state),
                beside,
            }
        };
        let here = (0..self.workers).map(here).collect();
        let (server, metrics, drain) = (&self.server, &self.state.metrics, &self.state.drain);
        let tls = match server.tls.as_ref().map(Shown::new).transpose() {
            Ok(tls) => tls,
            // The files were valid when the settings were read, and have changed since.
            Err(problems) => {
                for error in problems {
                    tracing::error!(%error, "cannot load the TLS certificate; stopping");
                }
                drain.cancel();
                None
            }
        };
        let tls = tls.map(|(shown, acceptor)| {
            let stop = self.stop.clone();
            self.background.spawn(async move {
                tokio::select! { () = shown.watch() => {}, () = stop.cancelled() => {} }
            });
            acceptor
        });
        let stop = accept::AcceptShutdown {
            drain,
            hurry: &self.hurry,
        };
        accept::serve(listener, here, server, tls, metrics, stop).await;
        self.stop.cancel();
        if tokio::time::timeout(TASKS_END_WITHIN, self.background.ended())
            .await
            .is_err()
        {
            tracing::warn!(
                left = self.background.running(),
                "background tasks did not end in time"
            );
        }
    }
}
