//! Times as text, after RFC 3339. They are looked at and kept as they are, never turned into numbers.

/// Whether this is a time after RFC 3339. A leap second may stand at the end of any minute.
#[must_use]
pub fn is_timestamp(text: &str) -> bool {
    /// Digits where the shape has zeros, the same letter elsewhere.
    fn strip<'a>(bytes: &'a [u8], shape: &[u8]) -> Option<&'a [u8]> {
        let (head, rest) = bytes.split_at_checked(shape.len())?;
        let alike = |(byte, of): (&u8, &u8)| match of {
            b'0' => byte.is_ascii_digit(),
            _ => byte.eq_ignore_ascii_case(of),
        };
        head.iter().zip(shape).all(alike).then_some(rest)
    }
    let bytes = text.as_bytes();
    let Some(mut rest) = strip(bytes, b"0000-00-00T00:00:00") else {
        return false;
    };
    if let Some(fraction) = strip(rest, b".0") {
        let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        rest = &fraction[digits..];
    }
    let number =
        |digits: &[u8]| digits.iter().fold(0, |sum, byte| sum * 10 + u32::from(byte - b'0'));
    let is_offset = |rest: &[u8]| {
        let of_hours = strip(rest, b"+00:00").or_else(|| strip(rest, b"-00:00"));
        of_hours.is_some_and(<[u8]>::is_empty)
            && number(&rest[1..3]) < 24
            && number(&rest[4..]) < 60
    };
    if !rest.eq_ignore_ascii_case(b"Z") && !is_offset(rest) {
        return false;
    }
    let year = number(&bytes[..4]);
    let days = match number(&bytes[5..7]) {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 0,
    };
    (1..=days).contains(&number(&bytes[8..10]))
        && number(&bytes[11..13]) < 24
        && number(&bytes[14..16]) < 60
        && number(&bytes[17..19]) <= 60
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_rfc_3339() {
        for good in ["1985-04-12T23:20:50.52Z", "1996-12-19t16:39:57-08:00", "2000-02-29T00:00:00z"]
        {
            assert!(is_timestamp(good), "{good}");
        }
        for bad in [
            "",
            "2024-01-01",
            "2024-01-01T00:00:00",
            "2024-01-01 00:00:00Z",
            "2024-01-01T00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-04-31T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2024-01-00T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:60:00Z",
            "2024-01-01T00:00:61Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00+0100",
            "2024-01-01T00:00:00+24:00",
            "2024-01-01T00:00:00Z ",
            "٢٠٢٤-01-01T00:00:00Z",
        ] {
            assert!(!is_timestamp(bad), "{bad}");
        }
    }
}
