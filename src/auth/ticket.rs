//! Tickets: credentials for following some streams for a limited time, which fit into a URL.
//!
//! `EventSource` in browsers cannot send headers, and a URL is visible to more parties than it
//! should be. So a ticket is worth little: its bearer can only read the named streams, until the
//! ticket expires, and as long as the creator can. All gateways of one Redis share the secret that
//! signs tickets.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use ring::hmac;
use serde::{Deserialize, Serialize};

/// The prefix of tickets.
const PREFIX: &str = "t1.";
/// The maximum length of a ticket, in bytes.
const MAX_TICKET: usize = 4096;

/// The contents of a ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The creator of the ticket.
    #[serde(rename = "m")]
    pub maker: TicketCreator,
    /// The streams of the ticket, by name or `PREFIX*`, in the creator's namespace.
    #[serde(rename = "s")]
    pub streams: Vec<String>,
    /// The expiry, in Unix seconds.
    #[serde(rename = "e")]
    pub until: u64,
}

/// The creator of a ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TicketCreator {
    /// The holder of an API key: the name and the mark of the key.
    Key(String, String),
    /// The subject of a token: the issuer's name in the auth file, the principal's name, and the
    /// mark of the key that signed the token.
    Token(String, String, String),
}

impl Ticket {
    /// Returns the expiry.
    #[must_use]
    pub fn end(&self) -> SystemTime {
        let until = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(self.until));
        until.unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// The number of previous secrets that are still accepted.
const EARLIER: usize = 2;
/// The signer and verifier of tickets.
#[derive(Default)]
pub struct TicketSigner(RwLock<TicketSecrets>);

#[derive(Default)]
struct TicketSecrets {
    secret: Option<Vec<u8>>,
    /// The key of the current secret, followed by those of previous secrets.
    keys: Vec<hmac::Key>,
    from_file: bool,
}

/// The reason why a ticket is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidTicket {
    /// No secret is known yet.
    NoSecret,
    /// The text is not a ticket.
    Malformed,
    /// The ticket was signed with an unknown secret.
    BadSeal,
}

impl TicketSigner {
    /// Sets the secret that signs tickets from now on. Tickets signed with one of the last few
    /// secrets stay valid.
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

    /// Sets a secret from a file, which is then the only accepted one.
    pub fn take_from_file(&self, secret: &[u8]) {
        let keys = vec![hmac::Key::new(hmac::HMAC_SHA256, secret)];
        *self.known_mut() = TicketSecrets {
            secret: Some(secret.to_owned()),
            keys,
            from_file: true,
        };
    }

    /// Returns whether the secret comes from a file instead of Redis.
    #[must_use]
    pub fn is_from_file(&self) -> bool {
        self.known().from_file
    }

    /// Returns the current secret.
    #[must_use]
    pub fn secret(&self) -> Option<Vec<u8>> {
        self.known().secret.clone()
    }

    fn known(&self) -> RwLockReadGuard<'_, TicketSecrets> {
        self.0.read()
    }

    fn known_mut(&self) -> RwLockWriteGuard<'_, TicketSecrets> {
        self.0.write()
    }

    /// Signs a ticket and returns its text; `None` while no secret is known.
    #[must_use]
    pub fn sign(&self, ticket: &Ticket) -> Option<String> {
        let key = self.known().keys.first()?.clone();
        let said = BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(ticket).ok()?);
        let seal = BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&key, said.as_bytes()));
        Some(format!("{PREFIX}{said}.{seal}"))
    }

    /// Reads a ticket and verifies its signature, but not its expiry.
    ///
    /// # Errors
    /// Returns the reason why the ticket is not accepted.
    pub fn read(&self, text: &str) -> Result<Ticket, InvalidTicket> {
        let signed = text
            .strip_prefix(PREFIX)
            .filter(|_| text.len() <= MAX_TICKET);
        let (said, seal) = signed
            .and_then(|rest| rest.split_once('.'))
            .ok_or(InvalidTicket::Malformed)?;
        let seal = BASE64_URL_SAFE_NO_PAD
            .decode(seal)
            .map_err(|_| InvalidTicket::Malformed)?;
        let known = self.known();
        if known.keys.is_empty() {
            return Err(InvalidTicket::NoSecret);
        }
        if !known
            .keys
            .iter()
            .any(|key| hmac::verify(key, said.as_bytes(), &seal).is_ok())
        {
            return Err(InvalidTicket::BadSeal);
        }
        let said = BASE64_URL_SAFE_NO_PAD
            .decode(said)
            .map_err(|_| InvalidTicket::Malformed)?;
        serde_json::from_slice(&said).map_err(|_| InvalidTicket::Malformed)
    }
}

/// The minimum length of a secret in a file, in bytes.
const MIN_SECRET: usize = 32;

/// Returns the secret in the text of a file, without white space at its end.
///
/// # Errors
/// Returns the problem as a predicate, to follow the name of the file.
pub fn secret_of(text: &[u8]) -> Result<Vec<u8>, String> {
    let secret = text.trim_ascii_end();
    match secret.len() < MIN_SECRET {
        true => Err(format!(
            "has fewer than {MIN_SECRET} bytes and could be guessed"
        )),
        false => Ok(secret.to_owned()),
    }
}

/// Returns whether these names fit into a ticket.
#[must_use]
pub fn fits(streams: &[String]) -> bool {
    streams.iter().map(|name| name.len() + 8).sum::<usize>() < MAX_TICKET / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        Ticket {
            maker: TicketCreator::Key("k".to_owned(), "m".to_owned()),
            streams: vec!["a".to_owned()],
            until: 9,
        }
    }

    #[test]
    fn a_ticket_is_read_by_those_who_share_the_secret_and_nobody_else() {
        let (ours, theirs, none) = (
            TicketSigner::default(),
            TicketSigner::default(),
            TicketSigner::default(),
        );
        ours.share(b"secret");
        theirs.share(b"another");
        let text = ours.sign(&ticket()).unwrap();
        assert_eq!(ours.read(&text), Ok(ticket()));
        assert_eq!(theirs.read(&text), Err(InvalidTicket::BadSeal));
        assert_eq!(none.read(&text), Err(InvalidTicket::NoSecret));
        assert_eq!(none.sign(&ticket()), None);
    }

    #[test]
    fn a_ticket_outlives_a_change_of_the_shared_secret_and_not_one_of_the_file() {
        let ours = TicketSigner::default();
        ours.share(b"first");
        let text = ours.sign(&ticket()).unwrap();
        ours.share(b"second");
        assert_eq!(ours.read(&text), Ok(ticket()));
        let later = ours.sign(&ticket()).unwrap();
        assert_ne!(later, text);
        ours.take_from_file(b"third");
        assert_eq!(ours.read(&text), Err(InvalidTicket::BadSeal));
    }

    #[test]
    fn a_ticket_that_was_changed_is_none() {
        let ours = TicketSigner::default();
        ours.share(b"secret");
        let text = ours.sign(&ticket()).unwrap();
        for index in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
            // The last character of an encoding has unused bits, which a lenient decoder ignores.
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
