//! What follows from failures: when the API server is asked again, and whether for what changed or for a list of everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube::runtime::watcher;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::trouble::is_of_past;

/// Failures in a row, or the time since the first of them, after which what a watch does not bring is listed.
const ROW_MAX: u32 = 5;
const ROW_TIME_MAX: Duration = Duration::from_secs(30);
/// HTTP's word for a version that is too old to go on from.
const GONE: u16 = 410;

/// Whether the API server worked on what it was asked for last. One that refuses it for want of rights does not, and neither
/// does one that it never gets to.
#[derive(Debug, Clone, Default)]
pub(super) struct Work(Arc<AtomicBool>);

impl Work {
    /// It is asked for something.
    pub(super) fn begin(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// It replied.
    pub(super) fn note(&self, status: http::StatusCode) {
        if status != http::StatusCode::UNAUTHORIZED && status != http::StatusCode::FORBIDDEN {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    fn is_done(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Next {
    /// Whether the watcher is to be begun anew, and with it a list.
    pub anew: bool,
    /// After this.
    pub wait: Duration,
}

/// Those of one kind. While nobody answers nothing is to be gained by a list; but whoever answers, and yet has no watch to
/// offer that goes on, has to say what there is.
#[derive(Debug)]
pub(super) struct Failures {
    work: Work,
    /// Since something came of a list or watch: how many there were after work of the API server, and since when.
    row: u32,
    since: Option<Instant>,
    /// Whether the last one came in a stream, which may stay for all that.
    in_stream: bool,
    retries: Backoff,
    /// Lists are dear, so they have longer waits, which a list that was read does not end.
    lists: Backoff,
}

impl Failures {
    pub(super) const fn new(work: Work) -> Self {
        let retries = Backoff::new(Duration::from_millis(500), Duration::from_secs(8));
        let lists = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        Self { work, row: 0, since: None, in_stream: false, retries, lists }
    }

    /// kube's watcher failed, after its watch had gone on for so long.
    pub(super) fn of_watcher(&mut self, error: &watcher::Error, watched: Option<Duration>) -> Next {
        let has_worked = self.work.is_done();
        if watched.is_some_and(|time| time >= ROW_TIME_MAX) {
            self.clear();
        } else if has_worked {
            self.row += 1;
            self.since.get_or_insert_with(Instant::now);
        }
        self.in_stream = matches!(error, watcher::Error::WatchError(_) | watcher::Error::WatchFailed(_));
        let lists_itself = is_listing(error);
        let is_row = has_worked && (self.row >= ROW_MAX || self.is_old());
        let anew = !lists_itself && (is_gone(error) || is_of_past(error) || is_row);
        let wait = if anew || lists_itself && has_worked { self.lists.next() } else { self.retries.next() };
        if anew {
            self.clear();
        }
        Next { anew, wait }
    }

    /// Whether the stream that failed stays, and nothing comes of it.
    pub(super) fn is_overdue(&self) -> bool {
        self.in_stream && self.is_old()
    }

    fn is_old(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= ROW_TIME_MAX)
    }

    /// Before everything is listed anew for another reason.
    pub(super) fn before_list(&mut self) -> Duration {
        self.clear();
        self.lists.next()
    }

    /// Something came.
    pub(super) const fn clear(&mut self) {
        self.row = 0;
        self.since = None;
    }

    /// It works again.
    pub(super) const fn mended(&mut self) {
        self.retries.reset();
    }
}

/// Whether kube's watcher goes on with a list by itself.
fn is_listing(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(_) | watcher::Error::NoResourceVersion => true,
        watcher::Error::WatchError(status) => status.code == GONE,
        _ => false,
    }
}

/// Whether a watch can't go on from where it was.
fn is_gone(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => status.code == GONE,
        _ => false,
    }
}
