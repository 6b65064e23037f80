//! Marks: short hashes that identify the credential with which a ticket was created. A principal
//! can have several credentials, and each can be revoked on its own. A mark is long enough to
//! recognize its credential, and too short to be of any other use.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

/// The length of a mark before its encoding, in bytes.
const KEPT: usize = 8;

/// Returns the mark of a credential of this kind.
#[must_use]
pub fn mark(kind: &str, credential: &[u8]) -> Box<str> {
    let mut hash = Sha256::new();
    hash.update(b"streamgate mark\0");
    hash.update(kind.as_bytes());
    hash.update(b"\0");
    hash.update(credential);
    BASE64_URL_SAFE_NO_PAD
        .encode(&hash.finalize()[..KEPT])
        .into()
}
