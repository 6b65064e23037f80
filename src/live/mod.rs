//! Fan-out of new entries: a few Redis connections serve many waiting readers.
//!
//! A follower first *joins* a stream, and then reads the stored range. An entry appended in between
//! arrives twice; the duplicate is dropped by its id. A follower that falls behind reads the range
//! again, without a special case. The position of a follower is its only essential state.
//!
//! This module does not depend on HTTP.

mod context;
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
mod reader_handle;
mod registry;
mod round;
mod send_queue;
mod stream_reader;
mod subscribe_plan;
mod subscription;
mod tail;
mod timing;
mod tracked;
mod tracking_reader;
mod wake_queue;

pub use crate::live::context::{JoinError, LiveSettings};
pub use crate::live::control_events::EndReason;
pub use crate::live::group::push::{Push, PushPlan, Pushed};
pub use crate::live::hub::Hub;
pub use crate::live::long_poll::RangeWait;
pub use crate::live::send_queue::SendQueue;
pub use crate::live::subscribe_plan::{
    PrefixStart, SubscribeEnd, SubscribeOptions, SubscribeRequest, SubscribeStart,
    SubscriptionSlot, Visible,
};
pub use crate::live::subscription::Subscription;
