//! What handlers share.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::auth::Auth;
use crate::http::BasePath;
use crate::jobs::auth_reload;
use crate::live::Hub;
use crate::log_sampler::Refusals;
use crate::metrics::Metrics;
use crate::redis::Store;

/// Bounds and rules of the HTTP side.
#[derive(Clone, Debug)]
pub struct ApiSettings {
    /// Host names that requests may be sent to, besides the loopback ones. Lower case.
    pub hosts: Vec<String>,
    /// Requests may be sent to any name: there is nothing to do here but to look at figures.
    pub any_host: bool,
    /// Origins of web pages that may call, besides our own.
    pub origins: Vec<String>,
    /// The path under which a proxy that strips it publishes the gateway.
    pub base_path: BasePath,
    /// Clients come over TLS.
    pub https: bool,
    /// Bytes of a body.
    pub max_body: usize,
    /// Bytes of large bodies that are gathered, of all requests.
    pub body_memory: usize,
    /// Bytes of large answers that clients have not taken yet.
    pub answer_memory: usize,
    /// Fields of an entry.
    pub max_fields: usize,
    /// How many times larger a compressed body may become, beyond 1 MiB.
    pub max_inflation: usize,
    /// Bytes of a field's name.
    pub max_field_name: usize,
    /// Until a body must have come.
    pub body_timeout: Duration,
    /// Subscriptions at once.
    pub max_subscriptions: usize,
    /// Reads at once that wait for an entry.
    pub max_waiting: usize,
    /// Consumers of a group, when one is added.
    pub max_consumers: usize,
    /// Appends of one stream that wait for their time.
    pub max_scheduled: usize,
    /// And their bytes.
    pub max_scheduled_bytes: usize,
    /// Between comments on a quiet subscription, ±20 %.
    pub heartbeat: Duration,
    /// How long a subscription lasts at most, ±20 %.
    pub max_session_age: Option<Duration>,
    /// How long idempotency keys are remembered.
    pub idempotency_window: Duration,
    /// Keep the `traceparent` of an append with its entries.
    pub trace_context: bool,
    /// Whether requests may be slow before they are logged as such.
    pub slow_request: Duration,
}

/// The state of the router. Cloned several times for each request, so it is one pointer.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

impl AppState {
    /// Shares `state` among requests.
    #[must_use]
    pub fn new(state: Shared) -> Self {
        Self(Arc::new(state))
    }

    /// The state of a thread that serves connections: it writes over a connection of its own.
    #[must_use]
    pub fn on_worker(&self, worker: usize) -> Self {
        Self::new(Shared {
            store: self.store.on_worker(worker),
            hub: self.hub.on_worker(worker),
            ..self.0.as_ref().clone()
        })
    }

    /// The state for those who look after the gateway, at an address of their own: nobody is asked who
    /// they are.
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
    /// Takes the secret of tickets that all gateways of this Redis share; whether Redis told it.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn share_secret(&self) -> bool {
        auth_reload::share_secret(&self.auth, &self.store).await
    }
}

/// What the state holds.
#[derive(Clone)]
pub struct Shared {
    /// The streams.
    pub store: Store,
    /// Who may do what.
    pub auth: Auth,
    /// Those who wait for them.
    pub hub: Hub,
    /// What is counted.
    pub metrics: Metrics,
    /// Bounds and rules.
    pub settings: ApiSettings,
    /// Cancelled when the gateway begins to stop.
    pub drain: CancellationToken,
    /// The OpenAPI document, as it is served.
    pub openapi: Bytes,
    /// How many refusals are logged one by one.
    pub refusals: Arc<Refusals>,
}
