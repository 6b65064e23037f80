//! Types and checks of single parameters.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};

use crate::http::bounds::MAX_WAIT;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::id;
use crate::model::duration;
use crate::model::id::EntryId;
use crate::model::policy;
use crate::model::time::Time;

/// A duration with a unit, such as `20s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DurationParam(pub Duration);

impl<'de> Deserialize<'de> for DurationParam {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = |text: &str| duration::parse(text).map(DurationParam);
        deserializer.deserialize_any(Text {
            expecting: "a duration like \"20s\"",
            read,
        })
    }
}

/// A point in time: RFC 3339, Unix milliseconds, or a duration ago.
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

/// Visitor that parses a string, or a number as its decimal text.
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

/// Order of entries (`order=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OrderParam {
    /// Oldest entries first.
    Asc,
    /// Newest entries first.
    Desc,
}

/// Behaviour for a position after which entries were removed (`gap=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum GapParam {
    /// Responds with 410 and describes the gap.
    Fail,
    /// Continues with the oldest entry and describes the gap.
    Skip,
}

/// Checks that at most one of several mutually exclusive parameters was given.
///
/// # Errors
/// 400 that names the first two given parameters.
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

/// Returns 400 for two mutually exclusive parameters.
#[must_use]
pub fn exclusive(first: &str, second: &str) -> ApiError {
    let (plain, other) = (
        first.trim_start_matches('/'),
        second.trim_start_matches('/'),
    );
    ApiError::invalid(format!("`{plain}` and `{other}` are mutually exclusive"))
        .at(second, format!("cannot be combined with `{plain}`"))
}

/// Returns the wait of a read.
///
/// # Errors
/// 400 that names the parameter if the wait is above 60 seconds.
pub fn bounded_wait(name: &str, DurationParam(wait): DurationParam) -> Result<Duration, ApiError> {
    if wait > MAX_WAIT {
        return Err(ApiError::invalid("`wait` must be at most 60s").at(name, "must be at most 60s"));
    }
    Ok(wait)
}

/// Returns the lease of a request, if one was given.
///
/// # Errors
/// 400 that names the parameter and its limits.
pub fn lease(name: &str, given: Option<DurationParam>) -> Result<Option<Duration>, ApiError> {
    match given {
        Some(DurationParam(lease)) if !policy::is_lease(lease) => {
            let detail = "a lease is 100ms to 12h";
            Err(ApiError::invalid(detail).at(name, detail))
        }
        given => Ok(given.map(|DurationParam(lease)| lease)),
    }
}

/// Checks that a count is between 1 and `max`.
///
/// # Errors
/// 400 that names the parameter and its limits.
pub fn bounded(name: &str, value: Option<u64>, default: u64, max: u64) -> Result<usize, ApiError> {
    let value = value.unwrap_or(default);
    match usize::try_from(value) {
        Ok(value) if value >= 1 && value as u64 <= max => Ok(value),
        _ => Err(
            ApiError::invalid(format!("`{name}` must be between 1 and {max}"))
                .at(name, format!("must be between 1 and {max}")),
        ),
    }
}

/// Checks that a number fits the signed 64-bit integers of Redis.
///
/// # Errors
/// 400 that names the parameter.
pub fn redis_number(name: &str, value: u64) -> Result<u64, ApiError> {
    match i64::try_from(value) {
        Ok(_) => Ok(value),
        Err(_) => Err(
            ApiError::invalid(format!("`{name}` must be at most {}", i64::MAX))
                .at(name, format!("must be at most {}", i64::MAX)),
        ),
    }
}

/// Maximum number of entry ids in one call.
pub const MAX_IDS: u64 = 1000;

/// Parses 1 to [`MAX_IDS`] entry ids. `at` points to the list, `each` to an id by its index.
///
/// # Errors
/// 400 that points to the first invalid id.
pub fn entry_ids(
    texts: &[String],
    at: &str,
    each: impl Fn(usize) -> String,
) -> Result<Vec<EntryId>, ApiError> {
    some_ids(texts.len(), at)?;
    let read = |(index, text): (usize, &String)| id(&each(index), text, str::parse);
    texts.iter().enumerate().map(read).collect()
}

/// Checks that a call names 1 to [`MAX_IDS`] entries.
///
/// # Errors
/// 400 that points to the list.
pub fn some_ids(count: usize, at: &str) -> Result<(), ApiError> {
    if count == 0 || count as u64 > MAX_IDS {
        let detail = format!("name 1 to {MAX_IDS} entries");
        return Err(ApiError::invalid(format!("`{at}`: {detail}")).at(at, detail));
    }
    Ok(())
}

/// Maximum number of streams in one call.
const MAX_STREAMS: usize = 256;

/// Checks that a call names at most [`MAX_STREAMS`] streams.
///
/// # Errors
/// 422 `too-many-streams`.
pub fn at_most_streams(count: usize) -> Result<(), ApiError> {
    if count > MAX_STREAMS {
        let detail = format!("a call may name at most {MAX_STREAMS} streams");
        return Err(ApiError::new(ErrorCode::TooManyStreams, detail));
    }
    Ok(())
}
