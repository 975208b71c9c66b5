//! What held when. A version of an object can be seen from when its write is sent; and until the next one's write was
//! acknowledged and the event had time to arrive. Where the API server was away, that begins when the first version is seen
//! that was written after its return: events of a kind come in order.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::client::Reply;
use crate::objects::{KINDS, Object, Question, State};

/// From an acknowledged write to the answer. It takes milliseconds; but the machine may be busy.
pub const PROPAGATION: Duration = Duration::from_secs(4);
/// From the API server's return to a daemon that has read everything, at most: its longest wait, twice, and a list.
pub const AFTER_OUTAGE: Duration = Duration::from_secs(20);

struct Version {
    state: State,
    sent: Instant,
    acknowledged: Option<Instant>,
}

/// An object, its questions, and what became of it.
pub struct Subject {
    pub object: Object,
    pub questions: Vec<Question>,
    /// For each question the oldest version that may still be seen: nobody sees an older one after somebody saw this.
    floors: Vec<AtomicUsize>,
    versions: Mutex<Vec<Version>>,
}

/// Of the API server.
struct Outage {
    gone: Instant,
    back: Option<Instant>,
    /// When something written since was seen, of each kind.
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

    /// Until when something older than a write that was acknowledged then may be seen; None: for now.
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

    /// A version was seen that was sent then.
    fn see(&self, kind: usize, sent: Instant) {
        if let Some(outage) = self.outages.lock().unwrap().last_mut()
            && outage.back.is_some_and(|back| back < sent)
        {
            outage.read_again[kind].get_or_insert_with(Instant::now);
        }
    }

    /// The oldest version that an answer to this question may be of, when it is asked now.
    pub fn floor(&self, subject: usize, question: usize) -> usize {
        self.subjects[subject].floors[question].load(Ordering::SeqCst)
    }

    /// Notes a reply to a question that was asked at a time, with the floor of then.
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
        // What is absent in several versions tells no more than that it is none before the first of them.
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

    /// How much was checked, and how long after a write the state before it was still seen.
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
    /// Where an answer was none that held.
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

    /// A version is about to be written.
    pub fn send(&self, state: State) {
        self.versions.lock().unwrap().push(Version { state, sent: Instant::now(), acknowledged: None });
    }

    /// The one that was sent is refused, and so another one is sent in its place.
    pub fn send_instead(&self, state: State) {
        self.versions.lock().unwrap().last_mut().unwrap().state = state;
    }

    pub fn acknowledge(&self) {
        self.versions.lock().unwrap().last_mut().unwrap().acknowledged = Some(Instant::now());
    }
}
