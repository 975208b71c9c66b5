//! The body of a response to a watch.
//!
//! A silent watch is ended here as if the API server had ended it. The watcher then resumes it from its last version; an API
//! server that is gone does not respond to that. A watch that a proxy ends because it is idle counts as silent, too.
//!
//! kube ignores half an event at the end of a body, and treats a watch that ended at once as successful. Both are errors here,
//! because otherwise they could repeat forever.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use kube::core::WatchEvent;
use serde::de::IgnoredAny;
use tokio::time::{Instant, Sleep, sleep};
use tower::BoxError;

use super::failures::Progress;
use super::health::SILENCE_MAX;
use super::history::History;
use super::pages::{TEXT_MAX, TooLong};

/// A watch that delivers nothing for this long is resumed, early enough that the view does not become stale. Bookmarks come
/// once a minute, but not in a cluster without changes.
const IDLE_MAX: Duration = Duration::from_secs(SILENCE_MAX.as_secs() - RESUME_TIME.as_secs());
/// Time to resume before the view becomes stale.
const RESUME_TIME: Duration = Duration::from_secs(20);
/// A watch that lasted this long and ends without an event was accepted and silent: proxies and load balancers end idle
/// connections. A shorter one has failed.
const ACCEPTED_MIN: Duration = Duration::from_secs(20);
/// Bookmarks have some 200 bytes. Longer lines are not kept.
const LINE_MAX: usize = 4096;

/// Why a watch counts as failed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Interrupted {
    #[error("a watch broke off in the middle of an event")]
    MidEvent,
    #[error("a watch ended within {} s without an event", ACCEPTED_MIN.as_secs())]
    Empty,
}

/// The body of a response to a watch: one event per line.
pub(super) struct WatchBody<B> {
    body: B,
    progress: Progress,
    history: History,
    started: Instant,
    idle_timer: Pin<Box<Sleep>>,
    /// The current line, up to a little more than [`LINE_MAX`].
    line: Vec<u8>,
    /// Whether a bookmark came, or an event or error that kube passes on.
    has_content: bool,
    /// The length of the current event so far.
    pending: usize,
    is_finished: bool,
}

impl<B> WatchBody<B> {
    pub(super) fn new(body: B, progress: Progress, history: History) -> Self {
        let idle_timer = Box::pin(sleep(IDLE_MAX));
        Self {
            body,
            progress,
            history,
            started: Instant::now(),
            idle_timer,
            line: Vec::new(),
            has_content: false,
            pending: 0,
            is_finished: false,
        }
    }

    /// Ends the body: with an error in the middle of an event, otherwise with `error`.
    fn finish(&mut self, error: Option<BoxError>) -> Option<Result<Frame<Bytes>, BoxError>> {
        self.is_finished = true;
        if self.pending > 0 { Some(Err(Interrupted::MidEvent.into())) } else { error.map(Err) }
    }

    /// Ends the body as the API server did. kube treats some errors as a normal end, so a short watch without an event ends
    /// with [`Interrupted::Empty`] instead.
    fn upstream_ended(&mut self, error: Option<BoxError>) -> Option<Result<Frame<Bytes>, BoxError>> {
        let is_short = self.started.elapsed() < ACCEPTED_MIN;
        self.finish(if self.has_content { error } else { is_short.then(|| Interrupted::Empty.into()) })
    }

