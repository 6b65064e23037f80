//! The place of a shared handle, from which it is taken for each command and thrown away when it is
//! of no further use.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use deadpool::managed::Object;
use tokio_util::sync::CancellationToken;

use crate::redis::StoreError;
use crate::redis::conn::dial::{Dialer, Wire};

/// The place of one shared handle.
#[derive(Default)]
pub(in crate::redis) struct Slot {
    /// Written by `connect` and `discard`.
    pub held: RwLock<Option<Arc<Held>>>,
    /// Held by whoever connects; remembers the last failure for those who queued behind it.
    pub connecting: tokio::sync::Mutex<Option<(Instant, CancellationToken, StoreError)>>,
}

impl Slot {
    pub fn held(&self) -> Option<Arc<Held>> {
        self.held
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The handle, unless its connection is known to be closed: then the handle is thrown away.
    pub fn open(&self) -> Option<Arc<Held>> {
        let held = self.held()?;
        if held.wire.link.is_closed() {
            self.discard(&held);
            return None;
        }
        Some(held)
    }

    /// Throws a handle away with its connection; false if someone else has done so.
    pub fn discard(&self, broken: &Arc<Held>) -> bool {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let here = held.take_if(|held| Arc::ptr_eq(held, broken)).is_some();
        let owner = broken
            .owner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(owner) = owner {
            drop(Object::take(owner));
        }
        here
    }
}

pub(in crate::redis) struct Held {
    pub wire: Wire,
    /// Keeps the place in the pool; taken by `discard`.
    pub owner: Mutex<Option<Object<Dialer>>>,
    /// Replies that came over it.
    pub answered: AtomicU64,
    /// Of its site.
    pub left: CancellationToken,
}
