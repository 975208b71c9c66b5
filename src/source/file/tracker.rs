//! Decides when a file that other programs write is complete, from inotify events, snapshots and the clock.
//!
//! Nothing here does I/O. A [`Tracker`] takes [`FileEvent`]s and [`Snapshot`]s with the time, and says when to take the next
//! snapshot and when to read the file. A file that was renamed into place is complete at once, unless it still has a writer. A
//! file written in place is complete when all writers have closed it and its last line ends with a newline: a writer that is
//! killed, or finds the disk full, closes the file as well.

use std::time::{Duration, Instant};

/// A snapshot is taken this long after the last event.
const SETTLE: Duration = Duration::from_millis(50);
/// The longest time from the first event to a snapshot.
const SETTLE_MAX: Duration = Duration::from_millis(500);
/// The interval of snapshots while the file has a writer: the kernel notices a close a little later than inotify reports it.
const WRITER_POLL: Duration = Duration::from_millis(500);
/// The interval of snapshots without events, and the time between two equal ones that count.
const POLL: Duration = Duration::from_secs(2);
/// The time between two equal snapshots that count when events may be missing, as at start.
const STARTUP_POLL: Duration = Duration::from_millis(300);
/// A file that was modified this long ago is no longer being written.
const QUIESCENT: Duration = Duration::from_secs(10);
/// A file that became shorter or empty is read only after this time without events, because writers truncate a file before
/// they write it.
const SHRINK_WAIT: Duration = Duration::from_secs(1);
/// A writer that stays longer is logged.
const WRITER_LOGGED: Duration = Duration::from_secs(10);

/// Identifies one state of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Device and inode number.
    pub inode: (u64, u64),
    /// Bytes.
    pub size: u64,
    /// Modification time: seconds and nanoseconds.
    pub modified: (i64, i64),
}

/// The state of a file. None: the file does not exist.
pub type FileState = Option<Stat>;

/// What one inspection of a file found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// When the inspection began.
    pub taken: Instant,
    /// None: the file does not exist.
    pub state: FileState,
    /// Time since the last modification, by the system's clock.
    pub age: Duration,
    /// Whether the path goes through a link that is replaced as a whole, like that of a ConfigMap.
    pub is_swapped: bool,
    /// Whether the last line ends with a newline.
    pub has_newline: bool,
    /// Whether a process has the file open for writing. None: unknown.
    pub has_writer: Option<bool>,
}

/// What inotify reports about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileEvent {
    /// The file, or a link on its path, was renamed into place.
    Renamed,
    /// The content changed, or the file was created.
    Written,
    /// A writer closed the file.
    Closed,
    /// The attributes changed, which may be the modification time.
    Touched,
    /// The file was removed or linked, or events were lost.
    Unclear,
}

/// The way in which the current state came about, if it was not decided on yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Renamed,
    InPlace,
    /// Unknown: it is from before the start, or events were lost.
    Unknown,
    /// It changed without an event.
    Unreported,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Take another snapshot when it is due.
    Wait,
    /// Read the file if it is still in the state of the snapshot.
    Read,
}

/// Why the content of a file is not in effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// It has had a writer for long.
    Writer,
    /// The last line does not end with a newline.
    NoNewline,
    /// It keeps changing, and was never read.
    Changing,
}

/// What to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Note {
    /// The file is held back from now on.
    Held(Held),
    /// The writer that was logged closed the file.
    WriterGone,
    /// The file was read although it does not end with a newline or has a writer, as it has not changed for long.
    AssumedComplete,
    /// The file changes without events.
    NoEvents,
}

/// The version in effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    inode: (u64, u64),
    size: u64,
    has_newline: bool,
}

/// The state of a file that is followed.
#[derive(Debug)]
pub(super) struct Tracker {
    applied: Option<Version>,
    /// The version read last, which may come into effect.
    read: Option<Version>,
    /// The state decided on last.
    decided: Option<FileState>,
    origin: Option<Origin>,
    /// Whether the file was written since the last decision, even if its state is the same.
    is_modified: bool,
    /// Since when the file has had a writer.
    writing: Option<Instant>,
    /// The first and last event since the last snapshot.
    events: Option<(Instant, Instant)>,
    last_event: Instant,
    /// The state of the last snapshot, and since when it has been the same.
    unchanged: Option<(FileState, Instant)>,
    started: Instant,
    due: Instant,
    /// Whether the file was read once.
    has_been_read: bool,
    is_confirmed: bool,
    is_unreported_logged: bool,
    held: Option<Held>,
    notes: Vec<Note>,
}

