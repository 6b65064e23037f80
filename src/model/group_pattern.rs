//! Patterns of groups: a pattern of streams and one of groups.

use std::str::FromStr;

use crate::model::glob::{InvalidPattern, NamePattern};

/// A pattern that selects groups by the names of their stream and of themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPattern {
    /// The streams.
    pub streams: NamePattern,
    /// The groups.
    pub groups: NamePattern,
}

/// The reason why a text is not a pattern of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGroupPattern {
    /// No slash between the two patterns.
    #[error("must be STREAM/GROUP, like `orders:*/*`")]
    Parts,
    /// One of the patterns is invalid.
    #[error(transparent)]
    Name(#[from] InvalidPattern),
}

impl FromStr for GroupPattern {
    type Err = InvalidGroupPattern;

    /// Parses `STREAM/GROUP`, each a name or `PREFIX*`. The last slash separates them, because a
    /// stream is more likely than a group to have one in its name.
    fn from_str(text: &str) -> Result<Self, InvalidGroupPattern> {
        let parts = text.rsplit_once('/');
        let (streams, groups) = parts.ok_or(InvalidGroupPattern::Parts)?;
        if streams.is_empty() || groups.is_empty() {
            return Err(InvalidGroupPattern::Parts);
        }
        Ok(Self {
            streams: NamePattern::parse(streams)?,
            groups: NamePattern::parse(groups)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_slash_separates_stream_and_group() {
        let pattern: GroupPattern = "a/b:*/g*".parse().unwrap();
        assert_eq!(pattern.streams, NamePattern::Prefix("a/b:".to_owned()));
        assert_eq!(pattern.groups, NamePattern::Prefix("g".to_owned()));
        for wrong in ["", "orders", "/g", "orders/", "a*b/g"] {
            assert!(wrong.parse::<GroupPattern>().is_err(), "{wrong}");
        }
    }
}
