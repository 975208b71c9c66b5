//! Records how current the view of the API is, for the gates, `edns stats` and the log.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::errors::Remedy;

/// A kind of objects that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Services (core/v1).
    Services,
    /// EndpointSlices (discovery.k8s.io/v1).
    EndpointSlices,
    /// Namespaces (core/v1), metadata only.
    Namespaces,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Services, Self::EndpointSlices, Self::Namespaces];

    /// The plural of the kind, as in the API's paths.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::EndpointSlices => "endpointslices",
            Self::Namespaces => "namespaces",
        }
    }
}

/// The view is stale when the API server has sent nothing for this long: twice the interval of bookmarks.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(120);
/// The view is stale when a list or watch has been failing for this long.
const BROKEN_MAX: Duration = Duration::from_secs(30);

/// When the API server last sent something, and since when lists or watches fail, for each kind. Shared by the watches, which
/// write it, and the daemon, which reads it.
#[derive(Debug)]
pub struct Health {
    start: Instant,
    kinds: [KindRecord; Kind::ALL.len()],
}

/// Times are in milliseconds since the start, from 1 on; 0 means never.
#[derive(Debug, Default)]
struct KindRecord {
    last_data: AtomicU64,
    broken: AtomicU64,
    watch_begun: AtomicU64,
    errors: AtomicU64,
    lists: AtomicU64,
    /// Whether something failed since a watch was last established. Meanwhile lists clear `broken` briefly.
    recovering: AtomicBool,
    /// [`Remedy`] as a number: of the last failure, and of the last one that was logged.
    remedy: AtomicU8,
    logged: AtomicU8,
}

/// The state of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindState {
    /// Time since the API server last sent something, or since the start if it never did.
    pub silent: Duration,
    /// Time since a list or watch failed, if none has succeeded since.
    pub broken: Option<Duration>,
    /// The number of lists and watches that failed.
    pub errors: u64,
    /// The number of lists that were read completely.
    pub lists: u64,
}

/// Proof that the view of a kind was current at one moment. Failures after that moment are still in effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    kind: Kind,
    at: u64,
    errors: u64,
    is_reestablished: bool,
}

impl Default for Health {
    fn default() -> Self {
        Self { start: Instant::now(), kinds: Default::default() }
    }
}

