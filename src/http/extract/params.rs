//! Types of single parameters.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};

use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::id;
use crate::model::duration;
use crate::model::id::EntryId;
use crate::model::policy;
use crate::model::time::Time;

/// A duration with its unit, like `20s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wait(pub Duration);

impl<'de> Deserialize<'de> for Wait {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = |text: &str| duration::parse(text).map(Wait);
        deserializer.deserialize_any(Text {
            expecting: "a duration like \"20s\"",
            read,
        })
    }
}

/// A point in time: RFC 3339, Unix milliseconds, or how long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeParam(pub Time);

impl<'de> Deserialize<'de> for TimeParam {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = |text: &str| text.parse().map(TimeParam);
        deserializer.deserialize_any(Text {
            expecting: "a time like \"1h\" (ago)",
            read,
        })
    }
}

/// Reads a value out of a text, or out of a number as it was written.
struct Text<R> {
    expecting: &'static str,
    read: R,
}

impl<T, F: fmt::Display, R: Fn(&str) -> Result<T, F>> Visitor<'_> for Text<R> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.read)(text).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

/// `order=`: which end of the stream comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OrderParam {
    /// Oldest first.
    Asc,
    /// Newest first.
    Desc,
}

/// `gap=`: what to do about a position that entries were removed after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum GapParam {
    /// Answer 410 and say what is lost.
    Fail,
    /// Go on with the oldest entry, and say what is lost.
    Skip,
}

/// Of parameters that exclude each other, with whether each was given.
///
/// # Errors
/// 400 that names the first two of several.
pub fn at_most_one(given: &[(&str, bool)]) -> Result<(), ApiError> {
    let mut names = given
        .iter()
        .filter(|(_, given)| *given)
        .map(|(name, _)| name);
    match (names.next(), names.next()) {
        (Some(first), Some(second)) => Err(exclusive(first, second)),
        _ => Ok(()),
    }
}

/// 400 for two parameters that say the same thing.
#[must_use]
pub fn exclusive(first: &str, second: &str) -> ApiError {
    let (plain, other) = (
        first.trim_start_matches('/'),
        second.trim_start_matches('/'),
    );
    ApiError::invalid(format!("`{plain}` and `{other}` exclude each other"))
        .at(second, format!("given with `{plain}`"))
}

/// The longest wait of a read.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// How long a read waits.
///
/// # Errors
/// 400 that names the parameter, beyond 60 seconds.
pub fn bounded_wait(name: &str, Wait(wait): Wait) -> Result<Duration, ApiError> {
    if wait > MAX_WAIT {
        return Err(ApiError::invalid("`wait` is at most 60s").at(name, "at most 60s"));
    }
    Ok(wait)
}

/// How long an entry is lent, if that was given.
///
/// # Errors
/// 400 that names the parameter and its bounds.
pub fn lease(name: &str, given: Option<Wait>) -> Result<Option<Duration>, ApiError> {
    match given {
        Some(Wait(lease)) if !policy::is_lease(lease) => {
            let detail = "a lease is 100ms to 12h";
            Err(ApiError::invalid(detail).at(name, detail))
        }
        given => Ok(given.map(|Wait(lease)| lease)),
    }
}

/// A count between 1 and `max`.
///
/// # Errors
/// 400 that names the parameter and its bounds.
pub fn bounded(name: &str, value: Option<u64>, default: u64, max: u64) -> Result<usize, ApiError> {
    let value = value.unwrap_or(default);
    match usize::try_from(value) {
        Ok(value) if value >= 1 && value as u64 <= max => Ok(value),
        _ => Err(
            ApiError::invalid(format!("`{name}` is between 1 and {max}"))
                .at(name, format!("1 to {max}")),
        ),
    }
}

/// A number that Redis keeps as a signed one.
///
/// # Errors
/// 400 that names the parameter.
pub fn redis_number(name: &str, value: u64) -> Result<u64, ApiError> {
    match i64::try_from(value) {
        Ok(_) => Ok(value),
        Err(_) => Err(
            ApiError::invalid(format!("`{name}` is at most {}", i64::MAX))
                .at(name, format!("at most {}", i64::MAX)),
        ),
    }
}

/// The most entries one call may name.
pub const MAX_IDS: u64 = 1000;

/// Ids of entries, 1 to [`MAX_IDS`] of them; `at` is where they stand, `each` where each of them does.
///
/// # Errors
/// 400 that points at the first that is none.
pub fn entry_ids(
    texts: &[String],
    at: &str,
    each: impl Fn(usize) -> String,
) -> Result<Vec<EntryId>, ApiError> {
    some_ids(texts.len(), at)?;
    let read = |(index, text): (usize, &String)| id(&each(index), text, str::parse);
    texts.iter().enumerate().map(read).collect()
}

/// That a call names entries, and no more than [`MAX_IDS`].
///
/// # Errors
/// 400 that points at where they should stand.
pub fn some_ids(count: usize, at: &str) -> Result<(), ApiError> {
    if count == 0 || count as u64 > MAX_IDS {
        let detail = format!("name 1 to {MAX_IDS} entries");
        return Err(ApiError::invalid(format!("`{at}`: {detail}")).at(at, detail));
    }
    Ok(())
}

/// The most streams one call may name.
const MAX_STREAMS: usize = 256;

/// That a call names no more streams than [`MAX_STREAMS`].
///
/// # Errors
/// 422 `too-many-streams`.
pub fn at_most_streams(count: usize) -> Result<(), ApiError> {
    if count > MAX_STREAMS {
        let detail = format!("one call names at most {MAX_STREAMS} streams");
        return Err(ApiError::new(ErrorCode::TooManyStreams, detail));
    }
    Ok(())
}
