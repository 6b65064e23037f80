//! The log: to standard error, as text or as a JSON object per line.

use std::io::IsTerminal as _;

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::limit::Quota;

/// How to log.
#[derive(Clone, Copy, Debug)]
pub struct LogSettings {
    /// JSON rather than text.
    pub json: bool,
    /// The least important level that is shown.
    pub level: Level,
    /// How many refusals are told one by one.
    pub refusals: Quota,
}

/// Starts the log. Called once, by `main`.
pub fn init(settings: LogSettings) {
    let filter = Targets::new().with_target("streamgate", settings.level).with_default(Level::WARN);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let lines = match settings.json {
        true => lines.json().flatten_event(true).boxed(),
        false => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
}
