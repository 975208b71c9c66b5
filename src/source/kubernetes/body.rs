//! What a watch brings, piece by piece. A silent one ends, as if the API server had ended it: the watcher begins it again from
//! its last version, and whoever is gone does not answer that. One that somebody ends before that, since nothing came for a while,
//! is as silent. kube takes half an event at the end for none, and a watch that ended at once for a good one; here both are
//! errors, else the same could come for ever.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use kube::core::WatchEvent;
use serde::de::IgnoredAny;
use tokio::time::{Instant, Sleep, sleep};
use tower::BoxError;

use super::failures::Work;
use super::pages::{TEXT_MAX, TooLong};
use super::past::Past;

/// Without a word for so long, a watch is begun again: bookmarks come once a minute, but not in a cluster where nothing
/// changes.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(100);
/// A watch that has gone on for so long and ends without a word was accepted, and was silent: proxies and load balancers end
/// what is idle. What ends sooner was no watch.
const LIVED: Duration = Duration::from_secs(20);
/// Bookmarks have some 200 octets. Longer lines are not kept.
const LINE_MAX: usize = 4096;

/// Why a watch did not end as it should.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Broken {
    #[error("a watch broke off in the middle of an event")]
    Half,
    #[error("a watch ended within {} s, without a word", LIVED.as_secs())]
    Wordless,
}

/// The body of a response to a watch: events, one a line.
pub(super) struct WatchBody<B> {
    body: B,
    work: Work,
    past: Past,
    begun: Instant,
    silence: Pin<Box<Sleep>>,
    /// The line that has begun, or as much of it as is kept.
    line: Vec<u8>,
    /// Whether something came that kube passes on, as an event or as an error, or a bookmark.
    is_heard: bool,
    /// How long the event is that has begun and not ended.
    half: usize,
    is_over: bool,
}

impl<B> WatchBody<B> {
    pub(super) fn new(body: B, work: Work, past: Past) -> Self {
        let silence = Box::pin(sleep(SILENCE_MAX));
        Self {
            body,
            work,
            past,
            begun: Instant::now(),
            silence,
            line: Vec::new(),
            is_heard: false,
            half: 0,
            is_over: false,
        }
    }

    /// What it is that it ends now.
    fn end(&mut self, error: Option<BoxError>) -> Option<Result<Frame<Bytes>, BoxError>> {
        self.is_over = true;
        if self.half > 0 { Some(Err(Broken::Half.into())) } else { error.map(Err) }
    }

    /// The same where it is not we who end it. kube takes some errors for a good end; those that came soon, instead of a word,
    /// are none.
    fn ended(&mut self, error: Option<BoxError>) -> Option<Result<Frame<Bytes>, BoxError>> {
        let is_short = self.begun.elapsed() < LIVED;
        self.end(if self.is_heard { error } else { is_short.then(|| Broken::Wordless.into()) })
    }

    /// Takes note of what came.
    fn hear(&mut self, data: &[u8]) -> Result<(), TooLong> {
        for piece in data.split_inclusive(|c| *c == b'\n') {
            self.half += piece.len();
            if self.half > TEXT_MAX {
                return Err(TooLong::Event);
            }
            let room = (LINE_MAX + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                self.end_line();
            }
        }
        Ok(())
    }

    fn end_line(&mut self) {
        self.half = 0;
        let is_kept = self.line.len() <= LINE_MAX;
        let event = is_kept.then(|| serde_json::from_slice::<WatchEvent<IgnoredAny>>(&self.line));
        self.line.clear();
        match event {
            Some(Ok(WatchEvent::Bookmark(bookmark))) => {
                self.is_heard = true;
                // One that is repeated says nothing.
                if !self.past.is_old(&bookmark.metadata.resource_version) {
                    self.work.note_bookmark();
                }
            }
            // kube skips what ends too soon, as an empty line does.
            Some(Err(e)) if e.is_eof() => {}
            _ => self.is_heard = true,
        }
    }
}

