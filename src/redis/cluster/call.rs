//! Commands and pipelines, as calls that a node can run.

use deadpool_redis::redis::{Cmd, Pipeline, Value};

use crate::redis::StoreError;
use crate::redis::cluster::slot::key_of;
use crate::redis::conn::pool::Connections;
use crate::redis::conn::send_options::SendOptions;

/// A command or a pipeline whose keys share a slot.
pub(in crate::redis) trait Call: Sync {
    /// The reply.
    type Reply: Send;

    /// Returns the first key, if there is one.
    fn key(&self) -> Option<&[u8]>;

    /// Runs the call on a node.
    fn send_to(
        &self,
        node: &Connections,
        how: SendOptions,
    ) -> impl Future<Output = Result<Self::Reply, StoreError>> + Send;
}

impl Call for Cmd {
    type Reply = Value;

    fn key(&self) -> Option<&[u8]> {
        key_of(self)
    }

    fn send_to(
        &self,
        node: &Connections,
        how: SendOptions,
    ) -> impl Future<Output = Result<Value, StoreError>> + Send {
        node.command(self, how)
    }
}

impl Call for Pipeline {
    type Reply = Vec<Value>;

    fn key(&self) -> Option<&[u8]> {
        self.cmd_iter().find_map(key_of)
    }

    fn send_to(
        &self,
        node: &Connections,
        how: SendOptions,
    ) -> impl Future<Output = Result<Vec<Value>, StoreError>> + Send {
        node.pipeline(self, how)
    }
}
