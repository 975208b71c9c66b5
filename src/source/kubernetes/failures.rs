//! What follows from failures: when the API server is asked again, and whether for what changed or for a list of everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube::runtime::watcher;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::quiet::Word;
use super::trouble::is_of_past;

/// Failures in a row, or the time since the first of them, after which what a watch does not bring is listed.
const ROW_MAX: u32 = 5;
const ROW_TIME_MAX: Duration = Duration::from_secs(30);
/// HTTP's word for a version that is too old to go on from.
const GONE: u16 = 410;

/// Whether the API server worked on what it was asked for last. One that refuses it for want of rights does not, and neither
/// does one that it never gets to. And whether its watch got on.
#[derive(Debug, Clone, Default)]
pub(super) struct Work {
    is_done: Arc<AtomicBool>,
    has_got_on: Arc<AtomicBool>,
    word: Word,
}

impl Work {
    /// It is asked for something.
    pub(super) fn begin(&self) {
        self.is_done.store(false, Ordering::Relaxed);
    }

    /// It replied.
    pub(super) fn note(&self, status: http::StatusCode) {
        if status != http::StatusCode::UNAUTHORIZED && status != http::StatusCode::FORBIDDEN {
            self.is_done.store(true, Ordering::Relaxed);
        }
    }

    /// A bookmark came, which kube keeps to itself.
    pub(super) fn note_bookmark(&self) {
        self.has_got_on.store(true, Ordering::Relaxed);
        self.word.note();
    }

    /// When something came.
    pub(super) fn word(&self) -> Word {
        self.word.clone()
    }

    fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Relaxed)
    }

    /// Whether a bookmark came since this was asked last.
    pub(super) fn take_bookmark(&self) -> bool {
        self.has_got_on.swap(false, Ordering::Relaxed)
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

    /// kube's watcher failed. However long its watch had gone on: one that brings nothing and fails is none, and there may come
    /// one after the other.
    pub(super) fn of_watcher(&mut self, error: &watcher::Error) -> Next {
        let has_worked = self.work.is_done();
        if self.work.take_bookmark() {
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
        self.wait_for_list()
    }

    /// After how long a list can begin that no failure asks for.
    pub(super) fn wait_for_list(&mut self) -> Duration {
        self.lists.next()
    }

    /// Something new came.
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

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// Which of so many failures, each after a watch that went on for so long, makes a list.
    async fn listed_at(count: usize, watched: Duration, has_bookmark: bool) -> Option<usize> {
        let work = Work::default();
        let mut failures = Failures::new(work.clone());
        for n in 1..=count {
            work.begin();
            work.note(http::StatusCode::OK);
            if has_bookmark {
                work.note_bookmark();
            }
            advance(watched).await;
            let error = watcher::Error::WatchFailed(kube::Error::Service("reset".into()));
            if failures.of_watcher(&error).anew {
                return Some(n);
            }
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_brings_nothing_ends_no_row() {
        assert_eq!(listed_at(100, Duration::from_millis(1500), false).await, Some(5));
        assert_eq!(listed_at(100, Duration::from_secs(35), false).await, Some(2));
        assert_eq!(listed_at(100, Duration::from_secs(60), false).await, Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_bookmark_ends_a_row() {
        for watched in [1, 35, 60, 290] {
            assert_eq!(listed_at(100, Duration::from_secs(watched), true).await, None, "{watched}");
        }
    }
}