impl<B: Body<Data = Bytes, Error = BoxError> + Unpin> Body for WatchBody<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.is_over {
            return Poll::Ready(None);
        }
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref().filter(|data| !data.is_empty()) {
                    if let Err(e) = this.hear(data) {
                        this.is_over = true;
                        return Poll::Ready(Some(Err(e.into())));
                    }
                    this.silence.as_mut().reset(Instant::now() + SILENCE_MAX);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(e))) => Poll::Ready(this.ended(Some(e))),
            Poll::Ready(None) => Poll::Ready(this.ended(None)),
            Poll::Pending => {
                ready!(this.silence.as_mut().poll(cx));
                Poll::Ready(this.end(None))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    /// What becomes of such pieces, each so many seconds after the one before; without the end the last one stays the last.
    async fn read(pieces: &[(u64, &'static str)], ends: bool) -> (String, Result<Duration, String>) {
        let pieces = pieces.to_vec();
        let body = stream::iter(pieces).then(|(after, piece)| async move {
            sleep(Duration::from_secs(after)).await;
            Ok::<_, BoxError>(Frame::data(Bytes::from_static(piece.as_bytes())))
        });
        let end = stream::once(async move { if ends { None } else { std::future::pending().await } });
        let body = body.map(Some).chain(end).filter_map(std::future::ready);
        let mut body = WatchBody::new(StreamBody::new(Box::pin(body)), Work::default(), Past::default());
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
    async fn one_that_is_silent_ends_and_one_that_is_not_goes_on() {
        let seconds = |n| Ok(Duration::from_secs(n));
        assert_eq!(read(&[(1, "a\n")], false).await, ("a\n".into(), seconds(101)));
        assert_eq!(read(&[], false).await, (String::new(), seconds(100)));
        assert_eq!(read(&[(90, "a\n"), (90, "b"), (90, "\n")], false).await, ("a\nb\n".into(), seconds(370)));
        assert_eq!(read(&[(1, "a\n")], true).await, ("a\n".into(), seconds(1)));
        assert_eq!(read(&[(0, "a\n")], true).await, ("a\n".into(), seconds(0)));
    }

    #[tokio::test(start_paused = true)]
    async fn half_an_event_and_nothing_at_all_are_errors() {
        let half = || Err(Broken::Half.to_string());
        assert_eq!(read(&[(1, "a\nb")], true).await, ("a\nb".into(), half()));
        assert_eq!(read(&[(1, "a\nb")], false).await, ("a\nb".into(), half()), "and then silence");
        let wordless = || Err(Broken::Wordless.to_string());
        assert_eq!(read(&[], true).await, (String::new(), wordless()));
        assert_eq!(read(&[(5, "\n"), (14, "\n")], true).await, ("\n\n".into(), wordless()));
        assert_eq!(read(&[(20, "{\"type\":")], true).await, ("{\"type\":".into(), half()), "however long it took");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_somebody_ends_since_it_is_idle_is_silent() {
        for after in [20, 35, 60] {
            assert_eq!(read(&[(after, "\n")], true).await, ("\n".into(), Ok(Duration::from_secs(after))));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_is_no_longer_than_a_page() {
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
    async fn bookmarks_are_noted_however_they_are_cut() {
        let bookmark =
            r#"{"type":"BOOKMARK","object":{"kind":"Service","apiVersion":"v1","metadata":{"resourceVersion":"7"}}}"#;
        let error = r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"code":500}}"#;
        let long = format!("{{\"type\":\"ADDED\",\"object\":\"{}\"}}\n", "x".repeat(LINE_MAX));
        for (text, is_noted, is_heard) in [
            (format!("{bookmark}\n"), true, true),
            (format!("{long}{bookmark}\n"), true, true),
            (format!("{error}\n"), false, true),
            (long, false, true),
            (bookmark.to_owned(), false, false),
            ("\n".to_owned(), false, false),
        ] {
            for size in [1, 7, text.len()] {
                let work = Work::default();
                let mut body = WatchBody::new((), work.clone(), Past::default());
                text.as_bytes().chunks(size).for_each(|piece| body.hear(piece).unwrap());
                assert_eq!((work.take_bookmark(), body.is_heard), (is_noted, is_heard), "{text}");
            }
        }
    }
}
