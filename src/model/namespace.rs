//! Namespaces: parts of the key space. A caller in a namespace does not see the rest.
//!
//! A caller in a namespace names its streams without a prefix. The key in Redis begins with the
//! prefix of the namespace. If a name begins with a hash tag, the prefix goes inside the tag, so
//! that names that share a slot still share it: `orders` becomes `acme:orders`, and `{orders}.dead`
//! becomes `{acme:orders}.dead`.

use std::borrow::Cow;
use std::sync::Arc;

use crate::model::name::{InvalidName, OWN_PREFIX, StreamName};

/// The maximum length of a prefix, in bytes.
const MAX_PREFIX: usize = 128;

/// A part of the key space: all keys with a prefix, or all keys.
///
/// ```
/// use streamgate::model::namespace::Namespace;
///
/// let acme = Namespace::new("acme:")?;
/// assert_eq!(acme.stream("orders")?.redis_key(), "acme:orders");
/// assert_eq!(acme.stream("orders")?.public_name(), "orders");
/// assert_eq!(acme.stream("{orders}.dead")?.redis_key(), "{acme:orders}.dead");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Namespace(Option<Arc<str>>);

/// The error for an invalid prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a prefix must have 1 to 128 bytes without control characters or braces, must end in one of \
         : . / - _, and must not begin with `streamgate:`"
)]
pub struct InvalidPrefix;

impl Namespace {
    /// Creates the namespace of all names with this prefix. The prefix must end in a delimiter, so
    /// that no prefix is the beginning of another by accident.
    ///
    /// # Errors
    /// Returns [`InvalidPrefix`] if the prefix breaks a rule.
    pub fn new(prefix: &str) -> Result<Self, InvalidPrefix> {
        let fits = prefix.len() <= MAX_PREFIX
            && prefix.ends_with([':', '.', '/', '-', '_'])
            && !prefix.contains(|c: char| c.is_control() || c == '{' || c == '}')
            && !prefix.starts_with(OWN_PREFIX);
        if fits {
            Ok(Self(Some(prefix.into())))
        } else {
            Err(InvalidPrefix)
        }
    }

