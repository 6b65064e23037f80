//! Ids, positions, cursors, receipts, names and times: parsed texts survive a round trip.

use std::str::from_utf8;

use streamgate::model::cursor::{self, StreamsCursor};
use streamgate::model::glob::{NamePattern, literal, prefixed};
use streamgate::model::id::{EntryId, NewId};
use streamgate::model::name::{ConsumerName, GroupName, MAX_NAME, OWN_PREFIX, StreamName};
use streamgate::model::policy::{self, Policy};
use streamgate::model::position::{Position, Start};
use streamgate::model::receipt::Receipt;
use streamgate::model::time::{Time, is_rfc3339, show_rfc3339};
use streamgate::model::{duration, range};

use super::bytes::Taker;

/// Checks ids, positions, bounds and the cursors of ranges.
pub fn ids(data: &[u8]) {
    let Ok(text) = from_utf8(data) else { return };
    if let Ok(id) = text.parse::<EntryId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(EntryId::parse_with(text, 7), Ok(id));
        assert_eq!(text.parse(), Ok(NewId::Exact(id)));
        assert_eq!(text.parse(), Ok(Position::from(id)));
        assert_eq!(range::lower(text), Ok(Some(id)));
        assert_eq!(range::upper(text), Ok(Some(id)));
        assert!(
            id.next()
                .is_none_or(|next| next > id && next.previous() == Some(id))
        );
    }
    if let Ok(new) = text.parse::<NewId>() {
        assert_eq!(new.to_string().parse(), Ok(new));
    }
    if let Ok(position) = text.parse::<Position>() {
        assert_eq!(position.to_string().parse(), Ok(position));
        assert_eq!(text.parse(), Ok(Start::After(position)));
        assert!(
            !cursor::is_cursor(text),
            "a position must not be taken for a cursor"
        );
    }
    if let (Ok(lower), Ok(upper)) = (range::lower(text), range::upper(text))
        && let (Some(lower), Some(upper), false) = (lower, upper, text.starts_with('('))
    {
        assert!(
            lower <= upper,
            "a text used as both bounds must include itself"
        );
    }
    if let Ok(cursor) = text.parse::<range::RangeCursor>() {
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
    }
}

/// Checks cursors over several streams, and receipts. Both are opaque texts with one spelling each.
pub fn cursors(data: &[u8]) {
    let Ok(text) = from_utf8(data) else { return };
    for text in [text, &format!("m1.{text}"), &format!("m2.{text}")] {
        if let Ok(read) = StreamsCursor::parse(text) {
            assert_eq!(read.to_string(), text);
            assert!(text.len() <= cursor::MAX_CURSOR && cursor::is_cursor(text));
            assert!(
                text.parse::<Position>().is_err(),
                "a cursor must not be taken for a position"
            );
        }
    }
    let (Ok(stream), Ok(group)) = (StreamName::new("orders"), GroupName::new("billing")) else {
        unreachable!()
    };
    if let Ok(receipt) = Receipt::decode(text, &stream, &group) {
        assert_eq!(receipt.encode(&stream, &group), text);
    }
    // A valid receipt is encoded here, because random input hardly ever has the right checksum.
    let mut from = Taker(data);
    let id = EntryId::new(from.number(), from.number());
    let receipt = Receipt {
        id,
        until_us: from.number(),
    };
    let text = receipt.encode(&stream, &group);
    let read = Receipt::decode(&text, &stream, &group);
    assert_eq!(read.is_ok(), receipt.until_us < 1 << 53);
    assert!(read.is_err() || read == Ok(receipt));
}

/// Checks names, and their hash slots in Redis Cluster.
pub fn names(data: &[u8]) {
    let Ok(text) = from_utf8(data) else { return };
    let plain = |text: &str| {
        (1..=MAX_NAME).contains(&text.len())
            && !text.chars().any(char::is_control)
            && ![".", ".."].contains(&text)
    };
    assert_eq!(GroupName::new(text).is_ok(), plain(text));
    let own = text.starts_with(OWN_PREFIX);
    assert_eq!(ConsumerName::new(text).is_ok(), plain(text) && !own);
    let Ok(stream) = StreamName::new(text) else {
        return;
    };
    assert!(plain(text) && !own && stream.redis_key() == text);
    assert_eq!(stream.tag(), hash_tag(text));
    // The keys that streamgate keeps for a stream are in the slot of the stream.
    let beside = format!("{OWN_PREFIX}{{{}}}:kind:{text}", stream.tag());
    assert_eq!(hash_tag(&beside), stream.tag());
    if let Ok(dead) = policy::default_dead_letter(&stream) {
        assert_eq!(dead.tag(), stream.tag());
    }
    // Names survive percent-encoding in a path.
    let encoded = percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
    let decoded = percent_encoding::percent_decode_str(&encoded.to_string()).collect::<Vec<_>>();
    assert_eq!(decoded, text.as_bytes());
}

