//! Webhook sources: senders that sign their requests instead of sending a credential.
//!
//! A source has a name, a stream and one or two secrets. Its scheme says which headers hold the
//! signature, the time and the id of a delivery.

mod record;
mod scheme;

use std::time::Duration;

use ring::hmac;
use subtle::{Choice, ConstantTimeEq as _};

pub(in crate::auth) use crate::auth::webhook::record::SourceRecord;

use crate::auth::grants::Pattern;
use crate::auth::webhook::scheme::{SignedParts, WebhookScheme};
use crate::model::name::StreamName;

/// The maximum number of signatures of one request that are compared.
const MAX_SIGNATURES: usize = 10;

/// Returns the value of a header that is given once, by its lower-case name.
pub type HeaderLookup<'h> = &'h dyn Fn(&str) -> Option<&'h str>;

/// A sender of webhooks.
pub struct WebhookSource {
    /// The name in the URL.
    pub name: Box<str>,
    /// The stream to which deliveries are appended.
    pub stream: StreamName,
    /// The headers that are stored as fields, by name or `PREFIX*`.
    headers: Vec<Pattern>,
    scheme: WebhookScheme,
    keys: Vec<hmac::Key>,
    /// The maximum difference between the clock of the sender and that of the gateway.
    tolerance: Duration,
}

/// A request whose signature is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedDelivery {
    /// The id that all attempts to send the delivery share.
    pub id: Option<String>,
    /// Whether the sender guarantees that an id stands for one event, whatever else differs
    /// between two attempts.
    pub id_is_of_event: bool,
    /// The text with which to answer a request that only checks the URL.
    pub challenge: Option<String>,
}

/// The reason why a request to a source is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryError {
    /// No secret of the source made any of the signatures.
    Signature,
    /// The signature is valid, but its time is too far from that of the gateway.
    Stale,
}

impl WebhookSource {
    /// Verifies a request, `now` in Unix seconds. The signature is verified before anything else of
    /// the request is used.
    ///
    /// # Errors
    /// Returns [`DeliveryError`] if the request is not to be stored.
    pub fn verify(
        &self,
        header: HeaderLookup<'_>,
        body: &[u8],
        now: u64,
    ) -> Result<SignedDelivery, DeliveryError> {
        let parts = self.scheme.parts(header).ok_or(DeliveryError::Signature)?;
        if !self.is_signed(&parts, body) {
            return Err(DeliveryError::Signature);
        }
        let tolerance = self.tolerance.as_secs();
        if parts
            .time
            .is_some_and(|time| time.abs_diff(now) > tolerance)
        {
            return Err(DeliveryError::Stale);
        }
        Ok(self.scheme.delivery(&parts, body))
    }

    /// Compares every signature with the tag of every key, in constant time.
    fn is_signed(&self, parts: &SignedParts<'_>, body: &[u8]) -> bool {
        let mut any = Choice::from(0);
        for key in &self.keys {
            let mut context = hmac::Context::with_key(key);
            context.update(&parts.prefix);
            context.update(body);
            let tag = context.sign();
            for signature in parts.signatures.iter().take(MAX_SIGNATURES) {
                any |= tag.as_ref().ct_eq(signature);
            }
        }
        any.into()
    }

    /// Returns whether a header with this lower-case name is stored as a field.
    #[must_use]
    pub fn stores(&self, header: &str) -> bool {
        self.headers.iter().any(|pattern| pattern.takes(header))
    }

    /// Returns the time for which ids must be remembered, so that no request can be replayed while
    /// its signature is valid.
    #[must_use]
    pub fn replay_window(&self) -> Duration {
        self.tolerance * 2
    }
}

impl std::fmt::Debug for WebhookSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookSource")
            .field("name", &self.name)
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}
