//! Streams named in the query: `stream=NAME[@POSITION]`, `match=NAME` or `match=PREFIX*`.

use crate::http::error::excerpt::shortened;
use crate::http::error::{ApiError, ErrorCode};
use crate::model::glob::{InvalidPattern, NamePattern};
use crate::model::position::Start;

/// The most characters of a text that are shown in a problem.
const MAX_SHOWN: usize = 64;

/// Reads `NAME` or `NAME@POSITION`, split at the last `@`.
///
/// # Errors
/// 400 that says how a text that looks like several names, a prefix or an address is written.
pub(in crate::http) fn stream(text: &str) -> Result<(String, Option<Start>), ApiError> {
    let (name, position) = match text.rsplit_once('@') {
        Some((name, position)) => (name, Some(position)),
        None => (text, None),
    };
    let name = match NamePattern::parse(name) {
        Ok(NamePattern::One(name)) => name,
        Ok(NamePattern::Prefix(_)) | Err(InvalidPattern::Star) => {
            let detail = "`stream` names one stream: `/v1/events` follows all names with a prefix \
                          by `match=PREFIX*`; a `*` that is part of a name is written `\\*`";
            return Err(ApiError::invalid(detail).at("stream", InvalidPattern::Star.to_string()));
        }
        Err(InvalidPattern::Comma) => {
            let detail = "`stream` names one stream: give it once for each, as \
                          `stream=a&stream=b`; a comma that is part of a name is written `\\,`";
            return Err(ApiError::invalid(detail).at("stream", InvalidPattern::Comma.to_string()));
        }
    };
    let start = match position.map(str::parse::<Start>).transpose() {
        Ok(start) => start,
        Err(error) => {
            let (shown, given) = (shortened(text, MAX_SHOWN), position.unwrap_or_default());
            let detail = format!(
                "`stream`: after the last `@` stands a position, and `{}` is none; a name that \
                 has an `@` is written with its position, as `{shown}@$` or `{shown}@0`",
                shortened(given, MAX_SHOWN),
            );
            return Err(ApiError::new(ErrorCode::InvalidId, detail).at("stream", error.to_string()));
        }
    };
    Ok((name, start))
}

/// Reads `NAME` or `PREFIX*`.
///
/// # Errors
/// 400 that says how it is written.
pub(in crate::http) fn pattern(text: &str) -> Result<NamePattern, ApiError> {
    NamePattern::parse(text).map_err(|error| {
        let detail = match error {
            InvalidPattern::Star if text.contains("*@") => {
                "`match` takes no position: `after`, `since` or `last` hold for all that match"
            }
            InvalidPattern::Star => {
                "`match` is a name or `PREFIX*`: a `*` matches only at the end, as in \
                 `match=orders:*`; a `*` that is part of a name is written `\\*`"
            }
            InvalidPattern::Comma => {
                "`match` is one name or one `PREFIX*`: give it once for each, as \
                 `match=a*&match=b*`; a comma that is part of a name is written `\\,`"
            }
        };
        ApiError::invalid(detail).at("match", error.to_string())
    })
}
