//! What a watch brings, piece by piece. A silent one ends, as if the API server had ended it: the watcher begins it again from
//! its last version, and whoever is gone does not answer that. kube takes half an event at the end for none; here it is an
//! error, else the same half could come for ever.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::time::{Instant, Sleep, sleep};
use tower::BoxError;

/// Without a word for so long, a watch is begun again: bookmarks come once a minute, but not in a cluster where nothing
/// changes.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(100);
/// A watch that ends sooner, without a word, was none.
const TIME_MIN: Duration = Duration::from_secs(1);

/// Why a watch did not end as it should.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Broken {
    #[error("a watch broke off in the middle of an event")]
    Half,
    #[error("a watch ended at once, without a word")]
    Short,
}

/// The body of a response to a watch: events, one a line.
pub(super) struct WatchBody<B> {
    body: B,
    begun: Instant,
    silence: Pin<Box<Sleep>>,
    is_heard: bool,
    /// Whether an event has begun and not ended.
    is_half: bool,
    is_over: bool,
}

impl<B> WatchBody<B> {
    pub(super) fn new(body: B) -> Self {
        let silence = Box::pin(sleep(SILENCE_MAX));
        Self { body, begun: Instant::now(), silence, is_heard: false, is_half: false, is_over: false }
    }

    /// What it is that it ends now.
    fn end(&mut self, error: Option<BoxError>) -> Option<Result<Frame<Bytes>, BoxError>> {
        self.is_over = true;
        if self.is_half {
            Some(Err(Broken::Half.into()))
        } else if !self.is_heard && self.begun.elapsed() < TIME_MIN {
            Some(Err(Broken::Short.into()))
        } else {
            error.map(Err)
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
                if let Some(last) = frame.data_ref().and_then(|data| data.last()) {
                    this.is_heard = true;
                    this.is_half = *last != b'\n';
                    this.silence.as_mut().reset(Instant::now() + SILENCE_MAX);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(e))) => Poll::Ready(this.end(Some(e))),
            Poll::Ready(None) => Poll::Ready(this.end(None)),
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
        let mut body = WatchBody::new(StreamBody::new(Box::pin(body)));
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
        assert_eq!(read(&[], true).await, (String::new(), Err(Broken::Short.to_string())));
    }
}
