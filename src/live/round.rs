//! A round of reads: the due streams of one server, over its tracking connection.

use std::sync::Arc;

use futures_util::future::try_join_all;

use crate::live::context::LiveContext;
use crate::live::followed::Followed;
use crate::redis::{Changes, Lane, NodeRef, Redirect, StoreError, TrackingConnection};

/// Maximum number of streams that are paged through concurrently, over one connection.
const AT_ONCE: usize = 32;
/// Least and greatest XREAD COUNT of the first read. A stream with more new entries is paged
/// through, which costs two reads.
const AT_A_TIME: (usize, usize) = (8, 64);
/// Maximum number of entries of a first read of several streams, if each has more than the least.
const ALL_AT_A_TIME: usize = 1024;

/// A round of reads to one server.
pub(super) struct ReadRound {
    pub(super) node: NodeRef,
    pub(super) connection: Option<TrackingConnection>,
    pub(super) streams: Vec<Followed>,
}

/// A finished round.
pub(super) struct FinishedRound {
    pub(super) node: NodeRef,
    pub(super) connection: Option<TrackingConnection>,
    pub(super) streams: Vec<(Followed, Option<Redirect>)>,
    pub(super) failed: Option<StoreError>,
    /// Number of entries of the first reads.
    pub(super) entries: usize,
}

/// Runs a round. Opens the connection if there is none.
pub(super) async fn run(
    context: &LiveContext,
    changes: Arc<Changes>,
    round: ReadRound,
) -> FinishedRound {
    let ReadRound {
        node,
        connection,
        streams,
    } = round;
    let mut done = FinishedRound {
        node,
        connection,
        streams: streams.into_iter().map(|of| (of, None)).collect(),
        failed: None,
        entries: 0,
    };
    let connection = match done.connection.take() {
        Some(connection) => Ok(connection),
        None => context.store.tracking(&done.node, &changes).await,
    };
    let read = match connection {
        Ok(connection) => {
            let read = read(context, &done.node, &connection, &mut done.streams).await;
            done.connection = Some(connection);
            read
        }
        Err(error) => Err(error),
    };
    match read {
        Ok(entries) => done.entries = entries,
        Err(error) => done.failed = Some(error),
    }
    done
}

/// Reads the streams of a round. A redirected stream is left due, with its redirect. Returns the
/// number of entries of the first reads.
async fn read(
    context: &LiveContext,
    node: &NodeRef,
    connection: &TrackingConnection,
    streams: &mut [(Followed, Option<Redirect>)],
) -> Result<usize, StoreError> {
    if streams.is_empty() {
        context.store.test(&connection.handle).await?;
        return Ok(0);
    }
    let mut count_read = 0;
    for asking in [false, true] {
        let handle = match asking {
            false => connection.handle.clone(),
            true => connection.handle.asking(),
        };
        let is_asking = |followed: &Followed| followed.target.is_some() == asking;
        let store = &context.store;
        let is_light = |followed: &Followed| {
            followed
                .head()
                .is_some_and(|(stream, _)| store.is_light(stream))
        };
        let mut light: Vec<_> = streams
            .iter_mut()
            .filter(|(followed, _)| is_asking(followed) && is_light(followed))
            .collect();
        let heads: Vec<_> = light
            .iter()
            .filter_map(|(followed, _)| followed.head())
            .map(|(stream, at)| (stream.clone(), at))
            .collect();
        if !heads.is_empty() {
            let count = (ALL_AT_A_TIME / heads.len()).clamp(AT_A_TIME.0, AT_A_TIME.1);
            let read = store.read_changed(&handle, &heads, count).await?;
            for ((followed, redirect), read) in light.iter_mut().zip(read) {
                followed.tracked_by = Some(node.clone());
                match read {
                    Ok((entries, check)) if entries.is_empty() && followed.is_quiet(&check) => {
                        followed.due = false;
                    }
                    Ok((entries, check)) => {
                        count_read += entries.len();
                        followed.take(context, entries, Some(&check));
                    }
                    Err(StoreError::Elsewhere(elsewhere)) => *redirect = Some(elsewhere),
                    // Read again by itself, which finds out what is wrong.
                    Err(_) => {}
                }
            }
        }
        let lane = Lane::Own(handle);
        let mut rest: Vec<_> = streams
            .iter_mut()
            .filter(|(followed, redirect)| {
                is_asking(followed) && followed.due && redirect.is_none()
            })
            .collect();
        for some in rest.chunks_mut(AT_ONCE) {
            let advance = some.iter_mut().map(async |(followed, redirect)| {
                followed.tracked_by = Some(node.clone());
                match followed.advance(context, &lane).await {
                    Err(StoreError::Elsewhere(elsewhere)) => {
                        *redirect = Some(elsewhere);
                        Ok(())
                    }
                    read => read,
                }
            });
            try_join_all(advance).await?;
        }
    }
    Ok(count_read)
}
