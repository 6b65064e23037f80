//! The state shared by all request handlers.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::auth::Auth;
use crate::http::BasePath;
use crate::http::system::pages::Asset;
use crate::jobs::{Jobs, auth_reload};
use crate::live::Hub;
use crate::log_sampler::LogSampler;
use crate::metrics::Metrics;
use crate::redis::Store;

/// Limits and options of the HTTP API.
#[derive(Clone, Debug)]
pub struct ApiSettings {
    /// Accepted `Host` names besides loopback names, in lower case.
    pub hosts: Vec<String>,
    /// Whether any `Host` name is accepted. Used for the probe and metrics listener, which only
    /// serves read-only figures.
    pub any_host: bool,
    /// Origins of web pages that may call the API, besides the gateway's own origin.
    pub origins: Vec<String>,
    /// The path prefix under which a proxy publishes the gateway, if the proxy strips the prefix.
    pub base_path: BasePath,
    /// Whether clients connect over TLS.
    pub https: bool,
    /// Maximum size of a request body, in bytes.
    pub max_body: usize,
    /// Maximum memory for the large bodies of all requests, in bytes.
    pub body_memory: usize,
    /// Maximum memory for large answers that clients have not read yet, in bytes.
    pub answer_memory: usize,
    /// Maximum number of fields of an entry.
    pub max_fields: usize,
    /// Maximum decompression ratio of a request body, beyond 1 MiB.
    pub max_inflation: usize,
    /// Maximum length of a field name, in bytes.
    pub max_field_name: usize,
    /// Timeout for receiving a request body.
    pub body_timeout: Duration,
    /// Maximum number of concurrent subscriptions.
    pub max_subscriptions: usize,
    /// Maximum number of concurrent reads that wait for an entry.
    pub max_waiting: usize,
    /// Maximum number of consumers of a group, checked when a consumer is added.
    pub max_consumers: usize,
    /// Maximum number of scheduled appends of one stream.
    pub max_scheduled: usize,
    /// Maximum size of the scheduled appends of one stream, in bytes.
    pub max_scheduled_bytes: usize,
    /// Interval between heartbeat comments on an idle subscription, ±20 %.
    pub heartbeat: Duration,
    /// Maximum duration of a subscription, ±20 %.
    pub max_session_age: Option<Duration>,
    /// Lifetime of idempotency keys.
    pub idempotency_window: Duration,
    /// Whether to store the `traceparent` header of an append in its entries.
    pub trace_context: bool,
    /// Duration after which a request is logged as slow.
    pub slow_request: Duration,
}

/// The router state. One pointer, because axum clones the state several times per request.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

impl AppState {
    /// Wraps `state` so that requests can share it.
    #[must_use]
    pub fn new(state: Shared) -> Self {
        Self(Arc::new(state))
    }

    /// Returns the state of a worker thread, which has its own connection for writes to Redis.
    #[must_use]
    pub fn on_worker(&self, worker: usize) -> Self {
        Self::new(Shared {
            store: self.store.on_worker(worker),
            hub: self.hub.on_worker(worker),
            ..self.0.as_ref().clone()
        })
    }

    /// Returns the state of the probe and metrics listener, which requires no authentication.
    #[must_use]
    pub fn for_probes(&self) -> Self {
        let settings = ApiSettings {
            any_host: true,
            https: false,
            ..self.settings.clone()
        };
        Self::new(Shared {
            auth: Auth::off(),
            settings,
            ..self.0.as_ref().clone()
        })
    }
}

impl std::ops::Deref for AppState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Shared {
    /// Adopts the ticket secret that all gateways of this Redis share. Returns whether Redis
    /// returned a secret.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn share_secret(&self) -> bool {
        auth_reload::share_secret(&self.auth, &self.store).await
    }
}

/// The contents of the router state.
#[derive(Clone)]
pub struct Shared {
    /// The streams in Redis.
    pub store: Store,
    /// Authentication and authorization.
    pub auth: Auth,
    /// The fan-out of new entries to subscriptions and waiting reads.
    pub hub: Hub,
    /// The background jobs that requests call.
    pub jobs: Jobs,
    /// The metrics of the process.
    pub metrics: Metrics,
    /// Limits and options of the HTTP API.
    pub settings: ApiSettings,
    /// The shutdown token, cancelled when the shutdown starts.
    pub drain: CancellationToken,
    /// The OpenAPI document, ready to be served.
    pub openapi: Arc<Asset>,
    /// The sampler of refusal log lines.
    pub refusals: Arc<LogSampler>,
}
