//! Random histories of streams: what the gateway stores beside a stream is never discarded while
//! the stream lives, and is discarded after every replacement that its counters can reveal.
//!
//! A replacement that removed at least as many entries as the old stream was ever given leaves the
//! counters of a stream that continued, so nothing can notice it. All others must be noticed.
//!
//! `LIVES=5000 cargo test --test it random_lives:: -- --nocapture` tries more histories.
//! `LIVES_SEED=…` repeats the choices of a run.

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::lives::{keyed, patch};
use crate::support::redis::{Server, json as plain};
use crate::support::{TestApp, eventually, unique};

/// Default number of streams.
const LIVES: u64 = 250;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().expect("a number"))
}

/// Counters of a stream.
#[derive(Clone, Copy, Debug)]
struct Counters {
    added: u64,
    length: u64,
}

/// Lets another client change a stream in one script, and returns the counters after it. With
/// `is_replaced`, deletes the stream first.
async fn change(
    server: &Server,
    stream: &str,
    random: &mut fastrand::Rng,
    is_replaced: bool,
) -> Counters {
    let add = "redis.call('XADD', KEYS[1], '*', 'n', 'native') ";
    let mut script = if is_replaced {
        format!("redis.call('DEL', KEYS[1]) {add}")
    } else {
        String::new()
    };
    for _ in 0..random.usize(1..8) {
        let step = match random.u8(0..6) {
            0..=2 => add.repeat(random.usize(1..if is_replaced { 20 } else { 6 })),
            3 | 4 => format!(
                "redis.call('XTRIM', KEYS[1], 'MAXLEN', '{}') ",
                random.usize(0..8)
            ),
            _ => format!(
                "do local all = redis.call('XRANGE', KEYS[1], '-', '+') \
                 if #all > 0 then redis.call('XDEL', KEYS[1], all[{} % #all + 1][1]) end end ",
                random.usize(0..20)
            ),
        };
        script.push_str(&step);
    }
    script += "local found, info = {}, redis.call('XINFO', 'STREAM', KEYS[1]) \
               for i = 1, #info, 2 do found[info[i]] = info[i + 1] end \
               return {found['entries-added'], found['length']}";
    let counters = plain(&server.command(&["EVAL", &script, "1", stream]).await);
    Counters {
        added: counters[0].as_u64().unwrap(),
        length: counters[1].as_u64().unwrap(),
    }
}

/// A stream with an idempotency key and a retention.
struct Life {
    stream: String,
    random: fastrand::Rng,
    first: (u16, String),
    counters: Counters,
    /// Replays and retentions that were lost although the stream lived on.
    lost: u64,
}

async fn retention(app: &TestApp, stream: &str) -> Value {
    app.get(&format!("/v1/streams/{stream}")).await.json()["retention"]["max_age"].clone()
}

/// Plays the history of one stream, without a replacement.
async fn live(app: &TestApp, server: &Server, seed: u64) -> Life {
    let mut random = fastrand::Rng::with_seed(seed);
    let stream = unique("life");
    let first = keyed(app, &stream, "k0", "x").await;
    assert_eq!(first.0, 201, "{}", first.1);
    let kept = patch(app, &stream, r#"{"retention":{"max_age":"30d"}}"#).await;
    assert_eq!(kept.status, 200, "{}", kept.body);
    let mut given = vec![first.1.clone()];
    let (mut lost, mut counters) = (
        0,
        Counters {
            added: 0,
            length: 0,
        },
    );
    for round in 1..=random.usize(1..4) {
        let (status, id) = keyed(app, &stream, &format!("k{round}"), "x").await;
        assert_eq!(status, 201, "{id}");
        given.push(id);
        counters = change(server, &stream, &mut random, false).await;
        for (n, id) in given.iter().enumerate() {
            let again = keyed(app, &stream, &format!("k{n}"), "x").await;
            lost += u64::from(again != (200, id.clone()));
        }
        lost += u64::from(retention(app, &stream).await != "30d");
    }
    Life {
        stream,
        random,
        first,
        counters,
        lost,
    }
}

/// Returns how many records of streams do not have the current counters yet.
async fn outdated(server: &Server, lives: &[Life]) -> i64 {
    let script = "local outdated = 0 \
         for i = 1, #KEYS, 2 do \
           local n = ' ' .. ARGV[(i + 1) / 2] .. ' ' \
           local key = redis.call('HGET', KEYS[i], 'life') or '' \
           local kept = redis.call('GET', KEYS[i + 1]) or '' \
           if not key:find(n, 1, true) then outdated = outdated + 1 end \
           if not (kept .. ' '):find(n, 1, true) then outdated = outdated + 1 end \
         end return outdated";
    let count = (lives.len() * 2).to_string();
    let mut words = vec!["EVAL".to_owned(), script.to_owned(), count];
    for Life { stream, .. } in lives {
        words.push(format!(
            "streamgate:{{{stream}}}:idempotency:known:{stream}"
        ));
        words.push(format!("streamgate:{{{stream}}}:retention:{stream}"));
    }
    words.extend(lives.iter().map(|life| life.counters.added.to_string()));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    plain(&server.command(&words).await).as_i64().unwrap()
}

#[tokio::test]
async fn no_life_is_taken_for_another_and_every_replacement_that_counters_reveal_is_noticed() {
    let seed = number("LIVES_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    let count = number("LIVES").unwrap_or(LIVES);
    println!("LIVES_SEED={seed}");
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let lives = futures_util::stream::iter(0..count)
        .map(|n| live(&app, &server, seed.wrapping_add(n)))
        .buffer_unordered(16);
    let lives: Vec<Life> = lives.collect().await;
    let lost: u64 = lives.iter().map(|life| life.lost).sum();
    assert_eq!(lost, 0, "LIVES_SEED={seed}: taken for another life");
    eventually("the counters are recorded", async || {
        outdated(&server, &lives).await == 0
    })
    .await;

    let (mut noticeable, mut by_key, mut by_retention) = (0, 0, 0);
    for mut life in lives {
        let stream = &life.stream;
        let new = change(&server, stream, &mut life.random, true).await;
        let is_kept = retention(&app, stream).await == "30d";
        let (status, id) = keyed(&app, stream, "k0", "x").await;
        let is_replay = (status, &id) == (200, &life.first.1);
        assert!(is_replay || status == 201, "{status}: {id}");
        by_key += u64::from(!is_replay);
        by_retention += u64::from(!is_kept);
        if new.added - new.length < life.counters.added {
            noticeable += 1;
            assert_eq!(
                json!([is_kept, is_replay]),
                json!([false, false]),
                "LIVES_SEED={seed}: {stream}: {:?}, then {new:?}",
                life.counters
            );
        }
    }
    println!(
        "{count} lives, 0 taken for another; {noticeable} replacements can be noticed; noticed: \
         {by_key} by idempotency keys, {by_retention} by retentions"
    );
    assert!(noticeable * 2 > count, "{noticeable} of {count}");
}
