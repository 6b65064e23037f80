//! streamgate: the HTTP gateway for Redis Streams.
//!
//! `ARCHITECTURE.md` describes the modules of this crate and how data flows through them.

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
pub mod service;
pub mod shares;
pub mod telemetry;
pub mod trace;
