//! When to look whether watches that bring nothing have nothing to bring. What lies between here and the API server may hold
//! back all of it, and offer one silent watch after the other; a cluster in which nothing changes looks just the same. So all
//! is listed anew from time to time: soon where that brought something, else more and more seldom.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::time::Instant;

use super::backoff::random;
use super::past::Past;

/// Three silent watches, one after the other.
const FIRST: Duration = Duration::from_secs(300);
/// The wait doubles up to this.
const MAX: Duration = Duration::from_secs(3600);
/// How much more or less it is at random, so that nodes do not list at one moment.
const JITTER: f64 = 0.1;
/// What is due while nothing works waits for so long when it works again: a bookmark comes within a minute of that.
const SETTLED: Duration = Duration::from_secs(80);

/// When a watch brought something last.
#[derive(Debug, Clone, Default)]
pub(super) struct Word(Arc<Mutex<Option<Instant>>>);

impl Word {
    /// Now.
    pub(super) fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn take(&self) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The silence of one kind's watches.
#[derive(Debug)]
pub(super) struct Quiet {
    word: Word,
    wait: Duration,
    due: Instant,
    /// When a word was looked for last.
    checked: Instant,
    /// Whether the list that is next, or under way, is one of ours.
    is_looking: bool,
    is_told: bool,
    known: Known,
}

impl Quiet {
    pub(super) fn new(word: Word) -> Self {
        let now = Instant::now();
        Self {
            word,
            wait: FIRST,
            due: now + FIRST,
            checked: now,
            is_looking: false,
            is_told: false,
            known: Known::default(),
        }
    }

    /// When to ask [`Self::is_due`]: before what a word makes due.
    pub(super) fn due(&self) -> Instant {
        self.due.min(self.checked + FIRST.mul_f64(1.0 - JITTER))
    }

    /// Whether all is to be listed anew, as no watch has brought anything for so long.
    pub(super) fn is_due(&mut self) -> bool {
        self.take_word();
        self.checked = Instant::now();
        self.is_looking = self.due <= self.checked;
        self.is_looking
    }

    /// A watch lives again after failures.
    pub(super) fn settled(&mut self) {
        self.take_word();
        self.due = self.due.max(Instant::now() + jittered(SETTLED));
    }

    /// A list begins.
    pub(super) fn begin_list(&mut self) {
        self.known.begin_list();
    }

    /// An object is in the list that is under way.
    pub(super) fn list(&mut self, object: &ObjectMeta) {
        self.known.list(object);
    }

    /// A watch told of an object, or that it went; whether that is new.
    pub(super) fn see(&mut self, object: &ObjectMeta, is_gone: bool, past: &Past) -> bool {
        self.known.see(object, is_gone);
        let is_new = past.see(object, is_gone);
        if is_new {
            self.word.note();
        }
        is_new
    }

    /// A list was read whole. Whether it brought what watches held back, and that was not said yet; where something failed
    /// meanwhile, it may have brought what happened since.
    pub(super) fn end_list(&mut self, has_failed: bool) -> bool {
        let is_news = self.known.end_list();
        let is_ours = std::mem::take(&mut self.is_looking) && !has_failed;
        if is_ours {
            self.wait = if is_news { FIRST } else { (self.wait * 2).min(MAX) };
        }
        self.wait_from(Instant::now());
        is_ours && is_news && !std::mem::replace(&mut self.is_told, true)
    }

    fn take_word(&mut self) {
        if let Some(at) = self.word.take() {
            self.is_told = false;
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

/// The objects that there are and their versions, as hashes.
#[derive(Debug, Default)]
struct Known {
    hasher: RandomState,
    objects: HashMap<u64, u64>,
    /// Those of the list that is under way.
    listed: HashMap<u64, u64>,
}

impl Known {
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

    fn see(&mut self, object: &ObjectMeta, is_gone: bool) {
        let (key, version) = self.entry(object);
        if is_gone {
            self.objects.remove(&key);
        } else {
            self.objects.insert(key, version);
        }
    }

    /// Whether the list differs from what was known.
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

    /// A list of these; whether it is worth a word.
    fn list(quiet: &mut Quiet, objects: &[(&str, u64)]) -> bool {
        quiet.begin_list();
        objects.iter().for_each(|(name, version)| quiet.list(&object(name, *version)));
        quiet.end_list(false)
    }

    /// Waits until a list is due; how many minutes that took.
    async fn minutes(quiet: &mut Quiet) -> f64 {
        let start = Instant::now();
        while !quiet.is_due() {
            advance(quiet.due() - Instant::now()).await;
        }
        start.elapsed().as_secs_f64() / 60.0
    }

    fn assert_about(minutes: f64, wanted: f64) {
        assert!((wanted * 0.899..=wanted * 1.101).contains(&minutes), "{minutes} for {wanted}");
    }

    #[tokio::test(start_paused = true)]
    async fn lists_that_bring_nothing_become_seldom() {
        let word = Word::default();
        let mut quiet = Quiet::new(word.clone());
        assert!(!list(&mut quiet, &[("a", 1), ("b", 2)]));
        for wanted in [5.0, 10.0, 20.0, 40.0, 60.0, 60.0] {
            assert_about(minutes(&mut quiet).await, wanted);
            assert!(!list(&mut quiet, &[("b", 2), ("a", 1)]));
        }
        // One that brings something, until a watch does.
        let lists: [(&[(&str, u64)], bool); 4] =
            [(&[("b", 2)], true), (&[("b", 3)], false), (&[("b", 3), ("c", 4)], false), (&[], false)];
        for (objects, is_told) in lists {
            minutes(&mut quiet).await;
            assert_eq!(list(&mut quiet, objects), is_told, "{objects:?}");
        }
        assert_about(minutes(&mut quiet).await, 5.0);
        list(&mut quiet, &[]);
        advance(Duration::from_secs(120)).await;
        word.note();
        assert_about(minutes(&mut quiet).await, 5.0);
        assert!(list(&mut quiet, &[("d", 5)]));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_watch_told_is_no_news() {
        let (mut quiet, past) = (Quiet::new(Word::default()), Past::default());
        list(&mut quiet, &[("a", 1), ("b", 2)]);
        quiet.see(&object("a", 3), false, &past);
        quiet.see(&object("b", 4), true, &past);
        quiet.see(&object("c", 5), false, &past);
        minutes(&mut quiet).await;
        // The list broke off once.
        quiet.begin_list();
        quiet.list(&object("z", 1));
        assert!(!list(&mut quiet, &[("c", 5), ("a", 3)]));
        assert_about(minutes(&mut quiet).await, 10.0);
        assert!(list(&mut quiet, &[("a", 3)]));
        // A list for another reason may bring what it will.
        assert!(!list(&mut quiet, &[("e", 9)]));
        assert_about(minutes(&mut quiet).await, 5.0);
    }

    #[tokio::test(start_paused = true)]
    async fn after_an_outage_a_bookmark_is_waited_for() {
        let mut quiet = Quiet::new(Word::default());
        list(&mut quiet, &[]);
        advance(3 * FIRST).await;
        quiet.settled();
        assert!(!quiet.is_due());
        assert_about(minutes(&mut quiet).await, SETTLED.as_secs_f64() / 60.0);
        // It brings nothing forward.
        list(&mut quiet, &[]);
        quiet.settled();
        assert_about(minutes(&mut quiet).await, 10.0);
    }
}
