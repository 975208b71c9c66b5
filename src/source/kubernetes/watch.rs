//! Follows all objects of a kind: kube's watcher with time-outs for lists, backoff after failures, and a new list when its
//! watch makes no progress.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource as _};
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Update;
use super::budget::{Budget, LIST_PART, OBJECT_MIN};
use super::client::{Connector, client};
use super::delta::{Delta, ListPart, Object};
use super::errors::{Remedy, causes, describe, is_history_mismatch};
use super::failures::{Failures, Progress};
use super::health::Health;
use super::history::{History, HistoryMismatch};
use super::relist::{Relist, RelistRequests};
use super::silence::Silence;

/// A list is restarted when its next page takes longer.
const PAGE_TIMEOUT: Duration = Duration::from_secs(20);
/// A watch that began after a failure counts as re-established when it has lasted this long. By then the API server has sent
/// the missed events, or the error that it no longer has them (410).
const REESTABLISHED: Duration = Duration::from_millis(500);

/// The state that the watches of all kinds share.
#[derive(Clone)]
pub(super) struct Context<C> {
    pub connector: C,
    pub health: Arc<Health>,
    pub relist: Relist,
    pub budget: Budget,
}

/// Follows the objects of one kind.
pub(super) struct Watch<T> {
    health: Arc<Health>,
    budget: Budget,
    relist_requests: RelistRequests,
    history: History,
    failures: Failures,
    silence: Silence,
    /// The list that is being read; None between lists.
    list: Option<List<T>>,
    /// When the requested list begins.
    relist_at: Option<Instant>,
}

/// The objects of a list that were read and not sent yet.
struct List<T> {
    objects: Vec<T>,
    size: usize,
    /// Whether a part of the list was sent.
    has_begun: bool,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { objects: Vec::new(), size: 0, has_begun: false }
    }
}

/// Failures that the watcher does not report as errors. They restart it.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no page of a list within {} s", PAGE_TIMEOUT.as_secs())]
    Page,
    #[error("the watcher ended")]
    Ended,
    #[error("the watch failed and was not restarted")]
    Overdue,
}

/// Restart the watcher, which begins with a list, after this time.
struct Restart(Duration);

impl<T: Object> Watch<T> {
    /// Follows the objects until the receiver is dropped. `wrap` turns each update into what the receiver takes.
    pub(super) async fn follow<C: Connector, E>(
        context: Context<C>,
        sender: Sender<E>,
        wrap: impl Fn(Update<Delta<T>>) -> E,
    ) {
        let Context { connector, health, relist, budget } = context;
        let (history, progress) = (History::default(), Progress::default());
        let client = client(connector, T::KIND, Arc::clone(&health), history.clone(), progress.clone());
        let mut watch = Self {
            health,
            budget,
            relist_requests: relist.requests(T::KIND),
            history,
            silence: Silence::new(progress.last_event()),
            failures: Failures::new(progress),
            list: None,
            relist_at: None,
        };
        loop {
            let stream = watcher(Api::<T::Resource>::all(client.clone()), watcher::Config::default()).boxed();
            match watch.run(stream, &sender, &wrap).await {
                Some(Restart(wait)) => sleep(wait).await,
                None => return,
            }
        }
    }

    /// Runs one watcher until it has to be restarted. None: the receiver is gone.
    async fn run<E>(
        &mut self,
        mut stream: BoxStream<'static, watcher::Result<Event<T::Resource>>>,
        sender: &Sender<E>,
        wrap: impl Fn(Update<Delta<T>>) -> E,
    ) -> Option<Restart> {
        (self.list, self.relist_at) = (Some(List::default()), None);
        loop {
            let event = match self.next(&mut stream).await {
                Ok(event) => event,
                Err(restart) => return Some(restart),
            };
            let arrived = Instant::now();
            let change = match event {
                Some(event) => match self.delta(event) {
                    Some(change) => Some(change),
                    None => continue,
                },
                None => None,
            };
            let size = change.as_ref().map_or(OBJECT_MIN, |(_, size)| *size);
            let delta = change.map(|(delta, _)| delta);
            let is_reestablished = self.health.is_recovering(T::KIND)
                && self.health.watch_age(T::KIND).is_some_and(|age| age >= REESTABLISHED);
            let is_current = is_reestablished || matches!(delta, Some(Delta::Reset(_, ListPart { is_last: true, .. })));
            let recovery = is_current.then(|| self.health.recovery(T::KIND, is_reestablished));
            if is_current {
                self.failures.recovered();
            }
            if is_reestablished {
                self.silence.reestablished();
            }
            if delta.is_none() && recovery.is_none() {
                continue;
            }
            let permit = self.budget.acquire(size, arrived).await;
            if sender.send(wrap(Update { delta, arrived, recovery, permit })).await.is_err() {
                return None;
            }
        }
    }

