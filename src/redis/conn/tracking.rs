//! Tracking connections: Redis reports each key that was read on such a connection when the key
//! changes (CLIENT TRACKING). It reports a key once, until the key is read again.
//!
//! Redis does not report XSETID, SWAPDB and changes of groups. In a cluster it does not report that
//! a missing key is created on another node. Callers look at all keys when the slot table changes,
//! after a reconnect, and from time to time.

use std::collections::HashSet;
use std::sync::Arc;

use deadpool_redis::redis::{Cmd, PushInfo, PushKind, Value};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::redis::cluster::table::Node;
use crate::redis::conn::exclusive::Handle;
use crate::redis::{Store, StoreError};

/// A server that holds streams. Two are equal if they are the same server of the same gateway.
#[derive(Clone)]
pub struct NodeRef(pub(in crate::redis) Node);

impl PartialEq for NodeRef {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for NodeRef {}

impl std::hash::Hash for NodeRef {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

/// The changes reported on all tracking connections of one reader.
#[derive(Default)]
pub struct Changes {
    reported: Mutex<Reported>,
    /// Notified when something was reported.
    notify: Notify,
}

/// What was reported since the last call of [`Changes::take`].
#[derive(Default)]
pub struct Reported {
    /// Changed keys. Bounded by the keys that were read on the connections.
    pub keys: HashSet<Vec<u8>>,
    /// Whether any key may have changed, as after FLUSHALL.
    pub all: bool,
    /// Servers whose connection was closed.
    pub closed: Vec<NodeRef>,
}

impl Changes {
    /// Waits until something was reported. May return without a change.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn wait(&self) {
        self.notify.notified().await;
    }

    /// Takes everything reported so far.
    #[must_use]
    pub fn take(&self) -> Reported {
        std::mem::take(&mut self.reported.lock())
    }

    fn record(&self, node: &NodeRef, push: PushInfo) {
        let mut reported = self.reported.lock();
        match push.kind {
            PushKind::Invalidate => match push.data.into_iter().next() {
                Some(Value::Array(keys)) => {
                    let keys = keys.into_iter().filter_map(|key| match key {
                        Value::BulkString(key) => Some(key),
                        _ => None,
                    });
                    reported.keys.extend(keys);
                }
                _ => reported.all = true,
            },
            PushKind::Disconnection => reported.closed.push(node.clone()),
            _ => return,
        }
        drop(reported);
        self.notify.notify_one();
    }
}

/// A connection to one server that reports changed keys.
#[derive(Clone)]
pub struct TrackingConnection {
    /// The connection, for reads of keys that are to be tracked.
    pub handle: Handle,
    /// Whether the server reports changes. If not, the caller must look at its keys from time to
    /// time.
    pub reports: bool,
}

impl Store {
    /// Opens a tracking connection to a server, whose reports go to `changes`. If the server does
    /// not support or permit tracking, the connection reports nothing.
    ///
    /// # Errors
    /// An outage of the server.
    /// # Cancel safety
    /// Cancel safe.
    pub async fn tracking(
        &self,
        node: &NodeRef,
        changes: &Arc<Changes>,
    ) -> Result<TrackingConnection, StoreError> {
        let endpoint = node.0.endpoint()?;
        let (changes, reporter) = (changes.clone(), node.clone());
        let report = move |push| {
            changes.record(&reporter, push);
            Ok::<_, std::convert::Infallible>(())
        };
        let wire = endpoint.reporting(report).await?;
        let handle = Handle::new(wire, endpoint.replaced.clone(), node.0.clone());
        let mut tracking = Cmd::new();
        tracking.arg("CLIENT").arg("TRACKING").arg("ON");
        let reports = match handle.command(&tracking).await {
            Ok(_) => true,
            Err(error) if error.is_outage() => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "Redis does not report changes of streams");
                false
            }
        };
        Ok(TrackingConnection { handle, reports })
    }

    /// Tests whether the server still answers on a connection.
    ///
    /// # Errors
    /// An outage of the server.
    /// # Cancel safety
    /// Cancel safe.
    pub async fn test(&self, on: &Handle) -> Result<(), StoreError> {
        let mut ping = Cmd::new();
        ping.arg("PING");
        match on.command(&ping).await {
            Err(error) if error.is_outage() => Err(error),
            _ => Ok(()),
        }
    }
}
