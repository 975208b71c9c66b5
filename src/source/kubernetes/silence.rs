//! Relists a kind from time to time when its watches deliver nothing. Something between this node and the API server may hold
//! back all events while it accepts one silent watch after the other; a cluster without changes looks the same. A list that
//! finds changes is followed by the next one soon, otherwise the interval doubles.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::time::Instant;

use super::backoff::random;
use super::history::History;

/// The first interval: three silent watches in a row.
const FIRST: Duration = Duration::from_secs(300);
/// The longest interval.
const MAX: Duration = Duration::from_secs(3600);
/// The random part of an interval, so that nodes don't list at the same moment.
const JITTER: f64 = 0.1;
/// After failures a list waits this long once the watch is re-established: the first bookmark comes within a minute.
const RECOVERY_WAIT: Duration = Duration::from_secs(80);

/// When a watch last delivered an event or a bookmark.
#[derive(Debug, Clone, Default)]
pub(super) struct LastEvent(Arc<Mutex<Option<Instant>>>);

impl LastEvent {
    /// Records an event now.
    pub(super) fn record(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn take(&self) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Decides when silence of a kind's watches calls for a list.
#[derive(Debug)]
pub(super) struct Silence {
    last_event: LastEvent,
    wait: Duration,
    due: Instant,
    /// When [`Self::is_due`] was last called.
    checked: Instant,
    /// Whether the next or current list was requested by [`Self::is_due`].
    is_checking: bool,
    is_logged: bool,
    known: KnownObjects,
}

impl Silence {
    pub(super) fn new(last_event: LastEvent) -> Self {
        let now = Instant::now();
        Self {
            last_event,
            wait: FIRST,
            due: now + FIRST,
            checked: now,
            is_checking: false,
            is_logged: false,
            known: KnownObjects::default(),
        }
    }

    /// When to call [`Self::is_due`]. Also before the list is due, because only `is_due` notices events.
    pub(super) fn due(&self) -> Instant {
        self.due.min(self.checked + FIRST.mul_f64(1.0 - JITTER))
    }

    /// Whether to list all objects, as no watch has delivered an event for too long.
    pub(super) fn is_due(&mut self) -> bool {
        self.take_last_event();
        self.checked = Instant::now();
        self.is_checking = self.due <= self.checked;
        self.is_checking
    }

    /// Records that a watch was re-established after failures.
    pub(super) fn reestablished(&mut self) {
        self.take_last_event();
        self.due = self.due.max(Instant::now() + jittered(RECOVERY_WAIT));
    }

    /// Records that a list begins.
    pub(super) fn begin_list(&mut self) {
        self.known.begin_list();
    }

    /// Records an object of the current list.
    pub(super) fn list(&mut self, object: &ObjectMeta) {
        self.known.list(object);
    }

    /// Records an event of a watch. Returns whether it is newer than everything before.
    pub(super) fn record(&mut self, object: &ObjectMeta, is_deleted: bool, history: &History) -> bool {
        self.known.record(object, is_deleted);
        let is_new = history.record(object, is_deleted);
        if is_new {
            self.last_event.record();
        }
        is_new
    }

    /// Records that a list is complete. Returns whether to log that the list had changes which no watch delivered. That is
    /// logged once. It is not logged after failures, because then no watch may have existed to deliver them.
    pub(super) fn end_list(&mut self, has_failed: bool) -> bool {
        let has_changes = self.known.end_list();
        let is_check = std::mem::take(&mut self.is_checking) && !has_failed;
        if is_check {
            self.wait = if has_changes { FIRST } else { (self.wait * 2).min(MAX) };
        }
        self.wait_from(Instant::now());
        is_check && has_changes && !std::mem::replace(&mut self.is_logged, true)
    }

    fn take_last_event(&mut self) {
        if let Some(at) = self.last_event.take() {
            self.is_logged = false;
            self.wait = FIRST;
            self.wait_from(at);
        }
    }

    fn wait_from(&mut self, at: Instant) {
        self.due = at + jittered(self.wait);
    }
}

fn jittered(time: Duration) -> Duration {
    time.mul_f64(1.0 - JITTER + 2.0 * JITTER * random())
}

/// The known objects and their versions, as hashes.
#[derive(Debug, Default)]
struct KnownObjects {
    hasher: RandomState,
    objects: HashMap<u64, u64>,
    /// The objects of the current list.
    listed: HashMap<u64, u64>,
}

impl KnownObjects {
    fn entry(&self, object: &ObjectMeta) -> (u64, u64) {
        (self.hasher.hash_one((&object.namespace, &object.name)), self.hasher.hash_one(&object.resource_version))
    }

    fn begin_list(&mut self) {
        self.listed.clear();
    }

    fn list(&mut self, object: &ObjectMeta) {
        let (key, version) = self.entry(object);
        self.listed.insert(key, version);
    }

    fn record(&mut self, object: &ObjectMeta, is_deleted: bool) {
        let (key, version) = self.entry(object);
        if is_deleted {
            self.objects.remove(&key);
        } else {
            self.objects.insert(key, version);
        }
    }

    /// Whether the list differs from the known objects.
    fn end_list(&mut self) -> bool {
        let listed = std::mem::take(&mut self.listed);
        let is_other = listed != self.objects;
        self.objects = listed;
        is_other
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn object(name: &str, version: u64) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.into()),
            namespace: Some("ns".into()),
            resource_version: Some(version.to_string()),
            ..ObjectMeta::default()
        }
    }

