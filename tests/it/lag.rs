//! The lag of a group: exact for a single group, exact or null in lists, whatever was removed.

use serde_json::{Value, json};

use crate::support::redis::{Server, shared};
use crate::support::{TestApp, unique};

async fn make(stream: &str) {
    shared()
        .await
        .command(&["XGROUP", "CREATE", stream, "g", "0", "MKSTREAM"])
        .await;
}

async fn read(stream: &str, count: &str) {
    let read = [
        "XREADGROUP",
        "GROUP",
        "g",
        "w",
        "COUNT",
        count,
        "NOACK",
        "STREAMS",
        stream,
        ">",
    ];
    shared().await.command(&read).await;
}

/// Returns the lag of the group alone, in the list of groups, and in the full view.
async fn lags(app: &TestApp, stream: &str) -> [Value; 3] {
    let path = format!("/v1/streams/{stream}");
    let one = app.get(&format!("{path}/groups/g")).await.json()["lag"].clone();
    let listed = app.get(&format!("{path}/groups")).await.json()["groups"][0]["lag"].clone();
    let full = app.get(&format!("{path}?full=true")).await.json();
    [one, listed, full["full"]["groups"][0]["lag"].clone()]
}

#[tokio::test]
async fn the_lag_is_right_after_trims_that_overtook_the_group() {
    let app = TestApp::start().await;
    let stream = app.stream_of("lag", 5).await;
    make(&stream).await;
    read(&stream, "1").await;
    let trim = async |keep: &str| {
        shared()
            .await
            .command(&["XTRIM", &stream, "MAXLEN", keep])
            .await
    };
    trim("1").await;
    assert_eq!(lags(&app, &stream).await, [1, 1, 1]);
    read(&stream, "9").await;
    assert_eq!(lags(&app, &stream).await, [0, 0, 0]);
    trim("0").await;
    assert_eq!(lags(&app, &stream).await, [0, 0, 0]);
}

#[tokio::test]
async fn a_lag_is_counted_for_one_group_and_null_in_lists_where_the_counters_do_not_tell() {
    let app = TestApp::start().await;
    let stream = app.stream_of("counted", 9).await;
    make(&stream).await;
    read(&stream, "4").await;
    shared()
        .await
        .command(&["XDEL", &stream, "2-0", "6-0"])
        .await;
    assert_eq!(
        lags(&app, &stream).await,
        [json!(4), Value::Null, Value::Null]
    );
}

#[tokio::test]
async fn a_negative_lag_is_never_shown_as_none_to_read() {
    let app = TestApp::start().await;
    let stream = app.stream_of("negative", 5).await;
    make(&stream).await;
    let set = ["XGROUP", "SETID", &stream, "g", "2-0", "ENTRIESREAD", "9"];
    shared().await.command(&set).await;
    let [one, listed, full] = lags(&app, &stream).await;
    assert_eq!(one, 3);
    // Redis 8.2 counts the entries here, and other versions subtract counters.
    assert!([listed, full].iter().all(|lag| lag.is_null() || *lag == 3));
}

#[tokio::test]
async fn a_group_far_from_both_ends_has_the_lag_redis_counts_or_none() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let add = "for n = 1, tonumber(ARGV[1]) do redis.call('XADD', KEYS[1], n .. '-0', 'n', n) end";
    for (read, expected) in [
        ("1500", json!(1500)),
        ("900", json!(2100)),
        ("2500", json!(500)),
    ] {
        let stream = unique("far");
        server.command(&["EVAL", add, "1", &stream, "3000"]).await;
        server
            .command(&["XGROUP", "CREATE", &stream, "g", "0"])
            .await;
        let words = [
            "XREADGROUP",
            "GROUP",
            "g",
            "w",
            "COUNT",
            read,
            "NOACK",
            "STREAMS",
            &stream,
            ">",
        ];
        server.command(&words).await;
        server.command(&["XDEL", &stream, "1-0"]).await;
        let path = format!("/v1/streams/{stream}/groups/g");
        assert_eq!(app.get(&path).await.json()["lag"], expected, "{read}");
        // An impossible lag is not shown if counting the entries would cost too much.
        let place = format!("{read}-0");
        let set = ["XGROUP", "SETID", &stream, "g", &place, "ENTRIESREAD", "1"];
        server.command(&set).await;
        let expected = if read == "1500" {
            Value::Null
        } else {
            expected
        };
        assert_eq!(app.get(&path).await.json()["lag"], expected, "{read}");
    }
}

#[tokio::test]
async fn no_history_makes_a_lag_wrong() {
    let app = TestApp::start().await;
    for _ in 0..60 {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        let (stream, mut kept, mut next, mut at) = (unique("random"), Vec::new(), 1, 0);
        make(&stream).await;
        for _ in 0..random.usize(1..25) {
            let some = random.usize(0..8);
            match random.u8(0..6) {
                0 | 1 => {
                    for _ in 0..some {
                        let id = format!("{next}-0");
                        shared()
                            .await
                            .command(&["XADD", &stream, &id, "n", "1"])
                            .await;
                        kept.push(next);
                        next += 1;
                    }
                }
                2 => {
                    let keep = some.to_string();
                    shared()
                        .await
                        .command(&["XTRIM", &stream, "MAXLEN", &keep])
                        .await;
                    kept.drain(..kept.len().saturating_sub(some));
                }
                3 if !kept.is_empty() => {
                    let gone = kept.remove(random.usize(..kept.len()));
                    shared()
                        .await
                        .command(&["XDEL", &stream, &format!("{gone}-0")])
                        .await;
                }
                4 => {
                    at = random.i32(0..next);
                    let id = format!("{at}-0");
                    shared()
                        .await
                        .command(&["XGROUP", "SETID", &stream, "g", &id])
                        .await;
                }
                _ => {
                    read(&stream, &(some + 1).to_string()).await;
                    let unread = kept.iter().filter(|id| **id > at).take(some + 1);
                    at = unread.last().copied().unwrap_or(at);
                }
            }
            let truth = json!(kept.iter().filter(|id| **id > at).count());
            let [one, listed, full] = lags(&app, &stream).await;
            assert_eq!(one, truth, "seed {seed}");
            for lag in [listed, full] {
                assert!(
                    lag.is_null() || lag == truth,
                    "seed {seed}: {lag} for {truth}"
                );
            }
        }
    }
}
