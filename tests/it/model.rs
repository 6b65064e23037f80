//! Model test of subscriptions: no subscriber misses an entry without being told.
//!
//! Subscribers follow streams while the test adds, trims and deletes entries, recreates streams,
//! cuts and stalls connections, and restarts gateways and Redis. The test then compares the log of
//! each subscriber with a plain list of every entry that ever existed.
//!
//! The steps are drawn from a seed. The test prints the seed and every step. `MODEL_SEED=…` sets
//! the first seed, and `MODEL_SECONDS=…` makes the test run longer:
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

/// Default duration of the model test, in seconds.
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
