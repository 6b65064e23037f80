//! Blocking calls. Each uses an exclusive connection, because a blocked connection cannot carry
//! other commands.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::Object;
use deadpool_redis::redis::{Cmd, Pipeline, RedisError, Value};
use tokio_util::sync::CancellationToken;

use crate::model::entry::Entry;
use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::model::position::Position;
use crate::redis::conn::dial::{Dialer, MultiplexedHandle};
use crate::redis::conn::endpoint::PoolKind;
use crate::redis::conn::pool::Connections;
use crate::redis::conn::transaction;
use crate::redis::decode::{int, list, text, tuple};
use crate::redis::stream::read_budget::heaviest;
use crate::redis::{PositionCheck, Store, StoreError};

impl Store {
    /// Blocks on an exclusive connection until one of the streams has an entry after its position.
    /// Returns these streams with their first entries, at most `count` each. Returns none when
    /// `block` has passed or [`Store::unblock`] was called.
    ///
    /// With `check`, also checks each stream whose position is not the start, immediately after the
    /// read. The caller must then detect whether entries are missing.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`] when one of the keys holds another type,
    /// [`StoreError::StreamNotFound`] when a checked stream no longer exists, or an outage of
    /// Redis.
    /// # Cancel safety
    /// Not cancel safe: the connection stays blocked and must be discarded.
    pub async fn wait_for_entries(
        &self,
        on: &Blocking,
        after: &[(&StreamName, Position)],
        block: Duration,
        count: usize,
        check: bool,
    ) -> Result<BlockingReadResult, StoreError> {
        let mut command = Cmd::new();
        command.arg("XREAD").arg("COUNT").arg(count);
        // BLOCK 0 would block forever.
        command
            .arg("BLOCK")
            .arg(block.as_millis().max(1).to_string());
        command.arg("STREAMS");
        for (stream, _) in after {
            command.arg(stream.redis_key());
        }
        for (_, at) in after {
            command.arg(at.id.to_string());
        }
        let mut pipeline = Pipeline::new();
        pipeline.add_command(command);
        let checked = after.iter().filter(|(_, at)| check && at.id > EntryId::MIN);
        let checked: Vec<_> = checked.copied().collect();
        for (stream, at) in &checked {
            crate::redis::stream::facts::add_check(&mut pipeline, stream, *at);
        }
        let replies = on.handle().pipeline(&pipeline).await;
        if replies.as_ref().is_err_and(StoreError::is_outage) {
            on.node.request_check();
        }
        let mut replies = replies?.into_iter();
        let woken = match replies.next() {
            None | Some(Value::Nil) => Vec::new(),
            Some(woken) => list(woken)?
                .into_iter()
                .map(|of_stream| {
                    let [name, read] = tuple(of_stream)?;
                    let (name, read) = (text(name)?, crate::redis::decode::entries(read)?);
                    self.large.saw(&name, heaviest(&read));
                    Ok((name, read))
                })
                .collect::<Result<_, StoreError>>()?,
        };
        let check = |(stream, at): (&StreamName, Position)| {
            let check = self.decode_check(stream, at, &mut replies)?;
            Ok((stream.redis_key().to_owned(), check))
        };
        let checks = checked
            .into_iter()
            .map(check)
            .collect::<Result<_, StoreError>>()?;
        Ok(BlockingReadResult { woken, checks })
    }

    /// Returns the client id of a connection, for [`Store::unblock`].
    ///
    /// # Errors
    /// An outage of Redis.
    pub async fn client_id(&self, on: &Blocking) -> Result<i64, StoreError> {
        let mut command = Cmd::new();
        command.arg("CLIENT").arg("ID");
        int(&on.handle().command(&command).await?)
    }

    /// Unblocks a connection as if its timeout had passed. Does nothing if the connection is not
    /// blocked.
    ///
    /// # Errors
    /// An outage of Redis, or [`StoreError::Denied`].
    pub async fn unblock(&self, client: i64) -> Result<(), StoreError> {
        let mut command = Cmd::new();
        command.arg("CLIENT").arg("UNBLOCK").arg(client);
        self.read(&command).await.map(drop)
    }
}

/// The result of a blocking read.
pub struct BlockingReadResult {
    /// Streams with new entries, each with the first of them.
    pub woken: Vec<(String, Vec<Entry>)>,
    /// Checks of the streams, by Redis key.
    pub checks: HashMap<String, PositionCheck>,
}

