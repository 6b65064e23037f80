//! What the headers of an append ask for: conditions, and idempotency.

use axum::http::header::IF_MATCH;
use axum::http::{HeaderMap, HeaderName};

use crate::auth::Principal;
use crate::http::error::ApiError;
use crate::http::extract::id;
use crate::http::extract::single_header::{only_new, single_text};
use crate::model::id::EntryId;
use crate::redis::Key;

/// The longest idempotency key, in bytes.
const MAX_KEY: usize = 255;
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENCY_PRODUCER: HeaderName = HeaderName::from_static("idempotency-producer");

/// What the headers ask for.
pub struct Conditions {
    /// Only if this is the id last generated.
    pub if_match: Option<EntryId>,
    /// Only if nothing was ever appended.
    pub if_new: bool,
    /// The idempotency key of the whole request.
    pub key: Option<Key>,
    /// Whose keys these are.
    pub producer: Producer,
}

/// Whose idempotency keys they are: nobody else's are the same.
pub struct Producer {
    principal: Box<str>,
    name: Box<str>,
}

impl Conditions {
    /// # Errors
    /// 400 for what makes no sense.
    pub fn new(principal: &Principal, headers: &HeaderMap) -> Result<Self, ApiError> {
        let text = |name: &HeaderName| single_text(headers, name);
        let if_match = match text(&IF_MATCH)? {
            None => None,
            Some(tag) => {
                // A proxy that compresses makes the tag weak; it names the same id.
                let strong = tag.strip_prefix("W/").unwrap_or(tag);
                let bare = strong
                    .strip_prefix('"')
                    .and_then(|rest| rest.strip_suffix('"'));
                let bare = bare.ok_or_else(|| {
                    ApiError::invalid("`If-Match` is one id in quotes, as in `ETag`")
                })?;
                Some(id("If-Match", bare, str::parse)?)
            }
        };
        let if_new = only_new(headers)?;
        let producer = Producer {
            principal: principal.name.clone(),
            name: text(&IDEMPOTENCY_PRODUCER)?.unwrap_or_default().into(),
        };
        let key = text(&IDEMPOTENCY_KEY)?
            .map(|text| key("Idempotency-Key", &producer, text))
            .transpose()?;
        Ok(Self {
            if_match,
            if_new,
            key,
            producer,
        })
    }
}

/// An idempotency key of a producer.
///
/// # Errors
/// 400 when it is empty or too long.
pub fn key(pointer: &str, producer: &Producer, text: &str) -> Result<Key, ApiError> {
    if text.is_empty() || text.len() > MAX_KEY {
        let detail = "an idempotency key has 1 to 255 bytes";
        return Err(ApiError::invalid(detail).at(pointer, detail));
    }
    Ok(Key::new(&producer.principal, &producer.name, text))
}
