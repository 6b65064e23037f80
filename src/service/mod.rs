//! The use cases of the gateway: publish, follow, read as a consumer, settle. They take and return
//! plain values, so that any surface can call them. The HTTP layer only translates.

pub mod consume;
pub mod follow;
pub mod publish;
pub mod settle;

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::jobs::Jobs;
use crate::live::Hub;
use crate::metrics::Metrics;
use crate::redis::Store;

/// Everything that the use cases work with.
#[derive(Clone)]
pub struct Services {
    /// The streams in Redis.
    pub store: Store,
    /// The fan-out of new entries to subscriptions and waiting reads.
    pub hub: Hub,
    /// The background jobs that requests call.
    pub jobs: Jobs,
    /// The metrics of the process.
    pub metrics: Metrics,
    /// The limits of the use cases.
    pub limits: ServiceLimits,
    /// The shutdown token, cancelled when the shutdown starts.
    pub drain: CancellationToken,
}

impl Services {
    /// Returns the services of a worker thread, which has its own connection for writes to Redis.
    #[must_use]
    pub fn on_worker(&self, worker: usize) -> Self {
        Self {
            store: self.store.on_worker(worker),
            hub: self.hub.on_worker(worker),
            ..self.clone()
        }
    }
}

/// The limits of the use cases.
#[derive(Clone, Debug)]
pub struct ServiceLimits {
    /// Maximum number of fields of an entry.
    pub max_fields: usize,
    /// Maximum length of a field name, in bytes.
    pub max_field_name: usize,
    /// Maximum number of scheduled appends of one stream.
    pub max_scheduled: usize,
    /// Maximum size of the scheduled appends of one stream, in bytes.
    pub max_scheduled_bytes: usize,
    /// Maximum number of concurrent subscriptions.
    pub max_subscriptions: usize,
    /// Maximum number of concurrent reads that wait for an entry.
    pub max_waiting: usize,
    /// Maximum number of consumers of a group, checked when a consumer is added.
    pub max_consumers: usize,
    /// Interval between heartbeat comments on an idle subscription, ±20 %.
    pub heartbeat: Duration,
    /// Maximum duration of a subscription, ±20 %.
    pub max_session_age: Option<Duration>,
}
