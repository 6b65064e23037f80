//! The decision which requests are traced.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::trace::active::ActiveSpan;
use crate::trace::context::TraceContext;
use crate::trace::exporter::{OtlpEndpoint, export};
use crate::trace::queue::SpanQueue;

/// The settings of traces.
#[derive(Clone, Debug)]
pub struct TraceSettings {
    /// The collector.
    pub endpoint: OtlpEndpoint,
    /// The percentage of requests without a `traceparent` that are traced.
    pub sampling: usize,
}

/// The source of spans. Cheap to clone.
#[derive(Clone)]
pub struct Tracer {
    /// Shared, because the metrics in a queue are many pointers.
    queue: Arc<SpanQueue>,
    /// The percentage of requests without a `traceparent` that are traced.
    sampling: usize,
}

impl std::fmt::Debug for Tracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracer").finish_non_exhaustive()
    }
}

impl Tracer {
    /// Creates a tracer, and the task that exports its spans until `stop`.
    pub fn new(
        settings: TraceSettings,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (queue, spans) = SpanQueue::new(metrics.clone());
        let exporting = export(settings.endpoint, spans, metrics, stop);
        let tracer = Self {
            queue: Arc::new(queue),
            sampling: settings.sampling,
        };
        (tracer, exporting)
    }

    /// Begins the span of a request, unless the request is not to be traced. The caller decides
    /// about its own traces.
    #[must_use]
    pub fn begin(&self, traceparent: Option<&str>) -> Option<ActiveSpan> {
        let parent = traceparent.and_then(TraceContext::parse);
        let is_traced = match parent {
            Some(parent) => parent.sampled,
            None => fastrand::usize(..100) < self.sampling,
        };
        let context = parent.map_or_else(TraceContext::root, TraceContext::child);
        let above = parent.map(|parent| parent.span);
        is_traced.then(|| ActiveSpan::new(self.queue.clone(), context, above))
    }
}
