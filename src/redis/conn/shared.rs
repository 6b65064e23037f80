//! Shared connections. Each command takes the handle from its slot; a broken handle is discarded.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use deadpool::managed::Object;
use parking_lot::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;

use crate::redis::StoreError;
use crate::redis::conn::dial::{Dialer, MultiplexedHandle};

/// A slot for one shared connection, which is replaced when it breaks.
#[derive(Default)]
pub(in crate::redis) struct SharedConnection {
    /// The current handle. Set by `connect`, cleared by `discard`.
    pub held: RwLock<Option<Arc<ConnectionHandle>>>,
    /// Locked while a caller connects. Holds the last failure, which is also returned to the
    /// callers that waited for the lock.
    pub connecting: tokio::sync::Mutex<Option<(Instant, CancellationToken, StoreError)>>,
}

impl SharedConnection {
    pub fn handle(&self) -> Option<Arc<ConnectionHandle>> {
        self.held.read().clone()
    }

    /// Returns the handle. Discards it instead if its connection is known to be closed.
    pub fn open(&self) -> Option<Arc<ConnectionHandle>> {
        let held = self.handle()?;
        if held.wire.link.is_closed() {
            self.discard(&held);
            return None;
        }
        Some(held)
    }

    /// Discards a handle and its connection. Returns false if another caller already did.
    pub fn discard(&self, broken: &Arc<ConnectionHandle>) -> bool {
        let mut held = self.held.write();
        let here = held.take_if(|held| Arc::ptr_eq(held, broken)).is_some();
        let owner = broken.owner.lock().take();
        if let Some(owner) = owner {
            drop(Object::take(owner));
        }
        here
    }
}

/// A shared connection and its place in the pool.
pub(in crate::redis) struct ConnectionHandle {
    pub wire: MultiplexedHandle,
    /// Occupies one place in the pool; taken by `discard`.
    pub owner: Mutex<Option<Object<Dialer>>>,
    /// Number of replies received on this connection.
    pub answered: AtomicU64,
    /// Cancelled when another server has replaced the one this connection goes to.
    pub replaced: CancellationToken,
}
