//! Spans as OTLP in JSON.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::trace::context::TraceContext;

/// The kind of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// A request that the gateway answers.
    Server,
    /// A command that Redis answers.
    Client,
    /// An append.
    Producer,
}

impl SpanKind {
    const fn number(self) -> u8 {
        match self {
            Self::Server => 2,
            Self::Client => 3,
            Self::Producer => 4,
        }
    }
}

/// A value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
}

/// A span that has ended.
pub(super) struct Span {
    pub(super) context: TraceContext,
    pub(super) parent: Option<u64>,
    pub(super) name: String,
    pub(super) kind: SpanKind,
    pub(super) began_ns: u64,
    pub(super) ended_ns: u64,
    pub(super) attributes: Vec<(&'static str, Attribute)>,
    pub(super) links: Vec<TraceContext>,
    pub(super) failed: bool,
}

/// Returns the Unix time in nanoseconds.
pub(super) fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

fn hex_trace(context: &TraceContext) -> String {
    format!("{:032x}", context.trace)
}

fn hex_span(span: u64) -> String {
    format!("{span:016x}")
}

fn attribute((key, value): &(&str, Attribute)) -> Value {
    let value = match value {
        Attribute::Text(text) => json!({"stringValue": text}),
        // Numbers of 64 bits are strings in the JSON of Protocol Buffers.
        Attribute::Number(number) => json!({"intValue": number.to_string()}),
    };
    json!({"key": key, "value": value})
}

fn link(context: &TraceContext) -> Value {
    json!({"traceId": hex_trace(context), "spanId": hex_span(context.span)})
}

impl Span {
    fn json(&self) -> Value {
        let mut span = json!({
            "traceId": hex_trace(&self.context),
            "spanId": hex_span(self.context.span),
            "name": self.name,
            "kind": self.kind.number(),
            "startTimeUnixNano": self.began_ns.to_string(),
            "endTimeUnixNano": self.ended_ns.to_string(),
            "attributes": self.attributes.iter().map(attribute).collect::<Vec<_>>(),
            "links": self.links.iter().map(link).collect::<Vec<_>>(),
        });
        if let Some(parent) = self.parent {
            span["parentSpanId"] = hex_span(parent).into();
        }
        if self.failed {
            span["status"] = json!({"code": 2});
        }
        span
    }
}

/// Returns the request body of an export of these spans.
pub(super) fn body(spans: &[Span], instance: &str) -> Vec<u8> {
    let text = |text: &str| Attribute::Text(text.to_owned());
    let version = env!("CARGO_PKG_VERSION");
    let resource = [
        ("service.name", text("streamgate")),
        ("service.version", text(version)),
        ("service.instance.id", text(instance)),
    ];
    let body = json!({"resourceSpans": [{
        "resource": {"attributes": resource.iter().map(attribute).collect::<Vec<_>>()},
        "scopeSpans": [{
            "scope": {"name": "streamgate", "version": version},
            "spans": spans.iter().map(Span::json).collect::<Vec<_>>(),
        }],
    }]});
    body.to_string().into_bytes()
}
