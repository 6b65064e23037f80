//! Cursors of subscriptions to several streams. A cursor holds the position in each stream as one
//! token, which fits into the `id:` of an event and comes back in `Last-Event-ID`.
//!
//! The token is `m1.` followed by the base64url encoding of:
//!
//! - the number of streams,
//! - the greatest millisecond time among their ids,
//! - for each stream: a hash of its name, the distance from that greatest time to the time of its
//!   id, the sequence of its id, and its count plus one (0 if the count is unknown).
//!
//! All numbers have a variable length, so an ordinary stream takes about 17 characters. If the
//! cursor would be longer than [`MAX_CURSOR`], counts are left out, beginning with those of the
//! quietest streams. Such a position still resumes exactly, but a gap may go uncounted. If the ids
//! are too long even then, each takes 16 bytes, and the prefix is `m2.`. At most [`MAX_STREAMS`] of
//! these always fit.

use std::fmt;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use sha2::{Digest as _, Sha256};

use crate::model::id::{EntryId, InvalidId};
use crate::model::name::StreamName;
use crate::model::position::Position;

/// The maximum number of streams in one subscription.
pub const MAX_STREAMS: usize = 256;
/// The maximum length of a cursor, in characters. A request line with the cursor in its query stays
/// below the 8 KiB that common proxies accept.
pub const MAX_CURSOR: usize = 7400;

/// The prefix of cursors with variable-length numbers and counts.
const PREFIX: &str = "m1.";
/// The prefix of cursors with 16-byte ids and without counts.
const PREFIX_FIXED: &str = "m2.";
/// The number of bytes that [`MAX_CURSOR`] characters encode.
const MAX_BYTES: usize = (MAX_CURSOR - PREFIX.len()) / 4 * 3;
/// The length of a name's hash, in bytes. Two of 256 names collide once in 30 million times.
const HASH: usize = 5;
/// The encoded length of a stream with a 16-byte id, in bytes.
const FIXED: usize = HASH + 16;

/// The hash of a stream name, which identifies the stream in a cursor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameHash([u8; HASH]);

impl From<&StreamName> for NameHash {
    fn from(name: &StreamName) -> Self {
        let digest = Sha256::digest(name.redis_key().as_bytes());
        let mut hash = [0; HASH];
        hash.copy_from_slice(&digest[..HASH]);
        Self(hash)
    }
}

/// The positions in several streams.
///
/// ```
/// use streamgate::model::cursor::{NameHash, StreamsCursor, write};
/// use streamgate::model::id::EntryId;
/// use streamgate::model::name::StreamName;
/// use streamgate::model::position::Position;
///
/// let orders = StreamName::new("orders")?;
/// let position = Position::new(EntryId::new(1_795_232_709_004, 0), Some(42));
///
/// let mut text = Vec::new();
/// write(&mut text, &[(NameHash::from(&orders), position)]);
///
/// let cursor = StreamsCursor::parse(&String::from_utf8(text)?)?;
/// assert_eq!(cursor.of(&orders), Some(position));
/// assert_eq!(cursor.of(&StreamName::new("invoices")?), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamsCursor(Vec<(NameHash, Position)>);

impl StreamsCursor {
    /// Returns the position in a stream; `None` if the cursor does not contain the stream.
    #[must_use]
    pub fn of(&self, stream: &StreamName) -> Option<Position> {
        let hash = NameHash::from(stream);
        self.0
            .iter()
            .find(|(known, _)| *known == hash)
            .map(|(_, position)| *position)
    }

