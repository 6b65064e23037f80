//! Points in time in requests: RFC 3339, Unix milliseconds, or a duration before now.

use std::str::FromStr;
use std::time::Duration;

use ::time::OffsetDateTime;
use ::time::format_description::well_known::Rfc3339;

use crate::model::duration;
use crate::model::id::EntryId;

/// The least Unix time that is accepted, in milliseconds (March 1973). A smaller number is probably
/// in seconds by mistake.
pub(super) const LEAST_UNIX_MS: u64 = 100_000_000_000;

/// A point in time.
///
/// ```
/// use std::time::Duration;
/// use streamgate::model::time::Time;
///
/// assert_eq!("2026-09-20T08:30:00Z".parse(), Ok(Time::At(1_789_893_000_000)));
/// assert_eq!("1h".parse(), Ok(Time::Ago(Duration::from_secs(3600))));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// Milliseconds since the Unix epoch.
    At(u64),
    /// A duration before now, by a clock that the caller chooses.
    Ago(Duration),
}

/// The reason why a text is not a time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTime {
    /// A number that could be seconds or milliseconds.
    #[error(
        "{0} looks like seconds: Unix times must be in milliseconds, and durations need a unit (1h)"
    )]
    LooksLikeSeconds(String),
    /// A text that is not a time, or a time out of range.
    #[error(
        "a time must be RFC 3339 (2026-09-20T08:30:00Z), Unix milliseconds, or a duration \
         before now (1h)"
    )]
    Malformed,
}

impl Time {
    /// Converts the time to Unix milliseconds. `now` is the current time of the clock.
    #[must_use]
    pub fn unix_ms(self, now: u64) -> u64 {
        match self {
            Self::At(ms) => ms,
            Self::Ago(ago) => now.saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(now)),
        }
    }

    /// Returns the lowest id that an entry of this time can have.
    #[must_use]
    pub fn first_id(self, now: u64) -> EntryId {
        EntryId::new(self.unix_ms(now), 0)
    }

    /// Returns the greatest id that an entry of this time can have.
    #[must_use]
    pub fn last_id(self, now: u64) -> EntryId {
        EntryId::new(self.unix_ms(now), u64::MAX)
    }
}

impl FromStr for Time {
    type Err = InvalidTime;

    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return match text.parse() {
                Ok(ms) if ms >= LEAST_UNIX_MS => Ok(Self::At(ms)),
                Ok(_) => Err(InvalidTime::LooksLikeSeconds(text.to_owned())),
                Err(_) => Err(InvalidTime::Malformed),
            };
        }
        match text.as_bytes().get(4) {
            Some(b'-') => rfc3339(text).map(Self::At).ok_or(InvalidTime::Malformed),
            _ => duration::parse(text)
                .map(Self::Ago)
                .map_err(|_| InvalidTime::Malformed),
        }
    }
}

/// Reports whether `text` is an RFC 3339 timestamp.
#[must_use]
pub fn is_rfc3339(text: &str) -> bool {
    parsed(text).is_some()
}

fn parsed(text: &str) -> Option<OffsetDateTime> {
    // The parser of the crate takes any separator.
    let separator = text.as_bytes().get(10)?;
    matches!(separator, b'T' | b't').then(|| OffsetDateTime::parse(text, &Rfc3339).ok())?
}

/// Formats Unix milliseconds as `2026-09-20T08:30:00.250Z`. The last year is 9999.
#[must_use]
pub fn show_rfc3339(ms: u64) -> String {
    let time = OffsetDateTime::UNIX_EPOCH + Duration::from_millis(ms.min(MAX_MS));
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second, millis) = time.to_hms_milli();
    let month = u8::from(month);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// The end of the year 9999, the last that RFC 3339 can express.
const MAX_MS: u64 = 253_402_300_799_999;