    /// Returns whether the two namespaces overlap.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        let (a, b) = (self.prefix(), other.prefix());
        a.starts_with(b) || b.starts_with(a)
    }

    fn prefix(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }

    /// Returns the stream with this name in the namespace.
    ///
    /// # Errors
    /// Returns the rule that the name or the key breaks.
    pub fn stream(&self, name: &str) -> Result<StreamName, InvalidName> {
        StreamName::new(name)?;
        StreamName::new(&self.key(name)).map(|stream| self.hide(stream))
    }

    /// Returns the stream with this name in the namespace. Another client may have created it under
    /// a name that streamgate does not allow.
    ///
    /// # Errors
    /// Returns [`InvalidName::Reserved`] for a key that belongs to streamgate.
    pub fn existing(&self, name: &str) -> Result<StreamName, InvalidName> {
        StreamName::existing(name)?;
        StreamName::existing(&self.key(name)).map(|stream| self.hide(stream))
    }

    fn key<'a>(&self, name: &'a str) -> Cow<'a, str> {
        match (&self.0, name.strip_prefix('{')) {
            (None, _) => Cow::Borrowed(name),
            (Some(prefix), Some(rest)) => format!("{{{prefix}{rest}").into(),
            (Some(prefix), None) => format!("{prefix}{name}").into(),
        }
    }

    fn hide(&self, stream: StreamName) -> StreamName {
        stream.hiding(self.prefix().len())
    }

    /// Returns a stream as seen from the namespace; `None` if it is outside, or has no valid name
    /// inside.
    #[must_use]
    pub fn adopt(&self, stream: &StreamName) -> Option<StreamName> {
        let adopted = self.adopt_existing(stream)?;
        // Another client may have created a key in this namespace that has no valid name.
        let has_name = self.0.is_none() || StreamName::new(&adopted.public_name()).is_ok();
        has_name.then_some(adopted)
    }

    /// Returns a stream as seen from the namespace, even if its name is invalid; `None` if it is
    /// outside.
    #[must_use]
    pub fn adopt_existing(&self, stream: &StreamName) -> Option<StreamName> {
        let key = stream.redis_key();
        let inner = key.strip_prefix('{').unwrap_or(key);
        let is_here = self.0.is_none() || inner.starts_with(self.prefix());
        is_here.then(|| self.hide(stream.clone()))
    }

    /// Returns the name of a stream in the namespace. The stream must be inside.
    #[must_use]
    pub fn public_name_of<'a>(&self, stream: &'a StreamName) -> Cow<'a, str> {
        let Some(prefix) = &self.0 else {
            return Cow::Borrowed(stream.redis_key());
        };
        stream.without(prefix.len())
    }

    /// Returns the prefixes of all keys whose names in the namespace begin with `name`.
    #[must_use]
    pub fn beginnings(&self, name: &str) -> Vec<String> {
        let Some(prefix) = &self.0 else {
            return vec![name.to_owned()];
        };
        match name.strip_prefix('{') {
            Some(rest) => vec![format!("{{{prefix}{rest}")],
            None if name.is_empty() => vec![prefix.to_string(), format!("{{{prefix}")],
            None => vec![format!("{prefix}{name}")],
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn acme() -> Namespace {
        Namespace::new("acme:").unwrap()
    }

    #[test]
    fn names_get_the_prefix_and_lose_it_again() {
        for (name, key) in [
            ("orders", "acme:orders"),
            ("{orders}.dead", "{acme:orders}.dead"),
            ("a{b}c", "acme:a{b}c"),
            ("acme:x", "acme:acme:x"),
        ] {
            let stream = acme().stream(name).unwrap();
            assert_eq!((stream.redis_key(), &*stream.public_name()), (key, name));
        }
    }

    #[test]
    fn what_shares_a_slot_outside_shares_one_inside() {
        let (orders, dead) = (
            acme().stream("orders").unwrap(),
            acme().stream("{orders}.dead").unwrap(),
        );
        assert_eq!(orders.tag(), dead.tag());
    }

    #[test]
    fn prefixes_that_could_be_mistaken_are_refused() {
        for wrong in [
            "",
            "acme",
            "a{b}:",
            "a\n:",
            "streamgate:",
            "streamgate:x:",
            &"x:".repeat(65),
        ] {
            assert_eq!(Namespace::new(wrong), Err(InvalidPrefix), "{wrong:?}");
        }
    }

    #[test]
    fn beginnings_cover_both_forms() {
        assert_eq!(acme().beginnings(""), ["acme:", "{acme:"]);
        assert_eq!(acme().beginnings("{o"), ["{acme:o"]);
        assert_eq!(acme().beginnings("o"), ["acme:o"]);
        assert_eq!(Namespace::default().beginnings("o"), ["o"]);
    }

    proptest! {
        #[test]
        fn no_name_leaves_its_namespace(name in "[a-z{}:.*/\\\\\u{e4}\u{1}]{0,12}|acme:.{0,6}|\\{acme:.{0,6}|.{0,20}") {
            let Ok(stream) = acme().stream(&name) else { return Ok(()) };
            let key = stream.redis_key();
            prop_assert!(key.starts_with("acme:") || key.starts_with("{acme:"), "{key:?}");
            prop_assert_eq!(&*stream.public_name(), name.as_str());
            let found = StreamName::new(key).unwrap();
            prop_assert_eq!(acme().adopt(&found).map(|s| s.public_name().into_owned()), Some(name.clone()));
            prop_assert_eq!(acme().public_name_of(&found), name.as_str());
            prop_assert_eq!(Namespace::new("other:").unwrap().adopt(&found), None);
            prop_assert!(acme().beginnings("").iter().any(|beginning| key.starts_with(beginning)));
        }
    }
}
