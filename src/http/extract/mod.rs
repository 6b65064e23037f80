//! Extractors of handlers: query parameters, path segments and request bodies. Each rejection names
//! the invalid part of the request.

pub(in crate::http) mod access;
pub(in crate::http) mod body;
pub(in crate::http) mod inflate;
pub(in crate::http) mod multipart;
pub(in crate::http) mod name64;
pub(in crate::http) mod names;
pub(in crate::http) mod pairs;
pub(in crate::http) mod params;
pub(in crate::http) mod single_header;
pub(in crate::http) mod stream_param;

use axum::RequestPartsExt as _;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::Method;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use crate::http::error::type_errors;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::body::Body;
use crate::http::extract::pairs::PairsError;
use crate::http::state::AppState;
use crate::model::form_check::{self, NotAForm};
use crate::model::id::{EntryId, InvalidId};
use crate::model::json_text;
use crate::model::name::InvalidName;

/// Maximum size in bytes of a request body that is not stream data. A thousand receipts with the
/// longest names fit.
pub(in crate::http) const CALL: usize = 1 << 20;

/// Query parameters, as the fields of `T`.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<AppState> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        pairs::parse(query.as_bytes())
            .map(Self)
            .map_err(|error| match &error {
                PairsError::Unknown { name, .. } => {
                    let name = name.clone();
                    ApiError::new(ErrorCode::UnknownParameter, error.to_string())
                        .at(name, "is not a parameter of this route")
                }
                PairsError::Invalid { name, detail } if !name.is_empty() => {
                    let (name, detail) = (name.clone(), detail.clone());
                    ApiError::invalid(error.to_string()).at(name, detail)
                }
                PairsError::Invalid { .. } => ApiError::invalid(error.to_string()),
            })
    }
}

/// An extractor that accepts no query parameters.
#[derive(Debug, serde::Deserialize)]
pub struct NoParams {}

/// Returns a decoded path segment.
///
/// # Errors
/// 400 if the segment is not UTF-8.
pub async fn path_segment(parts: &mut Parts, name: &str) -> Result<String, ApiError> {
    path_segments(parts, [name]).await.map(|[segment]| segment)
}

/// Returns several decoded path segments. Each extraction copies the path, so one call is cheaper
/// than several.
///
/// # Errors
/// 400 if the path is not UTF-8.
pub async fn path_segments<const N: usize>(
    parts: &mut Parts,
    names: [&str; N],
) -> Result<[String; N], ApiError> {
    let params = parts
        .extract::<RawPathParams>()
        .await
        .map_err(|_| ApiError::new(ErrorCode::InvalidName, "the decoded path must be UTF-8"))?;
    let mut segments = [const { String::new() }; N];
    for (segment, name) in segments.iter_mut().zip(names) {
        let found = params.iter().find(|(known, _)| *known == name);
        let lacks = || ApiError::new(ErrorCode::Internal, "the route has no such path parameter");
        found.ok_or_else(lacks)?.1.clone_into(segment);
    }
    Ok(segments)
}

impl From<InvalidName> for ApiError {
    fn from(error: InvalidName) -> Self {
        Self::new(ErrorCode::InvalidName, error.to_string())
    }
}

/// Parses an id, a position or the like from a parameter. An unescaped `+` in a query becomes a
/// space, so the parsers in `model` accept a space for `+`.
///
/// # Errors
/// 400 `invalid-id` with the name of the parameter.
pub fn id<T>(
    name: &str,
    text: &str,
    read: impl Fn(&str) -> Result<T, InvalidId>,
) -> Result<T, ApiError> {
    read(text).map_err(|error| {
        ApiError::new(ErrorCode::InvalidId, format!("`{name}`: {error}"))
            .at(name, error.to_string())
    })
}

/// Parses the entry id in the path.
///
/// # Errors
/// 400 `invalid-id`.
pub async fn path_id(parts: &mut Parts) -> Result<EntryId, ApiError> {
    let text = path_segment(parts, "id").await?;
    id("id", &text, str::parse)
}

/// A JSON or form body, as the fields of `T`. An empty body counts as an empty form.
pub struct JsonOrForm<T>(pub T);

impl<T: DeserializeOwned> FromRequest<AppState> for JsonOrForm<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let is_patch = request.method() == Method::PATCH;
        let body = Body::read(request, state, CALL).await?;
        let is_form = match body.media_type().as_ref() {
            FORM => {
                body.refuse_charset()?;
                return form_call(&body.bytes).map(Self);
            }
            "" | "application/json" => body.bytes.is_empty(),
            MERGE_PATCH if is_patch => body.bytes.is_empty(),
            _ if body.bytes.is_empty() => true,
            _ => return Err(other_type(is_patch)),
        };
        match is_form {
            true => call_of_pairs(&body.bytes).map(Self),
            false => json_call(&body.bytes).map(Self),
        }
    }
}

/// Parses the body of a call that was sent as a form.
///
/// # Errors
/// 415 if the body is not a form, and 400 that points to the invalid part.
pub(in crate::http) fn form_call<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    form_check::check_start(body).map_err(not_a_form)?;
    call_of_pairs(body)
}

