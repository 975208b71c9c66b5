//! Follows files and reports their texts when they change.

use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep_until;

use super::inotify::{Unwatched, Watches};
use super::inspect::{self, Place, Text};
use super::tracker::{Decision, FileEvent, Held, Note, Snapshot, Tracker};
use crate::yaml::Error;

/// What happened to the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileChange {
    /// Some texts changed, or the operator confirmed them.
    Texts {
        /// Whether the operator confirmed the files (SIGHUP).
        is_confirmed: bool,
    },
    /// The files that are held back changed ([`FileWatcher::held`]).
    Held,
}

/// Follows some files. While a file is incomplete, its last complete text stays valid.
pub struct FileWatcher {
    watches: Watches,
    files: Vec<Watched>,
    /// The work in progress on another thread.
    work: Option<JoinHandle<Vec<Found>>>,
    /// The last reported value of [`Self::held`].
    reported: Vec<String>,
    /// Whether a limit of inotify is reached, which is logged once.
    is_limited: bool,
}

struct Watched {
    path: PathBuf,
    places: Vec<Place>,
    tracker: Tracker,
    /// None: the file was never complete.
    text: Option<Text>,
}

/// What was found about a file.
struct Found {
    path: PathBuf,
    finding: Finding,
}

enum Finding {
    Snapshot(Snapshot, Vec<Place>),
    /// The text, with the snapshot before it was read; None: the file changed meanwhile.
    Text(Snapshot, Option<Text>),
}

impl FileWatcher {
    /// Follows these files. They need not exist.
    #[must_use]
    pub fn new(files: &[PathBuf]) -> Self {
        let mut this =
            Self { watches: Watches::new(), files: Vec::new(), work: None, reported: Vec::new(), is_limited: false };
        this.set(files);
        this
    }

    /// Follows these files instead. Files that were followed before keep their state.
    pub fn set(&mut self, paths: &[PathBuf]) {
        if self.files.iter().map(|f| &f.path).eq(paths) {
            return;
        }
        let mut old = std::mem::take(&mut self.files);
        for path in paths {
            let known = old.iter().position(|f| f.path == *path).map(|at| old.swap_remove(at));
            self.files.push(known.unwrap_or_else(|| Watched {
                path: path.clone(),
                places: Vec::new(),
                tracker: Tracker::new(Instant::now()),
                text: None,
            }));
        }
        self.watch();
    }

    /// The last complete text of a file. None: it was never complete.
    #[must_use]
    pub fn text(&self, path: &Path) -> Option<&Text> {
        self.files.iter().find(|f| f.path == path)?.text.as_ref()
    }

    /// Declares the texts reported last to be in effect. Later changes are compared with them.
    pub fn mark_applied(&mut self) {
        self.files.iter_mut().for_each(|f| f.tracker.mark_applied());
    }

    /// Records that the operator confirmed all files to be complete as they are.
    pub fn confirm(&mut self) {
        let now = Instant::now();
        self.files.iter_mut().for_each(|f| f.tracker.confirm(now));
    }

    /// The files whose changes are not in effect, and why.
    #[must_use]
    pub fn held(&self) -> Vec<String> {
        let reason = |f: &Watched| Some(format!("{}: {}", f.path.display(), reason(f.tracker.held()?)));
        self.files.iter().filter_map(reason).collect()
    }

    /// Returns when something happened. Cancel-safe.
    pub async fn changed(&mut self) -> FileChange {
        loop {
            if let Some(change) = self.step().await {
                return change;
            }
        }
    }

    /// Returns when this file was complete once.
    ///
    /// # Errors
    /// If the file keeps changing.
    pub async fn wait_complete(&mut self, path: &Path) -> Result<(), Error> {
        while let Some(file) = self.files.iter().find(|f| f.path == path && f.text.is_none()) {
            if file.tracker.held() == Some(Held::Changing) {
                return Err(Error::of_file(path, reason(Held::Changing)));
            }
            self.step().await;
        }
        Ok(())
    }

    /// Does the work that is due, or waits until some is.
    async fn step(&mut self) -> Option<FileChange> {
        self.take_events();
        if let Some(work) = &mut self.work {
            let found = work.await;
            self.work = None;
            // Events up to now come before the result.
            self.take_events();
            // The thread can't panic, and is cancelled only with the daemon.
            return self.found(found.unwrap_or_default());
        }
        let now = Instant::now();
        let due = self.files.iter().filter(|f| f.tracker.due() <= now);
        let due: Vec<_> = due.map(|f| (f.path.clone(), f.tracker.idle())).collect();
        if due.is_empty() {
            let next = self.files.iter().map(|f| f.tracker.due()).min()?;
            tokio::select! {
                () = self.watches.wait() => {}
                () = sleep_until(next.into()) => {}
            }
            return None;
        }
        let snapshot = |(path, idle): (PathBuf, _)| {
            let finding = Finding::Snapshot(inspect::inspect(&path, idle), inspect::places(&path));
            Found { path, finding }
        };
        self.work = Some(spawn_blocking(move || due.into_iter().map(snapshot).collect()));
        None
    }

