//! Conversion of append bodies into entries, by media type.

use axum::http::HeaderMap;
use serde_json::value::RawValue;

use crate::http::error::{ApiError, ErrorCode};
use crate::http::events::stream;
use crate::http::extract::body::{Body, media_type};
use crate::http::extract::multipart;
use crate::http::extract::{FORM, not_a_form, not_json};
use crate::model::entry::Fields;
use crate::model::json_text;
use crate::model::sent::{self, InvalidEntry, MAX_BATCH, Sent, SentEntry};
use crate::model::{bare, cloudevent, cloudevent_json, form_check};

/// The default field for a payload.
const PAYLOAD_FIELD: &str = "data";
/// The field for the media type of a payload.
const TYPE_FIELD: &str = "content-type";

/// The NDJSON media type.
pub(in crate::http) const NDJSON: &str = "application/x-ndjson";
/// All names of the NDJSON media type.
const NDJSON_TYPES: [&str; 3] = [NDJSON, "application/ndjson", "application/jsonl"];

/// The format of a body, which decides how it becomes entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyFormat {
    /// NDJSON. With `members`, each member of an object is a field.
    Lines { members: bool },
    /// Anything, stored unchanged in this field.
    Payload(String),
    /// A JSON object whose members are fields, or a list of such objects.
    Members,
    /// A body other than JSON, although `as=fields` requires JSON.
    NotMembers,
    /// A `CloudEvents` event in structured mode.
    Event,
    /// Several `CloudEvents` events.
    Events,
    /// Another format of `CloudEvents`, which is not supported.
    UnsupportedEvent,
    /// The data of a `CloudEvents` event in binary mode, with its attributes in the headers.
    BinaryEvent,
    /// An entry or a batch as JSON.
    Json,
    /// A form.
    Form,
    /// A form with files.
    Multipart,
    /// Any other body, stored unchanged.
    Other,
}

impl BodyFormat {
    /// Decides by the query (`payload` and `as=fields`) and by the headers.
    #[must_use]
    pub fn new(payload: Option<&str>, members: bool, headers: &HeaderMap) -> Self {
        if let Some(field) = payload {
            return Self::Payload(field.to_owned());
        }
        let media_type = media_type(headers);
        let is_event = media_type.starts_with("application/cloudevents");
        let is_binary_event = headers.contains_key("ce-specversion");
        if !is_binary_event && NDJSON_TYPES.contains(&&*media_type) {
            return Self::Lines { members };
        }
        if members {
            let is_json = matches!(&*media_type, "application/json" | "text/json")
                || media_type.ends_with("+json");
            return match is_json && !is_event && !is_binary_event {
                true => Self::Members,
                false => Self::NotMembers,
            };
        }
        match &*media_type {
            "application/cloudevents+json" => Self::Event,
            "application/cloudevents-batch+json" => Self::Events,
            // Consumers could not tell other event formats from plain data.
            _ if is_event => Self::UnsupportedEvent,
            // In binary mode the media type is the type of the data, so any is valid.
            _ if is_binary_event => Self::BinaryEvent,
            "application/json" => Self::Json,
            FORM => Self::Form,
            "multipart/form-data" => Self::Multipart,
            _ => Self::Other,
        }
    }
}

/// Whether the client explicitly accepts NDJSON.
pub(in crate::http) fn accepts_lines(headers: &HeaderMap) -> bool {
    NDJSON_TYPES
        .iter()
        .any(|media_type| stream::is_wanted(headers, media_type))
}

/// Reads the entries of a body. Reading stops early in an entry with more than `most` fields.
///
/// # Errors
/// 400, 413, 415 or 422, with a pointer to the invalid part.
pub fn read(format: &BodyFormat, body: &Body, most: usize) -> Result<Sent, ApiError> {
    let sent = match format {
        BodyFormat::Payload(field) => Ok(one(whole(field, body))),
        BodyFormat::Members => json(&body.bytes, most, bare::parse),
        BodyFormat::NotMembers => Err(not_members()),
        BodyFormat::Event => json(&body.bytes, most, cloudevent_json::structured),
        BodyFormat::Events => json(&body.bytes, most, cloudevent_json::batch),
        BodyFormat::UnsupportedEvent => Err(unsupported_event()),
        BodyFormat::BinaryEvent => {
            let headers = body.headers.iter();
            let headers = headers.map(|(name, value)| (name.as_str(), value.as_bytes()));
            Ok(cloudevent::binary(headers, &body.bytes)?)
        }
        BodyFormat::Json => entry_or_batch(&body.bytes, most),
        BodyFormat::Form => {
            body.refuse_charset()?;
            form(&body.bytes, most)
        }
        BodyFormat::Multipart => {
            let fields = multipart::fields(body, most)?;
            if fields.is_empty() {
                return Err(nothing());
            }
            Ok(one(fields))
        }
        BodyFormat::Lines { .. } | BodyFormat::Other if body.bytes.is_empty() => Err(nothing()),
        BodyFormat::Lines { .. } | BodyFormat::Other => Ok(one(whole(PAYLOAD_FIELD, body))),
    }?;
    match &sent {
        Sent::Many(batch) if batch.entries.len() > MAX_BATCH => Err(too_many_entries()),
        _ => Ok(sent),
    }
}

/// Reads the entry of a form in UTF-8.
///
/// # Errors
/// 400 or 415 for a body that is no form, 422 for one without fields.
pub(in crate::http) fn form(bytes: &[u8], most: usize) -> Result<Sent, ApiError> {
    let fields = form_check::fields(bytes, most).map_err(not_a_form)?;
    match fields.is_empty() {
        true => Err(nothing()),
        false => Ok(one(fields)),
    }
}

/// Reads an entry or a batch in JSON.
///
/// # Errors
/// 400 or 422, with a pointer to the invalid part.
pub(in crate::http) fn entry_or_batch(bytes: &[u8], most: usize) -> Result<Sent, ApiError> {
    json(bytes, most, sent::parse)
}

fn too_many_entries() -> ApiError {
    let detail = format!("a batch must have at most {MAX_BATCH} entries");
    ApiError::new(ErrorCode::TooLarge, detail).with("max_entries", MAX_BATCH as u64)
}

fn not_members() -> ApiError {
    let detail = "`as=fields` requires a JSON body: send `Content-Type: application/json`";
    ApiError::new(ErrorCode::UnsupportedMediaType, detail).at("as", "the body is not JSON")
}

fn unsupported_event() -> ApiError {
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

/// Returns the fields of a body that is stored unchanged: the body, and its media type.
pub(in crate::http) fn whole(field: &str, body: &Body) -> Fields {
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
