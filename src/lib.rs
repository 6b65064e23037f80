//! streamgate: the HTTP gateway for Redis Streams.
//!
//! `ARCHITECTURE.md` describes the modules of this crate and how data flows through them.

pub mod api;
pub mod app;
pub mod auth;
pub mod background;
pub mod cli;
pub mod config;
mod credentials;
pub mod health;
pub mod limit;
pub mod live;
pub mod metrics;
pub mod model;
pub mod net;
pub mod openapi;
pub mod refusals;
pub mod run;
pub mod state;
pub mod store;
pub mod telemetry;