    /// The watcher's next event. None: there was none for [`REESTABLISHED`] while the kind recovers from a failure.
    async fn next(
        &mut self,
        stream: &mut BoxStream<'static, watcher::Result<Event<T::Resource>>>,
    ) -> Result<Option<Event<T::Resource>>, Restart> {
        let kind = T::KIND.plural();
        loop {
            let is_recovering = self.health.is_recovering(T::KIND);
            let patience = match self.list {
                Some(_) => PAGE_TIMEOUT,
                None if is_recovering => REESTABLISHED,
                None => Duration::MAX,
            };
            let event = tokio::select! {
                biased;
                () = sleep_until(self.relist_at.unwrap_or_else(Instant::now)), if self.relist_at.is_some() => {
                    return Err(Restart(Duration::ZERO));
                }
                // A list that is being read fulfills the request.
                () = self.relist_requests.wait(), if self.relist_at.is_none() && self.list.is_none() => {
                    let wait = self.failures.wait_for_list();
                    log::debug!("Kubernetes: {kind}: relisting in {wait:?} as requested");
                    self.relist_at = Some(Instant::now() + wait);
                    continue;
                }
                () = sleep_until(self.silence.due()), if self.list.is_none() && !is_recovering => {
                    if self.silence.is_due() {
                        log::debug!("Kubernetes: {kind}: relisting: the watches delivered no events");
                        return Err(Restart(Duration::ZERO));
                    }
                    continue;
                }
                event = timeout(patience, stream.next()) => event,
            };
            return match event {
                Err(_) if self.list.is_some() => Err(self.restart(&Failure::Page)),
                Err(_) if self.failures.is_overdue() && self.health.watch_age(T::KIND).is_none() => {
                    Err(self.restart(&Failure::Overdue))
                }
                Err(_) => Ok(None),
                Ok(None) => Err(self.restart(&Failure::Ended)),
                Ok(Some(Ok(event))) => Ok(Some(event)),
                Ok(Some(Err(e))) => {
                    let next = self.failures.after_error(&e);
                    self.report(&e);
                    if next.relist {
                        return Err(Restart(next.wait));
                    }
                    sleep(next.wait).await;
                    continue;
                }
            };
        }
    }

    /// The change that an event makes, and its size. None: there is nothing to send yet.
    fn delta(&mut self, event: Event<T::Resource>) -> Option<(Delta<T>, usize)> {
        match event {
            Event::Init => {
                self.history.clear();
                self.silence.begin_list();
                self.health.end_watch(T::KIND);
                (self.list, self.relist_at) = (Some(List::default()), None);
                None
            }
            Event::InitApply(resource) => {
                self.history.record(resource.meta(), false);
                self.silence.list(resource.meta());
                let (object, list) = (T::from_resource(resource), self.list.get_or_insert_default());
                list.size += object.size();
                list.objects.push(object);
                (list.size >= LIST_PART).then(|| list.take_part(false))
            }
            Event::InitDone => {
                self.relist_requests.fulfill();
                if self.silence.end_list(self.health.is_recovering(T::KIND)) {
                    log::warn!(
                        "Kubernetes: {}: the watches deliver no events, but a list had changes: something between this \
                         node and the API server holds back their events; relisting every few minutes",
                        T::KIND.plural()
                    );
                }
                self.health.count_list(T::KIND);
                self.failures.clear();
                Some(self.list.take().unwrap_or_default().take_part(true))
            }
            Event::Apply(resource) => {
                if self.silence.record(resource.meta(), false, &self.history) {
                    self.failures.clear();
                }
                let object = T::from_resource(resource);
                let size = object.size();
                Some((Delta::Apply(object), size))
            }
            Event::Delete(resource) => {
                if self.silence.record(resource.meta(), true, &self.history) {
                    self.failures.clear();
                }
                Some((Delta::Delete(T::key_of(&resource)), OBJECT_MIN))
            }
        }
    }

    fn restart(&mut self, failure: &Failure) -> Restart {
        self.report(failure);
        Restart(self.failures.before_list())
    }

    /// Counts a failure, and logs it once until a watch is re-established, or once for all kinds with the same remedy.
    fn report(&self, error: &(dyn std::error::Error + 'static)) {
        let (kind, description) = (T::KIND.plural(), describe(error));
        if causes(error).any(|e| matches!(e.downcast_ref(), Some(HistoryMismatch::Deleted { .. }))) {
            // This is normal, and counts as no failure.
            log::info!("Kubernetes: {kind}: {description}; relisting to be certain of the other objects");
            return;
        }
        let should_log = self.health.should_log(T::KIND, Remedy::of(error));
        if is_history_mismatch(error) {
            log::warn!("Kubernetes: {kind}: relisting: {description}");
        } else {
            let level = if should_log { log::Level::Warn } else { log::Level::Debug };
            log::log!(level, "Kubernetes: {kind}: {description}; retrying until it succeeds");
        }
        self.health.record_failure(T::KIND);
    }
}

impl<T: Object> List<T> {
    /// The objects read so far as the next part of the list, and their size.
    fn take_part(&mut self, is_last: bool) -> (Delta<T>, usize) {
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        let delta = Delta::Reset(std::mem::take(&mut self.objects), ListPart { is_first, is_last });
        (delta, std::mem::take(&mut self.size))
    }
}

#[cfg(test)]
mod tests;
