//! API keys: their generation, and the hashes that are stored of them.
//!
//! A key is 256 random bits, so it cannot be guessed and a plain hash is enough to store it.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::auth::mark::mark;

/// The prefix of keys, which makes leaked keys easy to find.
const PREFIX: &str = "sgk_";
/// The prefix of hashes.
const KIND: &str = "sha256:";
/// The minimum length of a key that is hashed, in bytes. A key that a person made up can be guessed
/// from its hash.
pub const MIN_LENGTH: usize = 32;

/// The hash of a key.
#[derive(Clone, Debug)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// Hashes a key.
    #[must_use]
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    /// Parses `sha256:` and 64 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(KIND)?.as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |index: usize| char::from(pair[index]).to_digit(16);
            *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
        }
        Some(Self(bytes))
    }

    /// Returns the first bytes of the hash, to look it up by. The lookup does not take constant
    /// time. It reveals no more than a caller can learn from hashes of its own keys.
    #[must_use]
    pub fn shelf(&self) -> [u8; 8] {
        let mut begin = [0; 8];
        begin.copy_from_slice(&self.0[..8]);
        begin
    }

    /// Returns the mark of the key in tickets.
    #[must_use]
    pub fn mark(&self) -> Box<str> {
        mark("api key", &self.0)
    }

    /// Compares two hashes in constant time.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl std::fmt::Display for KeyHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(KIND)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Generates a key. Returns `None` if the system provides no random bytes.
#[must_use]
pub fn new_key() -> Option<String> {
    let mut secret = [0; 32];
    SystemRandom::new().fill(&mut secret).ok()?;
    let mut key = PREFIX.to_owned();
    // Writing into a `String` cannot fail.
    let _ = write!(key, "{}", BASE64_URL_SAFE_NO_PAD.encode(secret));
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_as_it_is_written() {
        let key = new_key().unwrap();
        let hash = KeyHash::of(&key);
        assert!(KeyHash::parse(&hash.to_string()).unwrap().is(&hash));
        assert!(!KeyHash::of("another").is(&hash));
        assert_ne!(new_key().unwrap(), key);
        assert_eq!(
            KeyHash::of("abc").to_string(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        let zeros = "0".repeat(64);
        for wrong in [
            "",
            &zeros,
            "sha256:",
            &format!("sha256:{}g", &zeros[1..]),
            &format!("sha1:{zeros}"),
        ] {
            assert!(KeyHash::parse(wrong).is_none(), "{wrong:?}");
        }
    }
}
