//! Marks: which credential a ticket was made with. A principal may have several, and one may be taken
//! back alone; enough is kept of it to see whether it is still there, and too little to be of any use.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

/// How much of a hash is kept, bytes.
const KEPT: usize = 8;

/// The mark of a credential of this kind.
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
