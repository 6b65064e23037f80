//! Group reads with a byte limit: entries beyond the limit are neither lost nor held.

use fastrand::Rng;
use serde_json::{Value, json};
use std::collections::BTreeSet;

use crate::support::redis::{json as plain, shared};
use crate::support::{TestApp, eventually, unique};

fn group(stream: &str, rest: &str) -> String {
    format!("/v1/streams/{stream}/groups/g{rest}")
}

/// Creates a stream with an entry of each of these sizes, `1-0` and so on, and a group.
async fn sized(app: &TestApp, sizes: &[usize], made: &str) -> String {
    let stream = unique("sized");
    for (index, size) in sizes.iter().enumerate() {
        let text = "x".repeat(size - 1);
        shared()
            .await
            .command(&["XADD", &stream, &format!("{}-0", index + 1), "f", &text])
            .await;
    }
    assert_eq!(app.put_json(&group(&stream, ""), made).await.status, 201);
    stream
}

/// Returns ids and sizes of the entries read.
fn measured(entries: &Value) -> Vec<(String, usize)> {
    let size = |entry: &Value| {
        entry["fields"]["f"]
            .as_str()
            .map_or(0, |text| text.len() + 1)
    };
    let entries = entries.as_array().unwrap_or_else(|| panic!("{entries}"));
    entries
        .iter()
        .map(|entry| (entry["id"].as_str().unwrap().to_owned(), size(entry)))
        .collect()
}

async fn read(app: &TestApp, stream: &str, form: &str) -> Vec<(String, usize)> {
    let answer = app.post_form(&group(stream, "/read"), form).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    measured(&answer.json()["entries"])
}

fn ids(read: &[(String, usize)]) -> Vec<&str> {
    read.iter().map(|(id, _)| id.as_str()).collect()
}

async fn pending(app: &TestApp, stream: &str) -> Vec<String> {
    app.get(&group(stream, "/pending?limit=1000")).await.ids()
}

const PLAIN: &str = "{}";
const QUEUE: &str = r#"{"policy":{"lease":"10m"}}"#;

#[tokio::test]
async fn a_read_hands_out_what_fits_and_the_next_one_goes_on_there() {
    let app = TestApp::start().await;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    for made in [PLAIN, QUEUE] {
        let sizes: Vec<usize> = (0..300).map(|_| 1 << rng.u32(1..13)).collect();
        let stream = sized(&app, &sizes, made).await;
        let mut all = Vec::new();
        while all.len() < sizes.len() {
            let (count, bytes) = (rng.usize(1..60), rng.usize(1..30_000));
            let form = format!("consumer=w&count={count}&max_bytes={bytes}");
            let got = read(&app, &stream, &form).await;
            let total: usize = got.iter().map(|(_, size)| size).sum();
            assert!(
                got.len() == 1 || total <= bytes,
                "{total} of {bytes}: {got:?}"
            );
            assert!(!got.is_empty() && got.len() <= count, "{got:?}");
            let full = got.len() == count;
            all.extend(got);
            let next = sizes.get(all.len());
            let over = next.is_none_or(|next| total + next > bytes);
            assert!(full || over, "there was room for one more: {form}");
            assert_eq!(
                pending(&app, &stream).await.len(),
                all.len(),
                "nothing more is held"
            );
        }
        let in_order: Vec<String> = (1..=sizes.len()).map(|n| format!("{n}-0")).collect();
        assert_eq!(ids(&all), in_order);
    }
}

