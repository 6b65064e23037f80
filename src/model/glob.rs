//! What `match=` means: a name, or all names with one beginning.

/// A prefix followed by `*`, or a name, as a glob of Redis: everything but a `*` at the end is
/// meant literally.
#[must_use]
pub fn glob(text: &str) -> String {
    let (literal, any) = text.strip_suffix('*').map_or((text, ""), |prefix| (prefix, "*"));
    let mut glob = String::with_capacity(text.len() + 8);
    for c in literal.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^') {
            glob.push('\\');
        }
        glob.push(c);
    }
    glob + any
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn only_a_star_at_the_end_is_special() {
        assert_eq!(glob("a*"), "a*");
        assert_eq!(glob("a*b*"), "a\\*b*");
        assert_eq!(glob("[a-z]?\\"), "\\[a-z\\]\\?\\\\");
        assert_eq!(glob(""), "");
    }
}
