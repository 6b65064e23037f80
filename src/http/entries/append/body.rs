//! Conversion of append bodies into entries, by media type.

use serde_json::value::RawValue;

use crate::http::entries::append::plan::Shape;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::body::Body;
use crate::http::extract::multipart;
use crate::http::extract::{FORM, not_a_form, not_json};
use crate::model::entry::Fields;
use crate::model::json_text;
use crate::model::sent::{self, InvalidEntry, Sent, SentEntry};
use crate::model::{bare, cloudevent, cloudevent_json, form_check};

/// The default field for a payload.
const PAYLOAD_FIELD: &str = "data";
/// The field for the media type of a payload.
const TYPE_FIELD: &str = "content-type";

/// Reads the entries of a body. Reading stops early in an entry with more than `most` fields.
///
/// # Errors
/// 400, 415 or 422, with a pointer to the invalid part.
pub fn read(shape: Shape<'_>, body: &Body, most: usize) -> Result<Sent, ApiError> {
    match shape {
        Shape::Payload(field) => return Ok(one(whole(field, body))),
        Shape::Members => {
            check_type_of_members(body)?;
            return json(&body.bytes, most, bare::parse);
        }
        Shape::ByType => {}
    }
    match body.media_type().as_ref() {
        "application/cloudevents+json" => json(&body.bytes, most, cloudevent_json::structured),
        "application/cloudevents-batch+json" => json(&body.bytes, most, cloudevent_json::batch),
        // Consumers could not tell other event formats from plain data.
        media_type if media_type.starts_with("application/cloudevents") => Err(reserved()),
        // In binary mode the media type is the type of the data, so any is valid.
        _ if body.headers.contains_key("ce-specversion") => {
            let headers = body
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_bytes()));
            Ok(cloudevent::binary(headers, &body.bytes)?)
        }
        "application/json" => json(&body.bytes, most, sent::parse),
        FORM => {
            body.refuse_charset()?;
            let fields = form_check::fields(&body.bytes, most).map_err(not_a_form)?;
            if fields.is_empty() {
                return Err(nothing());
            }
            Ok(one(fields))
        }
        "multipart/form-data" => {
            let fields = multipart::fields(body, most)?;
            if fields.is_empty() {
                return Err(nothing());
            }
            Ok(one(fields))
        }
        _ if body.bytes.is_empty() => Err(nothing()),
        _ => Ok(one(whole(PAYLOAD_FIELD, body))),
    }
}

/// Checks that a body with `as=fields` is JSON and not a `CloudEvents` event.
fn check_type_of_members(body: &Body) -> Result<(), ApiError> {
    let media_type = body.media_type();
    let json = matches!(&*media_type, "application/json" | "text/json")
        || (media_type.ends_with("+json") && !media_type.starts_with("application/cloudevents"));
    if json && !body.headers.contains_key("ce-specversion") {
        return Ok(());
    }
    let detail = "`as=fields` requires a JSON body: send `Content-Type: application/json`";
    Err(ApiError::new(ErrorCode::UnsupportedMediaType, detail).at("as", "the body is not JSON"))
}

fn reserved() -> ApiError {
    ApiError::new(
        ErrorCode::UnsupportedMediaType,
        "this media type is not supported; to store the body unchanged, use `?payload=data`",
    )
}

fn nothing() -> ApiError {
    ApiError::new(
        ErrorCode::InvalidFields,
        "the body has no fields: an entry needs at least one field",
    )
}

fn whole(field: &str, body: &Body) -> Fields {
    let mut fields = vec![(field.as_bytes().to_vec(), body.bytes.to_vec())];
    if let Some(media_type) = body.content_type() {
        fields.push((
            TYPE_FIELD.as_bytes().to_vec(),
            media_type.as_bytes().to_vec(),
        ));
    }
    fields
}

fn one(fields: Fields) -> Sent {
    Sent::One(SentEntry {
        fields,
        ..SentEntry::default()
    })
}

fn json(
    bytes: &[u8],
    most: usize,
    parse: fn(&RawValue, usize) -> Result<Sent, InvalidEntry>,
) -> Result<Sent, ApiError> {
    let text = json_text::without_mark(bytes);
    let json = serde_json::from_slice(text).map_err(|error| not_json(text, &error))?;
    Ok(parse(json, most)?)
}

impl From<InvalidEntry> for ApiError {
    fn from(error: InvalidEntry) -> Self {
        Self::new(ErrorCode::InvalidFields, error.detail.clone()).at(error.pointer, error.detail)
    }
}
