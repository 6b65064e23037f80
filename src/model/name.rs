//! Names of streams, groups and consumers, validated when they enter the gateway.

use std::borrow::{Borrow, Cow};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use crate::model::glob::literal;

/// The maximum length of a name, in bytes.
pub const MAX_NAME: usize = 512;
/// The prefix of all keys that belong to streamgate itself.
pub const OWN_PREFIX: &str = "streamgate:";

/// The reason why a name is invalid. The text can be shown to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// A name of 0 bytes, or of more than [`MAX_NAME`] bytes.
    #[error("a name must have 1 to 512 bytes")]
    Length,
    /// C0 or C1 control characters, or DEL.
    #[error("a name must not contain control characters")]
    Control,
    /// `.` and `..`, which clients remove from paths.
    #[error("a name must not be `.` or `..`")]
    Dots,
    /// A key that belongs to streamgate.
    #[error("names beginning with `streamgate:` are reserved")]
    Reserved,
    /// Braces other than one Redis Cluster hash tag. Braces always mean a hash tag, so any other
    /// use is a mistake.
    #[error("braces must form exactly one non-empty `{{tag}}`")]
    Braces,
}

fn check(name: &str) -> Result<(), InvalidName> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(InvalidName::Length);
    }
    if name.chars().any(char::is_control) {
        return Err(InvalidName::Control);
    }
    if name == "." || name == ".." {
        return Err(InvalidName::Dots);
    }
    Ok(())
}

fn check_own(name: &str) -> Result<(), InvalidName> {
    if name.starts_with(OWN_PREFIX) {
        Err(InvalidName::Reserved)
    } else {
        Ok(())
    }
}

fn check_braces(name: &str) -> Result<(), InvalidName> {
    let (mut opens, mut closes) = (name.match_indices('{'), name.match_indices('}'));
    match (opens.next(), closes.next(), opens.next(), closes.next()) {
        (None, None, None, None) => Ok(()),
        (Some((open, _)), Some((close, _)), None, None) if close > open + 1 => Ok(()),
        _ => Err(InvalidName::Braces),
    }
}

/// Returns the text in braces, or the whole name.
#[must_use]
pub fn tag_of(name: &str) -> &str {
    let braced = name
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'));
    braced.map_or(name, |(tag, _)| tag)
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, |$text:ident| $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(RawName);

        impl $name {
            /// Checks a name. A name that is not UTF-8 is given in its displayed form, see
            /// [`RawName`].
            ///
            /// # Errors
            /// Returns the rule that the name breaks.
            pub fn new($text: &str) -> Result<Self, InvalidName> {
                let raw = RawName::read($text);
                if std::str::from_utf8(raw.as_bytes()).is_ok() {
                    $check?;
                } else if raw.as_bytes().len() > MAX_NAME {
                    return Err(InvalidName::Length);
                }
                Ok(Self(raw))
            }

            /// Returns the bytes of the name in Redis.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8] {
                self.0.as_bytes()
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.serialize(serializer)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

/// A name in Redis, which need not be text. Bytes that are not UTF-8 are displayed, and accepted,
/// as `{"base64":"…"}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RawName(Arc<[u8]>);

impl RawName {
    /// Parses a name. A text `{"base64":"…"}` stands for the encoded bytes if these are not UTF-8.
    /// Any other text stands for itself.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let inside = text
            .strip_prefix("{\"base64\":\"")
            .and_then(|rest| rest.strip_suffix("\"}"));
        let bytes = inside.and_then(|inside| BASE64_STANDARD.decode(inside).ok());
        let bytes = bytes.filter(|bytes| std::str::from_utf8(bytes).is_err());
        Self(bytes.unwrap_or_else(|| text.as_bytes().to_vec()).into())
    }

    /// Returns the bytes of the name in Redis.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns whether the name is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<u8>> for RawName {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Display for RawName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.0) {
            Ok(text) => f.write_str(text),
            Err(_) => write!(f, "{{\"base64\":\"{}\"}}", BASE64_STANDARD.encode(&self.0)),
        }
    }
}

