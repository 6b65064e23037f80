//! Tests of names: what is allowed, and how names that are not UTF-8 are shown.

use super::*;

#[test]
fn ordinary_names_are_taken() {
    for name in [
        "orders",
        "a/b",
        "ümläut 🎈",
        "{shop}.orders",
        "a{b}c",
        "...",
        "a:b",
        &"x".repeat(512),
    ] {
        assert!(StreamName::new(name).is_ok(), "{name:?}");
    }
}

#[test]
fn each_rule_refuses_with_its_own_reason() {
    let long = "x".repeat(513);
    for (name, why) in [
        ("", InvalidName::Length),
        (long.as_str(), InvalidName::Length),
        ("a\nb", InvalidName::Control),
        ("a\0", InvalidName::Control),
        ("a\u{85}", InvalidName::Control),
        (".", InvalidName::Dots),
        ("..", InvalidName::Dots),
        ("streamgate:x", InvalidName::Reserved),
        ("a{b", InvalidName::Braces),
        ("a}b", InvalidName::Braces),
        ("{}", InvalidName::Braces),
        ("}x{", InvalidName::Braces),
        ("{a}{b}", InvalidName::Braces),
    ] {
        assert_eq!(StreamName::new(name), Err(why), "{name:?}");
    }
}

#[test]
fn what_redis_hashes_is_in_braces_or_all() {
    for (name, tag) in [
        ("orders", "orders"),
        ("{orders}.dead", "orders"),
        ("a{b}c", "b"),
    ] {
        assert_eq!(
            StreamName::new(name).map(|name| name.tag() == tag),
            Ok(true),
            "{name}"
        );
    }
}

#[test]
fn bytes_that_are_no_text_are_named_as_they_are_shown() {
    let shown = "{\"base64\":\"Z//+\"}";
    let group = GroupName::new(shown).unwrap();
    assert_eq!(
        (group.as_bytes(), group.to_string().as_str()),
        (&b"g\xff\xfe"[..], shown)
    );
    // Base64 of valid UTF-8 is not decoded.
    let text = "{\"base64\":\"Zw==\"}";
    assert_eq!(GroupName::new(text).unwrap().as_bytes(), text.as_bytes());
    let long = BASE64_STANDARD.encode([0xff; 513]);
    let long = GroupName::new(&format!("{{\"base64\":\"{long}\"}}"));
    assert_eq!(long, Err(InvalidName::Length));
}

#[test]
fn a_consumer_cannot_have_a_name_of_ours() {
    assert_eq!(
        ConsumerName::new("streamgate:x"),
        Err(InvalidName::Reserved)
    );
    assert!(GroupName::new("streamgate:x").is_ok());
}

#[test]
fn groups_may_have_braces_since_they_are_no_keys() {
    assert!(GroupName::new("a}{").is_ok());
}
