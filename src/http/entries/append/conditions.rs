//! Headers of an append: conditions and idempotency keys.

use axum::http::header::IF_MATCH;
use axum::http::{HeaderMap, HeaderName};

use crate::auth::Principal;
use crate::http::bounds::MAX_KEY;
use crate::http::error::ApiError;
use crate::http::extract::id;
use crate::http::extract::single_header::{only_new, single_text};
use crate::model::id::EntryId;
use crate::redis::IdempotencyKey;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENCY_PRODUCER: HeaderName = HeaderName::from_static("idempotency-producer");

/// The parsed condition and idempotency headers.
pub struct Conditions {
    /// The required last generated id of the stream.
    pub if_match: Option<EntryId>,
    /// Whether the stream must never have had an entry.
    pub if_new: bool,
    /// The idempotency key of the whole request.
    pub key: Option<IdempotencyKey>,
    /// The producer of the keys.
    pub producer: Producer,
}

/// The owner of idempotency keys. Different producers never share a key.
pub struct Producer {
    principal: Box<str>,
    name: Box<str>,
}

impl Conditions {
    /// Parses the headers.
    ///
    /// # Errors
    /// 400 for invalid headers.
    pub fn new(principal: &Principal, headers: &HeaderMap) -> Result<Self, ApiError> {
        let text = |name: &HeaderName| single_text(headers, name);
        let if_match = match text(&IF_MATCH)? {
            None => None,
            Some(tag) => {
                // A compressing proxy makes the tag weak, but the id stays the same.
                let strong = tag.strip_prefix("W/").unwrap_or(tag);
                let bare = strong
                    .strip_prefix('"')
                    .and_then(|rest| rest.strip_suffix('"'));
                let bare = bare.ok_or_else(|| {
                    ApiError::invalid("`If-Match` must be one id in quotes, as in `ETag`")
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

/// Returns an idempotency key of a producer.
///
/// # Errors
/// 400 if the key is empty or longer than 255 bytes.
pub fn key(pointer: &str, producer: &Producer, text: &str) -> Result<IdempotencyKey, ApiError> {
    if text.is_empty() || text.len() > MAX_KEY {
        let detail = "an idempotency key must have 1 to 255 bytes";
        return Err(ApiError::invalid(detail).at(pointer, detail));
    }
    Ok(IdempotencyKey::new(
        &producer.principal,
        &producer.name,
        text,
    ))
}
