//! Streams named in a query: `stream=NAME[@POSITION]`, `match=NAME` or `match=PREFIX*`.

use crate::http::error::excerpt::shortened;
use crate::http::error::{ApiError, ErrorCode};
use crate::model::glob::{InvalidPattern, NamePattern};
use crate::model::position::Start;

/// Maximum characters of a text that a problem repeats.
const MAX_SHOWN: usize = 64;

/// Parses `NAME` or `NAME@POSITION`, split at the last `@`.
///
/// # Errors
/// 400 that explains the syntax for a text with several names, a prefix or an invalid position.
pub(in crate::http) fn stream(text: &str) -> Result<(String, Option<Start>), ApiError> {
    let (name, position) = match text.rsplit_once('@') {
        Some((name, position)) => (name, Some(position)),
        None => (text, None),
    };
    let name = match NamePattern::parse(name) {
        Ok(NamePattern::One(name)) => name,
        Ok(NamePattern::Prefix(_)) | Err(InvalidPattern::Star) => {
            let detail = "`stream` takes one name: to follow all names with a prefix, use \
                          `match=PREFIX*` on `/v1/events`; write a `*` in a name as `\\*`";
            return Err(ApiError::invalid(detail).at("stream", InvalidPattern::Star.to_string()));
        }
        Err(InvalidPattern::Comma) => {
            let detail = "`stream` takes one name: repeat the parameter for each stream, as in \
                          `stream=a&stream=b`; write a comma in a name as `\\,`";
            return Err(ApiError::invalid(detail).at("stream", InvalidPattern::Comma.to_string()));
        }
    };
    let start = match position.map(str::parse::<Start>).transpose() {
        Ok(start) => start,
        Err(error) => {
            let (shown, given) = (shortened(text, MAX_SHOWN), position.unwrap_or_default());
            let detail = format!(
                "`stream`: the text after the last `@` must be a position, and `{}` is none; write a \
                 name that has an `@` with its position, as `{shown}@$` or `{shown}@0`",
                shortened(given, MAX_SHOWN),
            );
            return Err(ApiError::new(ErrorCode::InvalidId, detail).at("stream", error.to_string()));
        }
    };
    Ok((name, start))
}

/// Parses `NAME` or `PREFIX*`.
///
/// # Errors
/// 400 that explains the syntax.
pub(in crate::http) fn pattern(text: &str) -> Result<NamePattern, ApiError> {
    NamePattern::parse(text).map_err(|error| {
        let detail = match error {
            InvalidPattern::Star if text.contains("*@") => {
                "`match` takes no position: use `after`, `since` or `last` for all matching streams"
            }
            InvalidPattern::Star => {
                "`match` takes a name or `PREFIX*`: a `*` matches only at the end, as in \
                 `match=orders:*`; write a `*` in a name as `\\*`"
            }
            InvalidPattern::Comma => {
                "`match` takes one name or one `PREFIX*`: repeat the parameter for each, as in \
                 `match=a*&match=b*`; write a comma in a name as `\\,`"
            }
        };
        ApiError::invalid(detail).at("match", error.to_string())
    })
}
