//! A model of ordered groups: workers and gateways that are killed, Redis that restarts, and a ledger
//! of what each entry of a key may do. Everything that happens is drawn from a seed.
//!
//! A failure prints the seed. `ORDER_SEED=…` repeats the draws (not their timing).

mod janitor;
mod ledger;
mod worker;
mod world;

use std::time::{Duration, Instant};

use crate::support::elapse;
use world::{Scale, World};

async fn run(scale: Scale) {
    let seed = std::env::var("ORDER_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("ORDER_SEED={seed}");
    let began = Instant::now();
    let world = World::start(seed, scale).await;
    let workers: Vec<_> = (0..scale.workers)
        .map(|number| tokio::spawn(worker::run(world.clone(), seed.wrapping_add(number as u64))))
        .collect();
    let janitor = tokio::spawn(janitor::run(world.clone(), seed));
    world.disturb(seed).await;
    let calm = Instant::now();
    while !world.ledger.lock().is_finished() {
        let open = world.ledger.lock().open();
        assert!(
            calm.elapsed() < scale.patience,
            "no progress, seed {seed}: {open:?}\n{}",
            world.shown().await
        );
        elapse(100, "the workers go on").await;
    }
    world.stop.cancel();
    for worker in workers {
        worker.await.unwrap();
    }
    janitor.await.unwrap();
    let ledger = world.ledger.lock();
    println!("{} in {:?}", ledger.summary(), began.elapsed());
    assert!(
        ledger.violations.is_empty(),
        "seed {seed}: {:#?}",
        ledger.violations
    );
    assert!(
        ledger.acked > 0 && ledger.nacked > 0,
        "the run shows nothing"
    );
}

const SHORT: Scale = Scale {
    keys: 40,
    entries: 600,
    workers: 8,
    disturbances: 6,
    blocks: false,
    patience: Duration::from_secs(60),
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_keep_their_order_while_workers_and_gateways_die() {
    run(SHORT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_wait_for_their_dead_letters_while_workers_and_gateways_die() {
    let blocks = true;
    run(Scale { blocks, ..SHORT }).await;
}

const LONG: Scale = Scale {
    keys: 10_000,
    entries: 40_000,
    workers: 40,
    disturbances: 60,
    blocks: false,
    patience: Duration::from_secs(600),
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn ten_thousand_keys_keep_their_order() {
    run(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn ten_thousand_keys_wait_for_their_dead_letters() {
    let blocks = true;
    run(Scale { blocks, ..LONG }).await;
}
