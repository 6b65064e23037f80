//! Proof that nothing is lost in silence: subscribers follow streams while entries are added,
//! trimmed and deleted, streams made anew, connections cut and stalled, gateways and Redis
//! restarted; and whatever each was told is held against a plain list of all there ever was.
//!
//! What happens is drawn from a seed, which is printed, with every step. `MODEL_SEED=…` begins with that one,
//! `MODEL_SECONDS=…` goes on for longer:
//! `MODEL_SECONDS=600 cargo test --test it model:: -- --nocapture`.

mod check;
mod ledger;
mod run;
mod script;
mod subscriber;
mod world;

use std::time::{Duration, Instant};

use check::Told;
use run::Run;
use world::World;

/// For how long scripts are played in the suite.
const SECONDS: u64 = 10;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_subscriber_misses_an_entry_in_silence_whatever_happens() {
    let first = number("MODEL_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    let time = Duration::from_secs(number("MODEL_SECONDS").unwrap_or(SECONDS));
    let (began, mut seed, mut told) = (Instant::now(), first, Told::default());
    let mut world = World::start().await;
    while began.elapsed() < time {
        println!("MODEL_SEED={seed}");
        match Run::play(&mut world, &script::draw(seed)).await {
            Ok(more) => told += more,
            Err(wrong) => panic!("MODEL_SEED={seed}: {wrong}"),
        }
        seed += 1;
    }
    println!("{} scripts: {told:?}", seed - first);
    assert!(
        told.entries > 0 && told.gaps > 0,
        "nothing happened: {told:?}"
    );
}
