//! The person who looks after dead letters, and finds out about calls without an answer.

use std::sync::Arc;

use fastrand::Rng;
use serde_json::{Value, json};

use super::world::World;
use crate::support::elapse;

/// Looks after dead letters until the run stops.
pub async fn run(world: Arc<World>, seed: u64) {
    let mut rng = Rng::with_seed(seed ^ 2);
    while !world.stop.is_cancelled() {
        elapse(100, "the workers go on").await;
        if world.scale.blocks {
            for (key, id, letter) in world.letters(&mut rng).await {
                release(&world, &mut rng, (&key, &id), &letter).await;
            }
        }
        if world.is_calm() {
            // In this order: an entry that becomes a dead letter meanwhile is in one of the two.
            let mut held = world.pending().await;
            if world.scale.blocks {
                held.extend(world.dead().await);
            }
            world.ledger.lock().resolve(&held);
        }
    }
}

async fn release(world: &World, rng: &mut Rng, (key, id): (&str, &str), letter: &str) {
    world.ledger.lock().release(key, id);
    if rng.bool() {
        let path = format!("dead-letters/{letter}");
        if world.delete(rng, &path).await {
            world.ledger.lock().released(key, id, false);
        }
        return;
    }
    let body = json!({"ids": [letter]});
    let answer = world.call(rng, "dead-letters/redrive", &body).await;
    let outcome = |answer: &Value| answer["results"][0]["outcome"] == "redriven";
    if answer.as_ref().is_some_and(outcome) {
        world.ledger.lock().released(key, id, true);
    }
}
