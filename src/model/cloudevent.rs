//! Parsing of `CloudEvents` 1.0. An event in any of the three content modes becomes the same
//! fields.
//!
//! An attribute becomes a field `ce_<name>` with its canonical text. `datacontenttype` becomes the
//! field `content-type`, and the data becomes the field `data`, byte for byte. These are the names
//! of the Kafka protocol binding, so a consumer can reassemble the event.
//!
//! The order of the fields does not depend on the order of the attributes in the request, so an
//! event that is sent again has the same fingerprint.

use std::collections::BTreeMap;

use percent_encoding::percent_decode;

use crate::model::entry::Fields;
use crate::model::sent::{InvalidEntry, Sent, SentEntry};
use crate::model::time::is_rfc3339;

/// The attributes that every event must have. Their fields come first.
pub(super) const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];
/// The optional attributes that the specification defines. Any other attribute is an extension.
pub(super) const OPTIONAL: [&str; 4] = ["datacontenttype", "dataschema", "subject", "time"];
/// The attribute that has another name in headers and fields, [`CONTENT_TYPE`].
pub(super) const TYPE_OF_DATA: &str = "datacontenttype";
/// The name of `datacontenttype` in headers and fields.
pub(super) const CONTENT_TYPE: &str = "content-type";

/// Attributes as text, by name.
pub(super) type Attributes = BTreeMap<String, String>;

/// Parses an event in binary mode: headers hold the attributes, and the body is the data. `headers`
/// are all headers of the request, with names in lower case. Headers that do not belong to the
/// event are ignored.
///
/// # Errors
/// Returns an [`InvalidEntry`] that names the first header that is not a valid attribute.
pub fn binary<'a>(
    headers: impl Iterator<Item = (&'a str, &'a [u8])>,
    body: &[u8],
) -> Result<Sent, InvalidEntry> {
    let mut attributes = Attributes::new();
    for (header, value) in headers {
        let (name, value) = match header.strip_prefix("ce-") {
            Some(TYPE_OF_DATA) => {
                return Err(InvalidEntry::at(
                    header,
                    "send the media type of the data in Content-Type, not in a ce- header",
                ));
            }
            Some(name) => (name, decode(value)),
            None if header == CONTENT_TYPE => (TYPE_OF_DATA, value.to_vec()),
            None => continue,
        };
        let value = String::from_utf8(value)
            .map_err(|_| InvalidEntry::at(header, "the decoded value is not UTF-8"))?;
        if attributes.insert(name.to_owned(), value).is_some() {
            return Err(InvalidEntry::at(header, "the header is given twice"));
        }
    }
    // HTTP does not distinguish an empty body from a missing one.
    let data = (!body.is_empty()).then(|| body.to_vec());
    let header = |name: &str| match name {
        TYPE_OF_DATA => CONTENT_TYPE.to_owned(),
        _ => format!("ce-{name}"),
    };
    fields(attributes, data, header).map(Sent::One)
}

/// Decodes the value of a header. Removes the quotes of a quoted string (older senders quote
/// values), then undoes percent-encoding once. Invalid percent escapes are kept as they are.
fn decode(value: &[u8]) -> Vec<u8> {
    let quoted = value
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""));
    let Some(quoted) = quoted else {
        return percent_decode(value).collect();
    };
    let mut plain = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter().copied();
    while let Some(byte) = bytes.next() {
        plain.push(if byte == b'\\' {
            bytes.next().unwrap_or(byte)
        } else {
            byte
        });
    }
    percent_decode(&plain).collect()
}

/// Validates an event and converts it to the fields of an entry. `at` maps the name of an attribute
/// to its location in the request.
///
/// # Errors
/// Returns an [`InvalidEntry`] that names the first missing or invalid attribute.
pub(super) fn fields(
    mut attributes: Attributes,
    data: Option<Vec<u8>>,
    at: impl Fn(&str) -> String,
) -> Result<SentEntry, InvalidEntry> {
    // `specversion` comes first, because these rules apply to version 1.0 only.
    for name in REQUIRED {
        if !attributes.contains_key(name) {
            return Err(InvalidEntry::at(at(name), "this attribute is required"));
        }
        check(name, &attributes[name]).map_err(|why| InvalidEntry::at(at(name), why))?;
    }
    for (name, value) in &attributes {
        check(name, value).map_err(|why| InvalidEntry::at(at(name), why))?;
    }
    let mut fields = Fields::with_capacity(attributes.len() + 1);
    let mut push = |name: &str, value: String| {
        fields.push((format!("ce_{name}").into_bytes(), value.into_bytes()));
    };
    for name in REQUIRED {
        if let Some(value) = attributes.remove(name) {
            push(name, value);
        }
    }
    let media_type = attributes.remove(TYPE_OF_DATA);
    for (name, value) in attributes {
        push(&name, value);
    }
    fields.extend(media_type.map(|text| (CONTENT_TYPE.into(), text.into_bytes())));
    fields.extend(data.map(|bytes| (b"data".to_vec(), bytes)));
    Ok(SentEntry {
        fields,
        ..SentEntry::default()
    })
}

