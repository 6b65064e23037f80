//! Unit tests of `prefix_watch`.

use super::*;

fn all(prefixes: &[&str]) -> PrefixIndex {
    let mut all = PrefixIndex::default();
    for prefix in prefixes {
        let watch = PrefixWatch::new(prefix, 0);
        watch.followers.store(1, Ordering::Relaxed);
        all.insert(Arc::new(watch));
    }
    all
}

#[test]
fn a_name_has_every_beginning_that_it_begins_with_and_no_other() {
    let all = all(&["", "a", "ab", "abc", "b", "aé"]);
    for (name, expected) in [
        ("ab", &["", "a", "ab"][..]),
        ("x", &[""]),
        ("aé.b", &["", "a", "aé"]),
        ("aè", &["", "a"]),
    ] {
        let found: Vec<_> = all.of(name).map(|watch| &*watch.prefix).collect();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn redis_is_asked_for_what_all_beginnings_have_in_common() {
    for (prefixes, common) in [
        (&["orders.eu.", "orders.us."][..], "orders."),
        (&["orders."], "orders."),
        (&["a", "b"], ""),
        (&["aé", "aè"], "a"),
        (&["a", "ab"], "a"),
        (&[], ""),
    ] {
        assert_eq!(all(prefixes).in_common(), common);
    }
}

#[test]
fn what_nobody_wants_to_know_is_forgotten() {
    let mut all = all(&["a", "b", "ab"]);
    all.of["a"].followers.store(0, Ordering::Relaxed);
    all.drop_idle();
    assert_eq!(all.of("ab").count(), 1);
    all.of["b"].followers.store(0, Ordering::Relaxed);
    all.drop_idle();
    assert_eq!(all.lengths.keys().collect::<Vec<_>>(), [&2]);
}
