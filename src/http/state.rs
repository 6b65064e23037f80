//! The state shared by all request handlers.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::Auth;
use crate::http::BasePath;
use crate::http::respond::asset::Asset;
use crate::jobs::auth_reload;
use crate::log_sampler::LogSampler;
use crate::service::Services;
use crate::trace::Tracer;

/// Limits and options of the HTTP API.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own, as the operator sets it"
)]
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
    /// Maximum decompression ratio of a request body, beyond 1 MiB.
    pub max_inflation: usize,
    /// Timeout for receiving a request body.
    pub body_timeout: Duration,
    /// Lifetime of idempotency keys.
    pub idempotency_window: Duration,
    /// Whether to store the `traceparent` header of an append in its entries.
    pub trace_context: bool,
    /// Whether to serve the console.
    pub console: bool,
    /// Whether the most common requests may take the fast path. Off in tests that compare both.
    pub fast_path: bool,
    /// Duration after which a request is logged as slow.
    pub slow_request: Duration,
}

/// The router state. One pointer, because axum clones the state several times per request.
#[derive(Clone)]
pub struct AppState(Arc<StateFields>);

impl AppState {
    /// Wraps `state` so that requests can share it.
    #[must_use]
    pub fn new(state: StateFields) -> Self {
        Self(Arc::new(state))
    }

    /// Returns the state of a worker thread, which has its own connection for writes to Redis.
    #[must_use]
    pub fn on_worker(&self, worker: usize) -> Self {
        Self::new(StateFields {
            services: Arc::new(self.services.on_worker(worker)),
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
        Self::new(StateFields {
            auth: Auth::off(),
            settings,
            ..self.0.as_ref().clone()
        })
    }
}

impl std::ops::Deref for AppState {
    type Target = StateFields;

    fn deref(&self) -> &StateFields {
        &self.0
    }
}

impl std::ops::Deref for StateFields {
    type Target = Services;

    fn deref(&self) -> &Services {
        &self.services
    }
}

impl StateFields {
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
pub struct StateFields {
    /// The use cases.
    pub services: Arc<Services>,
    /// Authentication and authorization.
    pub auth: Auth,
    /// Limits and options of the HTTP API.
    pub settings: ApiSettings,
    /// The OpenAPI document, ready to be served.
    pub openapi: Arc<Asset>,
    /// The source of spans; `None` if requests are not traced.
    pub tracer: Option<Tracer>,
    /// The sampler of refusal log lines.
    pub refusals: Arc<LogSampler>,
}
