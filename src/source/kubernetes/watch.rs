//! Follows all objects of a kind: kube's watcher, with time-outs for lists and waits after failures.

use std::iter::successors;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use kube::Resource;
use kube::runtime::watcher::{self, Event};
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep, timeout};

use super::backoff::Backoff;
use super::client::{Access, client};
use super::health::{Health, Kind, Mend};
use super::past::{Another, Past};

/// Without a further page of a list for so long, it is begun again.
const PAGE_TIMEOUT: Duration = Duration::from_secs(20);
/// A watch that was begun after a failure and goes on for so long lives: what was missed has come by then, or the word that
/// it can't (410).
const SETTLE: Duration = Duration::from_millis(500);

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
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no page of a list within {} s", PAGE_TIMEOUT.as_secs())]
    Page,
    #[error("the watcher ended")]
    Ended,
    #[error("all is listed anew")]
    Past(#[source] watcher::Error),
}

/// What came, when, and whether with it the view is right again.
pub(super) struct News<T, K> {
    pub delta: Option<Delta<T, K>>,
    pub arrived: Instant,
    pub mend: Option<Mend>,
}

impl<O: Resource, T, K> Watch<O, T, K> {
    /// Never ends, but with the receiver. `wrap` makes what the receiver wants of it.
    pub(super) async fn follow<E>(
        self,
        (access, health, sender): (Access, Arc<Health>, Sender<E>),
        wrap: fn(News<T, K>) -> E,
    ) {
        let past = Past::default();
        let client = client(access, self.kind, Arc::clone(&health), past.clone());
        let mut backoff = Backoff::default();
        loop {
            let stream = (self.stream)(client.clone());
            let Some(failure) = self.run(stream, &health, &past, &sender, wrap, &mut backoff).await else { return };
            self.failed(&health, &failure);
            sleep(backoff.next()).await;
        }
    }

    /// Until the receiver is gone (None), or it has to begin anew.
    async fn run<E>(
        &self,
        mut stream: BoxStream<'static, watcher::Result<Event<O>>>,
        health: &Health,
        past: &Past,
        sender: &Sender<E>,
        wrap: fn(News<T, K>) -> E,
        backoff: &mut Backoff,
    ) -> Option<Failure> {
        // What a list has brought so far; None between lists.
        let mut listed: Option<Vec<T>> = Some(Vec::new());
        loop {
            let patience = match listed {
                Some(_) => PAGE_TIMEOUT,
                None if health.is_broken(self.kind) => SETTLE,
                None => Duration::MAX,
            };
            let event = match timeout(patience, stream.next()).await {
                Err(_) if listed.is_some() => return Some(Failure::Page),
                Err(_) => None,
                Ok(None) => return Some(Failure::Ended),
                Ok(Some(Ok(event))) => Some(event),
                Ok(Some(Err(e))) if is_of_past(&e) => return Some(Failure::Past(e)),
                Ok(Some(Err(e))) => {
                    self.failed(health, &e);
                    sleep(backoff.next()).await;
                    continue;
                }
            };
            let arrived = Instant::now();
            let delta = match event {
                None => None,
                Some(Event::Init) => {
                    past.forget();
                    listed = Some(Vec::new());
                    continue;
                }
                Some(Event::InitApply(object)) => {
                    past.see(object.meta(), false);
                    listed.get_or_insert_default().push((self.convert)(object));
                    continue;
                }
                Some(Event::InitDone) => {
                    health.count_list(self.kind);
                    Some(Delta::All(listed.take().unwrap_or_default()))
                }
                Some(Event::Apply(object)) => {
                    past.see(object.meta(), false);
                    Some(Delta::Apply((self.convert)(object)))
                }
                Some(Event::Delete(object)) => {
                    past.see(object.meta(), true);
                    Some(Delta::Delete((self.key)(&object)))
                }
            };
            let is_live = matches!(delta, Some(Delta::All(_)))
                || health.is_broken(self.kind) && health.watching(self.kind).is_some_and(|time| time >= SETTLE);
            let mend = is_live.then(|| health.mend(self.kind));
            if is_live {
                backoff.reset();
            }
            if delta.is_none() && mend.is_none() {
                continue;
            }
            if sender.send(wrap(News { delta, arrived, mend })).await.is_err() {
                return None;
            }
        }
    }

    /// Says so once for each time that it breaks, and where it begins anew for another past.
    fn failed(&self, health: &Health, error: &(dyn std::error::Error + 'static)) {
        let is_known = health.is_broken(self.kind) && !is_of_past(error);
        let level = if is_known { log::Level::Debug } else { log::Level::Warn };
        let told = told_once(causes(error).map(text));
        log::log!(level, "Kubernetes: {}: {told}; tried again until it works", self.kind.plural());
        health.fail(self.kind);
    }
}

/// An error, and each that caused the one before.
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    successors(Some(error), |e| e.source())
}

fn is_of_past(error: &(dyn std::error::Error + 'static)) -> bool {
    causes(error).any(|e| e.is::<Another>())
}

/// An error, without the Rust of what the API server said.
fn text(error: &(dyn std::error::Error + 'static)) -> String {
    let status = match error.downcast_ref() {
        Some(
            watcher::Error::InitialListFailed(kube::Error::Api(status))
            | watcher::Error::WatchStartFailed(kube::Error::Api(status))
            | watcher::Error::WatchFailed(kube::Error::Api(status))
            | watcher::Error::WatchError(status),
        ) => Some(status),
        _ => match error.downcast_ref() {
            Some(kube::Error::Api(status)) => Some(status),
            _ => None,
        },
    };
    status.map_or_else(|| error.to_string(), |s| format!("the API server says {} {}: {}", s.code, s.reason, s.message))
}

/// Causes, each behind what it caused, without those that were told with it.
fn told_once(causes: impl Iterator<Item = String>) -> String {
    causes.fold(String::new(), |told, cause| match told {
        told if told.is_empty() => cause,
        told if told.contains(&cause) => told,
        told => format!("{told}: {cause}"),
    })
}