fn call_of_pairs<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    pairs::parse(body).map_err(|error| {
        let (PairsError::Unknown { name, .. } | PairsError::Invalid { name, .. }) = &error;
        let pointer = format!("/{name}");
        ApiError::invalid(error.to_string()).at(pointer, error.to_string())
    })
}

/// Parses the body of a call that was sent as JSON.
///
/// # Errors
/// 400 that points to the invalid part.
pub(in crate::http) fn json_call<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    json_at("", json_text::without_mark(body))
}

/// Returns a 415 for an unsupported media type.
fn other_type(is_patch: bool) -> ApiError {
    if !is_patch {
        let detail = "the body must be application/json or a form";
        return ApiError::new(ErrorCode::UnsupportedMediaType, detail);
    }
    let detail = format!("a patch must be {MERGE_PATCH}, application/json or a form");
    ApiError::new(ErrorCode::UnsupportedMediaType, detail).with_header(&ACCEPT_PATCH)
}

/// Parses the JSON text that a parameter has as its value. `pointer` points to the parameter.
///
/// # Errors
/// 400 that points to the invalid part.
pub(in crate::http) fn json_text_of<T: DeserializeOwned>(
    pointer: &str,
    text: &str,
) -> Result<T, ApiError> {
    json_at(pointer, text.as_bytes())
}

/// Parses JSON that is the body, or the part of it that `root` points to.
fn json_at<T: DeserializeOwned>(root: &str, text: &[u8]) -> Result<T, ApiError> {
    let not_json = |error: &serde_json::Error| match root {
        "" => not_json(text, error),
        root => {
            let detail = format!("is not JSON: {}", json_text::explain(text, error));
            ApiError::invalid(format!("{root}: {detail}")).at(root, detail)
        }
    };
    let mut json = serde_json::Deserializer::from_slice(text);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        if !error.inner().is_data() {
            return not_json(error.inner());
        }
        let segment = |segment: &Segment| match segment {
            Segment::Seq { index } => format!("/{index}"),
            named => format!(
                "/{}",
                named.to_string().replace('~', "~0").replace('/', "~1")
            ),
        };
        let path: String = error.path().iter().map(segment).collect();
        let pointer = format!("{root}{path}");
        let detail = type_errors::explain(&error.inner().to_string());
        let place = if pointer.is_empty() {
            "the body"
        } else {
            &pointer
        };
        ApiError::invalid(format!("{place}: {detail}")).at(&*pointer, detail)
    })?;
    json.end().map_err(|error| not_json(&error))?;
    Ok(parsed)
}

/// Returns a 400 for a text (without its byte order mark) that is not JSON.
pub fn not_json(text: &[u8], error: &serde_json::Error) -> ApiError {
    ApiError::invalid(format!(
        "the body is not JSON: {}",
        json_text::explain(text, error)
    ))
}

/// The media type of a JSON merge patch (RFC 7396).
const MERGE_PATCH: &str = "application/merge-patch+json";
/// The media types that PATCH accepts (RFC 5789).
pub static ACCEPT_PATCH: (&str, &str) = (
    "accept-patch",
    "application/merge-patch+json, application/json, application/x-www-form-urlencoded",
);
/// The media type of forms.
pub const FORM: &str = "application/x-www-form-urlencoded";

/// Returns a 415 for a body that was sent as a form but is not a form, with the remedy.
pub fn not_a_form(why: NotAForm) -> ApiError {
    let json = "use `curl --json` or send `Content-Type: application/json`";
    let other = "send it with its own `Content-Type` (with curl: `-H 'Content-Type: text/plain' --data-binary \
                 @FILE`), or store it unchanged in a field with `?payload=data`";
    let detail = match why {
        NotAForm::Json => format!("the body looks like JSON but was sent as a form: {json}"),
        NotAForm::Mark => format!(
            "the body starts with a byte order mark, which a form cannot have; if it is JSON, {json}; else {other}"
        ),
        NotAForm::Quote => format!(
            "the body starts with a quote but was sent as a form: if it is JSON, {json}; if the shell kept \
             the quote (cmd.exe keeps single quotes), use double quotes around the form"
        ),
        NotAForm::Markup => {
            format!("the body looks like XML or HTML but was sent as a form: {other}")
        }
        NotAForm::Base64 => format!("the body looks like base64 but was sent as a form: {other}"),
        NotAForm::Control => {
            format!("the body has control characters, which a form must encode as `%XX`: {other}")
        }
        NotAForm::Lines => format!(
            "the body has several lines of `name=value`, but a form has one line, joined by `&`; {other}"
        ),
        NotAForm::NoValue => {
            format!(
                "the body is not a form (`name=value` joined by `&`): a part has no `=`; {other}"
            )
        }
        NotAForm::Name => format!(
            "the body is not a form (`name=value` joined by `&`): a name is empty, over 256 bytes, or has \
             characters that a form must encode as `%XX`; {other}"
        ),
        NotAForm::Escape => format!(
            "the body was sent as a form, where two hexadecimal digits must follow `%`; send a percent sign \
             as `%25` (with curl: `--data-urlencode`); if it is not a form, {other}"
        ),
        NotAForm::NotUtf8 => format!(
            "the body was sent as a form but is not UTF-8; send bytes as JSON with {{\"base64\":\"…\"}}, or {other}"
        ),
    };
    ApiError::new(ErrorCode::UnsupportedMediaType, detail)
}
