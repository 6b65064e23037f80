//! `multipart/form-data`: text parts are fields, in order; a file is a field with its bytes, and its
//! name and type stand in fields beside it. The body is whole and bounded when it comes here.

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

/// The fields of a body; no more than `most` and three.
///
/// # Errors
/// 400 for a body that is cut off or none of this type, 422 for a part without a name.
pub fn fields(body: &Body, most: usize) -> Result<Fields, ApiError> {
    let media_type = body
        .content_type()
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let boundary = multer::parse_boundary(media_type).map_err(|_| {
        ApiError::invalid(
            "`multipart/form-data` needs the parameter `boundary`: let the client set `Content-Type` itself",
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
    // Everything is there, so nothing is waited for.
    reading
        .now_or_never()
        .unwrap_or_else(|| Err(refused(Error::IncompleteStream)))
}

async fn read(part: Field<'_>, fields: &mut Fields) -> Result<(), ApiError> {
    let Some(name) = part.name().map(str::to_owned) else {
        let detail = "a part of `multipart/form-data` needs a `name` in its `Content-Disposition`";
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
    // Many clients call plain text what it is; that is no file.
    let told = media_type.filter(|media_type| is_file || !is_plain(media_type));
    fields.extend(told.map(|media_type| (of_type, media_type)));
    Ok(())
}

/// Whether a media type is that of plain text in UTF-8, which a part has anyway.
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
            "the `multipart/form-data` body ends too early: its last boundary is missing"
        }
        _ => "the body is not `multipart/form-data`: a part of it cannot be read",
    })
}
