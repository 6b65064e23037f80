//! Transactions whose EXEC is refused. The redis crate takes an error in the place of EXEC's answer for
//! a malformed reply and drops its text. Valkey 9.1 refuses there when a slot is being migrated;
//! other servers refuse the first command.

use deadpool_redis::redis::aio::{ConnectionLike, MultiplexedConnection};
use deadpool_redis::redis::{Cmd, Pipeline, RedisFuture, RedisResult, Value};

/// Sends a pipeline, a transaction or not, and returns the replies to its commands.
pub(in crate::redis) async fn send(
    pipeline: &Pipeline,
    connection: MultiplexedConnection,
) -> RedisResult<Vec<Value>> {
    pipeline.query_async(&mut ReportingExec(connection)).await
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