    /// Reads bookmarks from the data that arrived.
    fn scan(&mut self, data: &[u8]) -> Result<(), TooLong> {
        for piece in data.split_inclusive(|c| *c == b'\n') {
            self.pending += piece.len();
            if self.pending > TEXT_MAX {
                return Err(TooLong::Event);
            }
            let space = (LINE_MAX + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(&piece[..piece.len().min(space)]);
            if piece.ends_with(b"\n") {
                self.end_line();
            }
        }
        Ok(())
    }

    fn end_line(&mut self) {
        self.pending = 0;
        let is_kept = self.line.len() <= LINE_MAX;
        let event = is_kept.then(|| serde_json::from_slice::<WatchEvent<IgnoredAny>>(&self.line));
        self.line.clear();
        match event {
            Some(Ok(WatchEvent::Bookmark(bookmark))) => {
                self.has_content = true;
                // A repeated bookmark shows no progress.
                if !self.history.is_older(&bookmark.metadata.resource_version) {
                    self.progress.record_bookmark();
                }
            }
            // kube skips a line that ends too early, such as an empty one.
            Some(Err(e)) if e.is_eof() => {}
            _ => self.has_content = true,
        }
    }
}

impl<B: Body<Data = Bytes, Error = BoxError> + Unpin> Body for WatchBody<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.is_finished {
            return Poll::Ready(None);
        }
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref().filter(|data| !data.is_empty()) {
                    if let Err(e) = this.scan(data) {
                        this.is_finished = true;
                        return Poll::Ready(Some(Err(e.into())));
                    }
                    this.idle_timer.as_mut().reset(Instant::now() + IDLE_MAX);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(e))) => Poll::Ready(this.upstream_ended(Some(e))),
            Poll::Ready(None) => Poll::Ready(this.upstream_ended(None)),
            Poll::Pending => {
                ready!(this.idle_timer.as_mut().poll(cx));
                Poll::Ready(this.finish(None))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    /// Reads a body of these pieces, each that many seconds after the one before. Without `ends` the body stays open after the
    /// last piece. Returns the text and how the body ended.
    async fn read(pieces: &[(u64, &'static str)], ends: bool) -> (String, Result<Duration, String>) {
        let pieces = pieces.to_vec();
        let body = stream::iter(pieces).then(|(after, piece)| async move {
            sleep(Duration::from_secs(after)).await;
            Ok::<_, BoxError>(Frame::data(Bytes::from_static(piece.as_bytes())))
        });
        let end = stream::once(async move { if ends { None } else { std::future::pending().await } });
        let body = body.map(Some).chain(end).filter_map(std::future::ready);
        let mut body = WatchBody::new(StreamBody::new(Box::pin(body)), Progress::default(), History::default());
        let (start, mut read) = (Instant::now(), String::new());
        loop {
            match body.frame().await {
                Some(Ok(frame)) => read += std::str::from_utf8(frame.data_ref().unwrap()).unwrap(),
                Some(Err(e)) => return (read, Err(e.to_string())),
                None => return (read, Ok(start.elapsed())),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_watch_ends_and_an_active_one_continues() {
        let seconds = |n| Ok(Duration::from_secs(n));
        assert_eq!(read(&[(1, "a\n")], false).await, ("a\n".into(), seconds(101)));
        assert_eq!(read(&[], false).await, (String::new(), seconds(100)));
        assert_eq!(read(&[(90, "a\n"), (90, "b"), (90, "\n")], false).await, ("a\nb\n".into(), seconds(370)));
        assert_eq!(read(&[(1, "a\n")], true).await, ("a\n".into(), seconds(1)));
        assert_eq!(read(&[(0, "a\n")], true).await, ("a\n".into(), seconds(0)));
    }

    #[tokio::test(start_paused = true)]
    async fn half_an_event_and_an_empty_watch_are_errors() {
        let mid_event = || Err(Interrupted::MidEvent.to_string());
        assert_eq!(read(&[(1, "a\nb")], true).await, ("a\nb".into(), mid_event()));
        assert_eq!(read(&[(1, "a\nb")], false).await, ("a\nb".into(), mid_event()), "followed by silence");
        let empty = || Err(Interrupted::Empty.to_string());
        assert_eq!(read(&[], true).await, (String::new(), empty()));
        assert_eq!(read(&[(5, "\n"), (14, "\n")], true).await, ("\n\n".into(), empty()));
        assert_eq!(read(&[(20, "{\"type\":")], true).await, ("{\"type\":".into(), mid_event()), "however long it took");
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_a_proxy_ends_when_idle_counts_as_silent() {
        for after in [20, 35, 60] {
            assert_eq!(read(&[(after, "\n")], true).await, ("\n".into(), Ok(Duration::from_secs(after))));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_longer_than_a_page_is_an_error() {
        let long: &str = Box::leak("x".repeat(TEXT_MAX / 2).into_boxed_str());
        let too_long = Err(TooLong::Event.to_string());
        for (pieces, wanted) in [
            (vec![(0, long), (1, "\n"), (1, long), (1, "\n")], Ok(Duration::from_secs(3))),
            (vec![(0, long), (1, long), (1, "\n")], too_long.clone()),
            (vec![(0, "a\n"), (1, long), (1, long), (1, "x")], too_long),
        ] {
            assert_eq!(read(&pieces, true).await.1, wanted);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bookmarks_are_read_whatever_pieces_they_come_in() {
        let bookmark =
            r#"{"type":"BOOKMARK","object":{"kind":"Service","apiVersion":"v1","metadata":{"resourceVersion":"7"}}}"#;
        let error = r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"code":500}}"#;
        let long = format!("{{\"type\":\"ADDED\",\"object\":\"{}\"}}\n", "x".repeat(LINE_MAX));
        for (text, is_noted, has_content) in [
            (format!("{bookmark}\n"), true, true),
            (format!("{long}{bookmark}\n"), true, true),
            (format!("{error}\n"), false, true),
            (long, false, true),
            (bookmark.to_owned(), false, false),
            ("\n".to_owned(), false, false),
        ] {
            for size in [1, 7, text.len()] {
                let progress = Progress::default();
                let mut body = WatchBody::new((), progress.clone(), History::default());
                text.as_bytes().chunks(size).for_each(|piece| body.scan(piece).unwrap());
                assert_eq!((progress.take_bookmark(), body.has_content), (is_noted, has_content), "{text}");
            }
        }
    }
}