/// Checks the name and the value of an attribute.
pub(super) fn check(name: &str, value: &str) -> Result<(), &'static str> {
    let of_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if name.is_empty() || name == "data" || !name.bytes().all(of_name) {
        return Err(
            "an attribute name must consist of lower-case letters and digits, and not be `data`",
        );
    }
    if value
        .chars()
        .any(|char| char.is_control() || is_noncharacter(char))
    {
        return Err("the value contains control characters or Unicode noncharacters");
    }
    match name {
        "specversion" if value != "1.0" => Err("`specversion` must be \"1.0\""),
        "id" | "source" | "type" | "subject" | "dataschema" if value.is_empty() => {
            Err("the attribute must not be empty")
        }
        TYPE_OF_DATA if !is_media_type(value) => Err("the value is not a media type"),
        "time" if !is_rfc3339(value) => Err("the value is not an RFC 3339 timestamp"),
        _ => Ok(()),
    }
}

fn is_noncharacter(char: char) -> bool {
    let code = u32::from(char);
    (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe
}

fn is_media_type(text: &str) -> bool {
    let essence = text.split(';').next().unwrap_or_default().trim();
    essence.split_once('/').is_some_and(|(kind, subtype)| {
        let is_token = |part: &str| !part.is_empty() && !part.contains(['/', ' ']);
        is_token(kind) && is_token(subtype)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Parses a minimal event with one more header.
    fn with(header: &str, value: &[u8], body: &[u8]) -> Result<Fields, InvalidEntry> {
        let headers: [(&str, &[u8]); 5] = [
            ("ce-specversion", b"1.0"),
            ("ce-id", b"1"),
            ("ce-source", b"/s"),
            ("ce-type", b"t"),
            (header, value),
        ];
        match binary(headers.into_iter(), body)? {
            Sent::One(entry) => Ok(entry.fields),
            Sent::Many(_) => panic!(),
        }
    }

    #[test]
    fn values_of_headers_are_taken_out_of_quotes_and_decoded_once() {
        for (sent, meant) in [
            ("Euro%20%E2%82%AC%20%f0%9f%98%80", "Euro \u{20ac} \u{1f600}"),
            ("%41%2541", "A%41"),
            ("\"a \\\"b\\\" %41\"", "a \"b\" A"),
            ("100% of %zz", "100% of %zz"),
            ("\"", "\""),
            ("\"\"", ""),
        ] {
            let fields = with("ce-x", sent.as_bytes(), b"").unwrap();
            assert_eq!(
                fields[4],
                (b"ce_x".to_vec(), meant.as_bytes().to_vec()),
                "{sent}"
            );
        }
        // Content-Type is an HTTP header, so its quotes and percent signs are kept.
        let media_type = b"multipart/mixed; boundary=\"a%20b\"";
        let fields = with("content-type", media_type, b"").unwrap();
        assert_eq!(fields[4], (CONTENT_TYPE.into(), media_type.to_vec()));
    }

    #[test]
    fn what_cannot_be_an_attribute_is_named_by_its_header() {
        for (header, value) in [
            ("ce-id", &b"again"[..]),
            ("ce-specversion", b"1.0"),
            ("ce-time", b"yesterday"),
            ("ce-subject", b""),
            ("ce-dataschema", b""),
            ("ce-datacontenttype", b"a/b"),
            ("ce-data", b"x"),
            ("ce-", b"x"),
            ("ce-my-name", b"x"),
            ("ce-my_name", b"x"),
            ("ce-x", b"%C0%A0"),
            ("ce-x", b"\xff"),
            ("ce-x", b"%00"),
            ("ce-x", b"%C2%85"),
            ("ce-x", b"%EF%BF%BE"),
            ("content-type", b"json"),
            ("content-type", b"a/"),
        ] {
            let refused = with(header, value, b"data").unwrap_err();
            assert_eq!(refused.pointer, header, "{value:?}: {}", refused.detail);
        }
    }

    proptest! {
        #[test]
        fn whatever_an_attribute_holds_survives_a_header(text in "[^\\p{Cc}]*", body: Vec<u8>) {
            prop_assume!(!text.chars().any(is_noncharacter));
            let encoded = percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC).to_string();
            let fields = with("ce-x", encoded.as_bytes(), &body).unwrap();
            prop_assert_eq!(&fields[4], &(b"ce_x".to_vec(), text.into_bytes()));
            let data = fields.get(5).map(|(_, data)| data.clone());
            prop_assert_eq!(data.unwrap_or_default(), body);
        }
    }
}
