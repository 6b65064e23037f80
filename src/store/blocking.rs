//! The calls that block, on connections of their own: nothing else may go over one meanwhile.

use std::time::Duration;

use deadpool_redis::Connection;
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{Cmd, Value};

use super::decode::{bytes, int, list, tuple};
use super::{Store, StoreError};
use crate::model::id::EntryId;
use crate::model::name::StreamName;

impl Store {
    /// Blocks on an exclusive connection until one of the streams has an entry after the id given
    /// with it, and answers which have; none when `block` has passed or [`Store::unblock`] was
    /// called. At most one entry of each is carried along and thrown away: entries are read with
    /// their counters, in one step, by [`Store::read_after`].
    ///
    /// # Errors
    /// [`StoreError::NotAStream`] when one of the keys holds something else, or that Redis is away.
    /// # Cancel safety
    /// None: dropped, the connection stays blocked and must be discarded with it.
    pub async fn wait_for_entries(
        &self,
        on: &Blocking,
        after: &[(&StreamName, EntryId)],
        block: Duration,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut command = Cmd::new();
        // BLOCK 0 would be for ever.
        command
            .arg("XREAD")
            .arg("COUNT")
            .arg(1)
            .arg("BLOCK")
            .arg(block.as_millis().max(1).to_string());
        command.arg("STREAMS");
        for (stream, _) in after {
            command.arg(stream.as_str());
        }
        for (_, id) in after {
            command.arg(id.to_string());
        }
        let woken = command.query_async(&mut on.handle()).await.map_err(StoreError::from);
        if woken.as_ref().is_err_and(StoreError::is_outage) {
            self.connections.doubt();
        }
        match woken? {
            Value::Nil => Ok(Vec::new()),
            woken => list(woken)?
                .into_iter()
                .map(|of_stream| bytes(tuple::<2>(of_stream)?[0].clone()))
                .collect(),
        }
    }

    /// The id by which [`Store::unblock`] finds a connection.
    ///
    /// # Errors
    /// That Redis is away.
    pub async fn client_id(&self, on: &Blocking) -> Result<i64, StoreError> {
        let mut command = Cmd::new();
        command.arg("CLIENT").arg("ID");
        int(&command.query_async(&mut on.handle()).await?)
    }

    /// Ends the wait of a blocked connection as if its time had passed; nothing if it is not
    /// blocked.
    ///
    /// # Errors
    /// That Redis is away, or denies it.
    pub async fn unblock(&self, client: i64) -> Result<(), StoreError> {
        let mut command = Cmd::new();
        command.arg("CLIENT").arg("UNBLOCK").arg(client);
        self.read(&command).await.map(drop)
    }
}

/// An exclusive connection for blocking commands.
pub struct Blocking(pub(super) Connection);

impl Blocking {
    /// A handle to the connection, for commands that follow each other.
    #[must_use]
    pub fn handle(&self) -> MultiplexedConnection {
        MultiplexedConnection::clone(&self.0)
    }

    /// Closes the connection and frees its place: a command may still be blocked on it, and would
    /// answer a reader who is gone.
    pub fn discard(self) {
        drop(Connection::take(self.0));
    }
}
