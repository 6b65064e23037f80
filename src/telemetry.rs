//! Logging to standard error, as text or as one JSON object per line.

use std::fmt::{self, Debug};
use std::io::IsTerminal as _;

use tracing::Level;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::rate_limit::Quota;

/// The logging settings.
#[derive(Clone, Copy, Debug)]
pub struct LogSettings {
    /// Whether to log JSON instead of text.
    pub json: bool,
    /// The lowest level that is logged.
    pub level: Level,
    /// The maximum rate of log lines for refused requests.
    pub refusals: Quota,
}

/// Installs the global log subscriber. Called once, by `main`.
pub fn init(settings: LogSettings) {
    let filter = Targets::new()
        .with_target("streamgate", settings.level)
        .with_default(Level::WARN);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false);
    let lines = if settings.json {
        lines.json().flatten_event(true).boxed()
    } else {
        let fields = debug_fn(|writer, field, value| write_field(writer, field.name(), value));
        let lines = lines.fmt_fields(fields.delimited(" "));
        lines.with_ansi(std::io::stderr().is_terminal()).boxed()
    };
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .init();
}

/// Writes a field as `name=value`, and the message without a name. Quotes the value only if its
/// end would be ambiguous.
fn write_field(writer: &mut Writer<'_>, name: &str, value: &dyn Debug) -> fmt::Result {
    let text = format!("{value:?}");
    if name == "message" {
        return writer.write_str(&text);
    }
    let is_plain = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\' && b != b'=')
    };
    // `Debug` quotes and escapes strings; values recorded with `Display` are not quoted.
    let bare = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    match bare {
        Some(bare) if is_plain(bare) => write!(writer, "{name}={bare}"),
        Some(_) => write!(writer, "{name}={text}"),
        None if is_plain(&text) => write!(writer, "{name}={text}"),
        None => write!(writer, "{name}={text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_where_they_must_be() {
        let written = |value: &dyn Debug| {
            let mut text = String::new();
            write_field(&mut Writer::new(&mut text), "f", value).unwrap();
            text
        };
        assert_eq!(written(&"/v1/streams"), "f=/v1/streams");
        assert_eq!(written(&"two words"), "f=\"two words\"");
        assert_eq!(written(&"a\nb"), "f=\"a\\nb\"");
        assert_eq!(written(&""), "f=\"\"");
        assert_eq!(written(&format_args!("a=b c")), "f=\"a=b c\"");
        assert_eq!(written(&format_args!("127.0.0.1")), "f=127.0.0.1");
        assert_eq!(written(&200), "f=200");
    }
}
