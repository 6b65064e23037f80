//! Tasks that outlive the request that began them. They run beside the threads that serve
//! connections, and are waited for before the process ends.

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// Where such tasks run. Cheap to clone.
#[derive(Clone)]
pub struct Background {
    tracker: TaskTracker,
    on: Handle,
}

impl Background {
    /// Runs tasks on the runtime this is called on.
    ///
    /// # Panics
    /// Outside of a runtime.
    #[must_use]
    pub fn here() -> Self {
        Self {
            tracker: TaskTracker::new(),
            on: Handle::current(),
        }
    }

    /// Runs a task.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn_on(task, &self.on);
    }

    /// Runs a task on the thread of the caller, for as long as that lasts: close to those it works
    /// for.
    pub fn spawn_here(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    /// How many have not ended.
    #[must_use]
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// Waits until all have ended.
    pub async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}