    /// Lists these objects. Returns whether to log withheld changes.
    fn list(silence: &mut Silence, objects: &[(&str, u64)]) -> bool {
        silence.begin_list();
        objects.iter().for_each(|(name, version)| silence.list(&object(name, *version)));
        silence.end_list(false)
    }

    /// Waits until a list is due. Returns the minutes that took.
    async fn minutes(silence: &mut Silence) -> f64 {
        let start = Instant::now();
        while !silence.is_due() {
            advance(silence.due() - Instant::now()).await;
        }
        start.elapsed().as_secs_f64() / 60.0
    }

    fn assert_about(minutes: f64, wanted: f64) {
        assert!((wanted * 0.899..=wanted * 1.101).contains(&minutes), "{minutes} for {wanted}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_interval_doubles_while_lists_have_no_changes() {
        let last_event = LastEvent::default();
        let mut silence = Silence::new(last_event.clone());
        assert!(!list(&mut silence, &[("a", 1), ("b", 2)]));
        for wanted in [5.0, 10.0, 20.0, 40.0, 60.0, 60.0] {
            assert_about(minutes(&mut silence).await, wanted);
            assert!(!list(&mut silence, &[("b", 2), ("a", 1)]));
        }
        // Lists with changes are logged once until a watch delivers an event.
        let lists: [(&[(&str, u64)], bool); 4] =
            [(&[("b", 2)], true), (&[("b", 3)], false), (&[("b", 3), ("c", 4)], false), (&[], false)];
        for (objects, is_logged) in lists {
            minutes(&mut silence).await;
            assert_eq!(list(&mut silence, objects), is_logged, "{objects:?}");
        }
        assert_about(minutes(&mut silence).await, 5.0);
        list(&mut silence, &[]);
        advance(Duration::from_secs(120)).await;
        last_event.record();
        assert_about(minutes(&mut silence).await, 5.0);
        assert!(list(&mut silence, &[("d", 5)]));
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_delivered_by_a_watch_is_no_change() {
        let (mut silence, history) = (Silence::new(LastEvent::default()), History::default());
        list(&mut silence, &[("a", 1), ("b", 2)]);
        silence.record(&object("a", 3), false, &history);
        silence.record(&object("b", 4), true, &history);
        silence.record(&object("c", 5), false, &history);
        minutes(&mut silence).await;
        // The first attempt at the list broke off.
        silence.begin_list();
        silence.list(&object("z", 1));
        assert!(!list(&mut silence, &[("c", 5), ("a", 3)]));
        assert_about(minutes(&mut silence).await, 10.0);
        assert!(list(&mut silence, &[("a", 3)]));
        // A list for another reason proves nothing about the watches.
        assert!(!list(&mut silence, &[("e", 9)]));
        assert_about(minutes(&mut silence).await, 5.0);
    }

    #[tokio::test(start_paused = true)]
    async fn after_an_outage_the_list_waits_for_a_bookmark() {
        let mut silence = Silence::new(LastEvent::default());
        list(&mut silence, &[]);
        advance(3 * FIRST).await;
        silence.reestablished();
        assert!(!silence.is_due());
        assert_about(minutes(&mut silence).await, RECOVERY_WAIT.as_secs_f64() / 60.0);
        // It makes no list due earlier.
        list(&mut silence, &[]);
        silence.reestablished();
        assert_about(minutes(&mut silence).await, 10.0);
    }
}