#[tokio::test]
async fn what_was_over_in_a_plain_group_comes_to_native_consumers() {
    let app = TestApp::start().await;
    let stream = sized(&app, &[100, 100, 100, 100], PLAIN).await;
    let form = "consumer=w&count=4&max_bytes=299";
    assert_eq!(ids(&read(&app, &stream, form).await), ["1-0", "2-0"]);
    let redis = shared().await;
    let words = [
        "XREADGROUP",
        "GROUP",
        "g",
        "n",
        "COUNT",
        "1",
        "STREAMS",
        &stream,
        ">",
    ];
    let native = plain(&redis.command(&words).await);
    assert_eq!(native[0][1][0][0], "3-0");
    assert_eq!(ids(&read(&app, &stream, form).await), ["4-0"]);
    let shown = app.get(&group(&stream, "")).await.json();
    assert_eq!(
        (&shown["entries_read"], &shown["lag"]),
        (&json!(4), &json!(0))
    );
    assert_eq!(read(&app, &stream, form).await, []);
}

#[tokio::test]
async fn an_entry_that_is_larger_than_the_bound_comes_alone() {
    let app = TestApp::start().await;
    for made in [PLAIN, QUEUE] {
        let stream = sized(&app, &[5000, 10, 10, 5000], made).await;
        let form = "consumer=w&max_bytes=20";
        for expected in [&["1-0"][..], &["2-0", "3-0"], &["4-0"], &[]] {
            assert_eq!(ids(&read(&app, &stream, form).await), expected, "{made}");
        }
    }
}

