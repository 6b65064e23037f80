//! Rejected writes and missing permissions of the gateway's Redis user.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::redis::error::StoreError;

/// Interval at which the same missing permission is logged again.
const TELL_AGAIN: Duration = Duration::from_secs(600);
/// Maximum number of missing permissions remembered as logged.
const TOLD: usize = 64;

/// Rejected writes and missing permissions.
#[derive(Default)]
pub(in crate::redis) struct WriteHealth {
    /// Reason why the server rejects writes, if it does. Cleared by `follow_address`.
    pub(super) refused: watch::Sender<Option<String>>,
    /// Notified when a write was rejected.
    pub(super) called: Notify,
    /// Missing permissions, with the time each was last logged.
    told: Mutex<HashMap<String, Instant>>,
}

impl WriteHealth {
    /// Records an error that concerns all writes, and logs a missing permission once per interval.
    pub(in crate::redis) fn record(&self, error: &StoreError) {
        match error {
            StoreError::ReadOnly(text) | StoreError::NotWriting(text) => {
                self.refused.send_if_modified(|refused| {
                    let new = refused.is_none();
                    if new {
                        tracing::warn!("Redis rejects writes: {text}");
                        *refused = Some(text.clone());
                    }
                    new
                });
                self.called.notify_one();
            }
            StoreError::Denied(text) => self.log_denied(text),
            _ => {}
        }
    }

    /// Returns why the server rejects writes, if it does.
    pub(in crate::redis) fn refused(&self) -> Option<String> {
        self.refused.borrow().clone()
    }

    fn log_denied(&self, text: &str) {
        let mut told = self.told.lock();
        let now = Instant::now();
        told.retain(|_, at| now.duration_since(*at) < TELL_AGAIN);
        if told.len() < TOLD && told.insert(text.to_owned(), now).is_none() {
            tracing::error!("the gateway's Redis user lacks a permission: {text}");
        }
    }
}
