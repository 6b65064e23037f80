//! Points in time in requests: RFC 3339, Unix milliseconds, or a duration before now.

use std::str::FromStr;
use std::time::Duration;

use super::duration;
use super::id::EntryId;

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

/// Returns whether a text is exactly an RFC 3339 timestamp.
#[must_use]
pub fn is_rfc3339(text: &str) -> bool {
    !text.contains(' ') && rfc3339(text).is_some()
}

/// Formats Unix milliseconds as `2026-09-20T08:30:00.250Z`.
#[must_use]
pub fn show_rfc3339(ms: u64) -> String {
    // Years begin in March here, and eras have 400 years, so that leap days come last.
    let days = ms / 86_400_000 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = (era * 400 + year + month / 10, (month + 2) % 12 + 1);
    let (hour, minute) = (ms / 3_600_000 % 24, ms / 60_000 % 60);
    let (second, millis) = (ms / 1000 % 60, ms % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Parses `2026-09-20T08:30:00.250+02:00`, with millisecond precision. A time before 1970 is read
/// as 1970, because no entry is older. A leap second is read as the second after it.
fn rfc3339(text: &str) -> Option<u64> {
    let (year, month, day) = (
        number(text, 0, 4)?,
        number(text, 5, 2)?,
        number(text, 8, 2)?,
    );
    let (hour, minute, second) = (
        number(text, 11, 2)?,
        number(text, 14, 2)?,
        number(text, 17, 2)?,
    );
    let mark = |at: usize, known: &[u8]| text.as_bytes().get(at).filter(|b| known.contains(b));
    for (at, known) in [(4, "-"), (7, "-"), (10, "Tt "), (13, ":"), (16, ":")] {
        mark(at, known.as_bytes())?;
    }
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if day < 1 || day > days || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let rest = &text[19..]; // The text before is ASCII.
    let (millis, zone) = match rest.strip_prefix('.') {
        None => (0, rest),
        Some(rest) => {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (fraction, zone) = rest.split_at(digits);
            (
                number(&format!("{fraction:0<3}"), 0, 3).filter(|_| digits > 0)?,
                zone,
            )
        }
    };
    let offset = match zone.as_bytes() {
        [b'Z' | b'z'] => 0,
        // An unescaped `+` in a query becomes a space.
        [sign @ (b'+' | b'-' | b' '), _, _, b':', _, _] => {
            let (hours, minutes) = (number(zone, 1, 2)?, number(zone, 4, 2)?);
            let minutes = (hours <= 23 && minutes <= 59).then_some(hours * 60 + minutes)?;
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => return None,
    };
    // Years begin in March here, so that the leap day is the last one.
    let (year, month) = if month < 3 {
        (year - 1, month + 9)
    } else {
        (year, month - 3)
    };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let day = 365 * year + leaps + (153 * month + 2) / 5 + day - 1 - 719_468;
    let minute = (day * 24 + hour) * 60 + minute - offset;
    Some(u64::try_from((minute * 60 + second) * 1000 + millis).unwrap_or(0))
}

/// Parses a number of exactly `digits` digits.
fn number(text: &str, at: usize, digits: usize) -> Option<i64> {
    let digits = text.get(at..at + digits)?;
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())?
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
            ("1990-12-31T23:59:60Z", 662_688_000_000),
            ("1990-12-31T15:59:60-08:00", 662_688_000_000),
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
