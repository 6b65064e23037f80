//! Grants: the rights of a caller on streams.

use std::fmt;

/// A right on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Append entries.
    Publish,
    /// Read and follow entries.
    Subscribe,
    /// Consume entries in groups.
    Consume,
    /// Everything else.
    Manage,
}

impl Right {
    /// All rights.
    pub const ALL: [Self; 4] = [Self::Publish, Self::Subscribe, Self::Consume, Self::Manage];

    /// Returns the name of the right.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Consume => "consume",
            Self::Manage => "manage",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A pattern of stream names: one name, or all names with a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    is_prefix: bool,
}

impl Pattern {
    /// Parses `NAME` or `PREFIX*`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(prefix) => Self {
                text: prefix.into(),
                is_prefix: true,
            },
            None => Self {
                text: text.into(),
                is_prefix: false,
            },
        }
    }

    /// Returns whether the pattern matches a name.
    #[must_use]
    pub fn takes(&self, name: &str) -> bool {
        if self.is_prefix {
            name.starts_with(&*self.text)
        } else {
            name == &*self.text
        }
    }

    /// Returns whether the pattern matches every name that the other one matches.
    fn covers(&self, other: &Self) -> bool {
        if other.is_prefix {
            self.is_prefix && self.takes(&other.text)
        } else {
            self.takes(&other.text)
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.text, if self.is_prefix { "*" } else { "" })
    }
}

/// The error for a text that is not a grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a grant: use rights and a name or a prefix, like `publish,subscribe orders:*` \
     (publish, subscribe, consume, manage, or * for all)"
)]
pub struct InvalidGrant(String);

/// All grants of a caller. A caller without grants has no rights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants(Vec<(u8, Pattern)>);

impl Grants {
    /// Returns a grant of every right on every stream.
    #[must_use]
    pub fn all() -> Self {
        let every = Right::ALL.iter().fold(0, |bits, right| bits | right.bit());
        Self(vec![(every, Pattern::new("*"))])
    }

    /// Returns grants of one right on the streams of these patterns.
    #[must_use]
    pub fn only(right: Right, patterns: impl IntoIterator<Item = Pattern>) -> Self {
        Self(
            patterns
                .into_iter()
                .map(|pattern| (right.bit(), pattern))
                .collect(),
        )
    }

    /// Parses grants, each `RIGHT[,RIGHT…] NAME` or `RIGHT[,RIGHT…] PREFIX*`.
    ///
    /// # Errors
    /// Returns [`InvalidGrant`] with the first text that is not a grant.
    pub fn parse<T: AsRef<str>>(grants: &[T]) -> Result<Self, InvalidGrant> {
        grants
            .iter()
            .map(|grant| one(grant.as_ref()))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Returns whether the grants include this right on the stream with this name.
    #[must_use]
    pub fn allow(&self, right: Right, name: &str) -> bool {
        self.0
            .iter()
            .any(|(rights, pattern)| rights & right.bit() != 0 && pattern.takes(name))
    }

    /// Returns the grants: rights, and the pattern of names they apply to.
    pub fn iter(&self) -> impl Iterator<Item = (Vec<Right>, &Pattern)> {
        self.0.iter().map(|(rights, pattern)| {
            let granted = |right: &Right| rights & right.bit() != 0;
            (Right::ALL.into_iter().filter(granted).collect(), pattern)
        })
    }

    /// Returns whether the grants include this right on every name that the pattern matches.
    #[must_use]
    pub fn cover(&self, right: Right, wanted: &Pattern) -> bool {
        self.0
            .iter()
            .any(|(rights, pattern)| rights & right.bit() != 0 && pattern.covers(wanted))
    }

    /// Narrows a prefix to the granted names. Returns the prefixes below `beginning` whose names
    /// can have this right.
    #[must_use]
    pub fn narrow(&self, right: Right, beginning: &str) -> Vec<String> {
        let mut narrowed: Vec<String> = Vec::new();
        for (rights, pattern) in &self.0 {
            let narrow = match () {
                () if rights & right.bit() == 0 => continue,
                () if pattern.text.starts_with(beginning) => &*pattern.text,
                () if pattern.is_prefix && pattern.takes(beginning) => beginning,
                () => continue,
            };
            if !narrowed.iter().any(|wider| narrow.starts_with(wider)) {
                narrowed.retain(|other| !other.starts_with(narrow));
                narrowed.push(narrow.to_owned());
            }
        }
        narrowed
    }
}

fn one(grant: &str) -> Result<(u8, Pattern), InvalidGrant> {
    let invalid = || InvalidGrant(grant.to_owned());
    let (rights, pattern) = grant.trim().split_once(' ').ok_or_else(invalid)?;
    let mut bits = 0;
    for word in rights.split(',') {
        let named = |right: &&Right| word == "*" || right.as_str() == word;
        let mut of_word = Right::ALL.iter().filter(named).peekable();
        of_word.peek().ok_or_else(invalid)?;
        bits = of_word.fold(bits, |bits, right| bits | right.bit());
    }
    let pattern = pattern.trim();
    if pattern.is_empty() {
        Err(invalid())
    } else {
        Ok((bits, Pattern::new(pattern)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(texts: &[&str]) -> Grants {
        Grants::parse(texts).unwrap()
    }

    #[test]
    fn a_grant_is_rights_and_a_name_or_a_beginning() {
        let grants = grants(&["publish,subscribe orders", "consume jobs:*", "* {shop}*"]);
        for (right, name, allowed) in [
            (Right::Publish, "orders", true),
            (Right::Subscribe, "orders", true),
            (Right::Consume, "orders", false),
            (Right::Publish, "orders2", false),
            (Right::Consume, "jobs:", true),
            (Right::Consume, "jobs:a", true),
            (Right::Consume, "jobs", false),
            (Right::Manage, "{shop}.x", true),
        ] {
            assert_eq!(grants.allow(right, name), allowed, "{right:?} {name}");
        }
        assert!(!Grants::default().allow(Right::Publish, "orders"));
        assert!(
            Right::ALL
                .iter()
                .all(|right| Grants::all().allow(*right, "anything"))
        );
    }

    #[test]
    fn what_is_no_grant_is_refused() {
        for wrong in [
            "",
            "publish",
            "publish ",
            "read orders",
            "publish, orders",
            "publish,, x",
        ] {
            assert!(Grants::parse(&[wrong]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_beginning_is_narrowed_to_what_is_granted() {
        let grants = grants(&[
            "subscribe orders:*",
            "subscribe oil",
            "publish o*",
            "subscribe a*",
        ]);
        let narrow = |beginning| grants.narrow(Right::Subscribe, beginning);
        assert_eq!(narrow("o"), ["orders:", "oil"]);
        assert_eq!(narrow("orders:eu:"), ["orders:eu:"]);
        assert_eq!(narrow(""), ["orders:", "oil", "a"]);
        assert_eq!(narrow("x"), [""; 0]);
        assert_eq!(Grants::all().narrow(Right::Subscribe, "x"), ["x"]);
    }

    #[test]
    fn patterns_are_covered_by_wider_ones() {
        let grants = grants(&["subscribe orders:*", "subscribe one"]);
        for (pattern, covered) in [
            ("orders:a", true),
            ("orders:a*", true),
            ("orders:*", true),
            ("orders*", false),
            ("one", true),
            ("one*", false),
        ] {
            assert_eq!(
                grants.cover(Right::Subscribe, &Pattern::new(pattern)),
                covered,
                "{pattern}"
            );
            assert!(!grants.cover(Right::Publish, &Pattern::new(pattern)));
        }
    }
}
