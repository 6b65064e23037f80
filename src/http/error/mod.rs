//! Errors that clients can see, as RFC 9457 problems with a code from a closed list.
//!
//! No text from Redis, a panic or the file system reaches a client. Details are written for the
//! caller; the cause goes to the log.

pub(in crate::http) mod code;
pub(in crate::http) mod excerpt;
pub(in crate::http) mod problems;
pub(in crate::http) mod redis_error;
pub(in crate::http) mod type_errors;

use std::borrow::Cow;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

pub use crate::http::error::code::ErrorCode;
use crate::http::error::excerpt::shortened;
use crate::model::name::StreamName;
use crate::redis::StoreError;

/// Maximum number of characters of a text in a problem. The text may quote the request, which can
/// have megabytes.
const MAX_TEXT: usize = 1000;
/// Maximum number of characters of a path in a problem. Over HTTP/2, a long path costs its sender
/// almost nothing.
const MAX_INSTANCE: usize = 512;

/// An invalid part of a request.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FieldError {
    /// An RFC 6901 pointer into the body, or the name of a parameter or header.
    pub pointer: String,
    /// The problem with this part.
    pub detail: String,
}

impl FieldError {
    fn shortened(&self) -> Self {
        let shortened = |text: &str| shortened(text, MAX_TEXT).into_owned();
        Self {
            pointer: shortened(&self.pointer),
            detail: shortened(&self.detail),
        }
    }
}

/// An error for the client.
#[derive(Clone, Debug)]
pub struct ApiError {
    /// The error code.
    pub code: ErrorCode,
    /// The detail of this occurrence, for the caller.
    pub detail: Cow<'static, str>,
    /// The invalid parts of the request.
    pub errors: Vec<FieldError>,
    /// Whether the command may have run despite the error.
    pub side_effects_unknown: bool,
    /// Additional members of this code. Boxed, because most errors have none and every result
    /// reserves the space.
    pub extra: Box<serde_json::Map<String, serde_json::Value>>,
    /// An additional response header.
    pub header: Option<&'static (&'static str, &'static str)>,
    /// The cause, for the log only.
    pub cause: Option<Arc<StoreError>>,
}

impl ApiError {
    /// Creates an error with a code and a detail.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            side_effects_unknown: false,
            extra: Box::default(),
            header: None,
            cause: None,
        }
    }

    /// Creates a 400 for an invalid request.
    #[must_use]
    pub fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::InvalidRequest, detail)
    }

    /// Adds an invalid part: a pointer into the body, or the name of a parameter or header.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        self.errors.push(FieldError {
            pointer: pointer.into(),
            detail: detail.into(),
        });
        self
    }

    /// Adds a member to the problem.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.extra.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a header to the response.
    #[must_use]
    pub fn with_header(mut self, header: &'static (&'static str, &'static str)) -> Self {
        self.header = Some(header);
        self
    }

    /// Names the stream of the error, for a request on several streams.
    #[must_use]
    pub fn in_stream(mut self, stream: &StreamName) -> Self {
        self.detail = format!("`{}`: {}", stream.public_name(), self.detail).into();
        self.with("stream", stream.public_name())
    }

    /// Notes that other streams may have changed, for a request on several streams.
    #[must_use]
    pub fn after_others(mut self) -> Self {
        self.detail = format!("{}; other streams may have been changed", self.detail).into();
        Self {
            side_effects_unknown: true,
            ..self
        }
    }

    /// Converts an error of a read, which never has side effects.
    #[must_use]
    pub fn of_read(error: impl Into<Self>) -> Self {
        Self {
            side_effects_unknown: false,
            ..error.into()
        }
    }

    /// Returns the problem document for the response.
    #[must_use]
    pub fn problem(&self, instance: &str, request_id: &str) -> Problem {
        Problem {
            r#type: format!("urn:streamgate:problem:{}", self.code.as_str()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            detail: shortened(&self.detail, MAX_TEXT).into_owned(),
            instance: shortened(instance, MAX_INSTANCE).into_owned(),
            code: self.code.as_str(),
            retryable: self.code.retryable(),
            side_effects: if self.side_effects_unknown {
                SideEffects::Unknown
            } else {
                SideEffects::None
            },
            request_id: request_id.to_owned(),
            errors: self.errors.iter().map(FieldError::shortened).collect(),
            extra: self.extra.clone(),
        }
    }
}

/// Whether a failed request may have changed data.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SideEffects {
    /// Nothing was changed.
    None,
    /// Data may have been changed. Check before repeating a request that must not run twice.
    Unknown,
}

/// An error response in the format of RFC 9457.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// `urn:streamgate:problem:` followed by the code.
    #[schema(example = "urn:streamgate:problem:stream-not-found")]
    pub r#type: String,
    /// A short description of the code.
    #[schema(value_type = String)]
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The description of this occurrence.
    pub detail: String,
    /// The path of the request.
    pub instance: String,
    /// The error code, stable for programs.
    #[schema(value_type = String, example = "stream-not-found")]
    pub code: &'static str,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// Whether the failed request may have changed data.
    pub side_effects: SideEffects,
    /// The request id, also in the gateway's log.
    pub request_id: String,
    /// The invalid parts of the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub errors: Vec<FieldError>,
    /// Additional members of this code, such as `oldest` and `lost`.
    #[serde(flatten)]
    #[schema(ignore)]
    pub extra: Box<serde_json::Map<String, serde_json::Value>>,
}

/// The outermost layer writes the body, because it knows the path and the request id.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::new();
        if self.code.retryable() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Some(tag) = self
            .extra
            .get("last_id")
            .and_then(serde_json::Value::as_str)
            && let Ok(tag) = HeaderValue::from_str(&format!("\"{tag}\""))
        {
            headers.insert(header::ETAG, tag);
        }
        if let Some((name, value)) = self.header {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        let mut response = (self.code.status(), headers).into_response();
        response.extensions_mut().insert(self);
        response
    }
}