    /// Parses a cursor.
    ///
    /// # Errors
    /// Returns [`InvalidId`] for any text that [`write()`] does not produce.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        if text.len() > MAX_CURSOR {
            return Err(InvalidId);
        }
        let decode = |encoded: &str| {
            BASE64_URL_SAFE_NO_PAD
                .decode(encoded)
                .map_err(|_| InvalidId)
        };
        if let Some(encoded) = text.strip_prefix(PREFIX) {
            return Self::parse_variable(&decode(encoded)?);
        }
        let cursor =
            Self::parse_fixed(&decode(text.strip_prefix(PREFIX_FIXED).ok_or(InvalidId)?)?)?;
        // Each cursor has one spelling: this form is only for cursors that the other form cannot
        // hold.
        (cursor.to_string() == text)
            .then_some(cursor)
            .ok_or(InvalidId)
    }

    fn parse_variable(bytes: &[u8]) -> Result<Self, InvalidId> {
        let rest = &mut &*bytes;
        let (count, base) = (take_number(rest)?, take_number(rest)?);
        let count = usize::try_from(count)
            .ok()
            .filter(|count| *count <= MAX_STREAMS);
        let mut positions = Vec::new();
        for _ in 0..count.ok_or(InvalidId)? {
            let (hash, after) = rest.split_first_chunk::<HASH>().ok_or(InvalidId)?;
            *rest = after;
            let ms = base.checked_sub(take_number(rest)?).ok_or(InvalidId)?;
            let id = EntryId::new(ms, take_number(rest)?);
            let n = take_number(rest)?.checked_sub(1);
            positions.push((NameHash(*hash), Position::new(id, n)));
        }
        let latest = positions.iter().map(|(_, position)| position.id.ms).max();
        let whole = rest.is_empty() && base == latest.unwrap_or(0);
        whole.then_some(Self(positions)).ok_or(InvalidId)
    }

    fn parse_fixed(bytes: &[u8]) -> Result<Self, InvalidId> {
        let (streams, rest) = bytes.as_chunks::<FIXED>();
        if !rest.is_empty() || streams.len() > MAX_STREAMS {
            return Err(InvalidId);
        }
        let position = |stream: &[u8; FIXED]| {
            let (hash, rest) = stream.split_first_chunk::<HASH>()?;
            let (ms, rest) = rest.split_first_chunk::<8>()?;
            let (seq, _) = rest.split_first_chunk::<8>()?;
            let id = EntryId::new(u64::from_be_bytes(*ms), u64::from_be_bytes(*seq));
            Some((NameHash(*hash), Position::new(id, None)))
        };
        streams
            .iter()
            .map(position)
            .collect::<Option<_>>()
            .map(Self)
            .ok_or(InvalidId)
    }
}

/// Appends the cursor of these positions to `out`. At most [`MAX_STREAMS`] positions are allowed.
pub fn write(out: &mut Vec<u8>, positions: &[(NameHash, Position)]) {
    debug_assert!(
        positions.len() <= MAX_STREAMS,
        "a subscription follows at most MAX_STREAMS streams"
    );
    let (prefix, bytes) = match variable(positions) {
        Some(bytes) => (PREFIX, bytes),
        None => (PREFIX_FIXED, fixed(positions)),
    };
    out.extend_from_slice(prefix.as_bytes());
    out.extend_from_slice(BASE64_URL_SAFE_NO_PAD.encode(&bytes).as_bytes());
}

/// Encodes positions with variable-length numbers and as many counts as fit. Returns `None` if the
/// ids alone are too long.
fn variable(positions: &[(NameHash, Position)]) -> Option<Vec<u8>> {
    let base = positions
        .iter()
        .map(|(_, position)| position.id.ms)
        .max()
        .unwrap_or(0);
    let mut bytes = Vec::with_capacity(20 + 16 * positions.len());
    put_number(&mut bytes, positions.len() as u64);
    put_number(&mut bytes, base);
    let head = bytes.len();
    let put_all = |bytes: &mut Vec<u8>, counted_from: Option<EntryId>| {
        bytes.truncate(head);
        for (hash, position) in positions {
            bytes.extend_from_slice(&hash.0);
            put_number(bytes, base - position.id.ms);
            put_number(bytes, position.id.seq);
            let n = position
                .n
                .filter(|_| counted_from.is_some_and(|from| position.id >= from));
            // The greatest possible count is left out, because adding one would overflow.
            put_number(bytes, n.and_then(|n| n.checked_add(1)).unwrap_or(0));
        }
    };
    put_all(&mut bytes, Some(EntryId::MIN));
    if bytes.len() > MAX_BYTES {
        let mut ids: Vec<_> = positions.iter().map(|(_, position)| position.id).collect();
        ids.sort_unstable();
        // Drop half of the remaining counts until the cursor fits or none is left.
        let mut from = ids.len() / 2;
        while bytes.len() > MAX_BYTES && from < ids.len() {
            put_all(&mut bytes, Some(ids[from]));
            from += (ids.len() - from).div_ceil(2);
        }
        if bytes.len() > MAX_BYTES {
            put_all(&mut bytes, None);
        }
    }
    (bytes.len() <= MAX_BYTES).then_some(bytes)
}

/// Encodes positions with 16-byte ids and without counts.
fn fixed(positions: &[(NameHash, Position)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FIXED * positions.len());
    for (hash, position) in positions {
        bytes.extend_from_slice(&hash.0);
        bytes.extend_from_slice(&position.id.ms.to_be_bytes());
        bytes.extend_from_slice(&position.id.seq.to_be_bytes());
    }
    bytes
}

/// Returns whether a text has the prefix of a cursor and so is not a position.
#[must_use]
pub fn is_cursor(text: &str) -> bool {
    text.starts_with(PREFIX) || text.starts_with(PREFIX_FIXED)
}

impl fmt::Display for StreamsCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::new();
        write(&mut text, &self.0);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or(0);
        number >>= 7;
        if number == 0 {
            return bytes.push(low);
        }
        bytes.push(low | 0x80);
    }
}

