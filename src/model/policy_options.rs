//! The optional members of a policy: the order by key, and the limits of what a group hands out.

use std::fmt::Write as _;
use std::time::Duration;

/// The maximum length of the field name of `order_by`, in bytes.
pub const MAX_ORDER_FIELD: usize = 1024;
/// The maximum number of entries of one key that are handed out at once.
pub const MAX_PER_KEY: u32 = 1000;
/// The maximum, and default, number of entries that are read ahead.
pub const MAX_READ_AHEAD: u32 = 200_000;
/// The maximum number of entries of a group in flight, and of a rate.
pub const MAX_IN_FLIGHT: u32 = 1_000_000;
/// The maximum time of a rate.
pub const MAX_RATE_TIME: Duration = Duration::from_secs(24 * 3600);

/// The order of entries with the same value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderBy {
    /// The name of the field.
    pub field: String,
    /// The maximum number of entries of one key that are handed out at once.
    pub per_key: u32,
    /// Whether a key goes on after one of its entries became a dead letter.
    pub skip_failed: bool,
    /// The maximum number of entries that are read ahead and wait for their keys.
    pub read_ahead: u32,
}

impl OrderBy {
    /// Returns the order by a field, with default values.
    #[must_use]
    pub fn new(field: &str) -> Self {
        Self {
            field: field.to_owned(),
            per_key: 1,
            skip_failed: false,
            read_ahead: MAX_READ_AHEAD,
        }
    }
}

/// The limits of what a group hands out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandOutLimits {
    /// Whether the group hands out nothing.
    pub paused: bool,
    /// The maximum number of entries with a lease; 0 for no limit.
    pub max_in_flight: u32,
    /// The maximum number of entries in a time.
    pub rate: Option<(u32, Duration)>,
}

/// Encodes the options as words of the form `;name=value` without spaces. Names are hexadecimal.
pub(super) fn encode(order: Option<&OrderBy>, limits: &HandOutLimits) -> String {
    let mut text = String::new();
    // Writing into a `String` cannot fail.
    if let Some(order) = order {
        text.push_str(";order=");
        for byte in order.field.bytes() {
            let _ = write!(text, "{byte:02x}");
        }
        let (keys, ahead) = (order.per_key, order.read_ahead);
        let _ = write!(text, ";keys={keys};ahead={ahead}");
        if order.skip_failed {
            text.push_str(";fail=skip");
        }
    }
    if limits.paused {
        text.push_str(";paused=1");
    }
    if limits.max_in_flight > 0 {
        let _ = write!(text, ";flight={}", limits.max_in_flight);
    }
    if let Some((count, time)) = limits.rate {
        let _ = write!(text, ";rate={count}/{}", time.as_millis());
    }
    text
}

/// Decodes the options that [`encode`] wrote. Ignores unknown ones.
pub(super) fn decode(text: &str) -> Option<(Option<OrderBy>, HandOutLimits)> {
    let (mut order, mut limits) = (None::<OrderBy>, HandOutLimits::default());
    for option in text.split(';').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=')?;
        match (name, &mut order) {
            ("order", _) => order = Some(OrderBy::new(&from_hex(value)?)),
            ("keys", Some(order)) => order.per_key = value.parse().ok()?,
            ("ahead", Some(order)) => order.read_ahead = value.parse().ok()?,
            ("fail", Some(order)) => order.skip_failed = value == "skip",
            ("paused", _) => limits.paused = true,
            ("flight", _) => limits.max_in_flight = value.parse().ok()?,
            ("rate", _) => {
                let (count, millis) = value.split_once('/')?;
                let time = Duration::from_millis(millis.parse().ok()?);
                limits.rate = Some((count.parse().ok()?, time));
            }
            _ => {}
        }
    }
    Some((order, limits))
}

fn from_hex(text: &str) -> Option<String> {
    let digits = text.as_bytes().chunks(2);
    let bytes = digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    String::from_utf8(bytes.collect::<Option<_>>()?).ok()
}
