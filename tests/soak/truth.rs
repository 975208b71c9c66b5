//! Which versions may be visible at which time. A version may be visible from the moment when its write is sent, until the
//! next write was acknowledged and its event had time to arrive. After an outage of the API server that time starts when the
//! first version is seen that was written after the outage, because events of a kind arrive in order.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::client::Reply;
use crate::objects::{KINDS, Object, Question, State};

/// From an acknowledged write to the answer: milliseconds, with reserve for a busy machine.
pub const PROPAGATION: Duration = Duration::from_secs(4);
/// From the API server's return until the daemon has read everything: twice the longest backoff, and a list.
pub const AFTER_OUTAGE: Duration = Duration::from_secs(20);

struct Version {
    state: State,
    sent: Instant,
    acknowledged: Option<Instant>,
}

/// An object with its questions and its versions.
pub struct Subject {
    pub object: Object,
    pub questions: Vec<Question>,
    /// For each question the oldest version that may still be visible: after one client saw it, no client may see an older
    /// one.
    floors: Vec<AtomicUsize>,
    versions: Mutex<Vec<Version>>,
}

/// An outage of the API server.
struct Outage {
    gone: Instant,
    back: Option<Instant>,
    /// When a version of each kind was seen that was written after the outage.
    read_again: [Option<Instant>; KINDS],
}

pub struct Truth {
    pub subjects: Vec<Subject>,
    start: Instant,
    outages: Mutex<Vec<Outage>>,
    answers: AtomicU64,
    lags: Mutex<Vec<Duration>>,
    failures: Mutex<Vec<String>>,
}

