//! Tickets: a right to follow some streams for a while, which fits into a URL.
//!
//! A browser's `EventSource` cannot send a header, and what stands in a URL is seen by more than it
//! should be. A ticket is worth little: it lets its bearer read what it names, until it ends, as long
//! as its maker may. It is signed with a secret that all gateways of one Redis share.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
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

/// Secrets that are still good for reading after another took their place.
const EARLIER: usize = 2;
/// Signs tickets, and reads them.
#[derive(Default)]
pub struct Tickets(RwLock<Known>);

#[derive(Default)]
struct Known {
    secret: Option<Vec<u8>>,
    /// The key of the secret, then those of the secrets before.
    keys: Vec<hmac::Key>,
    from_file: bool,
}

/// Why a ticket is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTicket {
    /// No secret is known yet.
    NoSecret,
    /// The text cannot be a ticket.
    Malformed,
    /// The ticket was signed with a secret that is not known here.
    BadSeal,
}

impl Tickets {
    /// Takes the secret that tickets are signed with from now on. Tickets signed with one of the
    /// last few secrets before stay good.
    pub fn share(&self, secret: &[u8]) {
        if self.known().secret.as_deref() == Some(secret) {
            return;
        }
        let mut known = self.known_mut();
        known.secret = Some(secret.to_owned());
        known
            .keys
            .insert(0, hmac::Key::new(hmac::HMAC_SHA256, secret));
        known.keys.truncate(1 + EARLIER);
    }

    /// Takes a secret from a file: it is the only one that is good.
    pub fn take_from_file(&self, secret: &[u8]) {
        let keys = vec![hmac::Key::new(hmac::HMAC_SHA256, secret)];
        *self.known_mut() = Known {
            secret: Some(secret.to_owned()),
            keys,
            from_file: true,
        };
    }

    /// Whether the secret comes from a file rather than from Redis.
    #[must_use]
    pub fn is_from_file(&self) -> bool {
        self.known().from_file
    }

    /// The secret there is.
    #[must_use]
    pub fn secret(&self) -> Option<Vec<u8>> {
        self.known().secret.clone()
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_mut(&self) -> RwLockWriteGuard<'_, Known> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A ticket as its bearer has it; `None` while no secret is known.
    #[must_use]
    pub fn sign(&self, ticket: &Ticket) -> Option<String> {
        let key = self.known().keys.first()?.clone();
        let said = BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(ticket).ok()?);
        let seal = BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&key, said.as_bytes()));
        Some(format!("{PREFIX}{said}.{seal}"))
    }

    /// Reads a ticket that was signed here, whether it has ended or not.
    ///
    /// # Errors
    /// [`NoTicket`].
    pub fn read(&self, text: &str) -> Result<Ticket, NoTicket> {
        let signed = text
            .strip_prefix(PREFIX)
            .filter(|_| text.len() <= MAX_TICKET);
        let (said, seal) = signed
            .and_then(|rest| rest.split_once('.'))
            .ok_or(NoTicket::Malformed)?;
        let seal = BASE64_URL_SAFE_NO_PAD
            .decode(seal)
            .map_err(|_| NoTicket::Malformed)?;
        let known = self.known();
        if known.keys.is_empty() {
            return Err(NoTicket::NoSecret);
        }
        if !known
            .keys
            .iter()
            .any(|key| hmac::verify(key, said.as_bytes(), &seal).is_ok())
        {
            return Err(NoTicket::BadSeal);
        }
        let said = BASE64_URL_SAFE_NO_PAD
            .decode(said)
            .map_err(|_| NoTicket::Malformed)?;
        serde_json::from_slice(&said).map_err(|_| NoTicket::Malformed)
    }
}

/// The shortest secret that a file may hold, in bytes.
const MIN_SECRET: usize = 32;

/// The secret in the text of a file: all of it but a line end.
///
/// # Errors
/// What is wrong, to be said after the name of the file.
pub fn secret_of(text: &[u8]) -> Result<Vec<u8>, String> {
    let secret = text.trim_ascii_end();
    match secret.len() < MIN_SECRET {
        true => Err(format!(
            "holds fewer than {MIN_SECRET} bytes, which can be guessed"
        )),
        false => Ok(secret.to_owned()),
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
        assert_eq!(theirs.read(&text), Err(NoTicket::BadSeal));
        assert_eq!(none.read(&text), Err(NoTicket::NoSecret));
        assert_eq!(none.sign(&ticket()), None);
    }

    #[test]
    fn a_ticket_outlives_a_change_of_the_shared_secret_and_not_one_of_the_file() {
        let ours = Tickets::default();
        ours.share(b"first");
        let text = ours.sign(&ticket()).unwrap();
        ours.share(b"second");
        assert_eq!(ours.read(&text), Ok(ticket()));
        let later = ours.sign(&ticket()).unwrap();
        assert_ne!(later, text);
        ours.take_from_file(b"third");
        assert_eq!(ours.read(&text), Err(NoTicket::BadSeal));
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
            assert!(
                ours.read(&String::from_utf8(bytes).unwrap()).is_err(),
                "{index}"
            );
        }
        for wrong in [
            "",
            "t1.",
            "t1..",
            "t1.e30.",
            &text[..text.len() - 1],
            &format!("{text}A"),
        ] {
            assert!(ours.read(wrong).is_err(), "{wrong:?}");
        }
    }
}
