//! Frames of subscriptions: server-sent events and lines of NDJSON, as bytes.
//!
//! All frames are built in this module. A frame is exactly one event, whatever the entry contains:
//! JSON leaves no CR or LF in `data`, and an event name that could break out of its line is left
//! out.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write as _};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// The length of a chunk's head in bytes: the size in hexadecimal, CR, LF.
pub const CHUNK_HEAD: usize = 10;
/// The length of a chunk's end in bytes: CR, LF.
pub const CHUNK_END: usize = 2;

/// A comment line. It keeps proxies and clients from closing a quiet connection.
const HEARTBEAT: &str = ": \n\n";

/// The wire format of a subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Framing {
    /// Server-sent events.
    #[default]
    Events,
    /// NDJSON. Entries are lines without a wrapper; all other frames are named, like `{"gap":{…}}`.
    Lines,
}

impl Framing {
    /// Returns the bytes that keep a quiet connection open: a comment or an empty line.
    #[must_use]
    pub const fn heartbeat(self) -> &'static str {
        match self {
            Self::Events => HEARTBEAT,
            Self::Lines => "\n",
        }
    }
}

/// The maximum length of an event name taken from a field, in bytes.
const MAX_EVENT_NAME: usize = 64;

/// A formatter for compact JSON that also escapes U+0085, U+2028 and U+2029, at which some clients
/// split lines. CR and LF are always escaped.
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

    /// Writes embedded JSON without line breaks. The separators occur in strings only, and CR and
    /// LF occur between tokens only.
    fn write_raw_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        self.write_string_fragment(writer, &without_line_ends(fragment))
    }
}

/// A formatter for compact JSON on one line, including embedded JSON.
struct OneLineFormatter;

impl Formatter for OneLineFormatter {
    fn write_raw_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        writer.write_all(without_line_ends(fragment).as_bytes())
    }
}

/// Replaces CR and LF, which occur between tokens only, with spaces.
fn without_line_ends(json: &str) -> Cow<'_, str> {
    match json.contains(['\r', '\n']) {
        true => Cow::Owned(json.replace(['\r', '\n'], " ")),
        false => Cow::Borrowed(json),
    }
}

/// Ends an event, with its id if it has one. The id comes last because some clients
/// (`@microsoft/fetch-event-source`) resume after an id as soon as they have read its line. They
/// would skip an event whose data was cut off by a broken connection.
pub fn end_event(out: &mut Vec<u8>, id: Option<&dyn fmt::Display>) {
    // Writing into a `Vec` cannot fail.
    if let Some(id) = id {
        let _ = writeln!(out, "id: {id}");
    }
    out.push(b'\n');
}

/// Begins an event: `event` if there is a name, `retry` if there is a delay in milliseconds, and
/// `data` as JSON on one line. The caller must finish the event with [`end_event`].
pub fn begin_event(
    out: &mut Vec<u8>,
    event: Option<&str>,
    retry_ms: Option<u64>,
    data: &impl Serialize,
) {
    // Writing into a `Vec` cannot fail. Serialization cannot fail either: this crate serializes
    // only strings, numbers and maps with string keys.
    if let Some(name) = event {
        let _ = writeln!(out, "event: {name}");
    }
    if let Some(retry_ms) = retry_ms {
        let _ = writeln!(out, "retry: {retry_ms}");
    }
    out.extend_from_slice(b"data: ");
    let written = data.serialize(&mut Serializer::with_formatter(&mut *out, OneLine));
    debug_assert!(written.is_ok(), "event data must be serializable as JSON");
    out.push(b'\n');
}

/// Appends an event without an id. See [`begin_event`].
pub fn write_event(
    out: &mut Vec<u8>,
    event: Option<&str>,
    retry_ms: Option<u64>,
    data: &impl Serialize,
) {
    begin_event(out, event, retry_ms, data);
    end_event(out, None);
}

/// Appends one line of NDJSON to `out`.
pub fn write_line(out: &mut Vec<u8>, data: &impl Serialize) {
    let written = data.serialize(&mut Serializer::with_formatter(&mut *out, OneLineFormatter));
    debug_assert!(written.is_ok(), "line data must be serializable as JSON");
    out.push(b'\n');
}

/// Completes an HTTP/1.1 chunk whose data was written after [`CHUNK_HEAD`] placeholder bytes.
pub fn close_chunk(bytes: &mut Vec<u8>) {
    let size = bytes.len() - CHUNK_HEAD;
    let mut head = &mut bytes[..CHUNK_HEAD];
    // The head can hold the size of any page.
    let written = write!(head, "{size:08x}\r\n");
    debug_assert!(
        written.is_ok() && size > 0,
        "a chunk must have data, and less than 4 GiB of it"
    );
    bytes.extend_from_slice(b"\r\n");
}

/// Returns the value of the field chosen by `event=FIELD` if it is a valid event name. A valid name
/// is UTF-8, has 1 to 64 bytes and no control characters, and is not reserved by streamgate (`$…`)
/// or `EventSource`.
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
