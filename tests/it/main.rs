//! All integration tests, in one binary: real servers that the tests start themselves, a gateway
//! in this process or as the real binary, and a real browser. No server needs to run beforehand.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "tests wait for what they spawn, and read CHROMIUM")]

mod ack;
mod awkward;
mod bad_input;
mod batches;
mod browser;
mod capabilities;
mod clients;
mod cloudevents;
mod conditions;
mod counters;
mod dead_letters;
mod durability;
mod events;
mod events_many;
mod examples;
mod failover;
mod fidelity;
mod groups;
mod groups_many;
mod leases;
mod lines;
mod many;
mod model;
mod monitoring;
mod openapi;
mod outage;
mod process;
mod publish;
mod push;
mod range;
mod read_bytes;
mod readme;
mod restart;
mod retention;
mod scheduled;
mod streams;
mod support;
mod surface;
mod tidy;
mod times;
mod trimming;
mod walkthroughs;
mod work_model;
