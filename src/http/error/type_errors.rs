//! Translation of serde errors into sentences for API clients, in terms of JSON types instead of
//! Rust types.

use crate::model::nearest::nearest;

/// Translates a serde error into a sentence about the value. The position that `serde_json` appends
/// is removed. Errors of this crate are returned unchanged.
#[must_use]
pub fn explain(reason: &str) -> String {
    let reason = without_place(reason);
    for kind in ["invalid type: ", "invalid value: ", "invalid length "] {
        if let Some(rest) = reason.strip_prefix(kind)
            && let Some((found, wanted)) = rest.rsplit_once(", expected ")
        {
            return match kind {
                "invalid length " => format!("must be {}, but has {found} items", type_of(wanted)),
                _ => format!("must be {}, not {}", type_of(wanted), value_of(found)),
            };
        }
    }
    if let Some(field) = reason.strip_prefix("missing field ") {
        return format!("{field} is missing");
    }
    if let Some(field) = reason.strip_prefix("duplicate field ") {
        return format!("{field} is given twice");
    }
    if let Some((name, known)) = named(reason, "unknown variant ") {
        return match known.as_slice() {
            [] => format!("`{name}` is not a known value"),
            known => format!("must be {}, not `{name}`", any_of(known)),
        };
    }
    if let Some((name, known)) = named(reason, "unknown field ") {
        return match nearest(name, known) {
            Some(nearest) => format!("unknown member `{name}`; did you mean `{nearest}`?"),
            None => format!("unknown member `{name}`"),
        };
    }
    // Error for an enum whose value is not a string.
    if reason == "expected value" {
        return "must be a string".to_owned();
    }
    if reason.starts_with("number out of range") {
        return "the number is out of range".to_owned();
    }
    reason.to_owned()
}

fn without_place(reason: &str) -> &str {
    match reason.rsplit_once(" at line ") {
        Some((rest, place))
            if place
                .bytes()
                .all(|b| b.is_ascii_digit() || b" column".contains(&b)) =>
        {
            rest
        }
        _ => reason,
    }
}

/// Splits an error into the unknown name and the known names.
fn named<'a>(reason: &'a str, kind: &str) -> Option<(&'a str, Vec<&'a str>)> {
    let rest = reason.strip_prefix(kind)?.strip_prefix('`')?;
    let (name, known) = match rest.rsplit_once("`, expected ") {
        Some((name, known)) => (name, known),
        None => (rest.rsplit_once("`, there are no ")?.0, ""),
    };
    // Commas or `or` separate the known names.
    Some((name, known.split('`').skip(1).step_by(2).collect()))
}

fn any_of(known: &[&str]) -> String {
    let quoted: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(" or ")
}

fn type_of(wanted: &str) -> String {
    match wanted {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a borrowed string" | "string" | "identifier" | "field identifier"
        | "variant identifier" => "a string",
        "a map" | "map" => "an object",
        "a sequence" | "sequence" => "a list",
        "unit" => "null",
        "option" => "a value or null",
        _ if wanted.starts_with("struct ") => "an object",
        _ if wanted.starts_with("tuple")
            || wanted.starts_with("a tuple")
            || wanted.starts_with("an array of length") =>
        {
            "a list"
        }
        _ if wanted.starts_with("enum ") || wanted.starts_with("string or map") => "a string",
        other => other,
    }
    .to_owned()
}

fn value_of(found: &str) -> String {
    match found.split_once(' ') {
        Some(("string" | "character", text)) => text.to_owned(),
        Some(("boolean" | "integer", text)) => text.trim_matches('`').to_owned(),
        Some(("floating", text)) => text
            .trim_start_matches("point ")
            .trim_matches('`')
            .to_owned(),
        _ => match found {
            "null" | "unit value" | "Option value" => "null",
            "sequence" => "a list",
            "map" => "an object",
            _ => "this",
        }
        .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only refused")]
    struct Call {
        consumer: String,
        count: Option<u32>,
        signed: Option<i64>,
        ratio: Option<f64>,
        ids: Option<Vec<String>>,
        pair: Option<(u8, u8)>,
        order: Option<Order>,
        inner: Option<Inner>,
        on: Option<bool>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Order {
        Asc,
        Desc,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only refused")]
    struct Inner {
        n: u8,
    }

    #[test]
    fn what_a_value_must_be_is_told_in_the_words_of_json() {
        for (members, why) in [
            (
                r#""count":"x""#,
                r#"must be a whole number, 0 or more, not "x""#,
            ),
            (r#""count":-1"#, "must be a whole number, 0 or more, not -1"),
            (
                r#""count":1.5"#,
                "must be a whole number, 0 or more, not 1.5",
            ),
            (
                r#""count":4294967296"#,
                "must be a whole number, 0 or more, not 4294967296",
            ),
            (r#""signed":[]"#, "must be a whole number, not a list"),
            (r#""ratio":{}"#, "must be a number, not an object"),
            (r#""ids":"1-0""#, r#"must be a list, not "1-0""#),
            (r#""ids":[null]"#, "must be a string, not null"),
            (r#""pair":[1]"#, "must be a list, but has 1 items"),
            (r#""order":"up""#, "must be `asc` or `desc`, not `up`"),
            (r#""order":5"#, "must be a string"),
            (r#""inner":5"#, "must be an object, not 5"),
            (
                r#""on":"yes, expected no""#,
                r#"must be a boolean, not "yes, expected no""#,
            ),
            (
                r#""cuont":5"#,
                "unknown member `cuont`; did you mean `count`?",
            ),
            (r#""`, expected `x":5"#, "unknown member ``, expected `x`"),
            (r#""count":1,"count":1"#, "`count` is given twice"),
        ] {
            let json = format!("{{{members},\"consumer\":\"w\"}}");
            let error = serde_json::from_str::<Call>(&json).unwrap_err();
            assert_eq!(explain(&error.to_string()), why, "{error}");
        }
        let error = serde_json::from_str::<Call>("{}").unwrap_err();
        assert_eq!(explain(&error.to_string()), "`consumer` is missing");
        let error = serde_json::from_str::<Call>("[]").unwrap_err();
        assert!(!explain(&error.to_string()).contains("struct"), "{error}");
        assert_eq!(
            explain("a duration needs a unit"),
            "a duration needs a unit"
        );
    }
}
