//! Detection of bodies that are not forms. Many clients send every body as a form unless configured
//! otherwise. A JSON document or a base64 text that is split at `&` and `=` is lost: no reader can
//! restore it.
//!
//! The check takes one pass over the body, in the same loop that reads the fields.

use base64::prelude::{BASE64_STANDARD, Engine as _};

use crate::model::entry::Fields;
use crate::model::form::decode;

/// The maximum length of a decoded name, in bytes.
pub const MAX_NAME: usize = 256;
/// The byte order marks of UTF-8 and of both kinds of UTF-16, which some editors write.
const MARKS: [&[u8]; 3] = [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"];

/// The reason why a body is not a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAForm {
    /// A beginning like that of a JSON object or array.
    Json,
    /// A beginning like that of XML or HTML.
    Markup,
    /// A quote at the beginning: a JSON string, or quotes that the shell did not remove.
    Quote,
    /// A byte order mark at the beginning.
    Mark,
    /// A part between `&` without `=`.
    NoValue,
    /// A name that is empty, too long, or contains characters that forms encode.
    Name,
    /// A `%` without two hexadecimal digits.
    Escape,
    /// A name or a value that is not UTF-8.
    NotUtf8,
    /// Control characters other than tabs and line breaks.
    Control,
    /// Several lines of `name=value`.
    Lines,
    /// Base64 text, padded with `=`.
    Base64,
}

/// Returns the fields of a form, in order, but not more than `most + 1`. A body without pairs has
/// no fields.
///
/// # Errors
/// Returns [`NotAForm`] for the first sign that the body is something else.
pub fn fields(body: &[u8], most: usize) -> Result<Fields, NotAForm> {
    check_start(body)?;
    let mut fields = Fields::new();
    let mut empty = false;
    for pair in body
        .split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty())
    {
        if fields.len() > most {
            return Ok(fields);
        }
        let (name, value) = split(pair)?;
        let seen = classes(value);
        check_value(value, seen)?;
        empty = trim(value).is_empty();
        let (name, value) = (text(name, classes(name))?, text(value, seen)?);
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(NotAForm::Name);
        }
        fields.push((name, value));
    }
    if empty && fields.len() == 1 && is_base64(trim(body)) {
        return Err(NotAForm::Base64);
    }
    Ok(fields)
}

/// Checks the first bytes of a body only. This check is enough for forms whose names are known.
///
/// # Errors
/// Returns [`NotAForm`] for a body that does not begin like a form.
pub fn check_start(body: &[u8]) -> Result<(), NotAForm> {
    if MARKS.iter().any(|mark| body.starts_with(mark)) {
        return Err(NotAForm::Mark);
    }
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{' | b'[') => Err(NotAForm::Json),
        Some(b'<') => Err(NotAForm::Markup),
        Some(b'"' | b'\'') => Err(NotAForm::Quote),
        _ => Ok(()),
    }
}

/// The character class of raw names.
const NAME: u8 = 1;
/// The character class of `%` and of bytes outside ASCII, which need further checks.
const ENCODED: u8 = 2;
const CONTROL: u8 = 4;
const BREAK: u8 = 8;

const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0_u8;
    loop {
        classes[byte as usize] = match byte {
            b'\t' => 0,
            b'\r' | b'\n' => BREAK,
            0..=0x1f | 0x7f => CONTROL,
            b'%' | 0x80.. => NAME | ENCODED,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => NAME,
            b'_' | b'.' | b'~' | b'*' | b'+' | b'[' | b']' | b'$' | b'@' | b':' | b'!' | b'-' => {
                NAME
            }
            _ => 0,
        };
        if byte == u8::MAX {
            break classes;
        }
        byte += 1;
    }
};

fn class(byte: u8) -> u8 {
    CLASSES[usize::from(byte)]
}

/// Returns the union of the character classes in a text.
fn classes(text: &[u8]) -> u8 {
    text.iter().fold(0, |seen, byte| seen | class(*byte))
}

/// Splits a pair into its raw name and value.
fn split(pair: &[u8]) -> Result<(&[u8], &[u8]), NotAForm> {
    let end = pair.iter().position(|byte| class(*byte) & NAME == 0);
    match end {
        Some(end) if pair[end] == b'=' => Ok((&pair[..end], &pair[end + 1..])),
        _ if pair.iter().any(|byte| class(*byte) == CONTROL) => Err(NotAForm::Control),
        _ if pair.contains(&b'=') => Err(NotAForm::Name),
        _ => Err(NotAForm::NoValue),
    }
}

fn check_value(value: &[u8], seen: u8) -> Result<(), NotAForm> {
    if seen & CONTROL != 0 {
        return Err(NotAForm::Control);
    }
    if seen & BREAK != 0
        && value
            .split(|byte| class(*byte) == BREAK)
            .skip(1)
            .any(is_pair)
    {
        return Err(NotAForm::Lines);
    }
    // A lone `=` is the padding of a base64 text.
    if trim(value) == b"=" {
        return Err(NotAForm::Base64);
    }
    Ok(())
}

/// Returns whether a line begins with `name=`.
fn is_pair(line: &[u8]) -> bool {
    let name = line
        .iter()
        .take_while(|byte| class(**byte) & NAME != 0)
        .count();
    name > 0 && line.get(name) == Some(&b'=')
}

