//! Fan-out: few Redis connections, many readers who wait.
//!
//! Whoever follows a stream *joins* it first and reads the stored range after that; what is
//! appended in between arrives twice and is dropped by its id. Falling behind is no special case:
//! it means reading the range again. The position of a reader is the only state that matters.
//!
//! Nothing here knows HTTP.

mod control_events;
mod cursors;
mod followed;
mod group;
mod hub;
mod long_poll;
mod matched_names;
mod page_memory;
mod prefix_watch;
mod reader;
mod retained;
mod scheduled;
mod send_queue;
mod stream_reader;
mod subscribe_plan;
mod subscription;
mod sweeper;
mod tail;
mod wake_queue;

pub use crate::live::control_events::Closing;
pub use crate::live::group::push::{Push, PushPlan, Pushed};
pub use crate::live::hub::{Hub, JoinError, LiveSettings};
pub use crate::live::long_poll::RangeWait;
pub use crate::live::send_queue::Out;
pub use crate::live::subscribe_plan::{Begin, End, Matched, Visible, Wanted};
pub use crate::live::subscription::{Subscription, Terms};
