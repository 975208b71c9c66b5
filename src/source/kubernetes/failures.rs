//! Decides what follows a failure: when to retry, and whether with a watch or with a new list.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube::runtime::watcher;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::errors::is_history_mismatch;
use super::silence::LastEvent;

/// After this many failures in a row, or this long after the first, the kind is listed again.
const CONSECUTIVE_MAX: u32 = 5;
const FAILING_MAX: Duration = Duration::from_secs(30);
/// HTTP 410: the version is too old to resume a watch from.
const GONE: u16 = 410;

/// The responses of the API server to the requests of one kind.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// Whether the last request reached the API server and was not refused for lack of rights.
    is_processed: Arc<AtomicBool>,
    /// Whether a watch advanced.
    has_bookmark: Arc<AtomicBool>,
    last_event: LastEvent,
}

impl Progress {
    /// Records that a request is sent.
    pub(super) fn begin_request(&self) {
        self.is_processed.store(false, Ordering::Relaxed);
    }

    /// Records the status of the response.
    pub(super) fn record_status(&self, status: http::StatusCode) {
        if status != http::StatusCode::UNAUTHORIZED && status != http::StatusCode::FORBIDDEN {
            self.is_processed.store(true, Ordering::Relaxed);
        }
    }

    /// Records a bookmark, which kube does not pass on.
    pub(super) fn record_bookmark(&self) {
        self.has_bookmark.store(true, Ordering::Relaxed);
        self.last_event.record();
    }

    /// When a watch last delivered something.
    pub(super) fn last_event(&self) -> LastEvent {
        self.last_event.clone()
    }

    fn is_processed(&self) -> bool {
        self.is_processed.load(Ordering::Relaxed)
    }

    /// Whether a bookmark came since the last call.
    pub(super) fn take_bookmark(&self) -> bool {
        self.has_bookmark.swap(false, Ordering::Relaxed)
    }
}

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Next {
    /// Whether to restart the watcher, which begins with a list.
    pub relist: bool,
    /// How long to wait before it.
    pub wait: Duration,
}

/// The failures of one kind. While the API server is unreachable a list would gain nothing. If it responds but offers no watch
/// that makes progress, lists take the place of the watch.
#[derive(Debug)]
pub(super) struct Failures {
    progress: Progress,
    /// The number of failures after processed requests since a list or watch last delivered something new.
    consecutive: u32,
    /// The time of the first of them.
    since: Option<Instant>,
    /// Whether the last failure came within a stream, which may continue.
    in_stream: bool,
    retries: Backoff,
    /// Lists are expensive, so their backoff is longer, and a successful list does not reset it.
    lists: Backoff,
}

impl Failures {
    pub(super) const fn new(progress: Progress) -> Self {
        let retries = Backoff::new(Duration::from_millis(500), Duration::from_secs(8));
        let lists = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        Self { progress, consecutive: 0, since: None, in_stream: false, retries, lists }
    }

    /// Counts an error of kube's watcher. The age of the watch does not matter: watches that deliver nothing may fail one after
    /// the other.
    pub(super) fn after_error(&mut self, error: &watcher::Error) -> Next {
        let is_processed = self.progress.is_processed();
        if self.progress.take_bookmark() {
            self.clear();
        } else if is_processed {
            self.consecutive += 1;
            self.since.get_or_insert_with(Instant::now);
        }
        self.in_stream = matches!(error, watcher::Error::WatchError(_) | watcher::Error::WatchFailed(_));
        let lists_itself = is_listing(error);
        let is_exceeded = is_processed && (self.consecutive >= CONSECUTIVE_MAX || self.is_old());
        let relist = !lists_itself && (is_expired(error) || is_history_mismatch(error) || is_exceeded);
        let wait = if relist || lists_itself && is_processed { self.lists.next() } else { self.retries.next() };
        if relist {
            self.clear();
        }
        Next { relist, wait }
    }

    /// Whether a watch failed, and the first failure without anything new since is [`FAILING_MAX`] ago.
    pub(super) fn is_overdue(&self) -> bool {
        self.in_stream && self.is_old()
    }

    fn is_old(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= FAILING_MAX)
    }

    /// How long to wait before a list that follows another failure.
    pub(super) fn before_list(&mut self) -> Duration {
        self.clear();
        self.wait_for_list()
    }

    /// How long to wait before a list that follows no failure.
    pub(super) fn wait_for_list(&mut self) -> Duration {
        self.lists.next()
    }

    /// Records that something new was delivered.
    pub(super) const fn clear(&mut self) {
        self.consecutive = 0;
        self.since = None;
    }

    /// Records that the view is current again: resets the backoff of retries.
    pub(super) const fn recovered(&mut self) {
        self.retries.reset();
    }
}

/// Whether kube's watcher begins a list by itself after this error.
fn is_listing(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(_) | watcher::Error::NoResourceVersion => true,
        watcher::Error::WatchError(status) => status.code == GONE,
        _ => false,
    }
}

/// Whether the watch can't be resumed from its version.
fn is_expired(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => status.code == GONE,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// Which of `count` failures, each after a watch of that duration, leads to a list.
    async fn listed_at(count: usize, watched: Duration, has_bookmark: bool) -> Option<usize> {
        let progress = Progress::default();
        let mut failures = Failures::new(progress.clone());
        for n in 1..=count {
            progress.begin_request();
            progress.record_status(http::StatusCode::OK);
            if has_bookmark {
                progress.record_bookmark();
            }
            advance(watched).await;
            let error = watcher::Error::WatchFailed(kube::Error::Service("reset".into()));
            if failures.after_error(&error).relist {
                return Some(n);
            }
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_without_events_does_not_reset_the_count() {
        assert_eq!(listed_at(100, Duration::from_millis(1500), false).await, Some(5));
        assert_eq!(listed_at(100, Duration::from_secs(35), false).await, Some(2));
        assert_eq!(listed_at(100, Duration::from_secs(60), false).await, Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_bookmark_resets_the_count() {
        for watched in [1, 35, 60, 290] {
            assert_eq!(listed_at(100, Duration::from_secs(watched), true).await, None, "{watched}");
        }
    }
}
