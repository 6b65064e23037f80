//! Fan-out of new entries: a few Redis connections serve many waiting readers.
//!
//! A follower first *joins* a stream, and then reads the stored range. An entry appended in between
//! arrives twice; the duplicate is dropped by its id. A follower that falls behind reads the range
//! again, without a special case. The position of a follower is its only essential state.
//!
//! This module does not depend on HTTP.

mod bell;
mod cursors;
mod feed;
mod followed;
mod hub;
mod matched_names;
mod matching;
mod memory;
mod opening;
mod out;
mod policy_cache;
mod push;
mod reader;
mod retained;
mod scheduled;
mod signal;
mod subscription;
mod sweeper;
mod tail;
mod turns;
mod unbroken;
mod waiting;
mod wakes;
mod work;

pub use hub::{Hub, JoinError, LiveSettings};
pub use opening::{Begin, End, Matched, Visible, Wanted};
pub use out::Out;
pub use push::{Push, PushPlan, Pushed};
pub use signal::Closing;
pub use subscription::{Subscription, Terms};
pub use waiting::RangeWait;
