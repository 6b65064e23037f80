//! Durations in requests and settings: a number with its unit, such as `20s`.

use std::time::Duration;

/// The reason why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDuration {
    /// A bare number such as `20`, which could mean seconds or milliseconds.
    #[error("a duration needs a unit: write {0}s or {0}ms")]
    NoUnit(String),
    /// A text that is not a duration, or a duration that is too long.
    #[error("a duration is a whole number with ms, s, m, h or d, like 500ms, 20s or 7d")]
    Malformed,
}

/// Parses `500ms`, `20s`, `5m`, `2h`, `7d` or `0`.
///
/// # Errors
/// Returns [`InvalidDuration::NoUnit`] for a bare number other than 0, and
/// [`InvalidDuration::Malformed`] for any other invalid text.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use streamgate::model::duration::{InvalidDuration, parse};
///
/// assert_eq!(parse("20s"), Ok(Duration::from_secs(20)));
/// assert_eq!(parse("20"), Err(InvalidDuration::NoUnit("20".to_owned())));
/// ```
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let value: u64 = number.parse().map_err(|_| InvalidDuration::Malformed)?;
    let unit_ms: u64 = match unit {
        "" if value == 0 => 1,
        "" => return Err(InvalidDuration::NoUnit(number.to_owned())),
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(InvalidDuration::Malformed),
    };
    value
        .checked_mul(unit_ms)
        .map(Duration::from_millis)
        .ok_or(InvalidDuration::Malformed)
}

/// Formats a duration as the shortest text that [`parse`] reads back, with millisecond precision.
///
/// ```
/// use std::time::Duration;
/// use streamgate::model::duration::format;
///
/// assert_eq!(format(Duration::from_secs(7200)), "2h");
/// assert_eq!(format(Duration::from_millis(1500)), "1500ms");
/// ```
#[must_use]
pub fn format(duration: Duration) -> String {
    let ms = duration.as_millis();
    for (unit, unit_ms) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
    ] {
        if ms != 0 && ms.is_multiple_of(unit_ms) {
            return format!("{}{unit}", ms / unit_ms);
        }
    }
    format!("{ms}ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read() {
        for (text, ms) in [
            ("0", 0),
            ("500ms", 500),
            ("20s", 20_000),
            ("5m", 300_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
            assert_eq!(
                parse(&format(Duration::from_millis(ms))),
                Ok(Duration::from_millis(ms))
            );
        }
    }

    #[test]
    fn a_bare_number_is_asked_for_its_unit() {
        assert_eq!(parse("20"), Err(InvalidDuration::NoUnit("20".to_owned())));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "s",
            "-1s",
            "1.5s",
            "1 s",
            "1w",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert_eq!(parse(text), Err(InvalidDuration::Malformed), "{text:?}");
        }
    }
}
