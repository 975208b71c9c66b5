//! How current the view of the API is.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::trouble::Cure;

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Core v1.
    Services,
    /// discovery.k8s.io/v1.
    EndpointSlices,
    /// Core v1, metadata only.
    Namespaces,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Services, Self::EndpointSlices, Self::Namespaces];

    /// As in the API's paths.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::EndpointSlices => "endpointslices",
            Self::Namespaces => "namespaces",
        }
    }
}

/// Without a word of the API server for so long, a view is not current: twice the time between its bookmarks.
const SILENCE_MAX: Duration = Duration::from_secs(120);
/// And with a watch that is broken for so long.
const BROKEN_MAX: Duration = Duration::from_secs(30);

/// When the API server was heard from, and since when it is not as it should be; for each kind.
#[derive(Debug)]
pub struct Health {
    start: Instant,
    kinds: [Times; 3],
}

/// Milliseconds since the start, from 1 on; 0: never. And how often.
#[derive(Debug, Default)]
struct Times {
    heard: AtomicU64,
    broken: AtomicU64,
    watching: AtomicU64,
    errors: AtomicU64,
    lists: AtomicU64,
    /// Whether something failed since a watch lived: lists may mend that for a while, each time anew.
    unsettled: AtomicBool,
    /// Cures, as numbers: of the last failure, and of what was told of.
    cure: AtomicU8,
    told: AtomicU8,
}

/// How it stands with a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Since the API server was heard of last; since the start, where it never was.
    pub silent: Duration,
    /// Since a list or watch failed, where none has succeeded since.
    pub broken: Option<Duration>,
    /// Lists and watches that failed.
    pub errors: u64,
    /// Lists that were read whole.
    pub lists: u64,
}

