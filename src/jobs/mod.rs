//! Background jobs: tasks that run beside the requests. Those that must run on one gateway at a time
//! hold a leader lock in Redis.

pub mod auth_reload;
mod group_metrics;
mod retention;
mod scheduler;
mod sweeper;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::background::Background;
use crate::live::Hub;
use crate::metrics::Metrics;
use crate::model::group_pattern::GroupPattern;
use crate::redis::Store;

pub use crate::jobs::retention::RetentionJob;
pub use crate::jobs::scheduler::Scheduler;

/// Intervals and bounds of the jobs.
#[derive(Clone, Debug)]
pub struct JobSettings {
    /// Interval between sweeper rounds over groups with a policy.
    pub sweep_every: Duration,
    /// Interval between checks for consumers that are gone.
    pub expire_every: Duration,
    /// Maximum number of entries of a group that one sweeper pass inspects.
    pub sweep_limit: usize,
    /// Interval between retention rounds over all streams that have one.
    pub retention_every: Duration,
    /// Patterns of the groups whose figures are metrics.
    pub metrics_groups: Vec<GroupPattern>,
    /// Maximum number of groups whose figures are metrics.
    pub max_metrics_groups: usize,
    /// Interval between measurements of these groups.
    pub measure_every: Duration,
}

/// State that every job uses.
struct JobContext {
    store: Store,
    settings: JobSettings,
    metrics: Metrics,
    /// Cancelled at shutdown.
    stop: CancellationToken,
}

/// Handles of the running jobs that requests call. Cheap to clone.
#[derive(Clone)]
pub struct Jobs {
    /// Trims streams after an append.
    pub retention: RetentionJob,
    /// Appends scheduled entries when they are due.
    pub scheduler: Scheduler,
}

impl Jobs {
    /// Starts the sweeper, retention and the scheduler as tasks of `background`, until `stop`.
    #[must_use]
    pub fn start(
        store: Store,
        settings: JobSettings,
        metrics: Metrics,
        hub: &Hub,
        background: &Background,
        stop: CancellationToken,
    ) -> Self {
        let context = Arc::new(JobContext {
            store,
            settings,
            metrics,
            stop,
        });
        let retention = RetentionJob::new(context.clone());
        let scheduler = Scheduler::new(context.clone(), hub.clone(), retention.clone());
        background.spawn(group_metrics::run(context.clone()));
        background.spawn(sweeper::run(context));
        background.spawn(retention::follow_index(retention.clone()));
        background.spawn(retention::sweep(retention.clone()));
        background.spawn(scheduler::run(scheduler.clone()));
        Self {
            retention,
            scheduler,
        }
    }
}
