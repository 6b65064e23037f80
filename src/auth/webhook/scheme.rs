//! Signature schemes of webhooks: the signed text, and the headers with signature, time and id.

use std::borrow::Cow;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::auth::webhook::{HeaderLookup, SignedDelivery};

/// The length of a signature, in bytes.
const TAG: usize = 32;

/// A signature scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WebhookScheme {
    /// Standard Webhooks, also with the headers of Svix.
    Standard,
    GitHub,
    Stripe,
    Slack,
    /// HMAC-SHA256 of the body alone, in a header of the sender's choice.
    HmacSha256 {
        header: String,
        id_header: Option<String>,
    },
}

/// The parts of a request that a signature is about.
pub(super) struct SignedParts<'h> {
    pub(super) signatures: Vec<Vec<u8>>,
    /// The signed text before the body.
    pub(super) prefix: Vec<u8>,
    /// The signed time, in Unix seconds.
    pub(super) time: Option<u64>,
    /// The id of the delivery, if a header has it.
    id: Option<&'h str>,
}

/// The members of a body that identify an event of Stripe or Slack.
#[derive(Default, Deserialize)]
#[serde(default)]
struct EventBody<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    event_id: Option<Cow<'a, str>>,
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    challenge: Option<Cow<'a, str>>,
}

impl WebhookScheme {
    /// Returns the parts in the headers; `None` if a header is missing or malformed.
    pub(super) fn parts<'h>(&self, header: HeaderLookup<'h>) -> Option<SignedParts<'h>> {
        let found = match self {
            Self::Standard => standard(
                header,
                ["webhook-id", "webhook-timestamp", "webhook-signature"],
            )
            .or_else(|| standard(header, ["svix-id", "svix-timestamp", "svix-signature"]))?,
            Self::GitHub => SignedParts {
                signatures: hex(header("x-hub-signature-256")?.strip_prefix("sha256=")?)
                    .into_iter()
                    .collect(),
                prefix: Vec::new(),
                time: None,
                id: header("x-github-delivery"),
            },
            Self::Stripe => {
                let parts = || {
                    let parts = header("stripe-signature").unwrap_or_default().split(',');
                    parts.filter_map(|part| part.trim().split_once('='))
                };
                let (_, time) = parts().find(|(name, _)| *name == "t")?;
                SignedParts {
                    signatures: parts()
                        .filter(|(name, _)| *name == "v1")
                        .filter_map(|(_, text)| hex(text))
                        .collect(),
                    prefix: format!("{time}.").into_bytes(),
                    time: Some(seconds(time)?),
                    id: None,
                }
            }
            Self::Slack => {
                let time = header("x-slack-request-timestamp")?;
                SignedParts {
                    signatures: hex(header("x-slack-signature")?.strip_prefix("v0=")?)
                        .into_iter()
                        .collect(),
                    prefix: format!("v0:{time}:").into_bytes(),
                    time: Some(seconds(time)?),
                    id: None,
                }
            }
            Self::HmacSha256 {
                header: name,
                id_header,
            } => SignedParts {
                signatures: hex_or_base64(header(name)?).into_iter().collect(),
                prefix: Vec::new(),
                time: None,
                id: id_header.as_deref().and_then(header),
            },
        };
        (!found.signatures.is_empty()).then_some(found)
    }

    /// Returns the delivery of a request whose signature is valid.
    pub(super) fn delivery(&self, parts: &SignedParts<'_>, body: &[u8]) -> SignedDelivery {
        let event = || serde_json::from_slice::<EventBody<'_>>(body).unwrap_or_default();
        let (id, challenge) = match self {
            Self::Stripe => (event().id, None),
            Self::Slack => {
                let event = event();
                let is_check = event.kind.as_deref() == Some("url_verification");
                (event.event_id, event.challenge.filter(|_| is_check))
            }
            Self::Standard | Self::GitHub | Self::HmacSha256 { .. } => {
                (parts.id.map(Cow::Borrowed), None)
            }
        };
        let id = id.filter(|id| !id.is_empty());
        SignedDelivery {
            id_is_of_event: id.is_some() && !matches!(self, Self::HmacSha256 { .. }),
            // A signature with a time is as good as an id: the same request has the same one.
            id: id
                .map(Cow::into_owned)
                .or_else(|| parts.time.map(|_| digest(&parts.prefix, body))),
            challenge: challenge.map(Cow::into_owned),
        }
    }
}

fn standard<'h>(header: HeaderLookup<'h>, names: [&str; 3]) -> Option<SignedParts<'h>> {
    let [id, time, signatures] = names;
    let (id, time, signatures) = (header(id)?, header(time)?, header(signatures)?);
    // A dot would make the signed text ambiguous: it separates the id from the time.
    if id.is_empty() || id.contains('.') {
        return None;
    }
    let of_version = signatures
        .split(' ')
        .filter_map(|one| one.strip_prefix("v1,"));
    Some(SignedParts {
        signatures: of_version.filter_map(base64).collect(),
        prefix: format!("{id}.{time}.").into_bytes(),
        time: Some(seconds(time)?),
        id: Some(id),
    })
}

/// Parses Unix seconds. The text is signed, so only its canonical form is accepted.
fn seconds(text: &str) -> Option<u64> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if digits.len() != 2 * TAG {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |pair: &[u8]| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok();
    digits.chunks_exact(2).map(byte).collect()
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let bytes = BASE64_STANDARD.decode(text).ok()?;
    (bytes.len() == TAG).then_some(bytes)
}

/// Parses a signature in hexadecimal digits, which `sha256=` may precede, or in base64.
fn hex_or_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.strip_prefix("sha256=").unwrap_or(text);
    hex(text).or_else(|| base64(text))
}

fn digest(prefix: &[u8], body: &[u8]) -> String {
    let digest = Sha256::new().chain_update(prefix).chain_update(body);
    let mut text = String::new();
    for byte in digest.finalize() {
        // Writing into a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_signatures_are_parsed() {
        let digits = "0f".repeat(32);
        assert_eq!(hex(&digits), Some(vec![15; 32]));
        assert_eq!(
            hex_or_base64(&format!("sha256={digits}")),
            Some(vec![15; 32])
        );
        let text = BASE64_STANDARD.encode([15; 32]);
        assert_eq!(hex_or_base64(&text), Some(vec![15; 32]));
        for wrong in ["", "0f", &digits[1..], &"0g".repeat(32), &text[..40]] {
            assert_eq!(hex_or_base64(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_plain_numbers_are_times() {
        assert_eq!(seconds("1700000000"), Some(1_700_000_000));
        for wrong in ["", "+1", "-1", "1.5", " 1", "99999999999999999999"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
