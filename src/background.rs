//! Background tasks that outlive the request that started them. They run on a runtime apart from
//! the worker threads, and shutdown waits for them.

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// A tracker of background tasks and the runtime they run on. Cheap to clone.
#[derive(Clone)]
pub struct Background {
    tracker: TaskTracker,
    on: Handle,
}

impl Background {
    /// Returns a tracker that spawns tasks on the current runtime.
    ///
    /// # Panics
    /// Panics outside of a Tokio runtime.
    #[must_use]
    pub fn here() -> Self {
        Self {
            tracker: TaskTracker::new(),
            on: Handle::current(),
        }
    }

    /// Spawns a task on the runtime of the tracker.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn_on(task, &self.on);
    }

    /// Spawns a task on the runtime of the calling thread, next to the requests it works for. The
    /// task ends with that runtime.
    pub fn spawn_here(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    /// Returns the number of tasks that have not ended.
    #[must_use]
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// Waits until all tasks have ended.
    pub async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}