impl Health {
    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64 + 1
    }

    /// Records that the API server sent something.
    pub fn record_data(&self, kind: Kind) {
        self.kinds[kind as usize].last_data.store(self.now(), Ordering::Relaxed);
    }

    /// Records that a list or watch failed.
    pub fn record_failure(&self, kind: Kind) {
        let KindRecord { broken, watch_begun, errors, recovering, .. } = &self.kinds[kind as usize];
        recovering.store(true, Ordering::Relaxed);
        watch_begun.store(0, Ordering::Relaxed);
        errors.fetch_add(1, Ordering::Relaxed);
        // Keeps the time of the first failure.
        let _ = broken.compare_exchange(0, self.now(), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether to log a failure. Call it before [`Self::record_failure`]. A failure without a remedy is logged if it is the
    /// first since a watch was established. A failure with a remedy is logged once for all kinds. If it is not the first
    /// failure, it has to occur twice in a row, because an API server refuses every client for a moment after its start.
    pub(super) fn should_log(&self, kind: Kind, remedy: Remedy) -> bool {
        let KindRecord { remedy: last, logged, .. } = &self.kinds[kind as usize];
        let is_again = last.swap(remedy as u8, Ordering::Relaxed) == remedy as u8;
        let is_first = !self.is_recovering(kind);
        let is_logged = self.kinds.iter().any(|k| k.logged.load(Ordering::Relaxed) == remedy as u8);
        match remedy {
            Remedy::None => is_first,
            _ if is_logged || !(is_first || is_again) => false,
            _ => {
                logged.store(remedy as u8, Ordering::Relaxed);
                true
            }
        }
    }

    /// The proof that a complete list gives, or a watch that has lasted (`is_reestablished`). Take it before the changes are
    /// applied.
    #[must_use]
    pub fn recovery(&self, kind: Kind, is_reestablished: bool) -> Recovery {
        Recovery {
            kind,
            at: self.now(),
            errors: self.kinds[kind as usize].errors.load(Ordering::Relaxed),
            is_reestablished,
        }
    }

    /// Ends the failures before the proof. Call it when the cluster has the changes up to the proof. Changes that still wait
    /// for a commit count as late, so they keep the gates of their namespaces closed. The recovery is logged for a watch only,
    /// because a list is current for a moment only.
    pub fn recovered(&self, recovery: &Recovery) {
        let KindRecord { broken, errors, recovering, remedy, logged, .. } = &self.kinds[recovery.kind as usize];
        if errors.load(Ordering::Relaxed) != recovery.errors {
            // Something failed after the proof, for instance the watch that follows a list.
            broken.fetch_max(recovery.at, Ordering::Relaxed);
            return;
        }
        broken.store(0, Ordering::Relaxed);
        if recovery.is_reestablished && recovering.swap(false, Ordering::Relaxed) {
            remedy.store(Remedy::None as u8, Ordering::Relaxed);
            logged.store(Remedy::None as u8, Ordering::Relaxed);
            log::info!("Kubernetes: {}: watch re-established", recovery.kind.plural());
        }
    }

    /// Records that a watch was accepted. [`Self::watch_age`] tells whether it lasts.
    pub fn begin_watch(&self, kind: Kind) {
        self.kinds[kind as usize].watch_begun.store(self.now(), Ordering::Relaxed);
    }

    /// Records that the watch is over and a list begins.
    pub fn end_watch(&self, kind: Kind) {
        self.kinds[kind as usize].watch_begun.store(0, Ordering::Relaxed);
    }

    /// The age of the current watch. None: there is none.
    #[must_use]
    pub fn watch_age(&self, kind: Kind) -> Option<Duration> {
        let since = self.kinds[kind as usize].watch_begun.load(Ordering::Relaxed);
        (since != 0).then(|| Duration::from_millis(self.now().saturating_sub(since)))
    }

    /// Counts a list that was read completely.
    pub fn count_list(&self, kind: Kind) {
        self.kinds[kind as usize].lists.fetch_add(1, Ordering::Relaxed);
    }

    /// The state of a kind.
    #[must_use]
    pub fn state(&self, kind: Kind) -> KindState {
        let record = &self.kinds[kind as usize];
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let since = |then: u64| Duration::from_millis(self.now().saturating_sub(then));
        KindState {
            silent: since(load(&record.last_data)),
            broken: Some(load(&record.broken)).filter(|b| *b != 0).map(since),
            errors: load(&record.errors),
            lists: load(&record.lists),
        }
    }

    /// Whether a list or watch of this kind failed and no watch was established since.
    #[must_use]
    pub fn is_recovering(&self, kind: Kind) -> bool {
        self.kinds[kind as usize].recovering.load(Ordering::Relaxed)
    }

    /// Whether a name that is absent from the view does not exist: the API server sent something recently for every kind, and
    /// no kind has been failing for long.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let now = self.now();
        let since = |then: u64| Duration::from_millis(now.saturating_sub(then));
        self.kinds.iter().all(|k| {
            let (last_data, broken) = (k.last_data.load(Ordering::Relaxed), k.broken.load(Ordering::Relaxed));
            last_data != 0 && since(last_data) < SILENCE_MAX && (broken == 0 || since(broken) < BROKEN_MAX)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard_health() -> Health {
        let health = Health::default();
        Kind::ALL.into_iter().for_each(|k| health.record_data(k));
        health
    }

    #[tokio::test(start_paused = true)]
    async fn the_view_is_current_while_every_kind_was_heard_recently() {
        let health = heard_health();
        assert!(health.is_current());
        tokio::time::advance(Duration::from_secs(100)).await;
        health.record_data(Kind::Services);
        health.record_data(Kind::Namespaces);
        assert!(health.is_current());
        tokio::time::advance(Duration::from_secs(21)).await;
        assert!(!health.is_current());
        health.record_data(Kind::EndpointSlices);
        assert!(health.is_current());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_watch_makes_the_view_stale_after_30_s() {
        let health = heard_health();
        health.record_failure(Kind::Services);
        tokio::time::advance(Duration::from_secs(20)).await;
        // The first of several failures counts.
        health.record_failure(Kind::Services);
        assert!(health.is_current());
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(!health.is_current());
        health.recovered(&health.recovery(Kind::Services, false));
        assert!(health.is_current(), "a list is sufficient");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_after_the_proof_counts_from_the_proof() {
        let health = heard_health();
        health.record_failure(Kind::Services);
        tokio::time::advance(Duration::from_secs(20)).await;
        let recovery = health.recovery(Kind::Services, true);
        health.record_failure(Kind::Services);
        health.recovered(&recovery);
        assert!(health.is_recovering(Kind::Services));
        tokio::time::advance(Duration::from_secs(29)).await;
        assert!(health.is_current());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!health.is_current());
    }

    #[tokio::test(start_paused = true)]
    async fn the_state_of_a_kind() {
        let health = Health::default();
        tokio::time::advance(Duration::from_secs(5)).await;
        health.record_failure(Kind::Services);
        tokio::time::advance(Duration::from_secs(2)).await;
        health.record_failure(Kind::Services);
        let state = health.state(Kind::Services);
        assert_eq!((state.silent.as_secs(), state.broken), (7, Some(Duration::from_secs(2))));
        assert_eq!((state.errors, state.lists), (2, 0));
        health.record_data(Kind::Services);
        health.count_list(Kind::Services);
        health.recovered(&health.recovery(Kind::Services, true));
        let state = KindState { silent: Duration::ZERO, broken: None, errors: 2, lists: 1 };
        assert_eq!(health.state(Kind::Services), state);
    }

    #[tokio::test(start_paused = true)]
    async fn a_kind_that_can_only_be_listed_logs_its_failure_once() {
        let health = heard_health();
        for round in 0..3 {
            assert_eq!(health.should_log(Kind::Services, Remedy::None), round == 0, "{round}");
            health.record_failure(Kind::Services);
            tokio::time::advance(BROKEN_MAX).await;
            assert!(!health.is_current());
            health.recovered(&health.recovery(Kind::Services, false));
            assert!(health.is_current() && health.is_recovering(Kind::Services));
        }
        health.recovered(&health.recovery(Kind::Services, true));
        assert!(!health.is_recovering(Kind::Services) && health.should_log(Kind::Services, Remedy::None));
    }

    #[tokio::test]
    async fn failures_with_one_remedy_are_logged_once() {
        let health = heard_health();
        let fail = |kind, remedy| {
            let should_log = health.should_log(kind, remedy);
            health.record_failure(kind);
            should_log
        };
        assert!(fail(Kind::Services, Remedy::Rights));
        assert!(!fail(Kind::EndpointSlices, Remedy::Rights), "another kind, same remedy");
        assert!(!fail(Kind::Services, Remedy::Rights), "a second time");
        assert!(fail(Kind::Namespaces, Remedy::None) && !fail(Kind::Namespaces, Remedy::None));
        assert!(!fail(Kind::Namespaces, Remedy::Authority), "it may be momentary");
        assert!(fail(Kind::Namespaces, Remedy::Authority), "it persists");
        health.recovered(&health.recovery(Kind::Services, true));
        assert!(fail(Kind::EndpointSlices, Remedy::Rights), "logged again after a recovery");
    }

    #[test]
    fn the_view_is_stale_before_anything_is_heard() {
        assert!(!Health::default().is_current());
    }
}
