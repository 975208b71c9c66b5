//! When a file is whole: what is believed of a file that others write, by what inotify tells, how it looks, and the clock.
//!
//! Nothing here does I/O. A [`Tracker`] takes [`Event`]s and [`Look`]s with the time, and says when to look next and when to
//! read. What replaced the file is whole at once, unless its writer has it open yet. What was written in place is whole when its
//! writers have closed it, and if its last line has an end: writers that are killed, or find the disk full, close too.

use std::time::{Duration, Instant};

/// Without a further event for so long, what happened is looked at.
const SETTLE: Duration = Duration::from_millis(50);
/// And after so long in any case.
const SETTLE_MAX: Duration = Duration::from_millis(500);
/// Between looks while a writer is there: the kernel knows of a close a little later than inotify tells it.
const WRITING: Duration = Duration::from_millis(500);
/// Between looks at a file of which nothing is told, and between two equal ones of it that count.
const POLL: Duration = Duration::from_secs(2);
/// Between two equal looks that count where events may be missing, as at start.
const EQUAL: Duration = Duration::from_millis(300);
/// Nobody writes any more what was changed so long ago.
const OLD: Duration = Duration::from_secs(10);
/// How long a file has to stay empty or shorter, which writers make it before they write.
const SHRUNK: Duration = Duration::from_secs(1);
/// Writers that stay longer are named.
const LONG: Duration = Duration::from_secs(10);

/// What tells one state of a file from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Device and inode.
    pub inode: (u64, u64),
    /// Octets.
    pub size: u64,
    /// Seconds and nanoseconds.
    pub modified: (i64, i64),
}

/// How a file looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// None: it is not there.
    pub state: Option<State>,
    /// Since it was modified, by the system's clock.
    pub age: Duration,
    /// Whether its path goes through a link that is replaced as a whole, as a ConfigMap's does.
    pub swapped: bool,
    /// Whether its last line has an end.
    pub ends: bool,
    /// Whether somebody has it open for writing; None: the kernel does not tell.
    pub writer: Option<bool>,
}

/// What inotify tells of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A rename put it there, or a link on its path.
    Renamed,
    /// Its content was changed, or it was made.
    Written,
    /// Who could write has closed it.
    Closed,
    /// Its attributes were changed, the time of its last change among them.
    Touched,
    /// It was removed or linked, or events were lost.
    Unclear,
}

/// How the present state came about, where that was not decided on yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Renamed,
    InPlace,
    /// Events don't tell: at start, and after some were lost.
    Unknown,
    /// It changed, and no event came.
    Unheard,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Look again when it is due.
    Wait,
    /// Read it, if it still is what was looked at.
    Read,
}

/// Why what a file says is not in effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// A writer has it open for long.
    Writer,
    /// Its last line has no end.
    NoEnd,
    /// It goes on changing, and was never read.
    Changing,
}

/// What the log is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Note {
    /// It is held back from now on.
    Held(Held),
    /// The writer that was named is gone.
    WriterGone,
    /// It was read though its last line has no end, or somebody has it open: nobody has changed it for long.
    Trusted,
    /// It changes without events.
    Unheard,
}

/// The version in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    inode: (u64, u64),
    size: u64,
    ends: bool,
}

/// What is known of a file.
#[derive(Debug)]
pub(super) struct Tracker {
    force: Option<Version>,
    /// What was read last, and may come into force.
    read: Option<Version>,
    /// The state that was decided on last.
    decided: Option<Option<State>>,
    how: Option<How>,
    /// Whether it was written since it was decided on, also where its state does not show it.
    is_modified: bool,
    /// Since when somebody writes.
    writing: Option<Instant>,
    /// The first and the last event that were not looked at.
    events: Option<(Instant, Instant)>,
    last_event: Instant,
    /// The last look's state, and since when looks have shown it.
    steady: Option<(Option<State>, Instant)>,
    begun: Instant,
    due: Instant,
    /// Whether it was read once.
    is_started: bool,
    is_meant: bool,
    is_unheard: bool,
    held: Option<Held>,
    notes: Vec<Note>,
}

