//! The followed streams and the running readers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::live::context::{JoinError, LiveContext};
use crate::live::page_memory::Memory;
use crate::live::reader_handle::ReaderHandle;
use crate::live::tail::{Following, Tail};
use crate::live::wake_queue::WakeHandle;
use crate::model::name::StreamName;
use crate::shares::{Account, Bound};

/// Followed streams with their readers.
type Tails = HashMap<StreamName, (Arc<Tail>, Arc<ReaderHandle>)>;

/// The registry of followed streams and of the readers that feed them.
pub(super) struct Registry {
    context: Arc<LiveContext>,
    memory: Arc<Memory>,
    /// Followed streams, each with its reader. A follower inserts a stream and its reader removes
    /// it, both under this lock, so that no follower joins a tail that is being dropped.
    tails: Mutex<Tails>,
    /// Running readers. A reader removes itself under this lock when it has no streams left.
    readers: Mutex<Vec<Arc<ReaderHandle>>>,
}

/// The step that remains to the caller of [`Registry::follow`], so that the stream is read.
pub(super) enum Assigned {
    /// Nothing: the stream was followed already.
    Before,
    /// Wake the reader.
    ToRunning(Arc<ReaderHandle>),
    /// Start the reader.
    ToNew(Arc<ReaderHandle>),
}

impl Registry {
    pub(super) fn new(context: Arc<LiveContext>, memory: Memory) -> Self {
        Self {
            context,
            memory: Arc::new(memory),
            tails: Mutex::default(),
            readers: Mutex::default(),
        }
    }

    /// Adds a follower of a stream, on worker thread `post`, to be notified with `number`, and
    /// charges its account.
    ///
    /// # Errors
    /// [`JoinError::TooManyStreams`] or [`JoinError::ShareExceeded`].
    pub(super) fn follow(
        &self,
        stream: &StreamName,
        (post, wake_handle, number): (usize, Arc<WakeHandle>, u32),
        account: Option<Arc<Account>>,
    ) -> Result<(Following, Assigned), JoinError> {
        let context = &self.context;
        let max = context.settings.max_streams;
        let charge = |tail: &Tail| {
            let users = &tail.users;
            let joined = account
                .as_ref()
                .map(|account| users.join(account, Bound::FollowedStreams, max));
            joined.transpose().inspect_err(|exceeded| {
                context.metrics.refuse(exceeded.bound.metric());
            })
        };
        let mut tails = self.tails();
        if let Some((tail, _)) = tails.get(stream) {
            charge(tail)?;
            let following = tail.follow(post, wake_handle, number, account);
            return Ok((following, Assigned::Before));
        }
        if tails.len() >= max {
            context.metrics.refuse("followed_streams");
            return Err(JoinError::TooManyStreams);
        }
        let tail = Tail::new(
            stream.clone(),
            context.wake_queues.len(),
            self.memory.clone(),
        );
        charge(&tail)?;
        let tail = Arc::new(tail);
        let following = tail.follow(post, wake_handle, number, account);
        let (reader, assigned) = self.assign(&tail);
        tails.insert(stream.clone(), (tail, reader));
        context.metrics.followed_streams.inc();
        Ok((following, assigned))
    }

    /// Assigns a tail to a new reader, or to the least loaded one if the maximum number is running.
    /// A reader that tracks its streams gets all further ones, because one connection is enough and
    /// gathers more changes into one read.
    fn assign(&self, tail: &Arc<Tail>) -> (Arc<ReaderHandle>, Assigned) {
        let mut readers = self.readers();
        let tracking = readers
            .iter()
            .find(|reader| self.context.tracks(reader.load()));
        let least = readers.iter().min_by_key(|reader| reader.load());
        let full = readers.len() >= self.context.settings.readers;
        if let Some(reader) = tracking.or(least.filter(|_| full)) {
            reader.give(tail.clone());
            return (reader.clone(), Assigned::ToRunning(reader.clone()));
        }
        let reader = Arc::new(ReaderHandle::new(tail.clone()));
        readers.push(reader.clone());
        (reader.clone(), Assigned::ToNew(reader))
    }

    /// Returns the reader of a followed stream.
    pub(super) fn reader(&self, stream: &StreamName) -> Option<Arc<ReaderHandle>> {
        self.tails().get(stream).map(|(_, reader)| reader.clone())
    }

    /// Drops those of `tails` that still have no followers, and returns their names.
    pub(super) fn drop_idle<'a>(
        &self,
        tails: impl Iterator<Item = &'a Arc<Tail>>,
    ) -> HashSet<StreamName> {
        let mut known = self.tails();
        let idle: HashSet<StreamName> = tails
            .filter(|tail| tail.followers() == 0)
            .map(|tail| tail.stream.clone())
            .collect();
        for stream in &idle {
            known.remove(stream);
            self.context.metrics.followed_streams.dec();
        }
        idle
    }

    /// Removes a reader, unless it was given a stream in the meantime. Returns whether it is
    /// removed.
    pub(super) fn retire(&self, reader: &Arc<ReaderHandle>) -> bool {
        let mut readers = self.readers();
        if !reader.is_empty_handed() {
            return false;
        }
        readers.retain(|other| !Arc::ptr_eq(other, reader));
        true
    }

    fn tails(&self) -> MutexGuard<'_, Tails> {
        self.tails.lock()
    }

    fn readers(&self) -> MutexGuard<'_, Vec<Arc<ReaderHandle>>> {
        self.readers.lock()
    }
}