    fn take_events(&mut self) {
        let now = Instant::now();
        for (file, event) in self.watches.take() {
            if let Some(file) = self.files.get_mut(file) {
                file.tracker.event(event, now);
            }
        }
    }

    /// Acts on the results of the work.
    fn found(&mut self, found: Vec<Found>) -> Option<FileChange> {
        let now = Instant::now();
        let (mut to_read, mut is_confirmed, mut is_new, mut has_moved) = (Vec::new(), false, false, false);
        for Found { path, finding } in found {
            let Some(file) = self.files.iter_mut().find(|f| f.path == path) else { continue };
            match finding {
                // A snapshot counts only if events are delivered for its places; otherwise the file stays due.
                Finding::Snapshot(_, places) if file.places != places => {
                    file.places = places;
                    has_moved = true;
                }
                Finding::Snapshot(snapshot, _) => {
                    if file.tracker.observe(&snapshot, now) == Decision::Read {
                        to_read.push((path, snapshot));
                    }
                }
                // A file that changed while it was read is inspected again.
                Finding::Text(snapshot, Some(text)) if file.tracker.is_read_valid() => {
                    // A writer that wrote nothing new causes no report.
                    let is_same = !file.tracker.is_confirmed()
                        && file.tracker.is_decided(snapshot.state)
                        && matches!((&file.text, &text), (Some(Ok(old)), Ok(new)) if old == new);
                    is_confirmed |= file.tracker.is_confirmed();
                    file.tracker.record_read(&snapshot, now);
                    file.text = Some(text);
                    is_new |= !is_same;
                }
                Finding::Text(..) => file.tracker.record_disturbed(now),
            }
            // Missing events were logged already, with the limit as the reason.
            for note in file.tracker.notes().into_iter().filter(|n| *n != Note::NoEvents || !self.is_limited) {
                log_note(&file.path, note);
            }
        }
        if has_moved || self.watches.is_partial() {
            self.watch();
        }
        if !to_read.is_empty() {
            let read = |(path, snapshot): (PathBuf, Snapshot)| {
                let finding = Finding::Text(snapshot, inspect::read(&path, snapshot.state));
                Found { path, finding }
            };
            self.work = Some(spawn_blocking(move || to_read.into_iter().map(read).collect()));
        }
        let held = self.held();
        let is_other = std::mem::replace(&mut self.reported, held) != self.reported;
        if is_new { Some(FileChange::Texts { is_confirmed }) } else { is_other.then_some(FileChange::Held) }
    }

    fn watch(&mut self) {
        let was_partial = self.watches.is_partial();
        let set = self.watches.set(self.files.iter().map(|f| &*f.places));
        let is_limited = set.as_ref().is_err_and(Unwatched::is_limit);
        let was_limited = std::mem::replace(&mut self.is_limited, is_limited);
        match set {
            Err(e) => {
                let was_logged = if is_limited { was_limited } else { was_partial };
                if !was_logged {
                    log::warn!("{e}: not watched; polling for changes instead");
                }
            }
            // Events before the watch began are lost.
            Ok(()) if was_partial => {
                let now = Instant::now();
                self.files.iter_mut().for_each(|f| f.tracker.event(FileEvent::Unclear, now));
            }
            Ok(()) => {}
        }
    }
}

const fn reason(held: Held) -> &'static str {
    match held {
        Held::Writer => "open for writing for 10 s or more; keeping the previous content until it is closed",
        Held::NoNewline => {
            "its last line has no newline, so it may be half-written; keeping the previous content until it has one, or until \
             SIGHUP confirms it"
        }
        Held::Changing => "keeps changing; try again when it is complete",
    }
}

fn log_note(path: &Path, note: Note) {
    let path = path.display();
    match note {
        Note::Held(held) => log::warn!("{path}: {}", reason(held)),
        Note::WriterGone => log::info!("{path}: no longer open for writing"),
        Note::AssumedComplete => {
            log::warn!(
                "{path}: its last line has no newline, or it is open for writing; read nevertheless: unchanged for 10 s"
            );
        }
        Note::NoEvents => log::warn!(
            "{path}: inotify does not report its changes (a network file system?); polling every 2 s, and reading it when two \
             polls agree"
        ),
    }
}