/// Parses `2026-09-20T08:30:00.250+02:00` to Unix milliseconds. Times before 1970 become 0, which no
/// entry precedes.
fn rfc3339(text: &str) -> Option<u64> {
    let mut bytes = text.as_bytes().to_vec();
    // RFC 3339 allows a space for `T`.
    if let Some(separator) = bytes.get_mut(10).filter(|byte| **byte == b' ') {
        *separator = b'T';
    }
    // A query parser decodes an unescaped `+` as a space.
    let sign = bytes.len().checked_sub("+00:00".len())?;
    if let Some(sign) = bytes.get_mut(sign).filter(|byte| **byte == b' ') {
        *sign = b'+';
    }
    let time = parsed(str::from_utf8(&bytes).ok()?)?;
    let ms = time.unix_timestamp_nanos().div_euclid(1_000_000);
    Some(u64::try_from(ms).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_kept_as_a_time_is_one_of_rfc_3339() {
        for good in [
            "1985-04-12T23:20:50.52Z",
            "1996-12-19t16:39:57-08:00",
            "2000-02-29T00:00:00z",
        ] {
            assert!(is_rfc3339(good), "{good}");
        }
        for bad in [
            "",
            "2024-01-01",
            "2024-01-01T00:00:00",
            "2024-01-01 00:00:00Z",
            "2024-01-01T00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-04-31T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2024-01-00T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:60:00Z",
            "2024-01-01T00:00:61Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00+0100",
            "2024-01-01T00:00:00+24:00",
            "2024-01-01T00:00:00Z ",
            "٢٠٢٤-01-01T00:00:00Z",
        ] {
            assert!(!is_rfc3339(bad), "{bad}");
        }
    }

    fn at(text: &str) -> u64 {
        match text.parse() {
            Ok(Time::At(ms)) => ms,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn the_three_forms_are_told_apart() {
        assert_eq!("1795232709004".parse(), Ok(Time::At(1_795_232_709_004)));
        assert_eq!("1h".parse(), Ok(Time::Ago(Duration::from_secs(3600))));
        assert_eq!("0s".parse(), Ok(Time::Ago(Duration::ZERO)));
        assert_eq!(Time::Ago(Duration::from_secs(1)).unix_ms(5000), 4000);
        assert_eq!(Time::Ago(Duration::from_secs(9)).unix_ms(5000), 0);
        assert_eq!(Time::At(7).unix_ms(5000), 7);
    }

    #[test]
    fn what_looks_like_seconds_is_asked_about() {
        for text in ["0", "5", "1795232709", "99999999999"] {
            assert_eq!(
                text.parse::<Time>(),
                Err(InvalidTime::LooksLikeSeconds(text.to_owned()))
            );
        }
        assert_eq!(at("100000000000"), LEAST_UNIX_MS);
    }

    #[test]
    fn rfc_3339_is_read_to_the_letter() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1985-04-12T23:20:50.52Z", 482_196_050_520),
            ("1996-12-19T16:39:57-08:00", 851_042_397_000),
            ("1990-12-31T23:59:60Z", 662_687_999_999),
            ("1990-12-31T15:59:60-08:00", 662_687_999_999),
            ("1937-01-01T12:00:27.87+00:20", 0),
            ("0001-01-01T00:00:00Z", 0),
            ("2000-02-29t00:00:00z", 951_782_400_000),
            ("2026-09-20 08:30:00.2509999999999+02:00", 1_789_885_800_250),
            ("2026-09-20T08:30:00.25 02:00", 1_789_885_800_250),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ] {
            assert_eq!(at(text), ms, "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "now",
            "-1h",
            "1.5h",
            "1795232709004.5",
            "99999999999999999999",
            "2026-09-20",
            "2026-09-20T08:30Z",
            "2026-09-20T08:30:00",
            "2026-09-20T08:30:00.Z",
            "2026-09-20T08:30:00+0200",
            "2026-09-20T08:30:00+24:00",
            "2026-09-20T08:30:00Zulu",
            "2026-09-20T24:00:00Z",
            "2026-09-20T08:60:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-09-31T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2026-09-20X08:30:00Z",
            "2026-9-20T08:30:00ZZ",
            "2026-09-2é",
            "+026-09-20T08:30:00Z",
        ] {
            assert_eq!(
                text.parse::<Time>(),
                Err(InvalidTime::Malformed),
                "{text:?}"
            );
        }
    }

    /// Returns the date of a day, counted from 1970 year by year and month by month.
    fn date(mut day: u64) -> (u64, u64, u64) {
        let is_leap = |year: u64| {
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
        };
        let mut year = 1970;
        while day >= 365 + u64::from(is_leap(year)) {
            day -= 365 + u64::from(is_leap(year));
            year += 1;
        }
        let february = 28 + u64::from(is_leap(year));
        let mut month = 1;
        for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
            if day < days {
                break;
            }
            day -= days;
            month += 1;
        }
        (year, month, day + 1)
    }

    proptest! {
        #[test]
        fn every_time_is_read_wherever_its_clock_hangs(ms in 100_000_000u64..200_000_000_000_000, offset in -1439i64..1440) {
            let local = ms.saturating_add_signed(offset * 60_000);
            let (year, month, day) = date(local / 86_400_000);
            let (hour, minute) = (local / 3_600_000 % 24, local / 60_000 % 60);
            let (second, millis) = (local / 1000 % 60, local % 1000);
            let (sign, hours, minutes) = (if offset < 0 { '-' } else { '+' }, offset.abs() / 60, offset.abs() % 60);
            let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}{sign}{hours:02}:{minutes:02}");
            prop_assert_eq!(text.parse(), Ok(Time::At(ms)), "{}", text);
        }

        #[test]
        fn a_time_that_is_shown_is_read_back(ms in 0u64..200_000_000_000_000) {
            prop_assert_eq!(show_rfc3339(ms).parse(), Ok(Time::At(ms)));
        }

        #[test]
        fn no_text_is_read_with_a_panic(text: String, dashed in "[0-9]{4}-[-0-9T:.Zé+ ]{0,30}") {
            let _ = text.parse::<Time>();
            let _ = dashed.parse::<Time>();
        }
    }
}
