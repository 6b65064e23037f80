//! The calls that block, on connections of their own: nothing else may go over one meanwhile.

use std::collections::HashMap;
use std::time::Duration;

use deadpool::managed::Object;
use deadpool_redis::redis::{Cmd, Pipeline, RedisError, Value};
use tokio_util::sync::CancellationToken;

use super::decode::{int, list, text, tuple};
use super::dial::{Dialer, Wire};
use super::large::heaviest;
use super::{Store, StoreError, StreamCheck, transaction};
use crate::model::entry::Entry;
use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::model::position::Position;

impl Store {
    /// Blocks on an exclusive connection until one of the streams has an entry after the id given
    /// with it, and answers which have, each with its first entries, at most `count`; none when
    /// `block` has passed or [`Store::unblock`] was called. With `check` it also checks each stream
    /// that has had entries, right after that. It is for the caller to see whether entries are
    /// missing.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`] when one of the keys holds something else,
    /// [`StoreError::StreamNotFound`] when one that is checked is gone, or that Redis is away.
    /// # Cancel safety
    /// None: dropped, the connection stays blocked and must be discarded with it.
    pub async fn wait_for_entries(
        &self,
        on: &Blocking,
        after: &[(&StreamName, Position)],
        block: Duration,
        count: usize,
        check: bool,
    ) -> Result<Woken, StoreError> {
        let mut command = Cmd::new();
        command.arg("XREAD").arg("COUNT").arg(count);
        // BLOCK 0 would be for ever.
        command
            .arg("BLOCK")
            .arg(block.as_millis().max(1).to_string());
        command.arg("STREAMS");
        for (stream, _) in after {
            command.arg(stream.as_str());
        }
        for (_, at) in after {
            command.arg(at.id.to_string());
        }
        let mut pipeline = Pipeline::new();
        pipeline.add_command(command);
        let checked = after.iter().filter(|(_, at)| check && at.id > EntryId::MIN);
        let checked: Vec<_> = checked.copied().collect();
        for (stream, at) in &checked {
            super::facts::add_check(&mut pipeline, stream, *at);
        }
        let replies = on.handle().pipeline(&pipeline).await;
        if replies.as_ref().is_err_and(StoreError::is_outage) {
            self.connections.doubt();
        }
        let mut replies = replies?.into_iter();
        let woken = match replies.next() {
            None | Some(Value::Nil) => Vec::new(),
            Some(woken) => list(woken)?
                .into_iter()
                .map(|of_stream| {
                    let [name, read] = tuple(of_stream)?;
                    let (name, read) = (text(name)?, super::decode::entries(read)?);
                    self.large.saw(&name, heaviest(&read));
                    Ok((name, read))
                })
                .collect::<Result<_, StoreError>>()?,
        };
        let check = |(stream, at): (&StreamName, Position)| {
            let check = self.decode_check(stream, at, &mut replies)?;
            Ok((stream.as_str().to_owned(), check))
        };
        let checks = checked
            .into_iter()
            .map(check)
            .collect::<Result<_, StoreError>>()?;
        Ok(Woken { woken, checks })
    }

    /// The id by which [`Store::unblock`] finds a connection.
    ///
    /// # Errors
    /// That Redis is away.
    pub async fn client_id(&self, on: &Blocking) -> Result<i64, StoreError> {
        let mut command = Cmd::new();
        command.arg("CLIENT").arg("ID");
        int(&on.handle().command(&command).await?)
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

/// What a blocked reader was woken by.
pub struct Woken {
    /// The streams that have something, with their first entries.
    pub woken: Vec<(String, Vec<Entry>)>,
    /// The streams that were checked.
    pub checks: HashMap<String, StreamCheck>,
}

/// An exclusive connection, for commands that block or wait.
pub struct Blocking {
    connection: Object<Dialer>,
    left: CancellationToken,
}

/// A handle to an exclusive connection. What is asked over it fails as soon as another server is
/// used: from one that is cut off or frozen there would be nothing to hear.
#[derive(Clone)]
pub struct Handle {
    wire: Wire,
    left: CancellationToken,
}

impl Blocking {
    /// `left` is that of its site.
    pub(super) const fn new(connection: Object<Dialer>, left: CancellationToken) -> Self {
        Self { connection, left }
    }

    /// A handle to the connection, for commands that follow each other.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle {
            wire: Wire::clone(&self.connection),
            left: self.left.clone(),
        }
    }

    /// Closes the connection and frees its place: a command may still be blocked on it, and would
    /// answer a reader who is gone.
    pub fn discard(self) {
        drop(Object::take(self.connection));
    }
}

impl Handle {
    pub(super) async fn command(&self, command: &Cmd) -> Result<Value, StoreError> {
        self.until_left(command.query_async(&mut self.wire.handle.clone()))
            .await
    }

    pub(super) async fn pipeline(&self, pipeline: &Pipeline) -> Result<Vec<Value>, StoreError> {
        self.until_left(transaction::send(pipeline, self.wire.handle.clone()))
            .await
    }

    async fn until_left<T>(
        &self,
        call: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, StoreError> {
        match self.left.run_until_cancelled(call).await {
            Some(done) => Ok(done?),
            None => Err(StoreError::Broken("another Redis is the master".to_owned())),
        }
    }
}
