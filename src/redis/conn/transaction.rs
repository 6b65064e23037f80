//! Pipelines as the redis crate does not send them: after ASKING, and transactions whose EXEC is
//! refused. The redis crate takes an error in the place of EXEC's answer for
//! a malformed reply and drops its text. Valkey 9.1 refuses there when a slot is being migrated;
//! other servers refuse the first command.

use deadpool_redis::redis::aio::{ConnectionLike, MultiplexedConnection};
use deadpool_redis::redis::{
    Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, Value,
};

use crate::redis::error::StoreError;

/// Sends a pipeline, a transaction or not, and returns the replies to its commands.
pub(in crate::redis) async fn send(
    pipeline: &Pipeline,
    connection: MultiplexedConnection,
) -> RedisResult<Vec<Value>> {
    pipeline.query_async(&mut ReportingExec(connection)).await
}

/// Sends ASKING and a command, and returns the reply to the command.
pub(in crate::redis) async fn ask(
    command: &Cmd,
    mut connection: MultiplexedConnection,
) -> RedisResult<Value> {
    let mut pipeline = Pipeline::with_capacity(2);
    pipeline.cmd("ASKING").add_command(command.clone());
    let replies = connection.req_packed_commands(&pipeline, 0, 2).await?;
    last(replies)
}

/// Sends ASKING and a pipeline, a transaction or not, and returns the replies to its commands.
/// ASKING counts for a whole transaction, but only for one command elsewhere.
pub(in crate::redis) async fn ask_all(
    pipeline: &Pipeline,
    mut connection: MultiplexedConnection,
) -> RedisResult<Vec<Value>> {
    if !pipeline.is_transaction() {
        return after_asking(pipeline, connection).await?.map(one).collect();
    }
    let mut asking = Pipeline::with_capacity(pipeline.len() + 3);
    asking.cmd("ASKING").cmd("MULTI");
    for command in pipeline.cmd_iter() {
        asking.add_command(command.clone());
    }
    asking.cmd("EXEC");
    let replies = connection
        .req_packed_commands(&asking, 0, asking.len())
        .await?;
    // The reply to a command that was refused when it was queued says why.
    let refused = |reply: &Value| matches!(reply, Value::ServerError(_));
    match replies.iter().position(refused) {
        Some(refused) => Err(one(replies[refused].clone()).err().unwrap_or_else(closed)),
        None => match last(replies)? {
            Value::Array(replies) => replies.into_iter().map(one).collect(),
            _ => Err(closed()),
        },
    }
}

/// Sends commands, each after ASKING, and returns the replies to the commands.
async fn after_asking(
    pipeline: &Pipeline,
    mut connection: MultiplexedConnection,
) -> RedisResult<impl Iterator<Item = Value>> {
    let mut asking = Pipeline::with_capacity(2 * pipeline.len());
    for command in pipeline.cmd_iter() {
        asking.cmd("ASKING").add_command(command.clone());
    }
    let replies = connection
        .req_packed_commands(&asking, 0, asking.len())
        .await?;
    Ok(replies.into_iter().skip(1).step_by(2))
}

/// Sends commands that do not depend on each other, each after ASKING if `asking`. Returns the
/// result of each.
pub(in crate::redis) async fn each(
    pipeline: &Pipeline,
    mut connection: MultiplexedConnection,
    asking: bool,
) -> RedisResult<Vec<Result<Value, StoreError>>> {
    let replies: Vec<_> = if asking {
        after_asking(pipeline, connection).await?.collect()
    } else {
        connection
            .req_packed_commands(pipeline, 0, pipeline.len())
            .await?
    };
    let replies = replies.into_iter();
    Ok(replies
        .map(|reply| one(reply).map_err(StoreError::from))
        .collect())
}

fn closed() -> RedisError {
    (ErrorKind::UnexpectedReturnType, "EXEC returned no list").into()
}

fn last(replies: Vec<Value>) -> RedisResult<Value> {
    one(replies.into_iter().last().unwrap_or(Value::Nil))
}

fn one(reply: Value) -> RedisResult<Value> {
    match reply {
        Value::ServerError(error) => Err(error.into()),
        reply => Ok(reply),
    }
}

/// A connection that reports a refused EXEC with the server's error.
struct ReportingExec(MultiplexedConnection);

impl ConnectionLike for ReportingExec {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        self.0.req_packed_command(command)
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        // Only the last reply of a transaction is decoded.
        if offset == 0 {
            return self.0.req_packed_commands(pipeline, offset, count);
        }
        Box::pin(async move {
            let replies = self.0.req_packed_commands(pipeline, offset, count).await?;
            match replies.last() {
                Some(Value::ServerError(error)) => Err(error.clone().into()),
                _ => Ok(replies),
            }
        })
    }

    fn get_db(&self) -> i64 {
        self.0.get_db()
    }
}
