//! Server-sent events as bytes, and the same as lines of NDJSON.
//!
//! Frames are built here and nowhere else. Whatever stands in an entry, a frame is one event: JSON
//! leaves no CR or LF in `data`, and a name that could break out of its line is left out.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write as _};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// Bytes of the head of a chunk: its size in hexadecimal, CR, LF.
pub const CHUNK_HEAD: usize = 10;
/// Bytes of its end: CR, LF.
pub const CHUNK_END: usize = 2;

/// A comment line: keeps proxies and clients from giving up on a quiet connection.
const HEARTBEAT: &str = ": \n\n";

/// How a subscription is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Framing {
    /// As server-sent events.
    #[default]
    Events,
    /// As NDJSON: entries are lines as they are, all else is named, like `{"gap":{…}}`.
    Lines,
}

impl Framing {
    /// What keeps a quiet connection open: a comment, or an empty line.
    #[must_use]
    pub const fn heartbeat(self) -> &'static str {
        match self {
            Self::Events => HEARTBEAT,
            Self::Lines => "\n",
        }
    }
}

/// The longest event name taken from a field, in bytes.
const MAX_EVENT_NAME: usize = 64;

/// Compact JSON in which the line separators that some clients split lines at (U+0085, U+2028,
/// U+2029) are escaped too. CR and LF always are.
struct OneLine;

impl Formatter for OneLine {
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['\u{85}', '\u{2028}', '\u{2029}']) {
            let (before, found) = rest.split_at(at);
            writer.write_all(before.as_bytes())?;
            let mut after = found.chars();
            if let Some(separator) = after.next() {
                write!(writer, "\\u{:04x}", u32::from(separator))?;
            }
            rest = after.as_str();
        }
        writer.write_all(rest.as_bytes())
    }

    /// Embedded JSON is written as it came: a separator in it stands in a string, and CR and LF stand
    /// between tokens.
    fn write_raw_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        self.write_string_fragment(writer, &without_line_ends(fragment))
    }
}

/// Compact JSON on one line, embedded JSON included.
struct Line;

impl Formatter for Line {
    fn write_raw_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        writer.write_all(without_line_ends(fragment).as_bytes())
    }
}

/// JSON with spaces for CR and LF, which stand between tokens alone.
fn without_line_ends(json: &str) -> Cow<'_, str> {
    match json.contains(['\r', '\n']) {
        true => Cow::Owned(json.replace(['\r', '\n'], " ")),
        false => Cow::Borrowed(json),
    }
}

/// Ends an event, with its id if it has one. The id comes last: there are clients
/// (`@microsoft/fetch-event-source`) that resume after an id as soon as they have read its line, and
/// would leave out an event whose data a broken connection has cut off.
pub fn end_event(out: &mut Vec<u8>, id: Option<&dyn fmt::Display>) {
    // Writing into a `Vec` cannot fail.
    if let Some(id) = id {
        let _ = writeln!(out, "id: {id}");
    }
    out.push(b'\n');
}

/// Begins an event: `event` if there is a name, `retry` if there is a delay in milliseconds, and
/// `data` as JSON on one line. [`end_event`] is to follow.
pub fn begin_event(
    out: &mut Vec<u8>,
    event: Option<&str>,
    retry_ms: Option<u64>,
    data: &impl Serialize,
) {
    // Writing into a `Vec` cannot fail, nor can serializing what this crate serializes: strings,
    // numbers and maps with string keys.
    if let Some(name) = event {
        let _ = writeln!(out, "event: {name}");
    }
    if let Some(retry_ms) = retry_ms {
        let _ = writeln!(out, "retry: {retry_ms}");
    }
    out.extend_from_slice(b"data: ");
    let written = data.serialize(&mut Serializer::with_formatter(&mut *out, OneLine));
    debug_assert!(written.is_ok(), "events hold nothing that JSON cannot");
    out.push(b'\n');
}

/// Appends one line of NDJSON to `out`.
pub fn write_line(out: &mut Vec<u8>, data: &impl Serialize) {
    let written = data.serialize(&mut Serializer::with_formatter(&mut *out, Line));
    debug_assert!(written.is_ok(), "lines hold nothing that JSON cannot");
    out.push(b'\n');
}

/// Makes a chunk of HTTP/1.1 out of bytes that were written after [`CHUNK_HEAD`] of anything.
pub fn close_chunk(bytes: &mut Vec<u8>) {
    let size = bytes.len() - CHUNK_HEAD;
    let mut head = &mut bytes[..CHUNK_HEAD];
    // The head has room for any size that a page can have.
    let written = write!(head, "{size:08x}\r\n");
    debug_assert!(
        written.is_ok() && size > 0,
        "a chunk has bytes, and fewer than 4 GiB"
    );
    bytes.extend_from_slice(b"\r\n");
}

/// The value of the field chosen by `event=FIELD` as an event name, if it can be one: UTF-8, 1 to
/// 64 bytes, no control characters, neither ours (`$…`) nor EventSource's own names.
#[must_use]
pub fn event_name(value: Option<&[u8]>) -> Option<&str> {
    let name = std::str::from_utf8(value?).ok()?;
    let taken = matches!(name, "open" | "error" | "message") || name.starts_with('$');
    let fits = !name.is_empty() && name.len() <= MAX_EVENT_NAME && !name.chars().any(breaks_line);
    (fits && !taken).then_some(name)
}

fn breaks_line(c: char) -> bool {
    c.is_control() || c == '\u{2028}' || c == '\u{2029}'
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(event: Option<&str>, data: &str) -> String {
        let mut out = Vec::new();
        begin_event(&mut out, event, None, &data);
        end_event(&mut out, Some(&"5-1:9"));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_frame_has_a_name_one_data_line_and_its_id_last() {
        assert_eq!(
            frame(Some("paid"), "x"),
            "event: paid\ndata: \"x\"\nid: 5-1:9\n\n"
        );
    }

    #[test]
    fn separators_of_lines_are_escaped() {
        assert_eq!(
            frame(None, "a\r\nb\u{85}c\u{2028}d\u{2029}e\0"),
            "data: \"a\\r\\nb\\u0085c\\u2028d\\u2029e\\u0000\"\nid: 5-1:9\n\n"
        );
    }

    #[test]
    fn names_that_would_mislead_a_client_are_left_out() {
        let long = "x".repeat(65);
        for name in [
            "",
            "open",
            "error",
            "message",
            "$gap",
            "a\nb",
            "a\rb",
            "a\u{2028}b",
            "a\0",
            long.as_str(),
        ] {
            assert_eq!(event_name(Some(name.as_bytes())), None, "{name:?}");
        }
        assert_eq!(event_name(Some(b"\xff")), None);
        assert_eq!(event_name(None), None);
        assert_eq!(event_name(Some(b"order paid")), Some("order paid"));
    }

    proptest! {
        #[test]
        fn any_text_stays_on_its_line_and_reads_back(text in ".{0,40}|[\\x00-\\x7f\u{85}\u{2028}\u{2029}]{0,40}") {
            let frame = frame(None, &text);
            let lines: Vec<&str> = frame.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).collect();
            prop_assert_eq!(lines.len(), 4);
            let data = lines[0].strip_prefix("data: ").unwrap();
            prop_assert_eq!(serde_json::from_str::<String>(data).unwrap(), text);
        }
    }
}
