//! Fields packed into one value: the list of names and values as `cmsgpack.pack` writes it in Lua
//! scripts. An entry with more arguments than a script can pass on is stored in this form.

use crate::model::entry::Fields;

/// The name of the field that holds packed fields.
pub const PACKED: &str = "streamgate-fields";

/// Unpacks fields. Returns `None` if the bytes are not a `MessagePack` list of names and values.
#[must_use]
pub fn unpack(packed: &[u8]) -> Option<Fields> {
    let mut rest = PackedBytes(packed);
    let count = match rest.byte()? {
        byte @ 0x90..=0x9f => usize::from(byte & 0x0f),
        0xdc => rest.number(2)?,
        0xdd => rest.number(4)?,
        _ => return None,
    };
    // A string takes at least one byte.
    if count % 2 == 1 || count > rest.0.len() {
        return None;
    }
    let mut fields = Fields::with_capacity(count / 2);
    for _ in 0..count / 2 {
        fields.push((rest.string()?, rest.string()?));
    }
    rest.0.is_empty().then_some(fields)
}

/// The bytes that are not read yet.
struct PackedBytes<'a>(&'a [u8]);

impl PackedBytes<'_> {
    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    /// Reads a big-endian number of up to four bytes.
    fn number(&mut self, bytes: usize) -> Option<usize> {
        Some(
            self.take(bytes)?
                .iter()
                .fold(0, |number, byte| number << 8 | usize::from(*byte)),
        )
    }

    fn string(&mut self) -> Option<Vec<u8>> {
        let length = match self.byte()? {
            byte @ 0xa0..=0xbf => usize::from(byte & 0x1f),
            0xd9 => self.number(1)?,
            0xda => self.number(2)?,
            0xdb => self.number(4)?,
            _ => return None,
        };
        self.take(length).map(<[u8]>::to_vec)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn strings_of_each_length_are_read() {
        let mut packed = vec![0x96];
        let lengths: [(&[u8], usize); 6] = [
            (&[0xa0], 0),
            (&[0xbf], 31),
            (&[0xd9, 200], 200),
            (&[0xda, 1, 0], 256),
            (&[0xdb, 0, 1, 0, 0], 65_536),
            (&[0xa1], 1),
        ];
        for (head, length) in lengths {
            packed.extend_from_slice(head);
            packed.resize(packed.len() + length, 0xff);
        }
        let fields = unpack(&packed).unwrap();
        let read: Vec<_> = fields
            .iter()
            .map(|(name, value)| (name.len(), value.len()))
            .collect();
        assert_eq!(read, [(0, 31), (200, 256), (65_536, 1)]);
        packed.push(0);
        assert_eq!(unpack(&packed), None, "something follows");
    }

    proptest! {
        #[test]
        fn anything_else_is_refused_without_a_panic(bytes: Vec<u8>, cut in 0_usize..5) {
            let _ = unpack(&bytes);
            let packed = [0x92, 0xa2, b'a', b'b', 0xa0];
            prop_assert_eq!(unpack(&packed[..cut]), None);
        }
    }
}