impl Truth {
    pub fn new(objects: Vec<Object>) -> Self {
        let subject = |object: Object| {
            let questions = object.questions();
            let floors = questions.iter().map(|_| AtomicUsize::new(0)).collect();
            Subject { object, questions, floors, versions: Mutex::default() }
        };
        Self {
            subjects: objects.into_iter().map(subject).collect(),
            start: Instant::now(),
            outages: Mutex::default(),
            answers: AtomicU64::new(0),
            lags: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    pub fn seconds(&self, at: Instant) -> f64 {
        at.duration_since(self.start).as_secs_f64()
    }

    pub fn api_goes(&self) {
        self.outages.lock().unwrap().push(Outage { gone: Instant::now(), back: None, read_again: [None; KINDS] });
    }

    pub fn api_is_back(&self) {
        self.outages.lock().unwrap().last_mut().unwrap().back = Some(Instant::now());
    }

    /// The time until which a version may be visible that is older than a write acknowledged then. None: no limit yet.
    fn seen_by(&self, kind: usize, acknowledged: Instant) -> Option<Instant> {
        let mut by = acknowledged + PROPAGATION;
        for outage in self.outages.lock().unwrap().iter().filter(|outage| acknowledged + PROPAGATION > outage.gone) {
            let read_again = outage.read_again[kind].map_or_else(|| Some(outage.back? + AFTER_OUTAGE), Some)?;
            if acknowledged < read_again {
                by = by.max(read_again + PROPAGATION);
            }
        }
        Some(by)
    }

    /// Records that a version was seen which was sent then.
    fn see(&self, kind: usize, sent: Instant) {
        if let Some(outage) = self.outages.lock().unwrap().last_mut()
            && outage.back.is_some_and(|back| back < sent)
        {
            outage.read_again[kind].get_or_insert_with(Instant::now);
        }
    }

    /// The oldest version that an answer to this question may have if it is asked now.
    pub fn floor(&self, subject: usize, question: usize) -> usize {
        self.subjects[subject].floors[question].load(Ordering::SeqCst)
    }

    /// Checks and records a reply. `asked` and `floor` are those of the moment of the question.
    pub fn note(&self, at: (usize, usize), asked: Instant, floor: usize, reply: Option<&Reply>) {
        let replied = Instant::now();
        self.answers.fetch_add(1, Ordering::Relaxed);
        let subject = &self.subjects[at.0];
        let question = &subject.questions[at.1];
        let kind = subject.object.kind();
        let versions = subject.versions.lock().unwrap();
        let mut possible = Vec::new();
        for (i, version) in versions.iter().enumerate().rev() {
            if version.sent <= replied {
                possible.push((i, version.state));
            }
            let seen_by = version.acknowledged.and_then(|a| self.seen_by(kind, a));
            if i == floor || seen_by.is_some_and(|by| by < asked) {
                break;
            }
        }
        let is_it = |(_, state): &&(usize, State)| reply == Some(&question.reply(*state));
        // A negative answer fits several versions; it only shows that no version before the first of them was visible.
        match (possible.iter().rfind(is_it), possible.iter().find(is_it)) {
            (Some((first, _)), Some((last, _))) => {
                subject.floors[at.1].fetch_max(*first, Ordering::SeqCst);
                self.see(kind, versions[*first].sent);
                let next = versions.get(last + 1).and_then(|next| next.acknowledged);
                self.lags
                    .lock()
                    .unwrap()
                    .push(next.map_or(Duration::ZERO, |next| asked.saturating_duration_since(next)));
            }
            _ => {
                let times = |v: &Version| {
                    let acknowledged = v.acknowledged.map_or("not yet".into(), |a| format!("{:.3} s", self.seconds(a)));
                    format!("{:?} (sent {:.3} s, acknowledged {acknowledged})", v.state, self.seconds(v.sent))
                };
                let recent: Vec<String> = versions.iter().rev().take(8).map(times).collect();
                self.failures.lock().unwrap().push(format!(
                    "{} asked at {:.3} s, replied to at {:.3} s: {reply:?}\n  possible: {possible:?}, none before {floor}\n  \
                     written last: {}",
                    question.text(),
                    self.seconds(asked),
                    self.seconds(replied),
                    recent.join(", "),
                ));
            }
        }
    }

    /// How much was checked, and how long after a write the previous state was still visible.
    pub fn summary(&self) -> String {
        let mut lags = std::mem::take(&mut *self.lags.lock().unwrap());
        lags.sort();
        let lag = |of_1000: usize| lags.get(lags.len() * of_1000 / 1000).copied().unwrap_or_default();
        format!(
            "{} answers checked; older than the last write in 1 of 100 by {:.1?}, in 1 of 1000 by {:.1?}, at most {:.1?}",
            self.answers.load(Ordering::Relaxed),
            lag(990),
            lag(999),
            lags.last().copied().unwrap_or_default()
        )
    }

    /// # Panics
    /// If an answer was wrong.
    pub fn verdict(&self) {
        let failures = self.failures.lock().unwrap();
        let outages: Vec<String> = self
            .outages
            .lock()
            .unwrap()
            .iter()
            .map(|Outage { gone, back, .. }| {
                format!("{:.3} to {:.3} s", self.seconds(*gone), back.map_or(f64::NAN, |b| self.seconds(b)))
            })
            .collect();
        assert!(
            failures.is_empty(),
            "{} of {} answers did not hold when they were given; the API server was away {}; the first:\n{}",
            failures.len(),
            self.answers.load(Ordering::Relaxed),
            outages.join(", "),
            failures.iter().take(5).map(String::as_str).collect::<Vec<_>>().join("\n")
        );
    }
}

impl Subject {
    pub fn state(&self) -> State {
        self.versions.lock().unwrap().last().and_then(|v| v.state)
    }

    /// Records that a version is about to be written.
    pub fn send(&self, state: State) {
        self.versions.lock().unwrap().push(Version { state, sent: Instant::now(), acknowledged: None });
    }

    /// Records that the version was refused and another one is sent instead.
    pub fn send_instead(&self, state: State) {
        self.versions.lock().unwrap().last_mut().unwrap().state = state;
    }

    pub fn acknowledge(&self) {
        self.versions.lock().unwrap().last_mut().unwrap().acknowledged = Some(Instant::now());
    }
}
