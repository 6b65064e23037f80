//! What handlers take in: query parameters, names out of the path, calls. Whatever is refused
//! here is refused with a problem that says which part of the request is to blame.

use axum::RequestPartsExt as _;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use super::body::Body;
use super::error::{ApiError, ErrorCode};
use super::pairs::{self, PairsError};
use crate::model::id::{EntryId, InvalidId};
use crate::model::name::InvalidName;
use crate::state::AppState;

/// The largest body of a call: of whatever is not data. A thousand receipts with the longest names fit.
const CALL: usize = 1 << 20;

/// Query parameters, as the fields of `T`.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<AppState> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        pairs::parse(query.as_bytes()).map(Self).map_err(|error| match &error {
            PairsError::Unknown { name, .. } => {
                let name = name.clone();
                ApiError::new(ErrorCode::UnknownParameter, error.to_string())
                    .at(name, "is not known here")
            }
            PairsError::Invalid { name, detail } if !name.is_empty() => {
                let (name, detail) = (name.clone(), detail.clone());
                ApiError::invalid(error.to_string()).at(name, detail)
            }
            PairsError::Invalid { .. } => ApiError::invalid(error.to_string()),
        })
    }
}

/// No query parameters at all.
#[derive(Debug, serde::Deserialize)]
pub struct NoParams {}

/// A segment of the path, decoded.
///
/// # Errors
/// 400 when it is not UTF-8.
pub async fn path_segment(parts: &mut Parts, name: &str) -> Result<String, ApiError> {
    path_segments(parts, [name]).await.map(|[segment]| segment)
}

/// Several segments of the path, decoded. Each look at the path copies it.
///
/// # Errors
/// 400 when the path is not UTF-8.
pub async fn path_segments<const N: usize>(
    parts: &mut Parts,
    names: [&str; N],
) -> Result<[String; N], ApiError> {
    let params = parts.extract::<RawPathParams>().await.map_err(|_| {
        ApiError::new(ErrorCode::InvalidName, "the path is not UTF-8 once it is decoded")
    })?;
    let mut segments = [const { String::new() }; N];
    for (segment, name) in segments.iter_mut().zip(names) {
        let found = params.iter().find(|(known, _)| *known == name);
        let lacks = || ApiError::new(ErrorCode::Internal, "a route without its parameter");
        found.ok_or_else(lacks)?.1.clone_into(segment);
    }
    Ok(segments)
}

impl From<InvalidName> for ApiError {
    fn from(error: InvalidName) -> Self {
        Self::new(ErrorCode::InvalidName, error.to_string())
    }
}

/// Reads an id, a position or the like out of a parameter. A space is what an unescaped `+` in a
/// query becomes; the readers in `model` take it for one.
///
/// # Errors
/// 400 `invalid-id`, naming the parameter.
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

/// The id of an entry in the path.
///
/// # Errors
/// 400 `invalid-id`.
pub async fn path_id(parts: &mut Parts) -> Result<EntryId, ApiError> {
    let text = path_segment(parts, "id").await?;
    id("id", &text, str::parse)
}

/// JSON or a form, as the fields of `T`: what group calls take. No body at all is an empty form.
pub struct Call<T>(pub T);

impl<T: DeserializeOwned> FromRequest<AppState> for Call<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let body = Body::read(request, state, CALL).await?;
        let is_form = match body.media_type().as_ref() {
            "application/x-www-form-urlencoded" => {
                refuse_json_as_form(&body.bytes)?;
                true
            }
            "" => body.bytes.is_empty(),
            media_type => {
                if media_type != "application/json" && !body.bytes.is_empty() {
                    return Err(ApiError::new(
                        ErrorCode::UnsupportedMediaType,
                        "this call takes application/json or a form",
                    ));
                }
                body.bytes.is_empty()
            }
        };
        if is_form {
            return pairs::parse(&body.bytes).map(Self).map_err(|error| {
                let (PairsError::Unknown { name, .. } | PairsError::Invalid { name, .. }) = &error;
                let pointer = format!("/{name}");
                ApiError::invalid(error.to_string()).at(pointer, error.to_string())
            });
        }
        let mut json = serde_json::Deserializer::from_slice(&body.bytes);
        let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let segment = |segment: &Segment| match segment {
                Segment::Seq { index } => format!("/{index}"),
                named => format!("/{}", named.to_string().replace('~', "~0").replace('/', "~1")),
            };
            let pointer: String = error.path().iter().map(segment).collect();
            let detail = error.inner().to_string();
            ApiError::invalid(format!("the body is not what this call takes: {detail}"))
                .at(pointer, detail)
        })?;
        json.end()
            .map_err(|_| ApiError::invalid("there is more in the body than one JSON value"))?;
        Ok(Self(parsed))
    }
}

/// JSON that was sent with `curl -d`, which calls everything a form.
///
/// # Errors
/// 415, with what to type instead.
pub fn refuse_json_as_form(body: &[u8]) -> Result<(), ApiError> {
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{' | b'[') => Err(ApiError::new(
            ErrorCode::UnsupportedMediaType,
            "this looks like JSON, but came as a form: use `curl --json`, or send `Content-Type: application/json`",
        )),
        _ => Ok(()),
    }
}
