//! Integration tests, built as one binary.
//!
//! The tests start every server they need, so none has to run beforehand. The gateway runs in this
//! process or as the real binary, and some tests use a real browser.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on fails"
)]
#![expect(
    clippy::too_many_lines,
    reason = "a test shows one course of events from start to end"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "tests wait for what they spawn, and read CHROMIUM"
)]

mod access;
mod ack;
mod ack_publish;
mod acl;
mod attacks;
mod awkward;
mod bad_input;
mod base_path;
mod batches;
mod bodies;
mod browser;
mod capabilities;
mod client_files;
mod clients;
mod cloudevents;
mod cluster;
mod cluster_failures;
mod cluster_live;
mod cluster_moves;
mod cold_gateway;
mod compression;
mod conditions;
mod console;
mod console_pages;
mod consumers;
mod contact;
mod counters;
mod dead_letters;
mod deploying;
mod docs_page;
mod documentation;
mod durability;
mod early_answers;
mod events;
mod events_many;
mod examples;
mod failover;
mod fast_groups;
mod fast_path;
mod fidelity;
mod finished;
mod greed;
mod groups;
mod groups_first_use;
mod groups_many;
mod histories;
mod http2;
mod json_payloads;
mod keys;
mod kinds_of_bodies;
mod lag;
mod leases;
mod limits;
mod lines;
mod lives;
mod many;
mod memory;
mod metrics;
mod model;
mod monitoring;
mod name_walk;
mod names;
mod openapi;
mod openapi_answers;
mod openapi_rules;
mod order_model;
mod ordering;
mod outage;
mod pages;
mod passing;
mod process;
mod publish;
mod push;
mod random_lives;
mod range;
mod read_bytes;
mod readme;
mod recreated;
mod redis_tls;
mod repeated_headers;
mod restart;
mod retention;
mod rolling;
mod scheduled;
mod sentinel;
mod settings;
mod shares;
mod slow_clients;
mod strangers;
mod streams;
mod support;
mod surface;
mod tenant_walk;
mod tenants;
mod tickets;
mod tidy;
mod times;
mod tls;
mod token_stream;
mod tokens;
mod traces;
mod trimming;
mod unread_bodies;
mod untrusted;
mod upkeep;
mod walkthroughs;
mod webhook_forwarder;
mod webhooks;
mod wide_letters;
mod work_model;