/// Returns the hashed part of a key according to the Redis Cluster specification.
fn hash_tag(key: &str) -> &str {
    let Some(open) = key.find('{') else {
        return key;
    };
    match key[open + 1..].find('}') {
        None | Some(0) => key,
        Some(length) => &key[open + 1..open + 1 + length],
    }
}

/// The first millisecond that RFC 3339 cannot express.
const YEAR_10000: u64 = 253_402_300_800_000;

/// Checks times and durations.
pub fn times(data: &[u8]) {
    let mut from = Taker(data);
    let ms = from.number() % YEAR_10000;
    let shown = show_rfc3339(ms);
    assert!(is_rfc3339(&shown), "{shown}");
    assert_eq!(shown.parse(), Ok(Time::At(ms)));

    let Ok(text) = from_utf8(data) else { return };
    if let Ok(duration) = duration::parse(text) {
        assert_eq!(duration::parse(&duration::format(duration)), Ok(duration));
        assert!(
            text == "0"
                || text.ends_with(|last: char| last.is_ascii_lowercase())
                || duration.is_zero()
        );
    }
    match text.parse::<Time>() {
        Ok(Time::At(ms)) => {
            assert!(Time::At(ms).first_id(0) <= Time::At(ms).last_id(0));
            // RFC 3339 ends with the year 9999.
            if ms < YEAR_10000 {
                assert_eq!(show_rfc3339(ms).parse(), Ok(Time::At(ms)));
            }
        }
        Ok(Time::Ago(ago)) => assert_eq!(duration::parse(text), Ok(ago)),
        Err(_) => assert!(!is_rfc3339(text)),
    }
}

/// Checks stored policies: decoding works for any text, and a decoded policy survives a round trip.
pub fn policies(data: &[u8]) {
    let Ok(text) = from_utf8(data) else { return };
    let Ok(stream) = StreamName::new("orders") else {
        unreachable!()
    };
    if let Some(policy) = Policy::decode(text) {
        let again = Policy::decode(&policy.encode());
        assert_eq!(again.as_ref(), Some(&policy));
        if policy.check(&stream).is_ok() {
            assert_eq!(policy.dead_letter.tag(), "orders");
        }
    }
}

/// Checks `match=`: Redis must match everything literally except the `*` that ends a prefix.
pub fn globs(data: &[u8]) {
    let mut from = Taker(data);
    let (pattern, name) = (from.bytes(), from.bytes());
    let (Ok(asked), Ok(name)) = (from_utf8(pattern), from_utf8(name)) else {
        return;
    };
    let Ok(pattern) = NamePattern::parse(asked) else {
        return;
    };
    let (text, glob) = match &pattern {
        NamePattern::One(name) => (name, literal(name)),
        NamePattern::Prefix(prefix) => (prefix, prefixed(prefix)),
    };
    assert!(glob.len() <= 2 * asked.len());
    let longer = format!("{text}{name}");
    for name in [name, asked, text, &longer] {
        assert_eq!(
            matches(glob.as_bytes(), name.as_bytes()),
            pattern.takes(name),
            "{glob:?} {name:?}"
        );
    }
}

/// Matches like Redis (`stringmatchlen`), except for ranges in brackets, which must never occur.
fn matches(glob: &[u8], name: &[u8]) -> bool {
    match (glob, name) {
        ([], name) => name.is_empty(),
        ([b'*', rest @ ..], _) => (0..=name.len()).any(|at| matches(rest, &name[at..])),
        ([b'?' | b'[', ..], _) => panic!("a special character that was not requested"),
        ([b'\\', literal, glob @ ..], [first, name @ ..]) => {
            literal == first && matches(glob, name)
        }
        ([literal, glob @ ..], [first, name @ ..]) => literal == first && matches(glob, name),
        (_, []) => false,
    }
}
