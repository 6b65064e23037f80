//! Patterns in `match=` and in lists of names: one name, or all names with a prefix.

/// A pattern that selects streams by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamePattern {
    /// The stream with this name.
    One(String),
    /// All streams whose names have this prefix.
    Prefix(String),
}

/// The reason why a text is not a name or a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// An unescaped comma, which looks like several names in one parameter.
    #[error("a comma does not separate names")]
    Comma,
    /// A `*` in a place where it has no meaning.
    #[error("a `*` is not a wildcard here")]
    Star,
}

impl NamePattern {
    /// Parses `NAME` or `PREFIX*`. The escapes `\*`, `\,` and `\\` stand for a literal star, comma
    /// and backslash.
    ///
    /// # Errors
    /// Returns [`InvalidPattern`] for a comma that is not escaped, and for an unescaped star that
    /// is not at the end.
    ///
    /// # Examples
    ///
    /// ```
    /// use streamgate::model::glob::NamePattern;
    ///
    /// let pattern = NamePattern::parse("orders:*")?;
    /// assert_eq!(pattern, NamePattern::Prefix("orders:".to_owned()));
    /// assert!(pattern.takes("orders:eu"));
    /// # Ok::<(), streamgate::model::glob::InvalidPattern>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let mut name = String::with_capacity(text.len());
        let mut rest = text.chars();
        while let Some(char) = rest.next() {
            match char {
                '\\' => match rest.clone().next() {
                    Some(escaped @ ('*' | ',' | '\\')) => {
                        name.push(escaped);
                        rest.next();
                    }
                    _ => name.push('\\'),
                },
                '*' if rest.as_str().is_empty() => return Ok(Self::Prefix(name)),
                // Several patterns in one parameter: `a*,b*`.
                '*' if rest.as_str().starts_with(',') => return Err(InvalidPattern::Comma),
                '*' => return Err(InvalidPattern::Star),
                ',' => return Err(InvalidPattern::Comma),
                _ => name.push(char),
            }
        }
        Ok(Self::One(name))
    }

    /// Returns whether the pattern matches a name.
    #[must_use]
    pub fn takes(&self, name: &str) -> bool {
        match self {
            Self::One(one) => name == one,
            Self::Prefix(prefix) => name.starts_with(prefix),
        }
    }
}

/// Returns the Redis glob that matches only this text. Special characters are escaped.
#[must_use]
pub fn literal(text: &str) -> String {
    let mut glob = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^') {
            glob.push('\\');
        }
        glob.push(c);
    }
    glob
}

/// Returns the Redis glob that matches all texts with this prefix.
#[must_use]
pub fn prefixed(prefix: &str) -> String {
    literal(prefix) + "*"
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_a_star_at_the_end_is_special() {
        let one = |name: &str| Ok(NamePattern::One(name.to_owned()));
        let prefix = |prefix: &str| Ok(NamePattern::Prefix(prefix.to_owned()));
        for (text, expected) in [
            ("orders", one("orders")),
            ("orders:*", prefix("orders:")),
            ("*", prefix("")),
            ("", one("")),
            ("[a-z]?", one("[a-z]?")),
            (r"a\*", one("a*")),
            (r"a\**", prefix("a*")),
            (r"a\\*", prefix(r"a\")),
            (r"a\,b", one("a,b")),
            (r"C:\dir\", one(r"C:\dir\")),
            ("*x", Err(InvalidPattern::Star)),
            ("a*b*", Err(InvalidPattern::Star)),
            ("a,b", Err(InvalidPattern::Comma)),
            ("a,b*", Err(InvalidPattern::Comma)),
            ("a*,b*", Err(InvalidPattern::Comma)),
        ] {
            assert_eq!(NamePattern::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn nothing_in_a_name_is_special_to_redis() {
        assert_eq!(prefixed("a"), "a*");
        assert_eq!(prefixed("a*b"), "a\\*b*");
        assert_eq!(literal("[a-z]?\\"), "\\[a-z\\]\\?\\\\");
    }

    proptest! {
        #[test]
        fn every_name_can_be_written(name in "[a-c*,\\\\@]{0,8}", is_prefix: bool) {
            let mut text = name.replace('\\', r"\\").replace('*', r"\*").replace(',', r"\,");
            let expected = if is_prefix {
                text.push('*');
                NamePattern::Prefix(name)
            } else {
                NamePattern::One(name)
            };
            prop_assert_eq!(NamePattern::parse(&text), Ok(expected));
        }
    }
}