impl Serialize for RawName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(text) = std::str::from_utf8(&self.0) {
            return serializer.serialize_str(text);
        }
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("base64", &BASE64_STANDARD.encode(&self.0))?;
        map.end()
    }
}

/// A stream: its Redis key, and the length of the prefix that is hidden from the caller. Two
/// streams are equal if their keys are equal.
///
/// There is no `Display`, so that every use chooses between the text for Redis ([`Self::redis_key`])
/// and the text for the caller ([`Self::public_name`]).
///
/// ```
/// use streamgate::model::name::{InvalidName, StreamName};
///
/// let stream = StreamName::new("{orders}.dead")?;
/// assert_eq!(stream.tag(), "orders");
/// assert_eq!(StreamName::new("a{b"), Err(InvalidName::Braces));
/// # Ok::<(), InvalidName>(())
/// ```
#[derive(Clone, Debug)]
pub struct StreamName {
    key: Arc<str>,
    /// The length of the namespace prefix that is hidden from the caller, in bytes.
    hidden: usize,
}

impl StreamName {
    /// Checks the name of a stream, which is also its key.
    ///
    /// # Errors
    /// Returns the rule that the name breaks.
    pub fn new(key: &str) -> Result<Self, InvalidName> {
        check(key)
            .and_then(|()| check_braces(key))
            .and_then(|()| check_own(key))?;
        Ok(Self {
            key: Arc::from(key),
            hidden: 0,
        })
    }

    /// Returns a stream that another client may have created under a name that streamgate does not
    /// allow.
    ///
    /// # Errors
    /// Returns [`InvalidName::Reserved`] for a key that belongs to streamgate.
    pub fn existing(key: &str) -> Result<Self, InvalidName> {
        check_own(key)?;
        Ok(Self {
            key: Arc::from(key),
            hidden: 0,
        })
    }

    /// Returns the Redis key, which includes the hidden prefix and must not reach clients.
    #[must_use]
    pub fn redis_key(&self) -> &str {
        &self.key
    }

    /// Returns the public name, without the hidden prefix.
    #[must_use]
    pub fn public_name(&self) -> Cow<'_, str> {
        self.without(self.hidden)
    }

    /// Returns a SCAN pattern that matches only the key.
    #[must_use]
    pub fn key_glob(&self) -> String {
        literal(&self.key)
    }

    /// Hides the first `bytes` bytes of the name from the caller. The name must begin with them.
    pub(super) fn hiding(self, bytes: usize) -> Self {
        Self {
            hidden: bytes,
            ..self
        }
    }

    /// Returns the key without a prefix of `bytes` bytes. If the key begins with a hash tag, the
    /// prefix is inside the tag.
    pub(super) fn without(&self, bytes: usize) -> Cow<'_, str> {
        match self.key.strip_prefix('{') {
            Some(inner) if bytes > 0 => {
                format!("{{{}", inner.get(bytes..).unwrap_or_default()).into()
            }
            _ => self.key.get(bytes..).unwrap_or_default().into(),
        }
    }

    /// Returns the length of the hidden prefix, in bytes.
    #[must_use]
    pub fn hidden(&self) -> usize {
        self.hidden
    }

    /// Returns the part of the key that Redis Cluster hashes: the text in braces, or the whole key.
    /// Names with the same tag are in one slot.
    #[must_use]
    pub fn tag(&self) -> &str {
        tag_of(&self.key)
    }
}

impl PartialEq for StreamName {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for StreamName {}

impl PartialOrd for StreamName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for StreamName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }
}

impl Hash for StreamName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl Borrow<str> for StreamName {
    fn borrow(&self) -> &str {
        &self.key
    }
}

name!(
    /// The name of a consumer group.
    GroupName,
    |text| check(text)
);
name!(
    /// The name of a consumer in a group.
    ConsumerName,
    |text| check(text).and_then(|()| check_own(text))
);

#[cfg(test)]
mod tests;
