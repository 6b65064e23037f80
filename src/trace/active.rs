//! The span of the current request, and spans below it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::trace::context::TraceContext;
use crate::trace::otlp::{Attribute, Span, SpanKind, now_ns};
use crate::trace::queue::SpanQueue;

/// The maximum number of links of a span.
const MAX_LINKS: usize = 32;

tokio::task_local! {
    static CURRENT: ActiveSpan;
}

/// The span of a request in progress. Cheap to clone.
#[derive(Clone)]
pub struct ActiveSpan(Arc<SpanFields>);

struct SpanFields {
    queue: Arc<SpanQueue>,
    context: TraceContext,
    parent: Option<u64>,
    began_ns: u64,
    /// The id of the span that new spans are below of.
    innermost: AtomicU64,
    links: Mutex<Vec<TraceContext>>,
}

impl ActiveSpan {
    pub(super) fn new(queue: Arc<SpanQueue>, context: TraceContext, parent: Option<u64>) -> Self {
        Self(Arc::new(SpanFields {
            queue,
            context,
            parent,
            began_ns: now_ns(),
            innermost: AtomicU64::new(context.span),
            links: Mutex::default(),
        }))
    }

    /// Runs a future in which this is the current span.
    pub async fn scope<F: Future>(&self, future: F) -> F::Output {
        CURRENT.scope(self.clone(), future).await
    }

    /// Ends the span and queues it for the export.
    pub fn end(&self, method: &'static str, route: &str, status: u16) {
        let fields = &*self.0;
        fields.queue.send(Span {
            context: fields.context,
            parent: fields.parent,
            name: format!("{method} {route}"),
            kind: SpanKind::Server,
            began_ns: fields.began_ns,
            ended_ns: now_ns(),
            attributes: vec![
                ("http.request.method", Attribute::Text(method.to_owned())),
                ("http.route", Attribute::Text(route.to_owned())),
                (
                    "http.response.status_code",
                    Attribute::Number(status.into()),
                ),
            ],
            links: std::mem::take(&mut *fields.links.lock()),
            failed: status >= 500,
        });
    }
}

/// A span below the current one. Ends when dropped.
pub struct ChildSpan {
    below: ActiveSpan,
    context: TraceContext,
    parent: u64,
    name: String,
    kind: SpanKind,
    began_ns: u64,
    attributes: Vec<(&'static str, Attribute)>,
}

/// Begins a span below the current one, if there is one. The spans of an append enclose those that
/// begin before it ends.
pub fn child(
    kind: SpanKind,
    describe: impl FnOnce() -> (String, Vec<(&'static str, Attribute)>),
) -> Option<ChildSpan> {
    CURRENT
        .try_with(|current| {
            let (name, attributes) = describe();
            let (fields, context) = (&current.0, current.0.context.child());
            let parent = match kind {
                SpanKind::Producer => fields.innermost.swap(context.span, Ordering::Relaxed),
                _ => fields.innermost.load(Ordering::Relaxed),
            };
            ChildSpan {
                below: current.clone(),
                context,
                parent,
                name,
                kind,
                began_ns: now_ns(),
                attributes,
            }
        })
        .ok()
}

impl Drop for ChildSpan {
    fn drop(&mut self) {
        let fields = &self.below.0;
        if self.kind == SpanKind::Producer {
            fields.innermost.store(self.parent, Ordering::Relaxed);
        }
        fields.queue.send(Span {
            context: self.context,
            parent: Some(self.parent),
            name: std::mem::take(&mut self.name),
            kind: self.kind,
            began_ns: self.began_ns,
            ended_ns: now_ns(),
            attributes: std::mem::take(&mut self.attributes),
            links: Vec::new(),
            failed: false,
        });
    }
}

/// Returns whether the current request is traced.
#[must_use]
pub fn is_active() -> bool {
    CURRENT.try_with(|_| ()).is_ok()
}

/// Returns the context of the current request, if it is traced.
#[must_use]
pub fn current() -> Option<TraceContext> {
    CURRENT.try_with(|current| current.0.context).ok()
}

/// Links the current span to that of a `traceparent`, which is usually the append of an entry.
pub fn link(traceparent: &[u8]) {
    let linked = CURRENT.try_with(|current| {
        let text = std::str::from_utf8(traceparent).ok()?;
        let context = TraceContext::parse(text)?;
        let mut links = current.0.links.lock();
        if links.len() < MAX_LINKS {
            links.push(context);
        }
        Some(())
    });
    // Outside of a traced request, or no traceparent: there is nothing to link.
    let _ = linked;
}
