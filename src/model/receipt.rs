//! Receipts: the proof of a worker that it still holds the lease on an entry.
//!
//! A receipt names an entry and the end of the lease with which the entry was delivered. It is
//! valid while the leases of the group contain exactly that end. A receipt is opaque but not
//! signed: it grants nothing beyond the right to consume in the group. A checksum over stream and
//! group distinguishes a receipt of another group, or a corrupted one, from one that is merely
//! late.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};

use crate::model::id::EntryId;
use crate::model::name::{GroupName, StreamName};

/// A decoded receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The id of the entry.
    pub id: EntryId,
    /// The end of the lease, in Unix microseconds by the clock of Redis.
    pub until_us: u64,
}

/// The error for a text that is not a receipt of this group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a receipt of this group")]
pub struct InvalidReceipt;

/// The upper limit for the end of a lease. Scores of sorted sets are doubles, which keep
/// microseconds up to this limit.
const MAX_UNTIL_US: u64 = 1 << 53;

impl Receipt {
    /// Encodes the receipt for a worker.
    #[must_use]
    pub fn encode(self, stream: &StreamName, group: &GroupName) -> String {
        let mut bytes = [0; 28];
        let parts = [self.id.ms, self.id.seq, self.until_us];
        for (place, part) in bytes.chunks_exact_mut(8).zip(parts) {
            place.copy_from_slice(&part.to_be_bytes());
        }
        let check = check(&bytes[..24], stream, group);
        bytes[24..].copy_from_slice(&check.to_be_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Decodes the text of a receipt.
    ///
    /// # Errors
    /// Returns [`InvalidReceipt`] for any text that was not encoded for this group of this stream.
    pub fn decode(
        text: &str,
        stream: &StreamName,
        group: &GroupName,
    ) -> Result<Self, InvalidReceipt> {
        let bytes = BASE64_URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| InvalidReceipt)?;
        let bytes: [u8; 28] = bytes.try_into().map_err(|_| InvalidReceipt)?;
        let number = |at: usize| {
            bytes[at..at + 8]
                .iter()
                .fold(0_u64, |number, byte| (number << 8) | u64::from(*byte))
        };
        let receipt = Self {
            id: EntryId::new(number(0), number(8)),
            until_us: number(16),
        };
        let whole = check(&bytes[..24], stream, group).to_be_bytes() == bytes[24..];
        if whole && receipt.until_us < MAX_UNTIL_US {
            Ok(receipt)
        } else {
            Err(InvalidReceipt)
        }
    }
}

/// Computes an FNV-1a checksum. It detects mistakes, not forgery.
fn check(bytes: &[u8], stream: &StreamName, group: &GroupName) -> u32 {
    let all = bytes
        .iter()
        .chain(stream.redis_key().as_bytes())
        .chain(&[0]);
    all.chain(group.as_bytes()).fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(stream: &str, group: &str) -> (StreamName, GroupName) {
        (
            StreamName::new(stream).unwrap(),
            GroupName::new(group).unwrap(),
        )
    }

    #[test]
    fn a_receipt_of_another_group_is_none() {
        let (stream, group) = names("orders", "billing");
        let text = Receipt {
            id: EntryId::new(1, 0),
            until_us: 5,
        }
        .encode(&stream, &group);
        for (stream, group) in [names("orders", "shipping"), names("order", "sbilling")] {
            assert_eq!(Receipt::decode(&text, &stream, &group), Err(InvalidReceipt));
        }
    }

    proptest! {
        #[test]
        fn receipts_survive_and_mangled_ones_do_not(
            ms: u64, seq: u64, until_us in 0..MAX_UNTIL_US, cut in 0_usize..38, other in "[A-Za-z0-9_-]",
        ) {
            let (stream, group) = names("s", "g");
            let receipt = Receipt { id: EntryId::new(ms, seq), until_us };
            let text = receipt.encode(&stream, &group);
            prop_assert_eq!(Receipt::decode(&text, &stream, &group), Ok(receipt));
            prop_assert_eq!(Receipt::decode(&text[..cut], &stream, &group), Err(InvalidReceipt));
            let mut changed = text.clone();
            changed.replace_range(cut..=cut.min(text.len() - 1), &other);
            if changed != text {
                prop_assert_eq!(Receipt::decode(&changed, &stream, &group), Err(InvalidReceipt));
            }
        }

        #[test]
        fn no_text_is_read_with_a_panic(text: String) {
            let (stream, group) = names("s", "g");
            let _ = Receipt::decode(&text, &stream, &group);
        }
    }
}
