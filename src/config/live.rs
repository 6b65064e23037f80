//! Settings of background activity: subscriptions, sweeping, retention and traces.

use std::time::Duration;

use crate::config::table::Values;
use crate::jobs::JobSettings;
use crate::live::LiveSettings;
use crate::trace::TraceSettings;

/// Returns the settings for `workers` worker threads. A blocking read waits for `block`.
pub(super) fn live(values: &Values, workers: usize, block: Duration) -> LiveSettings {
    LiveSettings {
        readers: values.redis_blocking_connections,
        max_streams: values.max_followed_streams,
        wake_queues: workers,
        stream_memory: 4 << 20,
        memory: values.live_memory.0,
        page_bytes: 64 << 10,
        block,
        look_every: block,
        join_timeout: Duration::from_millis(1500),
    }
}

pub(super) fn jobs(values: &Values) -> JobSettings {
    JobSettings {
        sweep_every: values.sweep_every,
        expire_every: Duration::from_secs(60),
        sweep_limit: 1000,
        retention_every: values.retention_every,
        metrics_groups: values.metrics_groups.clone(),
        max_metrics_groups: values.max_metrics_groups,
        measure_every: Duration::from_secs(15),
    }
}

pub(super) fn traces(values: &Values) -> Option<TraceSettings> {
    let endpoint = values.otlp_endpoint.clone()?;
    Some(TraceSettings {
        endpoint,
        sampling: values.trace_sampling,
    })
}