impl Tracker {
    /// Of a file that was not looked at yet.
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            force: None,
            read: None,
            decided: None,
            how: Some(How::Unknown),
            is_modified: false,
            writing: None,
            events: None,
            last_event: now,
            steady: None,
            begun: now,
            due: now,
            is_started: false,
            is_meant: false,
            is_unheard: false,
            held: None,
            notes: Vec::new(),
        }
    }

    /// When to look.
    pub(super) const fn due(&self) -> Instant {
        self.due
    }

    /// Why it is held back, where it is.
    pub(super) const fn held(&self) -> Option<Held> {
        self.held
    }

    /// What is to be said now.
    pub(super) fn notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// The operator says that it is whole as it is.
    pub(super) const fn mean(&mut self, now: Instant) {
        self.is_meant = true;
        self.due = now;
    }

    /// The state in which there is nothing to decide on, where it was decided on.
    pub(super) fn idle(&self) -> Option<Option<State>> {
        self.decided.filter(|_| self.how.is_none() && !self.is_meant)
    }

    /// Whether what was read after the last look counts, by the events that came since. What is meant may be touched meanwhile.
    pub(super) const fn may_be_taken(&self) -> bool {
        self.events.is_none() || self.is_meant && self.writing.is_none()
    }

    /// Whether the operator said so, and it was not read since.
    pub(super) const fn is_meant(&self) -> bool {
        self.is_meant
    }

    /// Takes note of an event.
    pub(super) fn event(&mut self, event: Event, now: Instant) {
        // Who wrote before the watch began is not known.
        let in_place = if self.is_started { How::InPlace } else { How::Unknown };
        match event {
            Event::Renamed => {
                self.how = Some(How::Renamed);
                self.no_writer();
            }
            Event::Written => {
                self.how = Some(in_place);
                self.is_modified = true;
                self.writing.get_or_insert(now);
            }
            Event::Closed => {
                self.no_writer();
                // Who wrote by mmap(2) told nothing before, and on some file systems the time of the change stays, too.
                self.is_modified = true;
                if self.how != Some(How::Renamed) {
                    self.how = Some(in_place);
                }
            }
            Event::Touched => {
                self.how.get_or_insert(in_place);
            }
            Event::Unclear => self.how = Some(How::Unknown),
        }
        let first = self.events.map_or(now, |(first, _)| first);
        self.events = Some((first, now));
        self.last_event = now;
        // What is meant is waited for only while somebody writes.
        let is_urgent = self.is_meant && self.writing.is_none();
        self.due = if is_urgent { now } else { (now + SETTLE).min(first + SETTLE_MAX) };
    }

    /// Decides by a look; what it has to say is in [`Self::notes`].
    pub(super) fn looked(&mut self, look: &Look, now: Instant) -> Decision {
        self.events = None;
        let was_seen = self.steady.is_some();
        let since = match self.steady {
            Some((state, since)) if state == look.state => since,
            _ => now,
        };
        self.steady = Some((look.state, since));
        let is_told = self.how.is_some();
        if !is_told && self.decided != Some(look.state) {
            self.how = Some(How::Unheard);
        }
        if self.is_meant {
            return self.meant(look, now - since, now);
        }
        let Some(how) = self.how.filter(|_| is_told) else {
            // Not told of: an event may come yet.
            return self.wait(now, POLL);
        };
        if self.decided == Some(look.state) && !self.is_modified && how != How::Renamed {
            self.how = None;
            return self.wait(now, POLL);
        }
        let Some(state) = look.state else {
            self.no_writer();
            return if how == How::Unheard && now - since < POLL { self.wait(now, POLL) } else { Decision::Read };
        };
        match how {
            How::Renamed if look.writer == Some(true) => {
                // Renamed too early, or moved away and back meanwhile: it is written in place from here on.
                self.how = Some(How::InPlace);
                self.is_modified = true;
                self.in_place(look, state, now)
            }
            How::Renamed => Decision::Read,
            How::InPlace => self.in_place(look, state, now),
            How::Unknown | How::Unheard => self.untold(how, look, state, now - since, now, was_seen && since == now),
        }
    }

    /// What is meant needs no end of its last line; but nobody means the half of what somebody writes just now.
    fn meant(&mut self, look: &Look, steady: Duration, now: Instant) -> Decision {
        if look.state.is_none() {
            self.no_writer();
        }
        // Who wrote before events were lost may be gone without a word.
        let is_old = self.how == Some(How::Unknown) && look.writer.is_none() && look.age >= OLD;
        if !is_old && self.is_written(look, now) {
            return self.wait(now, WRITING);
        }
        let is_untold = match self.how {
            Some(How::Unknown) => look.state.is_some() && !is_old,
            Some(How::Unheard) => true,
            _ => false,
        };
        if is_untold && look.writer.is_none() && !look.swapped && steady < POLL {
            return self.wait(now, POLL - steady);
        }
        Decision::Read
    }

    /// It was written, and by events it is known when.
    fn in_place(&mut self, look: &Look, state: State, now: Instant) -> Decision {
        if self.is_written(look, now) {
            return self.wait(now, WRITING);
        }
        let quiet = now - self.last_event;
        if self.force.is_some_and(|f| state.size < f.size) && quiet < SHRUNK {
            return self.wait(now, SHRUNK - quiet);
        }
        if !look.ends && self.force.is_none_or(|f| f.ends) { self.hold(state, now) } else { Decision::Read }
    }

    /// How it changed is not known, but for how long it has not.
    fn untold(
        &mut self,
        how: How,
        look: &Look,
        state: State,
        steady: Duration,
        now: Instant,
        is_changed: bool,
    ) -> Decision {
        if look.swapped {
            return Decision::Read;
        }
        // Inotify does not tell who writes by mmap(2) or by another name of the file; the kernel does.
        if how == How::Unheard && look.writer.is_some() && self.is_written(look, now) {
            return self.wait(now, WRITING);
        }
        // Another file in its place was renamed, or made anew.
        let same = self.force.filter(|f| f.inode == state.inode);
        let quiet = look.age.max(steady);
        let equal = if how == How::Unheard { POLL } else { EQUAL };
        let is_old = how == How::Unknown && look.age >= OLD;
        if same.is_some_and(|f| state.size < f.size) && quiet < SHRUNK {
            return self.wait(now, SHRUNK);
        }
        if same.is_some_and(|f| f.ends) && !look.ends && (is_old || steady >= equal) {
            return self.hold(state, now);
        }
        // Locks and leases of network file systems tell of their own clients.
        let is_written = how == How::Unknown && !is_old && self.is_written(look, now);
        let is_whole = steady >= equal && look.ends && !is_written;
        if is_old || is_whole || quiet >= OLD {
            if !is_whole && !steady.is_zero() {
                self.notes.push(Note::Trusted);
            }
            if how == How::Unheard && !std::mem::replace(&mut self.is_unheard, true) {
                self.notes.push(Note::Unheard);
            }
            return Decision::Read;
        }
        if is_changed && now - self.begun >= OLD && !self.is_started {
            self.set_held(Held::Changing);
        }
        self.wait(now, equal)
    }

    /// Whether a writer is there; names one that stays long.
    fn is_written(&mut self, look: &Look, now: Instant) -> bool {
        if !look.writer.unwrap_or(self.writing.is_some()) {
            self.no_writer();
            return false;
        }
        let since = *self.writing.get_or_insert(now);
        if now - since >= LONG && self.held != Some(Held::Changing) {
            self.set_held(Held::Writer);
        }
        true
    }

    fn no_writer(&mut self) {
        self.writing = None;
        if self.held == Some(Held::Writer) {
            self.held = None;
            self.notes.push(Note::WriterGone);
        }
    }

    /// Half a file, for all that can be told.
    fn hold(&mut self, state: State, now: Instant) -> Decision {
        self.set_held(Held::NoEnd);
        self.decide(Some(state));
        self.wait(now, POLL)
    }

    fn set_held(&mut self, held: Held) {
        if self.held.replace(held) != Some(held) {
            self.notes.push(Note::Held(held));
        }
    }

    fn wait(&mut self, now: Instant, time: Duration) -> Decision {
        self.due = now + time;
        Decision::Wait
    }

    fn decide(&mut self, state: Option<State>) {
        self.decided = Some(state);
        self.how = None;
        self.is_modified = false;
    }

    /// Whether this is the state that was decided on last.
    pub(super) fn is_decided(&self, state: Option<State>) -> bool {
        self.decided == Some(state)
    }

    /// It was read, and was all the while what was looked at.
    pub(super) fn was_read(&mut self, look: &Look, now: Instant) {
        self.decide(look.state);
        self.is_started = true;
        self.is_meant = false;
        self.held = None;
        self.writing = None;
        self.read = look.state.map(|s| Version { inode: s.inode, size: s.size, ends: look.ends });
        self.due = now + POLL;
    }

    /// It changed meanwhile.
    pub(super) fn was_disturbed(&mut self, now: Instant) {
        self.due = self.due.max(now + SETTLE);
    }

    /// What was read last is in effect.
    pub(super) const fn in_force(&mut self) {
        self.force = self.read;
    }
}

#[cfg(test)]
mod tests;