/// An exclusive connection for commands that block or wait.
pub struct Blocking {
    connection: Object<Dialer>,
    replaced: CancellationToken,
    node: Arc<Connections>,
}

impl Connections {
    /// Returns an exclusive connection. Call [`Blocking::discard`] on it unless all its commands
    /// were answered.
    ///
    /// # Errors
    /// [`StoreError::Exhausted`] when all connections of this kind are in use,
    /// [`StoreError::Unreachable`] otherwise.
    pub(in crate::redis) async fn exclusive(
        self: &Arc<Self>,
        kind: PoolKind,
    ) -> Result<Blocking, StoreError> {
        loop {
            let endpoint = self.endpoint()?;
            if let Some(taken) = endpoint.take(kind).await {
                let replaced = endpoint.replaced.clone();
                return taken.map(|connection| Blocking::new(connection, replaced, self.clone()));
            }
            if self.is_retired() {
                return Err(StoreError::Unreachable(
                    "the node left the cluster".to_owned(),
                ));
            }
        }
    }
}

/// A handle to an exclusive connection. Its commands fail as soon as the gateway switches to
/// another server, because a partitioned or frozen server would never reply.
#[derive(Clone)]
pub struct Handle {
    wire: MultiplexedHandle,
    replaced: CancellationToken,
    /// The server of the connection.
    node: Arc<Connections>,
    /// Whether ASKING precedes each call, because the server does not own the slot yet.
    asking: bool,
}

impl Blocking {
    /// Creates an exclusive connection; `replaced` is cancelled when another server is used.
    pub(in crate::redis) const fn new(
        connection: Object<Dialer>,
        replaced: CancellationToken,
        node: Arc<Connections>,
    ) -> Self {
        Self {
            connection,
            replaced,
            node,
        }
    }

    /// Returns a handle to the connection, for consecutive commands.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle {
            wire: MultiplexedHandle::clone(&self.connection),
            replaced: self.replaced.clone(),
            node: self.node.clone(),
            asking: false,
        }
    }

    /// Closes the connection and frees its place in the pool. Use this when a command may still be
    /// blocked on the connection; its reply would reach the wrong caller.
    pub fn discard(self) {
        drop(Object::take(self.connection));
    }
}

impl Handle {
    /// Creates a handle to a connection outside the pools.
    pub(in crate::redis) const fn new(
        wire: MultiplexedHandle,
        replaced: CancellationToken,
        node: Arc<Connections>,
    ) -> Self {
        Self {
            wire,
            replaced,
            node,
            asking: false,
        }
    }

    /// Returns a handle whose calls are preceded by ASKING.
    #[must_use]
    pub fn asking(&self) -> Self {
        Self {
            asking: true,
            ..self.clone()
        }
    }

    /// Returns the server of the connection.
    pub(in crate::redis) const fn node(&self) -> &Arc<Connections> {
        &self.node
    }

    pub(in crate::redis) async fn command(&self, command: &Cmd) -> Result<Value, StoreError> {
        let mut connection = self.wire.handle.clone();
        if self.asking {
            return self.until_left(transaction::ask(command, connection)).await;
        }
        self.until_left(command.query_async(&mut connection)).await
    }

    pub(in crate::redis) async fn pipeline(
        &self,
        pipeline: &Pipeline,
    ) -> Result<Vec<Value>, StoreError> {
        let connection = self.wire.handle.clone();
        if self.asking {
            return self
                .until_left(transaction::ask_all(pipeline, connection))
                .await;
        }
        self.until_left(transaction::send(pipeline, connection))
            .await
    }

    /// Runs commands that do not depend on each other, and returns the result of each.
    pub(in crate::redis) async fn replies(
        &self,
        pipeline: &Pipeline,
    ) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
        let connection = self.wire.handle.clone();
        let replies = transaction::each(pipeline, connection, self.asking);
        self.until_left(replies).await
    }

    async fn until_left<T>(
        &self,
        call: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, StoreError> {
        let result = match self.replaced.run_until_cancelled(call).await {
            Some(done) => done.map_err(StoreError::from),
            None => Err(StoreError::Broken("the Redis master changed".to_owned())),
        };
        self.node.note_failure(result)
    }
}
