//! Follows all objects of a kind: kube's watcher, with time-outs for lists, waits after failures, and a list of everything
//! where its watch does not get on.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use kube::Resource;
use kube::runtime::watcher::{self, Event};
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::again::Asked;
use super::client::{Way, client};
use super::failures::{Failures, Work};
use super::health::{Health, Kind, Mend};
use super::past::{Another, Past};
use super::quiet::Quiet;
use super::room::{OBJECT, PART, Room, Share};
use super::trouble::{Cure, causes, describe, is_of_past};

/// Without a further page of a list for so long, it is begun again.
const PAGE_TIMEOUT: Duration = Duration::from_secs(20);
/// A watch that was begun after a failure and goes on for so long lives: what was missed has come by then, or the word that
/// it can't (410).
const SETTLE: Duration = Duration::from_millis(500);

/// What became of a kind's objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta<T, K> {
    /// These are on a list of all there are, which comes in parts where it is long.
    List {
        /// The next ones.
        objects: Vec<T>,
        /// Whether the list begins with them.
        begins: bool,
        /// Whether it ends with them.
        ends: bool,
    },
    /// This one is new, or another now.
    Apply(T),
    /// This one is no more.
    Delete(K),
}

/// How objects of a kind are watched, and what of them is of interest.
pub(super) struct Watch<O, T, K> {
    pub kind: Kind,
    /// Whether a list is asked for.
    pub asked: Asked,
    pub stream: fn(kube::Client) -> BoxStream<'static, watcher::Result<Event<O>>>,
    pub convert: fn(O) -> T,
    pub key: fn(&O) -> K,
    /// What an object takes of the room.
    pub size: fn(&T) -> usize,
    pub room: Room,
}

/// What a list has brought.
struct Listed<T> {
    objects: Vec<T>,
    size: usize,
    /// Whether a part of it was sent on.
    has_begun: bool,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { objects: Vec::new(), size: 0, has_begun: false }
    }
}

/// Why a watcher is begun anew, where it has not said itself what it failed of.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no page of a list within {} s", PAGE_TIMEOUT.as_secs())]
    Page,
    #[error("the watcher ended")]
    Ended,
    #[error("the watch failed and was not begun again")]
    Overdue,
}

/// What came, when, and whether with it the view is right again.
pub(super) struct News<T, K> {
    pub delta: Option<Delta<T, K>>,
    pub arrived: Instant,
    pub mend: Option<Mend>,
    pub share: Share,
}

impl<O: Resource, T, K> Watch<O, T, K> {
    /// Never ends, but with the receiver. `wrap` makes what the receiver wants of it.
    pub(super) async fn follow<E>(
        self,
        (way, health, sender): (impl Way, Arc<Health>, Sender<E>),
        wrap: fn(News<T, K>) -> E,
    ) {
        let (past, work) = (Past::default(), Work::default());
        let client = client(way, self.kind, Arc::clone(&health), past.clone(), work.clone());
        let mut quiet = Quiet::new(work.word());
        let mut failures = Failures::new(work);
        loop {
            let stream = (self.stream)(client.clone());
            let Some(wait) = self.run(stream, &health, &past, &sender, wrap, (&mut failures, &mut quiet)).await else {
                return;
            };
            sleep(wait).await;
        }
    }

