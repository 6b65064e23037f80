//! The bounded queue of spans between requests and the export.

use tokio::sync::mpsc;

use crate::metrics::Metrics;
use crate::trace::otlp::Span;

/// The maximum number of spans that wait for the export.
const SPANS: usize = 4096;

/// The sending end of the queue. Cheap to clone.
#[derive(Clone)]
pub(super) struct SpanQueue {
    spans: mpsc::Sender<Span>,
    metrics: Metrics,
}

impl SpanQueue {
    /// Creates a queue, and returns its receiving end.
    pub(super) fn new(metrics: Metrics) -> (Self, mpsc::Receiver<Span>) {
        let (spans, receiver) = mpsc::channel(SPANS);
        (Self { spans, metrics }, receiver)
    }

    /// Queues a span, or drops it if the queue is full.
    pub(super) fn send(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            self.metrics.count_spans("dropped", 1);
        }
    }
}
