//! A worker of the run, which may die in the middle of its work.

use std::sync::Arc;

use fastrand::Rng;
use serde_json::{Value, json};

use super::world::{World, end_of};
use crate::support::elapse;

/// Lease of the policy, in milliseconds.
pub const LEASE_MS: u64 = 1500;

/// Works until the run stops.
pub async fn run(world: Arc<World>, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let name = format!("w{}", rng.u32(..));
    while !world.stop.is_cancelled() {
        let count = rng.u32(1..8);
        let read = json!({"consumer": name, "count": count, "wait": "500ms"});
        let Some(answer) = world.call(&mut rng, "read", &read).await else {
            elapse(50, "a gateway starts again").await;
            continue;
        };
        let entries: Vec<Value> = answer["entries"].as_array().cloned().unwrap_or_default();
        let mut work = Vec::new();
        for entry in &entries {
            let text = |name: &str| entry[name].as_str().unwrap().to_owned();
            let key = entry["fields"]["k"].as_str().unwrap().to_owned();
            let until_us = end_of(&text("receipt"));
            world
                .ledger
                .lock()
                .receive(&key, &text("id"), until_us - LEASE_MS * 1000, until_us);
            work.push((key, text("id"), text("receipt")));
        }
        for (key, id, receipt) in work {
            process(&world, &mut rng, &key, &id, receipt).await;
        }
    }
}

async fn process(world: &World, rng: &mut Rng, key: &str, id: &str, mut receipt: String) {
    let calm = world.is_calm();
    let (verb, more) = match rng.u32(..100) {
        0..10 => (
            "nack",
            json!({"delay": format!("{}ms", [0, 100, 300][rng.usize(..3)])}),
        ),
        10..14 => ("reject", json!({})),
        14..18 if !calm => return,
        18..24 if !calm => {
            // An acknowledgement that is late, mostly after another worker got the entry.
            elapse(LEASE_MS + 200, "the lease ends").await;
            ("ack", json!({}))
        }
        24..29 => {
            let body = json!({"receipts": [receipt]});
            if let Some(answer) = world.call(rng, "extend", &body).await
                && let Some(new) = answer["results"][0]["receipt"].as_str()
            {
                new.clone_into(&mut receipt);
            }
            ("ack", json!({}))
        }
        29..35 => {
            let body = json!({"ids": [id]});
            // By id it is finished whoever holds it, so only the holder sends it.
            return settle(world, rng, "ack", body, key, id).await;
        }
        _ => ("ack", json!({})),
    };
    let mut body = more;
    body["receipts"] = json!([receipt]);
    settle(world, rng, verb, body, key, id).await;
}

async fn settle(world: &World, rng: &mut Rng, verb: &str, body: Value, key: &str, id: &str) {
    let finishes = verb != "nack";
    world.ledger.lock().attempt(key, id, finishes);
    // A gateway that was killed may have done it; the entry comes again if not.
    if let Some(answer) = world.call(rng, verb, &body).await
        && let Some(outcome) = answer["results"][0]["outcome"].as_str()
    {
        world.ledger.lock().settle(key, id, finishes, outcome);
    }
}
