//! Tickets: a right to follow some streams for a while, which fits into a URL.
//!
//! A browser's `EventSource` cannot send a header, and what stands in a URL is seen by more than it
//! should be. A ticket is worth little: it lets its bearer read what it names, until it ends, as long
//! as its maker may. It is signed with a secret that all gateways of one Redis share.

use std::sync::{PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::hmac;
use serde::{Deserialize, Serialize};

/// What tickets begin with.
const PREFIX: &str = "t1.";
/// The longest ticket, in bytes.
const MAX_TICKET: usize = 4096;

/// What a ticket says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// Who made it.
    #[serde(rename = "m")]
    pub maker: Maker,
    /// The streams it is for, by name or `PREFIX*`, as its maker calls them.
    #[serde(rename = "s")]
    pub streams: Vec<String>,
    /// When it ends, in Unix seconds.
    #[serde(rename = "e")]
    pub until: u64,
}

/// Who made a ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Maker {
    /// The bearer of the key of this name and mark.
    Key(String, String),
    /// A subject of the issuer that we call so, which is known by this name, and the mark of the key
    /// that signed its token.
    Token(String, String, String),
}

impl Ticket {
    /// When it ends.
    #[must_use]
    pub fn end(&self) -> SystemTime {
        let until = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(self.until));
        until.unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// Signs tickets, and reads them.
#[derive(Default)]
pub struct Tickets(RwLock<Option<(Vec<u8>, hmac::Key)>>);

impl Tickets {
    /// Takes the secret that tickets are signed with from now on.
    pub fn share(&self, secret: &[u8]) {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let secret = Some((secret.to_owned(), key));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = secret;
    }

    /// The secret there is.
    #[must_use]
    pub fn secret(&self) -> Option<Vec<u8>> {
        let shared = self.0.read().unwrap_or_else(PoisonError::into_inner);
        shared.as_ref().map(|(secret, _)| secret.clone())
    }

    fn key(&self) -> Option<hmac::Key> {
        let shared = self.0.read().unwrap_or_else(PoisonError::into_inner);
        shared.as_ref().map(|(_, key)| key.clone())
    }

    /// A ticket as its bearer has it; `None` while no secret is known.
    #[must_use]
    pub fn sign(&self, ticket: &Ticket) -> Option<String> {
        let key = self.key()?;
        let said = BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(ticket).ok()?);
        let seal = BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&key, said.as_bytes()));
        Some(format!("{PREFIX}{said}.{seal}"))
    }

    /// Reads a ticket that was signed here, whether it has ended or not.
    ///
    /// # Errors
    /// True when it may be good, but no secret is known yet.
    pub fn read(&self, text: &str) -> Result<Ticket, bool> {
        let signed = text.strip_prefix(PREFIX).filter(|_| text.len() <= MAX_TICKET);
        let (said, seal) = signed.and_then(|rest| rest.split_once('.')).ok_or(false)?;
        let seal = BASE64_URL_SAFE_NO_PAD.decode(seal).map_err(|_| false)?;
        let key = self.key().ok_or(true)?;
        hmac::verify(&key, said.as_bytes(), &seal).map_err(|_| false)?;
        let said = BASE64_URL_SAFE_NO_PAD.decode(said).map_err(|_| false)?;
        serde_json::from_slice(&said).map_err(|_| false)
    }
}

/// Whether there is room in a ticket for these names.
#[must_use]
pub fn fits(streams: &[String]) -> bool {
    streams.iter().map(|name| name.len() + 8).sum::<usize>() < MAX_TICKET / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        Ticket {
            maker: Maker::Key("k".to_owned(), "m".to_owned()),
            streams: vec!["a".to_owned()],
            until: 9,
        }
    }

    #[test]
    fn a_ticket_is_read_by_those_who_share_the_secret_and_nobody_else() {
        let (ours, theirs, none) = (Tickets::default(), Tickets::default(), Tickets::default());
        ours.share(b"secret");
        theirs.share(b"another");
        let text = ours.sign(&ticket()).unwrap();
        assert_eq!(ours.read(&text), Ok(ticket()));
        assert_eq!(theirs.read(&text), Err(false));
        assert_eq!(none.read(&text), Err(true));
        assert_eq!(none.sign(&ticket()), None);
    }

    #[test]
    fn a_ticket_that_was_changed_is_none() {
        let ours = Tickets::default();
        ours.share(b"secret");
        let text = ours.sign(&ticket()).unwrap();
        for index in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
            // The last character of an encoding has bits to spare, and a lenient reader ignores them.
            assert_eq!(ours.read(&String::from_utf8(bytes).unwrap()), Err(false), "{index}");
        }
        for wrong in ["", "t1.", "t1..", "t1.e30.", &text[..text.len() - 1], &format!("{text}A")] {
            assert_eq!(ours.read(wrong), Err(false), "{wrong:?}");
        }
    }
}