#[tokio::test]
async fn what_is_due_is_lent_as_far_as_it_fits_and_the_rest_stays_due() {
    let app = TestApp::start().await;
    let policy = r#"{"policy":{"lease":"100ms"}}"#;
    let stream = sized(&app, &[100; 6], policy).await;
    assert_eq!(read(&app, &stream, "consumer=dead").await.len(), 6);
    let mut seen = BTreeSet::new();
    while seen.len() < 6 {
        let form = "consumer=w&lease=10m&max_bytes=250&wait=5s";
        let got = read(&app, &stream, form).await;
        assert!((1..=2).contains(&got.len()), "{got:?}");
        seen.extend(got.into_iter().map(|(id, _)| id));
    }
    let held = app.get(&group(&stream, "/pending")).await.json();
    let counts = held["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| &entry["deliveries"]);
    assert_eq!(
        counts.collect::<Vec<_>>(),
        [2; 6],
        "each was delivered once more"
    );
}

#[tokio::test]
async fn neither_what_is_due_nor_what_is_new_uses_up_all_the_room_for_good() {
    let app = TestApp::start().await;
    let stream = sized(&app, &[100; 40], r#"{"policy":{"lease":"10m"}}"#).await;
    let first = read(&app, &stream, "consumer=w&count=20").await;
    let (mut due, mut new) = (0, 0);
    let released: Vec<String> = first.iter().map(|(id, _)| format!("ids={id}")).collect();
    let released = released.join("&");
    app.post_form(&group(&stream, "/nack"), &released).await;
    for _ in 0..30 {
        // The limit leaves space for one entry, and there are always due and new ones.
        let got = read(&app, &stream, "consumer=w&count=10&max_bytes=150").await;
        let was_due = first.contains(&got[0]);
        due += u32::from(was_due);
        new += u32::from(!was_due);
        if was_due {
            app.post_form(&group(&stream, "/nack"), &format!("ids={}", got[0].0))
                .await;
        }
        if new == 20 {
            break;
        }
    }
    assert!(due > 0 && new > 0, "{due} due, {new} new");
}

#[tokio::test]
async fn several_streams_share_the_bound_and_take_turns() {
    let app = TestApp::start().await;
    for made in [PLAIN, QUEUE] {
        let streams = [
            sized(&app, &[100; 30], made).await,
            sized(&app, &[100; 30], made).await,
            sized(&app, &[100; 30], made).await,
        ];
        let [a, b, c] = &streams;
        let named = format!("streams={a}&streams={b}&streams={c}&");
        let mut counts = [0; 3];
        for _ in 0..30 {
            let form = format!("{named}consumer=w&count=10&max_bytes=250&wait=5s");
            let answer = app.post_form("/v1/groups/g/read", &form).await;
            let json = answer.json();
            let of: Vec<usize> = (0..3)
                .map(|i| measured(&json["streams"][i]["entries"]).len())
                .collect();
            assert_eq!(of.iter().sum::<usize>(), 2, "{made}: {}", answer.body);
            (0..3).for_each(|i| counts[i] += of[i]);
        }
        assert!(counts.iter().all(|count| *count > 0), "{made}: {counts:?}");
        for (stream, count) in streams.iter().zip(counts) {
            assert_eq!(pending(&app, stream).await.len(), count, "{made}");
        }
    }
}

#[tokio::test]
async fn a_history_is_cut_and_goes_on_after_what_was_kept() {
    let app = TestApp::start().await;
    for made in [PLAIN, QUEUE] {
        let stream = sized(&app, &[100, 100, 5000, 100], made).await;
        read(&app, &stream, "consumer=w").await;
        let mut after = "0".to_owned();
        for expected in [&["1-0", "2-0"][..], &["3-0"], &["4-0"], &[]] {
            let form = format!("consumer=w&history={after}&max_bytes=250");
            let got = read(&app, &stream, &form).await;
            assert_eq!(ids(&got), expected, "{made}");
            after = got.last().map_or(after, |(id, _)| id.clone());
        }
        let other = sized(&app, &[100, 100], made).await;
        read(&app, &other, "consumer=w").await;
        let form =
            format!("streams={stream}&streams={other}&consumer=w&history=0&max_bytes=50&count=5");
        let both = app.post_form("/v1/groups/g/read", &form).await.json();
        for i in 0..2 {
            assert_eq!(
                ids(&measured(&both["streams"][i]["entries"])),
                ["1-0"],
                "{made}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_kept_from_nobody_is_bounded_too() {
    let app = TestApp::start().await;
    for made in [PLAIN, QUEUE] {
        let stream = sized(&app, &[100; 3], made).await;
        let form = "consumer=w&no_ack=true&max_bytes=250";
        assert_eq!(
            ids(&read(&app, &stream, form).await),
            ["1-0", "2-0"],
            "{made}"
        );
        assert_eq!(ids(&read(&app, &stream, form).await), ["3-0"], "{made}");
        assert_eq!(pending(&app, &stream).await, [] as [&str; 0]);
    }
}

#[tokio::test]
async fn a_bounded_read_waits_like_any_other() {
    let app = TestApp::start().await;
    for made in [PLAIN, QUEUE] {
        let stream = sized(&app, &[10], made).await;
        read(&app, &stream, "consumer=w").await;
        let waiting = read(&app, &stream, "consumer=w&max_bytes=100&wait=20s");
        let later = async {
            eventually("it waits", async || app.metric("waiting_reads").await == 1).await;
            app.publish(&stream, "1").await
        };
        let (got, id) = tokio::join!(waiting, later);
        assert_eq!(ids(&got), [id], "{made}");
    }
}

#[tokio::test]
async fn a_bound_that_makes_no_sense_is_refused_and_a_missing_group_is_missing() {
    let app = TestApp::start().await;
    let stream = sized(&app, &[10], PLAIN).await;
    for bytes in ["0", "16777217", "-1", "1MiB"] {
        let form = format!("consumer=w&max_bytes={bytes}");
        let answer = app.post_form(&group(&stream, "/read"), &form).await;
        let problem = answer.is_problem(400, "invalid-request");
        assert_eq!(problem["errors"][0]["pointer"], "/max_bytes", "{problem:#}");
    }
    for name in [&stream, &unique("none")] {
        let path = format!("/v1/streams/{name}/groups/none/read");
        let answer = app.post_form(&path, "consumer=w&max_bytes=10").await;
        answer.is_problem(404, "group-not-found");
    }
    let leased = app
        .post_form(&group(&stream, "/read"), "consumer=w&max_bytes=10&lease=1m")
        .await;
    leased.is_problem(409, "group-has-no-policy");
}