impl Tracker {
    /// A file that was not inspected yet.
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            applied: None,
            read: None,
            decided: None,
            origin: Some(Origin::Unknown),
            is_modified: false,
            writing: None,
            events: None,
            last_event: now,
            unchanged: None,
            started: now,
            due: now,
            has_been_read: false,
            is_confirmed: false,
            is_unreported_logged: false,
            held: None,
            notes: Vec::new(),
        }
    }

    /// When to take the next snapshot.
    pub(super) const fn due(&self) -> Instant {
        self.due
    }

    /// Why the file is held back. None: it is not.
    pub(super) const fn held(&self) -> Option<Held> {
        self.held
    }

    /// Takes the notes to log.
    pub(super) fn notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// Records that the operator confirmed the file to be complete as it is.
    pub(super) const fn confirm(&mut self, now: Instant) {
        self.is_confirmed = true;
        self.due = now;
    }

    /// The state that needs no decision. None: every state does.
    pub(super) fn idle(&self) -> Option<FileState> {
        self.decided.filter(|_| self.origin.is_none() && !self.is_confirmed)
    }

    /// Whether a text read after the last snapshot is valid, given the events since. For a confirmed file only writes
    /// invalidate it.
    pub(super) const fn is_read_valid(&self) -> bool {
        self.events.is_none() || self.is_confirmed && self.writing.is_none()
    }

    /// Whether the operator confirmed the file, and it was not read since.
    pub(super) const fn is_confirmed(&self) -> bool {
        self.is_confirmed
    }

    /// Records an event.
    pub(super) fn event(&mut self, event: FileEvent, now: Instant) {
        // Writers that wrote before the watch began are unknown.
        let in_place = if self.has_been_read { Origin::InPlace } else { Origin::Unknown };
        match event {
            FileEvent::Renamed => {
                self.origin = Some(Origin::Renamed);
                self.no_writer();
            }
            FileEvent::Written => {
                self.origin = Some(in_place);
                self.is_modified = true;
                self.writing.get_or_insert(now);
            }
            FileEvent::Closed => {
                self.no_writer();
                // A write by mmap(2) causes no event before the close, and on some file systems no new modification time.
                self.is_modified = true;
                if self.origin != Some(Origin::Renamed) {
                    self.origin = Some(in_place);
                }
            }
            FileEvent::Touched => {
                self.origin.get_or_insert(in_place);
            }
            FileEvent::Unclear => self.origin = Some(Origin::Unknown),
        }
        let first = self.events.map_or(now, |(first, _)| first);
        self.events = Some((first, now));
        self.last_event = now;
        // A confirmed file waits only for a writer.
        let is_urgent = self.is_confirmed && self.writing.is_none();
        self.due = if is_urgent { now } else { (now + SETTLE).min(first + SETTLE_MAX) };
    }

    /// Decides after a snapshot. [`Self::notes`] has what to log then.
    pub(super) fn observe(&mut self, snapshot: &Snapshot, now: Instant) -> Decision {
        self.events = None;
        if snapshot.state.is_none() && self.last_event > snapshot.taken {
            // Events after the snapshot may report a new file and its writer.
            return self.wait(now, SETTLE);
        }
        let was_seen = self.unchanged.is_some();
        let since = match self.unchanged {
            Some((state, since)) if state == snapshot.state => since,
            _ => now,
        };
        self.unchanged = Some((snapshot.state, since));
        let is_reported = self.origin.is_some();
        if !is_reported && self.decided != Some(snapshot.state) {
            self.origin = Some(Origin::Unreported);
        }
        if self.is_confirmed {
            return self.decide_confirmed(snapshot, now - since, now);
        }
        let Some(origin) = self.origin.filter(|_| is_reported) else {
            // The event may arrive later.
            return self.wait(now, POLL);
        };
        if self.decided == Some(snapshot.state) && !self.is_modified && origin != Origin::Renamed {
            self.origin = None;
            return self.wait(now, POLL);
        }
        let Some(state) = snapshot.state else {
            self.no_writer();
            return if origin == Origin::Unreported && now - since < POLL {
                self.wait(now, POLL)
            } else {
                Decision::Read
            };
        };
        match origin {
            Origin::Renamed if snapshot.has_writer == Some(true) => {
                // It was renamed too early, or moved away and back. From here on it is written in place.
                self.origin = Some(Origin::InPlace);
                self.is_modified = true;
                self.decide_in_place(snapshot, state, now)
            }
            Origin::Renamed => Decision::Read,
            Origin::InPlace => self.decide_in_place(snapshot, state, now),
            Origin::Unknown | Origin::Unreported => {
                self.decide_unreported(origin, snapshot, state, now - since, now, was_seen && since == now)
            }
        }
    }

    /// Decides on a confirmed file. It needs no final newline, but a file that is still being written is not read.
    fn decide_confirmed(&mut self, snapshot: &Snapshot, unchanged: Duration, now: Instant) -> Decision {
        if snapshot.state.is_none() {
            self.no_writer();
        }
        // If events were lost, the writer may have closed the file without a known event.
        let is_quiescent =
            self.origin == Some(Origin::Unknown) && snapshot.has_writer.is_none() && snapshot.age >= QUIESCENT;
        if !is_quiescent && self.is_written(snapshot, now) {
            return self.wait(now, WRITER_POLL);
        }
        let is_unreported = match self.origin {
            Some(Origin::Unknown) => snapshot.state.is_some() && !is_quiescent,
            Some(Origin::Unreported) => true,
            _ => false,
        };
        if is_unreported && snapshot.has_writer.is_none() && !snapshot.is_swapped && unchanged < POLL {
            return self.wait(now, POLL - unchanged);
        }
        Decision::Read
    }

    /// Decides on a file that was written in place, with events for each change.
    fn decide_in_place(&mut self, snapshot: &Snapshot, state: Stat, now: Instant) -> Decision {
        if self.is_written(snapshot, now) {
            return self.wait(now, WRITER_POLL);
        }
        let quiet = now - self.last_event;
        if self.applied.is_some_and(|v| state.size < v.size) && quiet < SHRINK_WAIT {
            return self.wait(now, SHRINK_WAIT - quiet);
        }
        if !snapshot.has_newline && self.applied.is_none_or(|v| v.has_newline) {
            self.hold(state, now)
        } else {
            Decision::Read
        }
    }

    /// Decides on a file without events, by how long it has not changed.
    fn decide_unreported(
        &mut self,
        origin: Origin,
        snapshot: &Snapshot,
        state: Stat,
        unchanged: Duration,
        now: Instant,
        is_changed: bool,
    ) -> Decision {
        if snapshot.is_swapped {
            return Decision::Read;
        }
        // Inotify does not report writes by mmap(2) or through another name of the file. The kernel knows the writer.
        if origin == Origin::Unreported && snapshot.has_writer.is_some() && self.is_written(snapshot, now) {
            return self.wait(now, WRITER_POLL);
        }
        // A different inode: the file was renamed into place or created again.
        let same = self.applied.filter(|v| v.inode == state.inode);
        let quiet = snapshot.age.max(unchanged);
        let equal = if origin == Origin::Unreported { POLL } else { STARTUP_POLL };
        let is_quiescent = origin == Origin::Unknown && snapshot.age >= QUIESCENT;
        if same.is_some_and(|v| state.size < v.size) && quiet < SHRINK_WAIT {
            return self.wait(now, SHRINK_WAIT);
        }
        if same.is_some_and(|v| v.has_newline) && !snapshot.has_newline && (is_quiescent || unchanged >= equal) {
            return self.hold(state, now);
        }
        // Leases on network file systems reflect writers on this node only.
        let is_written = origin == Origin::Unknown && !is_quiescent && self.is_written(snapshot, now);
        let is_complete = unchanged >= equal && snapshot.has_newline && !is_written;
        if is_quiescent || is_complete || quiet >= QUIESCENT {
            if !is_complete && !unchanged.is_zero() {
                self.notes.push(Note::AssumedComplete);
            }
            if origin == Origin::Unreported && !std::mem::replace(&mut self.is_unreported_logged, true) {
                self.notes.push(Note::NoEvents);
            }
            return Decision::Read;
        }
        if is_changed && now - self.started >= QUIESCENT && !self.has_been_read {
            self.set_held(Held::Changing);
        }
        self.wait(now, equal)
    }

    /// Whether the file has a writer. Logs one that stays for long.
    fn is_written(&mut self, snapshot: &Snapshot, now: Instant) -> bool {
        if !snapshot.has_writer.unwrap_or(self.writing.is_some()) {
            self.no_writer();
            return false;
        }
        let since = *self.writing.get_or_insert(now);
        if now - since >= WRITER_LOGGED && self.held != Some(Held::Changing) {
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

    /// Holds a file back that seems incomplete.
    fn hold(&mut self, state: Stat, now: Instant) -> Decision {
        self.set_held(Held::NoNewline);
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

    fn decide(&mut self, state: FileState) {
        self.decided = Some(state);
        self.origin = None;
        self.is_modified = false;
    }

    /// Whether this state was decided on last.
    pub(super) fn is_decided(&self, state: FileState) -> bool {
        self.decided == Some(state)
    }

    /// Records that the file was read, and was in the state of the snapshot all the time.
    pub(super) fn record_read(&mut self, snapshot: &Snapshot, now: Instant) {
        self.decide(snapshot.state);
        self.has_been_read = true;
        self.is_confirmed = false;
        self.held = None;
        self.writing = None;
        self.read = snapshot.state.map(|s| Version { inode: s.inode, size: s.size, has_newline: snapshot.has_newline });
        self.due = now + POLL;
    }

    /// Records that the file changed while it was read.
    pub(super) fn record_disturbed(&mut self, now: Instant) {
        self.due = self.due.max(now + SETTLE);
    }

    /// Records that the version read last is in effect.
    pub(super) const fn mark_applied(&mut self) {
        self.applied = self.read;
    }
}

#[cfg(test)]
mod tests;
