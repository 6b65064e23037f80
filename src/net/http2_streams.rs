//! The streams of an HTTP/2 connection: their counters, and a write timeout per stream.
//!
//! hyper asks for the next part of an answer once the last one has fit into the client's
//! flow-control window. Each part is small and must be passed on within the write timeout.
//! Otherwise the task of the stream is dropped, which resets the stream and frees its unsent data.
//! Other streams of the connection continue. The same task receives the rest of a request that was
//! answered early (`request_body.rs`).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::time::Sleep;
use tokio_util::task::TaskTracker;

use crate::net::io::linger::Linger;
use crate::net::request_body::{Drain, Drained, Unfinished};

/// Size of one part of an answer in bytes: the default size of a frame.
const PART: usize = 16 << 10;

/// The streams of one connection, and the executor of their tasks. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Http2Streams(Arc<Http2State>);

struct Http2State {
    here: TaskTracker,
    patience: Duration,
    cut: Counter,
    linger: Linger,
    lingered: Counter,
    /// Streams with a running task; updated by the tasks.
    open: AtomicUsize,
    begun: AtomicUsize,
    answered: AtomicUsize,
    taken_back: AtomicUsize,
    /// The stream whose request was just accepted. The next spawned task belongs to it.
    next: Mutex<Option<Arc<Stream>>>,
}

/// The state shared by the task of a stream and the body of its answer.
pub(crate) struct Stream {
    of: Arc<Http2State>,
    /// Whether the head of the answer is ready.
    answered: AtomicBool,
    /// The number of parts given to hyper.
    parts: AtomicUsize,
    /// Whether hyper still holds the last part.
    held: AtomicBool,
    /// The request body, once it was dropped before its end.
    unfinished: Unfinished,
}

impl Stream {
    /// Records that there is an answer. A later reset by the client does not count as a cancelled
    /// request.
    pub(crate) fn answered(&self) {
        self.answered.store(true, Relaxed);
        self.of.answered.fetch_add(1, Relaxed);
    }

    pub(crate) fn unfinished(&self) -> Unfinished {
        self.unfinished.clone()
    }
}

impl Http2Streams {
    pub(crate) fn new(
        here: TaskTracker,
        (patience, cut): (Duration, Counter),
        (linger, lingered): (Linger, Counter),
    ) -> Self {
        let zero = || AtomicUsize::new(0);
        Self(Arc::new(Http2State {
            here,
            patience,
            cut,
            linger,
            lingered,
            open: zero(),
            begun: zero(),
            answered: zero(),
            taken_back: zero(),
            next: Mutex::new(None),
        }))
    }

    /// Registers a stream whose request has arrived.
    pub(crate) fn begin(&self) -> Arc<Stream> {
        self.0.begun.fetch_add(1, Relaxed);
        let (answered, held) = (AtomicBool::new(false), AtomicBool::new(false));
        let parts = AtomicUsize::new(0);
        let stream = Arc::new(Stream {
            of: self.0.clone(),
            answered,
            parts,
            held,
            unfinished: Unfinished::default(),
        });
        *self.0.next.lock() = Some(stream.clone());
        stream
    }

    pub(crate) fn open(&self) -> usize {
        self.0.open.load(Relaxed)
    }

    pub(crate) fn begun(&self) -> usize {
        self.0.begun.load(Relaxed)
    }

    pub(crate) fn answered(&self) -> usize {
        self.0.answered.load(Relaxed)
    }

    /// Returns the number of requests that ended before there was an answer.
    pub(crate) fn taken_back(&self) -> usize {
        self.0.taken_back.load(Relaxed)
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Http2Streams {
    fn execute(&self, task: F) {
        let next = self.0.next.lock().take();
        match next {
            Some(stream) => {
                self.0.open.fetch_add(1, Relaxed);
                let counted = OpenStreamGuard(stream);
                self.0.here.spawn(Task {
                    task: Some(Box::pin(task)),
                    counted,
                    unread: None,
                    drain: None,
                });
            }
            None => drop(self.0.here.spawn(task)),
        }
    }
}

/// A guard that counts a stream as open while its task runs.
struct OpenStreamGuard(Arc<Stream>);

impl Drop for OpenStreamGuard {
    fn drop(&mut self) {
        let Stream { of, answered, .. } = &*self.0;
        of.open.fetch_sub(1, Relaxed);
        if !answered.load(Relaxed) {
            of.taken_back.fetch_add(1, Relaxed);
        }
    }
}

/// The task that hyper runs for a stream, with the write timeout.
struct Task<F> {
    /// None once the whole answer was passed on.
    task: Option<Pin<Box<F>>>,
    counted: OpenStreamGuard,
    /// The number of the part that waits for the window, and its timer.
    unread: Option<(usize, Pin<Box<Sleep>>)>,
    /// The rest of a request that was answered early.
    drain: Option<Box<Drain>>,
}

impl<F> Task<F> {
    /// Ready when no rest of the request is left to receive.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Stream { of, unfinished, .. } = &*self.counted.0;
        if let Some(body) = unfinished.take() {
            self.drain = Some(Box::new(Drain::new(body, of.linger)));
        }
        if let Some(drain) = &mut self.drain {
            if ready!(Pin::new(drain).poll(cx)) == Drained::Cut {
                of.lingered.inc();
            }
            self.drain = None;
        }
        Poll::Ready(())
    }
}

impl<F: Future<Output = ()>> Future for Task<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(task) = &mut self.task
            && task.as_mut().poll(cx).is_ready()
        {
            self.task = None;
        }
        let drained = self.poll_drain(cx);
        let Self {
            task,
            counted,
            unread,
            ..
        } = &mut *self;
        if task.is_none() {
            return drained;
        }
        let Stream {
            of, parts, held, ..
        } = &*counted.0;
        if !held.load(Relaxed) {
            *unread = None;
            return Poll::Pending;
        }
        let part = parts.load(Relaxed);
        if unread.as_ref().is_none_or(|(waits, _)| *waits != part) {
            *unread = Some((part, Box::pin(tokio::time::sleep(of.patience))));
        }
        let Some((_, sleep)) = unread else {
            return Poll::Pending;
        };
        if sleep.as_mut().poll(cx).is_ready() {
            of.cut.inc();
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

/// The body of an answer, split into small parts.
pub(crate) struct FlowTimedBody {
    body: axum::body::Body,
    left: Bytes,
    stream: Arc<Stream>,
}

impl FlowTimedBody {
    pub(crate) fn new(body: axum::body::Body, stream: Arc<Stream>) -> Self {
        Self {
            body,
            left: Bytes::new(),
            stream,
        }
    }
}

impl Body for FlowTimedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Self { body, left, stream } = &mut *self;
        // hyper asks for the next part, so it has passed the last one on.
        stream.held.store(false, Relaxed);
        if left.is_empty() {
            match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => *left = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                other => return Poll::Ready(other),
            }
        }
        let part = left.split_to(left.len().min(PART));
        stream.held.store(true, Relaxed);
        stream.parts.fetch_add(1, Relaxed);
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.left.len() as u64;
        let of_body = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(of_body.lower() + rest);
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}
