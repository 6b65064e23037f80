//! Receipts: what a worker proves with that an entry is still its own.
//!
//! A receipt names an entry and the end of the lease it was handed out with; it is good while the
//! leases of the group hold exactly that end. It is opaque and not signed: it grants nothing that
//! the right to work in the group does not. A check over stream and group tells one of another
//! group, or one that was mangled on its way, from one that is merely late.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};

use crate::model::id::EntryId;
use crate::model::name::{GroupName, StreamName};

/// A receipt that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The entry.
    pub id: EntryId,
    /// When its lease ends, in Unix microseconds by the clock of Redis.
    pub until_us: u64,
}

/// Not a receipt of this group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no receipt of this group")]
pub struct InvalidReceipt;

/// The greatest end of a lease that a sorted set keeps to the microsecond: its scores are doubles.
const MAX_UNTIL_US: u64 = 1 << 53;

impl Receipt {
    /// The text a worker is given.
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

    /// Reads the text back.
    ///
    /// # Errors
    /// [`InvalidReceipt`] for anything that was not written for this group of this stream.
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

/// FNV-1a: against mistakes, not against malice.
fn check(bytes: &[u8], stream: &StreamName, group: &GroupName) -> u32 {
    let all = bytes.iter().chain(stream.as_str().as_bytes()).chain(&[0]);
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