    /// Until the receiver is gone (None), or it has to begin anew, after a while.
    async fn run<E>(
        &self,
        mut stream: BoxStream<'static, watcher::Result<Event<O>>>,
        health: &Health,
        past: &Past,
        sender: &Sender<E>,
        wrap: fn(News<T, K>) -> E,
        (failures, quiet): (&mut Failures, &mut Quiet),
    ) -> Option<Duration> {
        let anew = |failures: &mut Failures, failure: &Failure| {
            self.failed(health, failure);
            Some(failures.before_list())
        };
        // What a list has brought so far; None between lists.
        let mut listed: Option<Listed<T>> = Some(Listed::default());
        // When the list begins that was asked for.
        let mut due: Option<Instant> = None;
        loop {
            let patience = match listed {
                Some(_) => PAGE_TIMEOUT,
                None if health.is_unsettled(self.kind) => SETTLE,
                None => Duration::MAX,
            };
            let event = tokio::select! {
                biased;
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => return Some(Duration::ZERO),
                // A list that is under way will do.
                () = self.asked.wait(), if due.is_none() && listed.is_none() => {
                    let wait = failures.wait_for_list();
                    log::debug!("Kubernetes: {}: all is listed anew in {wait:?}, as was asked for", self.kind.plural());
                    due = Some(Instant::now() + wait);
                    continue;
                }
                () = sleep_until(quiet.due()), if listed.is_none() && !health.is_unsettled(self.kind) => {
                    if quiet.is_due() {
                        log::debug!("Kubernetes: {}: all is listed anew, as watches bring nothing", self.kind.plural());
                        return Some(Duration::ZERO);
                    }
                    continue;
                }
                event = timeout(patience, stream.next()) => event,
            };
            let event = match event {
                Err(_) if listed.is_some() => return anew(failures, &Failure::Page),
                Err(_) if failures.is_overdue() && health.watching(self.kind).is_none() => {
                    return anew(failures, &Failure::Overdue);
                }
                Err(_) => None,
                Ok(None) => return anew(failures, &Failure::Ended),
                Ok(Some(Ok(event))) => Some(event),
                Ok(Some(Err(e))) => {
                    let next = failures.of_watcher(&e);
                    self.failed(health, &e);
                    if next.anew {
                        return Some(next.wait);
                    }
                    sleep(next.wait).await;
                    continue;
                }
            };
            let arrived = Instant::now();
            // What is sent on takes room by then.
            let mut size = OBJECT;
            let delta = match event {
                None => None,
                Some(Event::Init) => {
                    past.forget();
                    quiet.begin_list();
                    health.end_watch(self.kind);
                    (listed, due) = (Some(Listed::default()), None);
                    continue;
                }
                Some(Event::InitApply(object)) => {
                    past.see(object.meta(), false);
                    quiet.list(object.meta());
                    let (object, list) = ((self.convert)(object), listed.get_or_insert_default());
                    list.size += (self.size)(&object);
                    list.objects.push(object);
                    if list.size < PART {
                        continue;
                    }
                    size = std::mem::take(&mut list.size);
                    let begins = !std::mem::replace(&mut list.has_begun, true);
                    Some(Delta::List { objects: std::mem::take(&mut list.objects), begins, ends: false })
                }
                Some(Event::InitDone) => {
                    self.asked.done();
                    if quiet.end_list(health.is_unsettled(self.kind)) {
                        log::warn!(
                            "Kubernetes: {}: watches bring nothing: something between here and the API server holds them \
                             back; all is listed anew every few minutes",
                            self.kind.plural()
                        );
                    }
                    health.count_list(self.kind);
                    failures.clear();
                    let list = listed.take().unwrap_or_default();
                    size = list.size;
                    Some(Delta::List { objects: list.objects, begins: !list.has_begun, ends: true })
                }
                Some(Event::Apply(object)) => {
                    if quiet.see(object.meta(), false, past) {
                        failures.clear();
                    }
                    let object = (self.convert)(object);
                    size = (self.size)(&object);
                    Some(Delta::Apply(object))
                }
                Some(Event::Delete(object)) => {
                    if quiet.see(object.meta(), true, past) {
                        failures.clear();
                    }
                    Some(Delta::Delete((self.key)(&object)))
                }
            };
            let is_settled =
                health.is_unsettled(self.kind) && health.watching(self.kind).is_some_and(|time| time >= SETTLE);
            let is_right = is_settled || matches!(delta, Some(Delta::List { ends: true, .. }));
            let mend = is_right.then(|| health.mend(self.kind, is_settled));
            if is_right {
                failures.mended();
            }
            if is_settled {
                quiet.settled();
            }
            if delta.is_none() && mend.is_none() {
                continue;
            }
            let share = self.room.take(size).await;
            if sender.send(wrap(News { delta, arrived, mend, share })).await.is_err() {
                return None;
            }
        }
    }

    /// Takes note of it, and says so once until a watch lives again, and where there is something to be done about it.
    fn failed(&self, health: &Health, error: &(dyn std::error::Error + 'static)) {
        let (kind, told) = (self.kind.plural(), describe(error));
        if causes(error).any(|e| matches!(e.downcast_ref(), Some(Another::Gone { .. }))) {
            // Nothing failed.
            log::info!("Kubernetes: {kind}: {told}: all is listed anew, to be certain of the rest");
            return;
        }
        let is_news = health.is_news(self.kind, Cure::of(error));
        if is_of_past(error) {
            log::warn!("Kubernetes: {kind}: all is listed anew: {told}");
        } else {
            let level = if is_news { log::Level::Warn } else { log::Level::Debug };
            log::log!(level, "Kubernetes: {kind}: {told}; tried again until it works");
        }
        health.fail(self.kind);
    }
}

#[cfg(test)]
mod tests;
