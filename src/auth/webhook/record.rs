//! The records of webhook sources in the auth file.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;
use serde::Deserialize;

use crate::auth::grants::Pattern;
use crate::auth::one_or_more::OneOrMore;
use crate::auth::webhook::WebhookSource;
use crate::auth::webhook::scheme::WebhookScheme;
use crate::model::duration;
use crate::model::name::StreamName;

/// The maximum number of secrets of a source: the new one and the old one during a rotation.
const MAX_SECRETS: usize = 2;
/// The minimum length of a secret, in bytes.
const MIN_SECRET: usize = 16;
/// The maximum number of patterns of stored headers.
const MAX_HEADERS: usize = 50;
/// The maximum length of a name.
const MAX_NAME: usize = 100;
/// The default tolerance, which is that of the vendors.
const TOLERANCE: Duration = Duration::from_secs(300);
/// The range of tolerances.
const TOLERANCES: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(3600);

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::auth) struct SourceRecord {
    pub(in crate::auth) name: String,
    stream: String,
    scheme: String,
    /// One or two files, each with a secret. White space at its end is ignored.
    secret_file: OneOrMore,
    #[serde(default)]
    headers: Vec<String>,
    header: Option<String>,
    id_header: Option<String>,
    tolerance: Option<String>,
}

impl SourceRecord {
    /// Creates the source of the record, and reads its secrets.
    ///
    /// # Errors
    /// Returns the problem.
    pub(in crate::auth) fn source(&self, beside: &Path) -> Result<WebhookSource, String> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let (name, length) = (&self.name, self.name.len());
        if !(1..=MAX_NAME).contains(&length) || !name.bytes().all(is_plain) || name.starts_with('.')
        {
            return Err(format!(
                "a name must have 1 to {MAX_NAME} letters, digits, `-`, `_` and `.`, and not begin with `.`"
            ));
        }
        let stream = StreamName::new(&self.stream).map_err(|error| format!("stream: {error}"))?;
        let scheme = self.scheme()?;
        let files = self.secret_file.all();
        if !(1..=MAX_SECRETS).contains(&files.len()) {
            return Err("secret_file: must be one or two files".to_owned());
        }
        let key = |file: &String| {
            let text = std::fs::read(beside.join(file));
            let text = text.map_err(|error| format!("{file}: {error}"))?;
            let secret = secret(&scheme, text.trim_ascii_end());
            let secret = secret.map_err(|wrong| format!("{file}: {wrong}"))?;
            Ok(hmac::Key::new(hmac::HMAC_SHA256, &secret))
        };
        let keys = files.iter().map(key).collect::<Result<_, String>>()?;
        if self.headers.len() > MAX_HEADERS {
            return Err(format!("headers: must be at most {MAX_HEADERS}"));
        }
        let headers = self.headers.iter().map(|text| header_pattern(text));
        Ok(WebhookSource {
            name: name.as_str().into(),
            stream,
            headers: headers.collect::<Result<_, String>>()?,
            scheme,
            keys,
            tolerance: self.tolerance()?,
        })
    }

    fn scheme(&self) -> Result<WebhookScheme, String> {
        let scheme = match &*self.scheme {
            "standard-webhooks" => WebhookScheme::Standard,
            "github" => WebhookScheme::GitHub,
            "stripe" => WebhookScheme::Stripe,
            "slack" => WebhookScheme::Slack,
            "hmac-sha256" => {
                let header = self.header.as_deref();
                let header = header.ok_or("hmac-sha256 requires `header`")?;
                let lower = |name: &str| header_name("header", name);
                return Ok(WebhookScheme::HmacSha256 {
                    header: lower(header)?,
                    id_header: self.id_header.as_deref().map(lower).transpose()?,
                });
            }
            _ => {
                let detail =
                    "scheme: must be standard-webhooks, github, stripe, slack or hmac-sha256";
                return Err(detail.to_owned());
            }
        };
        if self.header.is_some() || self.id_header.is_some() {
            return Err("`header` and `id_header` require the scheme hmac-sha256".to_owned());
        }
        Ok(scheme)
    }

    fn tolerance(&self) -> Result<Duration, String> {
        let text = self.tolerance.as_deref();
        let tolerance = text.map_or(Ok(TOLERANCE), duration::parse);
        let tolerance = tolerance.map_err(|error| format!("tolerance: {error}"))?;
        match TOLERANCES.contains(&tolerance) {
            true => Ok(tolerance),
            false => Err("tolerance: must be 1s to 1h".to_owned()),
        }
    }
}

/// Returns the bytes of a secret as its scheme uses them.
fn secret(scheme: &WebhookScheme, text: &[u8]) -> Result<Vec<u8>, String> {
    let secret = match scheme {
        WebhookScheme::Standard => BASE64_STANDARD
            .decode(text.strip_prefix(b"whsec_").unwrap_or(text))
            .map_err(|_| "a secret of standard-webhooks must be `whsec_` and base64")?,
        _ => text.to_owned(),
    };
    match secret.len() < MIN_SECRET {
        true => Err(format!(
            "a secret must have at least {MIN_SECRET} bytes, because a shorter one could be guessed"
        )),
        false => Ok(secret),
    }
}

fn header_name(setting: &str, name: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    match !name.is_empty() && name.bytes().all(is_plain) {
        true => Ok(name.to_ascii_lowercase()),
        false => Err(format!("{setting}: {name:?} is not the name of a header")),
    }
}

fn header_pattern(text: &str) -> Result<Pattern, String> {
    let (name, end) = match text.strip_suffix('*') {
        Some(name) => (name, "*"),
        None => (text, ""),
    };
    header_name("headers", name).map(|name| Pattern::new(&[&name, end].concat()))
}
