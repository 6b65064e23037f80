//! `multipart/form-data` bodies. Each text part becomes a field, in order. A file becomes a field
//! with its bytes, followed by fields for its file name and media type. The body is complete and
//! its size is checked before it is parsed here.

use std::convert::Infallible;
use std::future::ready;

use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use futures_util::FutureExt as _;
use futures_util::stream::once;
use multer::{Error, Field, Multipart};

use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::body::Body;
use crate::model::entry::Fields;

/// Returns the fields of a body, at most `most + 3`: parsing stops once there are more than `most`
/// fields, and a part adds up to three.
///
/// # Errors
/// 400 for a body that is truncated or malformed, 422 for a part without a name.
pub fn fields(body: &Body, most: usize) -> Result<Fields, ApiError> {
    let media_type = body
        .content_type()
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let boundary = multer::parse_boundary(media_type).map_err(|_| {
        ApiError::invalid(
            "`Content-Type` lacks the parameter `boundary`; let the HTTP client set the header",
        )
        .at("Content-Type", "has no `boundary`")
    })?;
    let whole = once(ready(Ok::<_, Infallible>(body.bytes.clone())));
    let mut parts = Multipart::new(whole, boundary);
    let reading = async {
        let mut fields = Fields::new();
        while fields.len() <= most {
            let Some(part) = parts.next_field().await.map_err(refused)? else {
                break;
            };
            read(part, &mut fields).await?;
        }
        Ok(fields)
    };
    // The whole body is in memory, so the future never waits.
    reading
        .now_or_never()
        .unwrap_or_else(|| Err(refused(Error::IncompleteStream)))
}

async fn read(part: Field<'_>, fields: &mut Fields) -> Result<(), ApiError> {
    let Some(name) = part.name().map(str::to_owned) else {
        let detail =
            "each part of `multipart/form-data` needs a `name` in its `Content-Disposition`";
        return Err(ApiError::new(ErrorCode::InvalidFields, detail));
    };
    let file = part.file_name().map(str::to_owned);
    let media_type = part
        .headers()
        .get(CONTENT_TYPE)
        .map(|value| value.as_bytes().to_vec());
    let beside = |kind: &str| format!("{name}.{kind}").into_bytes();
    let (of_file, of_type) = (beside("filename"), beside("content-type"));
    let bytes: Bytes = part.bytes().await.map_err(refused)?;
    fields.push((name.into_bytes(), bytes.to_vec()));
    let is_file = file.is_some();
    fields.extend(file.map(|file| (of_file, file.into_bytes())));
    // Many clients label text parts as `text/plain`. Such a part is not a file.
    let told = media_type.filter(|media_type| is_file || !is_plain(media_type));
    fields.extend(told.map(|media_type| (of_type, media_type)));
    Ok(())
}

/// Reports whether a media type is UTF-8 plain text, the default type of a part.
fn is_plain(media_type: &[u8]) -> bool {
    let text = String::from_utf8_lossy(media_type).to_ascii_lowercase();
    let mut parts = text.split(';').map(str::trim);
    parts.next() == Some("text/plain")
        && parts.all(|part| {
            let charset = part
                .strip_prefix("charset=")
                .map(|charset| charset.trim_matches('"'));
            matches!(charset, Some("utf-8" | "us-ascii"))
        })
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn refused(error: Error) -> ApiError {
    ApiError::invalid(match error {
        Error::IncompleteStream | Error::IncompleteHeaders | Error::IncompleteFieldData { .. } => {
            "the `multipart/form-data` body ends too early: the closing boundary is missing"
        }
        _ => "the body is not valid `multipart/form-data`: one of its parts cannot be parsed",
    })
}
