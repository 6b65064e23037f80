//! streamgate: the HTTP gateway for Redis Streams.
//!
//! `ARCHITECTURE.md` tells how the rooms of this crate lie and which way data goes through them.

pub mod app;
pub mod auth;
pub mod background;
pub mod cli;
pub mod config;
pub mod health;
pub mod http;
pub mod jobs;
pub mod live;
pub mod log_sampler;
pub mod metrics;
pub mod model;
pub mod net;
pub mod rate_limit;
pub mod redis;
pub mod run;
pub mod telemetry;
