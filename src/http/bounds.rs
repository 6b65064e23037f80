//! Bounds of parameters and members that the handlers check and the OpenAPI document declares.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Maximum length of an idempotency key in bytes.
pub(in crate::http) const MAX_KEY: usize = 255;

/// Maximum length of a reason, in bytes.
pub(in crate::http) const MAX_REASON: usize = 1024;

/// Maximum delay of an append.
pub(in crate::http) const MAX_DELAY: Duration = Duration::from_secs(7 * 24 * 3600);

/// Maximum wait of a read.
pub(in crate::http) const MAX_WAIT: Duration = Duration::from_secs(60);

/// Allowed lifetimes of a ticket.
pub(in crate::http) const TTLS: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600);
