//! JSON texts from other programs. A byte order mark is skipped, and syntax errors are explained to
//! the sender in plain words instead of those of the parser.

use std::str::from_utf8;

use serde::de::IgnoredAny;
use serde_json::error::Category;

/// The byte order mark of UTF-8, which some editors and tools write.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Returns the text without the byte order mark of UTF-8.
#[must_use]
pub fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(MARK).unwrap_or(text)
}

/// Explains why a text without its mark is not exactly one JSON value, as a sentence about `it`.
#[must_use]
pub fn explain(text: &[u8], error: &serde_json::Error) -> String {
    let many =
        "send NDJSON as `Content-Type: application/x-ndjson` (with curl, use `--data-binary`)";
    why(text, error, many)
}

/// Explains a syntax error in a line of NDJSON, like [`explain`].
#[must_use]
pub fn explain_line(text: &[u8], error: &serde_json::Error) -> String {
    why(
        text,
        error,
        "each line must hold one value (with curl, use `--data-binary`)",
    )
}

fn why(text: &[u8], error: &serde_json::Error, many: &str) -> String {
    if text.iter().all(u8::is_ascii_whitespace) {
        return "it is empty".to_owned();
    }
    if is_wide(text) {
        return "it is UTF-16 or UTF-32; JSON must be sent as UTF-8".to_owned();
    }
    if let Err(wrong) = from_utf8(text) {
        let at = wrong.valid_up_to() + 1;
        return format!("byte {at} is not UTF-8; JSON in other charsets is not supported");
    }
    let (line, column) = location(error);
    if error.classify() == Category::Eof {
        return format!("it ends too early, at line {line}, column {column}");
    }
    let said = error.to_string();
    if said.starts_with("recursion limit") {
        return "it is nested too deeply; the limit is 127 levels".to_owned();
    }
    if said.starts_with("control character") {
        return format!(
            "a string contains an unescaped line break or control character, near line {line}, column {column}; JSON escapes both"
        );
    }
    if said.starts_with("trailing characters") {
        if is_many(text) {
            return format!("it is more than one JSON value; {many}");
        }
        return format!("something follows the JSON value, at line {line}, column {column}");
    }
    let unexpected = unexpected(text, error);
    let hint = match text.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'\'') => "; cmd.exe needs double quotes around the text, and `\\\"` inside it",
        _ if said.starts_with("key must be a string") => {
            "; names must be in double quotes, which some shells remove: send a file with \
             `--data-binary @FILE`"
        }
        _ => "",
    };
    format!("{unexpected} is unexpected at line {line}, column {column}{hint}")
}

/// Returns whether a text is UTF-16 or UTF-32, which contain zero bytes or have other byte order
/// marks.
fn is_wide(text: &[u8]) -> bool {
    text.starts_with(b"\xff\xfe")
        || text.starts_with(b"\xfe\xff")
        || text.iter().take(4).any(|byte| *byte == 0)
}

/// Returns whether a second complete value follows the first one.
fn is_many(text: &[u8]) -> bool {
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<IgnoredAny>();
    matches!((values.next(), values.next()), (Some(Ok(_)), Some(Ok(_))))
}

/// Returns the line and the column of an error, both counted from 1. The parser counts columns from
/// 0 after a line break.
fn location(error: &serde_json::Error) -> (usize, usize) {
    (error.line(), error.column().max(1))
}

/// Returns the character at which the parser stopped.
fn unexpected(text: &[u8], error: &serde_json::Error) -> String {
    let line = text
        .split(|byte| *byte == b'\n')
        .nth(error.line().saturating_sub(1));
    let rest = line
        .and_then(|line| line.get(error.column().saturating_sub(1)..))
        .unwrap_or_default();
    let char = rest
        .utf8_chunks()
        .next()
        .and_then(|chunk| chunk.valid().chars().next());
    match char {
        Some(char) if !char.is_control() => format!("`{char}`"),
        _ => "a control character or a line break".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;

    #[test]
    fn what_is_not_json_is_explained_without_the_words_of_a_parser() {
        let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
        for (text, why) in [
            (&b""[..], "empty"),
            (b" \n", "empty"),
            (b"{", "ends too early"),
            (b"{\"a\":\"b", "ends too early"),
            (b"\xff\xfe{\0}\0", "UTF-16"),
            (b"{\0}\0", "UTF-16"),
            (b"{\"a\":\"\xe4\"}", "byte 7 is not UTF-8"),
            (b"{\"a\":1}\n{\"a\":2}\n", "application/x-ndjson"),
            (
                b"{\"a\":1} x",
                "something follows the JSON value, at line 1, column 9",
            ),
            (
                b"{a:1}",
                "`a` is unexpected at line 1, column 2; names must be in double quotes",
            ),
            (b"'{}'", "`'` is unexpected at line 1, column 1; cmd.exe"),
            (b"{\"a\":1,}", "`}` is unexpected at line 1, column 8"),
            (b"{\"a\":\"\tb\"}", "JSON escapes both"),
            (b"{\"a\":\"x\ny\"}", "near line 1, column 7"),
            (
                b"{\"a\":\x01}",
                "a control character or a line break is unexpected",
            ),
            ("{\"a\":ü}".as_bytes(), "`ü`"),
            (b"user=alice", "`u` is unexpected at line 1, column 1"),
            (deep.as_bytes(), "nested too deeply"),
        ] {
            // Each parser reports errors that the other one does not: raw text is nested to any
            // depth.
            let deep = serde_json::from_slice::<serde_json::Value>(text).unwrap_err();
            let error = serde_json::from_slice::<&RawValue>(text)
                .err()
                .unwrap_or(deep);
            let told = explain(text, &error);
            assert!(
                told.contains(why),
                "{}: {told} ({error})",
                String::from_utf8_lossy(text)
            );
        }
        assert_eq!(without_mark(b"\xef\xbb\xbf{}"), b"{}");
    }
}
