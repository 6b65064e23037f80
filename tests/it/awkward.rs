//! Entries that are hard to transport: they could break a line, a frame, a string or a client.

use base64::prelude::{BASE64_STANDARD, Engine as _};

/// The fields of an entry, in order.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// A text in the middle of the entry of 1 MiB, and in no other entry.
pub const MIDDLE: &str = "right-in-the-middle";
/// Index of that entry.
pub const LARGE: usize = 11;

pub fn entries() -> Vec<Fields> {
    let half = "0123456789abcdef".repeat(32 << 10);
    let large = format!("{half}{MIDDLE}{half}");
    let name = "n".repeat(100_000);
    let many: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|n| (n.as_str(), n.as_str())).collect();
    let texts: [&[(&str, &str)]; 23] = [
        &[("empty", "")],
        &[("", "no name"), ("\0", "")],
        &[("cr", "a\rb\r"), ("\r", "\r")],
        &[("lf", "a\nb\n"), ("\n", "\n")],
        &[("crlf", "a\r\nb\r\n\r\n"), ("\r\n", "\r\n")],
        &[
            ("line separators", "a\u{2028}b\u{2029}c"),
            ("\u{2028}", "\u{2029}"),
        ],
        &[("next line", "a\u{85}b\u{85}"), ("\u{85}", "\u{85}")],
        &[("other lines", "a\u{b}b\u{c}c\u{1c}d\u{1d}e\u{1e}f\u{1f}g")],
        &[
            ("emoji", "💧👩‍👩‍👧‍👦🇨🇭e\u{301}"),
            ("💧", "\u{10ffff}\u{fffd}\u{fffe}"),
        ],
        &[
            ("json", r#"{"json":"{\"json\":[null,1e999,\"\\ud800\"]}"}"#),
            ("[1]", "null"),
        ],
        &[("nul", "a\0b\0"), ("\0\0", "\\0\\u0000")],
        &[("large", &large)],
        &[
            ("a:b", "c:d"),
            (":", ":"),
            ("data:", "data:"),
            (": comment", "x"),
        ],
        &[
            (" a", " b"),
            ("  ", "  "),
            ("\t", "\t"),
            ("trailing ", "trailing "),
        ],
        &[
            ("frame", "x\n\ndata: forged\nid: 9-9\nevent: $end\n\n:"),
            ("data: x\n\n", "id: 9-9"),
        ],
        &[
            ("id", "9-9"),
            ("event", "$end"),
            ("retry", "60000"),
            ("data", "d"),
            ("message", "m"),
        ],
        &[
            ("\u{feff}", "\u{feff}"),
            ("bom", "\u{feff}first"),
            ("\u{200b}", "\u{202e}right to left"),
        ],
        &[(&name, "a very long name")],
        &[("same", "1"), ("other", "2"), ("same", "3"), ("same", "1")],
        &[("quotes", "\"\\\"\\\\'`"), ("\"", "\\"), ("\\u0041", "\\n")],
        &[
            ("base64", "AAEC"),
            ("fields", "{}"),
            ("pairs", "[]"),
            ("__proto__", "x"),
            ("toString", "x"),
        ],
        &[
            ("html", "</script><!--&amp;%0A%"),
            ("percent", "%E2%80%A8+"),
        ],
        &many,
    ];
    let own = |(name, value): &(&str, &str)| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
    let mut entries: Vec<Fields> = texts
        .iter()
        .map(|text| text.iter().map(own).collect())
        .collect();
    let all: Vec<u8> = (0..=255).collect();
    entries.push(vec![
        (b"bytes".to_vec(), all.clone()),
        (b"latin-1".to_vec(), b"caf\xe9".to_vec()),
    ]);
    entries.push(vec![
        (all, b"a name of bytes".to_vec()),
        (b"\xed\xa0\x80".to_vec(), b"\xff".to_vec()),
    ]);
    assert_eq!(entries.len(), 25);
    assert!(entries[LARGE][0].1.len() > 1 << 20);
    entries
}

/// Returns an entry exactly as events represent it.
pub fn shown(stream: &str, id: &str, fields: &Fields) -> String {
    let is_object = fields.iter().enumerate().all(|(index, (name, _))| {
        std::str::from_utf8(name).is_ok()
            && fields[..index].iter().all(|earlier| earlier.0 != *name)
    });
    let pair = |(name, value): &(Vec<u8>, Vec<u8>)| match is_object {
        true => format!("{}:{}", json(name), json(value)),
        false => format!("[{},{}]", json(name), json(value)),
    };
    let inner = fields.iter().map(pair).collect::<Vec<_>>().join(",");
    let fields = if is_object {
        format!(r#""fields":{{{inner}}}"#)
    } else {
        format!(r#""pairs":[{inner}]"#)
    };
    format!(r#"{{"stream":"{stream}","id":"{id}",{fields}}}"#)
}

fn json(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return format!(r#"{{"base64":"{}"}}"#, BASE64_STANDARD.encode(bytes));
    };
    let escaped = |text: String, c: char| text.replace(c, &format!("\\u{:04x}", u32::from(c)));
    let text = serde_json::to_string(text).unwrap();
    ['\u{85}', '\u{2028}', '\u{2029}']
        .into_iter()
        .fold(text, escaped)
}
