//! JSON as it comes from other programs: a byte order mark is skipped, and what is not JSON is
//! explained to whoever sent it, never in the words of the parser.

use std::str::from_utf8;

use serde::de::IgnoredAny;
use serde_json::error::Category;

/// What some editors and tools put in front of UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// The text without the byte order mark of UTF-8.
#[must_use]
pub fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(MARK).unwrap_or(text)
}

/// Why a text without its mark is not the one JSON value that was expected, as a sentence about `it`.
#[must_use]
pub fn explain(text: &[u8], error: &serde_json::Error) -> String {
    let many = "send NDJSON as `Content-Type: application/x-ndjson` (with curl by `--data-binary`)";
    why(text, error, many)
}

/// [`explain`] for a line of NDJSON.
#[must_use]
pub fn explain_line(text: &[u8], error: &serde_json::Error) -> String {
    why(
        text,
        error,
        "each line holds one (with curl, send lines by `--data-binary`)",
    )
}

fn why(text: &[u8], error: &serde_json::Error, many: &str) -> String {
    if text.iter().all(u8::is_ascii_whitespace) {
        return "it is empty".to_owned();
    }
    if is_wide(text) {
        return "it is UTF-16 or UTF-32; JSON is sent as UTF-8".to_owned();
    }
    if let Err(wrong) = from_utf8(text) {
        let at = wrong.valid_up_to() + 1;
        return format!("byte {at} is not UTF-8; JSON is sent as UTF-8, in no other charset");
    }
    let (line, column) = place(error);
    if error.classify() == Category::Eof {
        return format!("it ends too early, at line {line}, column {column}");
    }
    let said = error.to_string();
    if said.starts_with("recursion limit") {
        return "it is nested too deeply; the limit is 127 levels".to_owned();
    }
    if said.starts_with("control character") {
        return format!(
            "a string holds a line break or a control character as it is, near line {line}, column {column}; JSON escapes both"
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
        Some(b'\'') => "; cmd.exe needs double quotes around it, and `\\\"` within",
        _ if said.starts_with("key must be a string") => {
            "; names stand in double quotes, which some shells remove: send a file, with \
             `--data-binary @FILE`"
        }
        _ => "",
    };
    format!("{unexpected} is unexpected at line {line}, column {column}{hint}")
}

/// Texts of other widths have zeros, and marks of their own.
fn is_wide(text: &[u8]) -> bool {
    text.starts_with(b"\xff\xfe")
        || text.starts_with(b"\xfe\xff")
        || text.iter().take(4).any(|byte| *byte == 0)
}

/// Whether there is another whole value after the first one.
fn is_many(text: &[u8]) -> bool {
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<IgnoredAny>();
    matches!((values.next(), values.next()), (Some(Ok(_)), Some(Ok(_))))
}

/// Line and column, both from 1. The parser counts columns from 0 after a line break.
fn place(error: &serde_json::Error) -> (usize, usize) {
    (error.line(), error.column().max(1))
}

/// The character that the parser stopped at.
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
                "`a` is unexpected at line 1, column 2; names stand in double quotes",
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
            // Neither reader tells what the other does: raw text is nested as deeply as it likes.
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
