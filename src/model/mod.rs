//! The domain model: entry ids, positions, names, entries and frames as plain values.
//!
//! Nothing in this module does I/O or depends on Redis, HTTP or the async runtime, so every rule
//! can be tested without them.

pub mod bare;
pub mod cloudevent;
pub mod cloudevent_json;
pub mod cloudevent_out;
pub mod cursor;
pub mod duration;
pub mod entry;
pub mod entry_json;
pub mod form;
pub mod form_check;
pub mod frame;
pub mod glob;
pub mod group_pattern;
pub mod history;
pub mod id;
pub mod json_text;
pub mod lag;
pub mod lines;
mod members;
pub mod name;
pub mod namespace;
pub mod nearest;
pub mod network;
pub mod packed;
pub mod page;
pub mod policy;
pub mod policy_options;
pub mod position;
pub mod range;
pub mod receipt;
pub mod retention;
pub mod sent;
pub mod time;
pub mod validity;
pub mod view;