fn take_number(rest: &mut &[u8]) -> Result<u64, InvalidId> {
    let mut number = 0_u64;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, after) = rest.split_first().ok_or(InvalidId)?;
        *rest = after;
        let low = u64::from(byte & 0x7f);
        if low.leading_zeros() < shift {
            return Err(InvalidId);
        }
        number |= low << shift;
        if byte & 0x80 == 0 {
            // Each number has one spelling.
            return if *byte == 0 && shift > 0 {
                Err(InvalidId)
            } else {
                Ok(number)
            };
        }
    }
    Err(InvalidId)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hash(n: u64) -> NameHash {
        NameHash::from(&StreamName::new(&format!("stream {n}")).unwrap())
    }

    fn text(positions: &[(NameHash, Position)]) -> String {
        let mut out = Vec::new();
        write(&mut out, positions);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn ordinary_streams_fit_with_room_to_spare() {
        let now = 1_795_232_709_004;
        let position = |n: u64| Position::new(EntryId::new(now - n * 60_000, 3), Some(4_000 + n));
        let few: Vec<_> = (0..10).map(|n| (hash(n), position(n))).collect();
        assert!(text(&few).len() < 180, "{}", text(&few).len());
        let many: Vec<_> = (0..256).map(|n| (hash(n), position(n))).collect();
        assert!(text(&many).len() <= MAX_CURSOR);
        let read = StreamsCursor::parse(&text(&many)).unwrap();
        assert!(
            read.0
                .iter()
                .zip(&many)
                .all(|(read, written)| read.1.id == written.1.id)
        );
        assert_eq!(read.0[0], many[0], "the busiest keeps its count");
    }

    #[test]
    fn as_many_streams_as_may_be_always_fit_without_losing_an_id() {
        let now = 1_795_232_709_004;
        let quiet = |n: u64| EntryId::new(if n == 0 { now } else { n * 1_000_000 }, 0);
        let longest = |n: u64| EntryId::new(if n == 0 { u64::MAX } else { n }, u64::MAX);
        for (id, prefix) in [
            (&quiet as &dyn Fn(u64) -> EntryId, "m1."),
            (&longest, "m2."),
        ] {
            let position = |n| Position::new(id(n), Some(u64::MAX - 1));
            let all: Vec<_> = (0..256).map(|n| (hash(n), position(n))).collect();
            let text = text(&all);
            assert!(
                text.len() <= MAX_CURSOR && text.starts_with(prefix),
                "{}",
                text.len()
            );
            let read = StreamsCursor::parse(&text).unwrap();
            assert!(
                read.0
                    .iter()
                    .zip(&all)
                    .all(|(read, of)| (read.0, read.1.id) == (of.0, of.1.id))
            );
            assert_eq!(read.to_string(), text);
        }
    }

    #[test]
    fn ids_of_16_bytes_are_taken_only_where_nothing_shorter_fits() {
        let short = [(hash(1), Position::from(EntryId::new(5, 1)))];
        let text = format!(
            "{PREFIX_FIXED}{}",
            BASE64_URL_SAFE_NO_PAD.encode(fixed(&short))
        );
        assert_eq!(StreamsCursor::parse(&text), Err(InvalidId));
    }

    #[test]
    fn a_stream_is_found_by_its_name_and_no_other() {
        let name = |name| StreamName::new(name).unwrap();
        let position = Position::new(EntryId::new(5, 1), Some(9));
        let cursor = StreamsCursor(vec![(NameHash::from(&name("a")), position)]);
        let read = StreamsCursor::parse(&cursor.to_string()).unwrap();
        assert_eq!(
            (read.of(&name("a")), read.of(&name("b"))),
            (Some(position), None)
        );
    }

    proptest! {
        #[test]
        fn every_cursor_survives_being_written_and_read(
            positions in prop::collection::vec((any::<u64>(), any::<u64>(), prop::option::of(0..u64::MAX)), 0..40)
        ) {
            let positions: Vec<_> = (0..).zip(positions)
                .map(|(at, (ms, seq, n))| (hash(at), Position::new(EntryId::new(ms, seq), n)))
                .collect();
            prop_assert_eq!(StreamsCursor::parse(&text(&positions)), Ok(StreamsCursor(positions)));
        }

        #[test]
        fn what_was_cut_or_changed_is_refused_or_read_as_what_it_says(
            at in any::<prop::sample::Index>(), with: u8, cut: bool
        ) {
            let positions = [(hash(1), Position::new(EntryId::new(1_795_232_709_004, 0), Some(7))),
                             (hash(2), Position::new(EntryId::new(1_795_232_000_000, 2), None))];
            let mut bytes = text(&positions).into_bytes();
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at); } else { bytes[at] = with; }
            if let Ok(changed) = String::from_utf8(bytes)
                && let Ok(cursor) = StreamsCursor::parse(&changed)
            {
                prop_assert!(!cut);
                prop_assert_eq!(cursor.to_string(), changed);
            }
        }
    }
}
