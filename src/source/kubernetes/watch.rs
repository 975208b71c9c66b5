//! Follows all objects of a kind: kube's watcher, with time-outs for lists and waits after failures.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use kube::runtime::watcher::{self, Event};
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep, timeout};

use super::backoff::Backoff;
use super::client::{Access, AccessError};
use super::health::{Health, Kind};

/// Without a further page of a list for so long, it is begun again.
const PAGE_TIMEOUT: Duration = Duration::from_secs(15);

/// What became of a kind's objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta<T, K> {
    /// These are all there are.
    All(Vec<T>),
    /// This one is new, or another now.
    Apply(T),
    /// This one is no more.
    Delete(K),
}

/// How objects of a kind are watched, and what of them is of interest.
pub(super) struct Watch<O, T, K> {
    pub kind: Kind,
    pub stream: fn(kube::Client) -> BoxStream<'static, watcher::Result<Event<O>>>,
    pub convert: fn(O) -> T,
    pub key: fn(&O) -> K,
}

/// Why a watcher is begun again.
enum Failure {
    Access(AccessError),
    Page,
    Unauthorized(watcher::Error),
    Ended,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Access(e) => e.fmt(f),
            Self::Page => write!(f, "no answer to a list within {} s", PAGE_TIMEOUT.as_secs()),
            Self::Unauthorized(e) => write!(f, "the API server does not know us ({e})"),
            Self::Ended => f.write_str("the watcher ended"),
        }
    }
}

impl<O, T, K> Watch<O, T, K> {
    /// Never ends, but with the receiver. `wrap` makes what the receiver wants of it, with the moment of its arrival.
    pub(super) async fn follow<E>(
        self,
        (access, health, sender): (Access, Arc<Health>, Sender<E>),
        wrap: fn(Delta<T, K>, Instant) -> E,
    ) {
        let mut backoff = Backoff::default();
        loop {
            let failure = match access.client(&health).await {
                Ok(client) => self.run((self.stream)(client), &health, &sender, wrap, &mut backoff).await,
                Err(e) => Some(Failure::Access(e)),
            };
            let Some(failure) = failure else { return };
            self.failed(&health, &failure);
            sleep(backoff.next()).await;
        }
    }

    /// Until the receiver is gone (None), or a new connection is needed.
    async fn run<E>(
        &self,
        mut stream: BoxStream<'static, watcher::Result<Event<O>>>,
        health: &Health,
        sender: &Sender<E>,
        wrap: fn(Delta<T, K>, Instant) -> E,
        backoff: &mut Backoff,
    ) -> Option<Failure> {
        // What a list has brought so far; None between lists.
        let mut listed: Option<Vec<T>> = Some(Vec::new());
        loop {
            let next =
                if listed.is_some() { timeout(PAGE_TIMEOUT, stream.next()).await } else { Ok(stream.next().await) };
            let event = match next {
                Err(_) => return Some(Failure::Page),
                Ok(None) => return Some(Failure::Ended),
                Ok(Some(Ok(event))) => event,
                Ok(Some(Err(e))) if is_unauthorized(&e) => return Some(Failure::Unauthorized(e)),
                Ok(Some(Err(e))) => {
                    self.failed(health, &e);
                    sleep(backoff.next()).await;
                    continue;
                }
            };
            let arrived = Instant::now();
            let delta = match event {
                Event::Init => {
                    listed = Some(Vec::new());
                    continue;
                }
                Event::InitApply(object) => {
                    listed.get_or_insert_default().push((self.convert)(object));
                    continue;
                }
                Event::InitDone => {
                    health.count_list(self.kind);
                    Delta::All(listed.take().unwrap_or_default())
                }
                Event::Apply(object) => Delta::Apply((self.convert)(object)),
                Event::Delete(object) => Delta::Delete((self.key)(&object)),
            };
            backoff.reset();
            if health.is_broken(self.kind) {
                log::info!("Kubernetes: {}: in touch again", self.kind.plural());
            }
            health.mend(self.kind);
            if sender.send(wrap(delta, arrived)).await.is_err() {
                return None;
            }
        }
    }

    /// Says so once for each time that it breaks.
    fn failed(&self, health: &Health, error: &dyn fmt::Display) {
        let level = if health.is_broken(self.kind) { log::Level::Debug } else { log::Level::Warn };
        log::log!(level, "Kubernetes: {}: {error}; tried again until it works", self.kind.plural());
        health.fail(self.kind);
    }
}

fn is_unauthorized(e: &watcher::Error) -> bool {
    let code = match e {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => status.code,
        watcher::Error::WatchError(status) => status.code,
        _ => return false,
    };
    code == 401
}
