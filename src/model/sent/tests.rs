//! Unit tests of `sent`.

use super::*;
use crate::model::entry::{Entry, View};
use crate::model::entry_json::EntryJson;
use crate::model::id::EntryId;
use proptest::prelude::*;

fn parse(json: &str) -> Result<SentEntry, InvalidEntry> {
    match super::parse(serde_json::from_str(json).unwrap(), 100)? {
        Sent::One(entry) => Ok(entry),
        Sent::Many(batch) => panic!("{batch:?}"),
    }
}

fn fields(json: &str) -> Vec<(String, String)> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    parse(json)
        .unwrap()
        .fields
        .into_iter()
        .map(|(n, v)| (text(n), text(v)))
        .collect()
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn scalars_keep_the_text_they_came_with() {
    assert_eq!(
        fields(r#"{"fields":{"z":1.50,"a":1e400,"n":-0,"b":true,"s":"x"}}"#),
        [
            pair("z", "1.50"),
            pair("a", "1e400"),
            pair("n", "-0"),
            pair("b", "true"),
            pair("s", "x")
        ],
    );
}

#[test]
fn what_cannot_be_an_entry_is_pointed_at() {
    for (json, pointer) in [
        ("[]", ""),
        ("{}", ""),
        (r#"{"user":"alice"}"#, ""),
        (r#"{"id":8209,"email":"a@b.example"}"#, ""),
        (r#"{"fields":{}}"#, ""),
        (r#"{"pairs":[]}"#, ""),
        (r#"{"fields":[]}"#, "/fields"),
        (r#"{"fields":{"a":null}}"#, "/fields/a"),
        (r#"{"fields":{"a/b~":[1]}}"#, "/fields/a~1b~0"),
        (r#"{"fields":{"a":{"b":1}}}"#, "/fields/a"),
        (r#"{"fields":{"a":{"base64":"?"}}}"#, "/fields/a"),
        (r#"{"fields":{"a":"1","a":"2"}}"#, "/fields/a"),
        (r#"{"fields":{"a":"\ud800"}}"#, "/fields/a"),
        (r#"{"pairs":[["a"]]}"#, "/pairs/0"),
        (r#"{"pairs":[["a",null]]}"#, "/pairs/0/1"),
        (r#"{"fields":{"a":1},"id":5}"#, "/id"),
        (r#"{"fields":{"a":1},"extra":5}"#, "/extra"),
        (r#"{"fields":{"a":1},"fields":{"b":1}}"#, "/fields"),
    ] {
        assert_eq!(parse(json).unwrap_err().pointer, pointer, "{json}");
    }
}

#[test]
fn no_more_fields_are_read_than_tell_that_there_are_too_many() {
    let pairs = format!("{{\"pairs\":[{}]}}", vec!["[\"a\",1]"; 1000].join(","));
    let fields: Vec<String> = (0..1000).map(|n| format!("\"{n}\":1")).collect();
    for json in [pairs, format!("{{\"fields\":{{{}}}}}", fields.join(","))] {
        assert_eq!(parse(&json).unwrap().fields.len(), 101, "{json}");
        assert_eq!(parse_line(json.as_bytes(), 999).unwrap().fields.len(), 1000);
        assert_eq!(
            parse_line(json.as_bytes(), 1000).unwrap().fields.len(),
            1000
        );
    }
}

#[test]
fn a_batch_is_pointed_into() {
    for (json, pointer) in [
        (r#"{"entries":[]}"#, "/entries"),
        (r#"{"entries":{}}"#, "/entries"),
        (
            r#"[{"fields":{"a":1}},{"fields":{"a":null}}]"#,
            "/1/fields/a",
        ),
        ("[5]", "/0"),
        (
            r#"{"entries":[{"fields":{"a":1}},{"fields":{"a":null}}]}"#,
            "/entries/1/fields/a",
        ),
        (r#"{"entries":[{"fields":{"a":1}}],"id":"*"}"#, "/id"),
        (
            r#"{"entries":[{"fields":{"a":1},"key":5}]}"#,
            "/entries/0/key",
        ),
    ] {
        let refused = first_refused(super::parse(serde_json::from_str(json).unwrap(), 100));
        assert_eq!(refused.pointer, pointer, "{json}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_what_is_read(
        fields in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..6), prop::collection::vec(any::<u8>(), 0..12)), 1..6),
        pairs: bool,
    ) {
        let entry = Entry { id: EntryId::new(1, 0), fields };
        let view = View { pairs, ..View::default() };
        let json = serde_json::to_string(&EntryJson { stream: None, position: None, entry: &entry, view: &view }).unwrap();
        prop_assert_eq!(parse(&json).unwrap().fields, entry.fields);
    }
}