/// That the view of a kind was right at a moment, and still is unless something failed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mend {
    kind: Kind,
    at: u64,
    errors: u64,
    is_settled: bool,
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

    /// The API server sent something.
    pub fn hear(&self, kind: Kind) {
        self.kinds[kind as usize].heard.store(self.now(), Ordering::Relaxed);
    }

    /// A list or watch failed.
    pub fn fail(&self, kind: Kind) {
        let Times { broken, watching, errors, unsettled, .. } = &self.kinds[kind as usize];
        unsettled.store(true, Ordering::Relaxed);
        watching.store(0, Ordering::Relaxed);
        errors.fetch_add(1, Ordering::Relaxed);
        // Broken since the first failure.
        let _ = broken.compare_exchange(0, self.now(), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether a failure is worth a word, before it is noted: the first since a watch lived is, and what has a cure, once for
    /// all kinds. Behind another failure it has to come twice: for a moment after its start an API server refuses everybody.
    pub(super) fn is_news(&self, kind: Kind, cure: Cure) -> bool {
        let Times { cure: last, told, .. } = &self.kinds[kind as usize];
        let is_again = last.swap(cure as u8, Ordering::Relaxed) == cure as u8;
        let is_first = !self.is_unsettled(kind);
        let is_told = self.kinds.iter().any(|k| k.told.load(Ordering::Relaxed) == cure as u8);
        match cure {
            Cure::None => is_first,
            _ if is_told || !(is_first || is_again) => false,
            _ => {
                told.store(cure as u8, Ordering::Relaxed);
                true
            }
        }
    }

    /// What we make of a list that was read whole, or of a watch that goes on (`is_settled`), before anything of it is applied.
    #[must_use]
    pub fn mend(&self, kind: Kind, is_settled: bool) -> Mend {
        Mend { kind, at: self.now(), errors: self.kinds[kind as usize].errors.load(Ordering::Relaxed), is_settled }
    }

    /// All that came up to it is applied: what was broken then is no longer. It is told when a watch lives: a list without one
    /// is right for a moment only.
    pub fn mended(&self, mend: &Mend) {
        let Times { broken, errors, unsettled, cure, told, .. } = &self.kinds[mend.kind as usize];
        if errors.load(Ordering::Relaxed) != mend.errors {
            // A watch may fail as soon as the list before it is read.
            broken.fetch_max(mend.at, Ordering::Relaxed);
            return;
        }
        broken.store(0, Ordering::Relaxed);
        if mend.is_settled && unsettled.swap(false, Ordering::Relaxed) {
            cure.store(Cure::None as u8, Ordering::Relaxed);
            told.store(Cure::None as u8, Ordering::Relaxed);
            log::info!("Kubernetes: {}: in touch again", mend.kind.plural());
        }
    }

    /// A watch was begun; whether it lives is seen when it goes on.
    pub fn begin_watch(&self, kind: Kind) {
        self.kinds[kind as usize].watching.store(self.now(), Ordering::Relaxed);
    }

    /// A list takes its place.
    pub fn end_watch(&self, kind: Kind) {
        self.kinds[kind as usize].watching.store(0, Ordering::Relaxed);
    }

    /// For how long a watch has gone on.
    #[must_use]
    pub fn watching(&self, kind: Kind) -> Option<Duration> {
        let since = self.kinds[kind as usize].watching.load(Ordering::Relaxed);
        (since != 0).then(|| Duration::from_millis(self.now().saturating_sub(since)))
    }

    /// A list was read whole.
    pub fn count_list(&self, kind: Kind) {
        self.kinds[kind as usize].lists.fetch_add(1, Ordering::Relaxed);
    }

    /// All that is known of a kind.
    #[must_use]
    pub fn state(&self, kind: Kind) -> State {
        let times = &self.kinds[kind as usize];
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let since = |then: u64| Duration::from_millis(self.now().saturating_sub(then));
        State {
            silent: since(load(&times.heard)),
            broken: Some(load(&times.broken)).filter(|b| *b != 0).map(since),
            errors: load(&times.errors),
            lists: load(&times.lists),
        }
    }

    /// Whether a list or watch of this kind failed, and no watch has lived since.
    #[must_use]
    pub fn is_unsettled(&self, kind: Kind) -> bool {
        self.kinds[kind as usize].unsettled.load(Ordering::Relaxed)
    }

    /// Whether absence can be believed: every kind was heard of lately and none is broken for long.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let now = self.now();
        let since = |then: u64| Duration::from_millis(now.saturating_sub(then));
        self.kinds.iter().all(|k| {
            let (heard, broken) = (k.heard.load(Ordering::Relaxed), k.broken.load(Ordering::Relaxed));
            heard != 0 && since(heard) < SILENCE_MAX && (broken == 0 || since(broken) < BROKEN_MAX)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard() -> Health {
        let health = Health::default();
        Kind::ALL.into_iter().for_each(|k| health.hear(k));
        health
    }

    #[tokio::test(start_paused = true)]
    async fn a_view_is_current_for_as_long_as_every_kind_is_heard_of() {
        let health = heard();
        assert!(health.is_current());
        tokio::time::advance(Duration::from_secs(100)).await;
        health.hear(Kind::Services);
        health.hear(Kind::Namespaces);
        assert!(health.is_current());
        tokio::time::advance(Duration::from_secs(21)).await;
        assert!(!health.is_current());
        health.hear(Kind::EndpointSlices);
        assert!(health.is_current());
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_watch_is_borne_for_a_while() {
        let health = heard();
        health.fail(Kind::Services);
        tokio::time::advance(Duration::from_secs(20)).await;
        // What fails again is broken since it first failed.
        health.fail(Kind::Services);
        assert!(health.is_current());
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(!health.is_current());
        health.mended(&health.mend(Kind::Services, false));
        assert!(health.is_current(), "a list is enough");
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_since_is_broken_since_then() {
        let health = heard();
        health.fail(Kind::Services);
        tokio::time::advance(Duration::from_secs(20)).await;
        let mend = health.mend(Kind::Services, true);
        health.fail(Kind::Services);
        health.mended(&mend);
        assert!(health.is_unsettled(Kind::Services));
        tokio::time::advance(Duration::from_secs(29)).await;
        assert!(health.is_current());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!health.is_current());
    }

    #[tokio::test(start_paused = true)]
    async fn tells_how_it_stands_with_a_kind() {
        let health = Health::default();
        tokio::time::advance(Duration::from_secs(5)).await;
        health.fail(Kind::Services);
        tokio::time::advance(Duration::from_secs(2)).await;
        health.fail(Kind::Services);
        let state = health.state(Kind::Services);
        assert_eq!((state.silent.as_secs(), state.broken), (7, Some(Duration::from_secs(2))));
        assert_eq!((state.errors, state.lists), (2, 0));
        health.hear(Kind::Services);
        health.count_list(Kind::Services);
        health.mended(&health.mend(Kind::Services, true));
        let state = State { silent: Duration::ZERO, broken: None, errors: 2, lists: 1 };
        assert_eq!(health.state(Kind::Services), state);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_only_listed_fails_without_a_further_word() {
        let health = heard();
        for round in 0..3 {
            assert_eq!(health.is_news(Kind::Services, Cure::None), round == 0, "{round}");
            health.fail(Kind::Services);
            tokio::time::advance(BROKEN_MAX).await;
            assert!(!health.is_current());
            health.mended(&health.mend(Kind::Services, false));
            assert!(health.is_current() && health.is_unsettled(Kind::Services));
        }
        health.mended(&health.mend(Kind::Services, true));
        assert!(!health.is_unsettled(Kind::Services) && health.is_news(Kind::Services, Cure::None));
    }

    #[tokio::test]
    async fn what_has_one_cure_is_told_once() {
        let health = heard();
        let fail = |kind, cure| {
            let is_news = health.is_news(kind, cure);
            health.fail(kind);
            is_news
        };
        assert!(fail(Kind::Services, Cure::Rights));
        assert!(!fail(Kind::EndpointSlices, Cure::Rights), "of another kind");
        assert!(!fail(Kind::Services, Cure::Rights), "again");
        assert!(fail(Kind::Namespaces, Cure::None) && !fail(Kind::Namespaces, Cure::None));
        assert!(!fail(Kind::Namespaces, Cure::Authority), "for a moment");
        assert!(fail(Kind::Namespaces, Cure::Authority), "for longer");
        health.mended(&health.mend(Kind::Services, true));
        assert!(fail(Kind::EndpointSlices, Cure::Rights), "what it still lacks");
    }

    #[test]
    fn nothing_heard_is_no_view() {
        assert!(!Health::default().is_current());
    }
}
