//! Spans of commands, in traced requests.

use deadpool_redis::redis::{Arg, Cmd};

use crate::trace::{self, Attribute, ChildSpan, SpanKind};

/// Begins the span of a command. It has the name of the command and no arguments, which can be
/// secret.
pub(in crate::redis) fn command_span(command: &Cmd) -> Option<ChildSpan> {
    trace::child(SpanKind::Client, || {
        let name = match command.args_iter().next() {
            Some(Arg::Simple(name)) => String::from_utf8_lossy(name).into_owned(),
            _ => "command".to_owned(),
        };
        let attributes = vec![
            ("db.system.name", Attribute::Text("redis".to_owned())),
            ("db.operation.name", Attribute::Text(name.clone())),
        ];
        (name, attributes)
    })
}
