//! The headers that the fast path knows. A request with any other header takes the normal path.

use axum::http::HeaderValue;
use axum::http::header::InvalidHeaderValue;
use httparse::Header;
use serde::de::DeserializeOwned;

use crate::auth::Credential;
use crate::http::extract::{CALL, form_call, json_call};
use crate::http::layer::identify::credential;

/// The media types of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MediaType {
    Form,
    Json,
}

impl MediaType {
    /// Returns the body of a call, as the fields of `T`.
    pub(super) fn parse<T: DeserializeOwned>(self, body: &[u8]) -> Option<T> {
        match self {
            // Other bodies have rules of their own.
            _ if body.is_empty() || body.len() > CALL => None,
            Self::Form => form_call(body).ok(),
            Self::Json => json_call(body).ok(),
        }
    }
}

/// The headers of a request, none of which is repeated.
#[derive(Debug)]
pub(super) struct KnownHeaders<'a> {
    pub(super) host: &'a str,
    pub(super) media_type: MediaType,
    pub(super) user_agent: Option<HeaderValue>,
    pub(super) request_id: Option<HeaderValue>,
    authorization: Option<&'a str>,
    api_key: Option<&'a str>,
    /// Whether the client accepts JSON, and asks for nothing else.
    pub(super) accepts_json: bool,
    /// Whether the request has a trace context.
    pub(super) is_traced: bool,
}

impl<'a> KnownHeaders<'a> {
    /// Returns the headers, or `None` if any is unknown or repeated, or if one that is needed is
    /// missing.
    pub(super) fn read(headers: &[Header<'a>]) -> Option<Self> {
        let (mut host, mut media_type, mut user_agent, mut request_id) = (None, None, None, None);
        let (mut authorization, mut api_key, mut has_length) = (None, None, None);
        let (mut accepts_json, mut is_traced) = (true, false);
        for Header { name, value } in headers {
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            let place = match name.len() {
                4 if is("host") => &mut host,
                12 if is("content-type") => &mut media_type,
                14 if is("content-length") => &mut has_length,
                10 if is("user-agent") => &mut user_agent,
                12 if is("x-request-id") => &mut request_id,
                13 if is("authorization") => &mut authorization,
                9 if is("x-api-key") => &mut api_key,
                6 if is("accept") => {
                    accepts_json &= matches!(*value, b"*/*" | b"application/json");
                    continue;
                }
                // They do not change the response.
                15 if is("accept-encoding") || is("accept-language") => continue,
                10 if is("connection") && value.eq_ignore_ascii_case(b"keep-alive") => continue,
                10 if is("tracestate") => continue,
                // The address of the client is known. Nothing reads the others.
                15 if is("x-forwarded-for") => continue,
                9 if is("forwarded") || is("x-real-ip") => continue,
                16 if is("x-forwarded-host") || is("x-forwarded-port") => continue,
                17 if is("x-forwarded-proto") => continue,
                3 if is("via") => continue,
                11 if is("traceparent") => {
                    is_traced = true;
                    continue;
                }
                _ => return None,
            };
            if place.replace(*value).is_some() {
                return None;
            }
        }
        has_length?;
        let host = std::str::from_utf8(host?).ok()?;
        let media_type = match media_type? {
            b"application/x-www-form-urlencoded" => MediaType::Form,
            b"application/json" => MediaType::Json,
            _ => return None,
        };
        if !host.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let present = |value: Option<&'a [u8]>| match value {
            Some(value) => text(value).map(Some),
            None => Some(None),
        };
        Some(Self {
            host,
            media_type,
            user_agent: value(user_agent).ok()?,
            request_id: value(request_id).ok()?,
            authorization: present(authorization)?,
            api_key: present(api_key)?,
            accepts_json,
            is_traced,
        })
    }

    /// Returns the credential, or `None` unless there is exactly one and it is well-formed.
    pub(super) fn credential(&self) -> Option<Credential<'a>> {
        credential(self.authorization, self.api_key).ok()?
    }
}

/// Returns the text of a value without the space around it, or `None` unless it is visible ASCII.
fn text(value: &[u8]) -> Option<&str> {
    let is_text = value.iter().all(|byte| matches!(byte, b' '..=b'~'));
    let text = std::str::from_utf8(value).ok().filter(|_| is_text)?;
    Some(text.trim())
}

/// Returns the value of a header that may be absent.
fn value(bytes: Option<&[u8]>) -> Result<Option<HeaderValue>, InvalidHeaderValue> {
    bytes.map(HeaderValue::from_bytes).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_read(more: &[(&'static str, &'static str)]) -> bool {
        let common = [
            ("Host", "localhost:8080"),
            ("content-type", "application/json"),
            ("Content-Length", "2"),
        ];
        let headers: Vec<_> = common
            .iter()
            .chain(more)
            .map(|(name, value)| Header {
                name,
                value: value.as_bytes(),
            })
            .collect();
        KnownHeaders::read(&headers).is_some()
    }

    #[test]
    fn a_header_that_is_unknown_or_repeated_is_declined() {
        assert!(is_read(&[]));
        assert!(is_read(&[("ACCEPT", "*/*"), ("user-agent", "\u{e4}")]));
        assert!(is_read(&[
            ("x-forwarded-for", "10.0.0.1"),
            ("X-Forwarded-For", "10.0.0.2"),
            ("via", "1.1 proxy")
        ]));
        assert!(is_read(&[
            ("connection", "Keep-Alive"),
            ("traceparent", "x")
        ]));
        for (name, value) in [
            ("connection", "close"),
            ("connection", "upgrade"),
            ("transfer-encoding", "chunked"),
            ("content-encoding", "gzip"),
            ("content-type", "application/json"),
            ("content-length", "2"),
            ("host", "localhost:8080"),
            ("expect", "100-continue"),
            ("idempotency-key", "k"),
            ("if-match", "\"1-0\""),
            ("origin", "http://a"),
            ("cookie", "a=b"),
            ("x-forwarded-prefix", "/p"),
            ("ce-specversion", "1.0"),
            ("anything", "else"),
        ] {
            assert!(!is_read(&[(name, value)]), "{name}");
        }
        assert!(!is_read(&[("user-agent", "a"), ("User-Agent", "a")]));
    }

    #[test]
    fn host_length_and_a_known_media_type_are_needed() {
        let all = [
            ("host", "a"),
            ("content-type", "application/json"),
            ("content-length", "2"),
        ];
        for missing in 0..3 {
            let mut headers = all.map(|(name, value)| Header {
                name,
                value: value.as_bytes(),
            });
            assert!(KnownHeaders::read(&headers).is_some());
            headers[missing].name = "accept";
            assert!(KnownHeaders::read(&headers).is_none(), "{missing}");
        }
        for value in [
            "text/plain",
            "application/json; charset=latin1",
            "Application/JSON",
        ] {
            let headers = all.map(|(name, other)| Header {
                name,
                value: if name == "content-type" { value } else { other }.as_bytes(),
            });
            assert!(KnownHeaders::read(&headers).is_none(), "{value}");
        }
    }
}
