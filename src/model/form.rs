//! Parsing of `application/x-www-form-urlencoded`, byte for byte. Unlike most parsers, this one
//! never replaces bytes that are not UTF-8. The module `form_check` decides whether a body is a
//! form at all.

use percent_encoding::percent_decode;

/// Returns the decoded pairs of a form or a query, in order. A pair without `=` has an empty value.
/// Empty pairs (`a=1&&b=2`) are skipped.
pub fn pairs(input: &[u8]) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    input
        .split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| match pair.iter().position(|byte| *byte == b'=') {
            Some(at) => (decode(&pair[..at]), decode(&pair[at + 1..])),
            None => (decode(pair), Vec::new()),
        })
}

/// Decodes a name or a value. Invalid escapes are kept as they are.
pub(super) fn decode(text: &[u8]) -> Vec<u8> {
    // Most texts have nothing to decode.
    if !text.iter().any(|byte| matches!(byte, b'+' | b'%')) {
        return text.to_vec();
    }
    let spaced: Vec<u8> = text
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    percent_decode(&spaced).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn order_repeats_and_strange_bytes_survive() {
        let parsed: Vec<_> = pairs(b"b=1&a=x%20y+z&b=%ff&c&=v&&d=1=2&e=%zz").collect();
        let expected: [(&[u8], &[u8]); 7] = [
            (b"b", b"1"),
            (b"a", b"x y z"),
            (b"b", b"\xff"),
            (b"c", b""),
            (b"", b"v"),
            (b"d", b"1=2"),
            (b"e", b"%zz"),
        ];
        assert_eq!(parsed, expected.map(|(n, v)| (n.to_vec(), v.to_vec())));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_what_is_decoded(name in prop::collection::vec(any::<u8>(), 1..20), value: Vec<u8>) {
            let encode = |bytes: &[u8]| percent_encoding::percent_encode(bytes, percent_encoding::NON_ALPHANUMERIC).to_string();
            let form = format!("{}={}", encode(&name), encode(&value));
            prop_assert_eq!(pairs(form.as_bytes()).collect::<Vec<_>>(), vec![(name, value)]);
        }
    }
}
