//! Fan-out: few Redis connections, many readers who wait.
//!
//! Whoever follows a stream *joins* it first and reads the stored range after that; what is
//! appended in between arrives twice and is dropped by its id. Falling behind is no special case:
//! it means reading the range again. The position of a reader is the only state that matters.
//!
//! Nothing here knows HTTP.

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
