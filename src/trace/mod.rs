//! Traces: spans of requests, appends and Redis commands, exported by OTLP over HTTP.
//!
//! A request that is traced has its span in a task-local, so that layers below need no parameter for
//! it. Nothing waits for the collector: spans go through a bounded queue and are dropped when it is
//! full.

mod active;
mod context;
mod exporter;
mod otlp;
mod queue;
mod tracer;

pub use crate::trace::active::{ActiveSpan, ChildSpan, child, current, is_active, link};
pub use crate::trace::context::TraceContext;
pub use crate::trace::exporter::{InvalidEndpoint, OtlpEndpoint};
pub use crate::trace::otlp::{Attribute, SpanKind};
pub use crate::trace::tracer::{TraceSettings, Tracer};