/// Decodes a name or a value. `seen` holds its character classes.
fn text(raw: &[u8], seen: u8) -> Result<Vec<u8>, NotAForm> {
    let decoded = decode(raw);
    if seen & ENCODED == 0 {
        return Ok(decoded);
    }
    let digit = |at: usize| raw.get(at).is_some_and(u8::is_ascii_hexdigit);
    let escapes = raw.iter().enumerate().filter(|(_, byte)| **byte == b'%');
    for (at, _) in escapes {
        if !digit(at + 1) || !digit(at + 2) {
            return Err(NotAForm::Escape);
        }
    }
    match std::str::from_utf8(&decoded) {
        Ok(_) => Ok(decoded),
        Err(_) => Err(NotAForm::NotUtf8),
    }
}

/// Removes the line break that many tools add to a file.
fn trim(text: &[u8]) -> &[u8] {
    let end = text
        .iter()
        .rposition(|byte| class(*byte) != BREAK)
        .map_or(0, |last| last + 1);
    &text[..end]
}

/// Returns whether a text that ends in `=` is almost certainly base64. Its length is right, the
/// unused bits are zero, and it has letters of both cases and a digit or a sign.
fn is_base64(text: &[u8]) -> bool {
    let has = |of: fn(&u8) -> bool| text.iter().any(of);
    text.len() >= 8
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
        && has(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'/'))
        && BASE64_STANDARD.decode(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forms_of_programs_and_people_are_taken() {
        for form in [
            "user=alice&total=9.50",
            "flag=",
            "token=",
            "a=1&&b=2&",
            "a[]=1&a[]=2&b[c][d]=3",
            "to=a@b.example&url=https://x.example/?q=1;2&text=one, two",
            "payload=%7B%22type%22%3A%22x%22%7D",
            "ToCountry=DE&From=%2B4930&Body=Hi+there%0Ayou&NumMedia=0",
            "$set=1&@t=2&a:b=3&!x=4&~y=5&*z=6",
            "na%20me=1&gr%C3%BC%C3%9Fe=x&grüße=y",
            "text=one\r\ntwo\tthree\n",
            "text=one\ntwo three=3",
            "abc=ABC1=",
            "password=",
            "sessionid=&a=",
            "aB3d=",
            "aB3dE6h=x",
            "sum=1+1%3D2",
        ] {
            assert!(
                fields(form.as_bytes(), 100).is_ok(),
                "{form}: {:?}",
                fields(form.as_bytes(), 9)
            );
        }
        assert_eq!(fields(b"", 9), Ok(Fields::new()));
        assert_eq!(fields(b"&&", 9), Ok(Fields::new()));
    }

    #[test]
    fn anything_else_is_told_for_what_it_is() {
        for (body, why) in [
            (&b"{\"a\":\"b=c\"}"[..], NotAForm::Json),
            (b"  [1]", NotAForm::Json),
            (b"<a b=\"c\"/>", NotAForm::Markup),
            (b"'{a:b}'", NotAForm::Quote),
            (b"\"a=b\"", NotAForm::Quote),
            (b"\xef\xbb\xbf{}", NotAForm::Mark),
            (b"\xff\xfea\0=\0b\0", NotAForm::Mark),
            (b"a,b\n1,2", NotAForm::NoValue),
            (b"text", NotAForm::NoValue),
            (b"a=1&b", NotAForm::NoValue),
            (b"1,2,x=3", NotAForm::Name),
            (b"=v", NotAForm::Name),
            (b"a = 1", NotAForm::Name),
            (b"a=1&\nb=2", NotAForm::Name),
            (b"a=100%", NotAForm::Escape),
            (b"a=%zz", NotAForm::Escape),
            (b"%e2%82=1", NotAForm::NotUtf8),
            (b"a=%ff", NotAForm::NotUtf8),
            (b"a=\xe4", NotAForm::NotUtf8),
            (b"a=b\0", NotAForm::Control),
            (b"\x0a\x05alice=", NotAForm::Control),
            (b"a=\x7f", NotAForm::Control),
            (b"a=1\nb=2", NotAForm::Lines),
            (b"A=1\r\nB=2\r\n", NotAForm::Lines),
            (b"SGVsbG8gd29ybGQ+Pw==", NotAForm::Base64),
            (b"SGVsbG8gd29ybGQ+Pw==\n", NotAForm::Base64),
            (b"SGVsbG8gd29ybGQ=", NotAForm::Base64),
            (b"SGVsbG8gd29ybGQ=\r\n", NotAForm::Base64),
        ] {
            let text = String::from_utf8_lossy(body);
            assert_eq!(fields(body, 100), Err(why), "{text}");
        }
        let name = |length: usize| format!("{}=1", "n".repeat(length));
        assert!(fields(name(MAX_NAME).as_bytes(), 9).is_ok());
        assert_eq!(
            fields(name(MAX_NAME + 1).as_bytes(), 9),
            Err(NotAForm::Name)
        );
    }

    proptest! {
        #[test]
        fn what_a_client_encodes_is_a_form(
            fields in prop::collection::vec(("\\PC{1,20}", any::<String>()), 2..6),
        ) {
            let encode = |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
            let pairs: Vec<_> = fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
            let expected: Fields = fields.into_iter().map(|(name, value)| (name.into_bytes(), value.into_bytes())).collect();
            prop_assert_eq!(super::fields(pairs.join("&").as_bytes(), 9), Ok(expected));
        }
    }
}
