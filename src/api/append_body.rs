//! From the body of an append to entries, by its media type.

use serde_json::value::RawValue;

use super::body::Body;
use super::error::{ApiError, ErrorCode};
use super::extract::refuse_json_as_form;
use crate::model::entry::Fields;
use crate::model::form;
use crate::model::sent::{self, InvalidEntry, Sent, SentEntry};
use crate::model::{cloudevent, cloudevent_json};

/// The field that holds a payload unless another is named.
const PAYLOAD_FIELD: &str = "data";
/// The field that holds the media type of a payload.
const TYPE_FIELD: &str = "content-type";

/// What a body holds, by its media type. Of an entry with more than `most` fields no more is read than
/// tells that it has.
///
/// # Errors
/// 400, 415 or 422, pointing at what cannot be an entry.
pub fn read(payload: Option<&str>, body: &Body, most: usize) -> Result<Sent, ApiError> {
    if let Some(field) = payload {
        return Ok(one(whole(field, body)));
    }
    match body.media_type().as_ref() {
        "application/cloudevents+json" => json(&body.bytes, most, cloudevent_json::structured),
        "application/cloudevents-batch+json" => json(&body.bytes, most, cloudevent_json::batch),
        // Another format of events, which no consumer could tell from data.
        media_type if media_type.starts_with("application/cloudevents") => Err(reserved()),
        // Whatever its type: in this mode that is the type of the data.
        _ if body.headers.contains_key("ce-specversion") => {
            let headers =
                body.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
            Ok(cloudevent::binary(headers, &body.bytes)?)
        }
        "application/json" => json(&body.bytes, most, sent::parse),
        "application/x-www-form-urlencoded" => {
            refuse_json_as_form(&body.bytes)?;
            let fields: Fields = form::pairs(&body.bytes).take(most.saturating_add(1)).collect();
            if fields.is_empty() {
                return Err(nothing());
            }
            Ok(one(fields))
        }
        _ if body.bytes.is_empty() => Err(nothing()),
        _ => Ok(one(whole(PAYLOAD_FIELD, body))),
    }
}

fn reserved() -> ApiError {
    ApiError::new(
        ErrorCode::UnsupportedMediaType,
        "this type is not taken here; to store the body untouched, name a field: ?payload=data",
    )
}

fn nothing() -> ApiError {
    ApiError::new(
        ErrorCode::InvalidFields,
        "there is nothing to append: an entry has at least one field",
    )
}

fn whole(field: &str, body: &Body) -> Fields {
    let mut fields = vec![(field.as_bytes().to_vec(), body.bytes.to_vec())];
    if let Some(media_type) = body.content_type() {
        fields.push((TYPE_FIELD.as_bytes().to_vec(), media_type.as_bytes().to_vec()));
    }
    fields
}

fn one(fields: Fields) -> Sent {
    Sent::One(SentEntry { fields, ..SentEntry::default() })
}

fn json(
    bytes: &[u8],
    most: usize,
    parse: fn(&RawValue, usize) -> Result<Sent, InvalidEntry>,
) -> Result<Sent, ApiError> {
    let json = serde_json::from_slice(bytes)
        .map_err(|error| ApiError::invalid(format!("the body is not JSON: {error}")))?;
    Ok(parse(json, most)?)
}

impl From<InvalidEntry> for ApiError {
    fn from(error: InvalidEntry) -> Self {
        Self::new(ErrorCode::InvalidFields, error.detail.clone()).at(error.pointer, error.detail)
    }
}
