//! Follows files, and tells what they say when they say something new.

use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep_until;

use super::inotify::{Unwatched, Watches};
use super::look::{self, Place, Text};
use super::tracker::{Decision, Event, Held, Look, Note, Tracker};
use crate::yaml::Error;

/// What has happened to files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Some say something new.
    Texts {
        /// Whether the operator said that they are to be read.
        meant: bool,
    },
    /// Others are held back than before ([`FileWatcher::held`]).
    Held,
}

/// Follows some files. A file that is not whole counts as what it was when it was so last.
pub struct FileWatcher {
    watches: Watches,
    files: Vec<Watched>,
    /// What goes on in another thread.
    work: Option<JoinHandle<Vec<Found>>>,
    /// What was held back when that was told last.
    told: Vec<String>,
    /// Whether the system has no more of inotify to give, which was said.
    is_limited: bool,
}

struct Watched {
    path: PathBuf,
    places: Vec<Place>,
    tracker: Tracker,
    /// None: it was never whole.
    text: Option<Text>,
}

/// What was found of a file.
struct Found {
    path: PathBuf,
    what: What,
}

enum What {
    Look(Look, Vec<Place>),
    /// With how it looked before; None where it has changed.
    Text(Look, Option<Text>),
}

impl FileWatcher {
    /// Follows these files, whether they are there or not.
    #[must_use]
    pub fn new(files: &[PathBuf]) -> Self {
        let mut this =
            Self { watches: Watches::new(), files: Vec::new(), work: None, told: Vec::new(), is_limited: false };
        this.set(files);
        this
    }

    /// Follows these files instead. What is known of those that were followed before stays.
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

    /// What a file said when it was whole last; None: it never was.
    #[must_use]
    pub fn text(&self, path: &Path) -> Option<&Text> {
        self.files.iter().find(|f| f.path == path)?.text.as_ref()
    }

    /// What was told last is in effect: it is what changes are compared with.
    pub fn in_force(&mut self) {
        self.files.iter_mut().for_each(|f| f.tracker.in_force());
    }

    /// The operator says that all files are whole as they are.
    pub fn mean(&mut self) {
        let now = Instant::now();
        self.files.iter_mut().for_each(|f| f.tracker.mean(now));
    }

    /// Why changes of files are not in effect.
    #[must_use]
    pub fn held(&self) -> Vec<String> {
        let reason = |f: &Watched| Some(format!("{}: {}", f.path.display(), reason(f.tracker.held()?)));
        self.files.iter().filter_map(reason).collect()
    }

    /// Returns when something has happened. May be dropped and called again.
    pub async fn changed(&mut self) -> Change {
        loop {
            if let Some(change) = self.step().await {
                return change;
            }
        }
    }

    /// Returns when this one of the files was whole once.
    ///
    /// # Errors
    /// Where it goes on changing.
    pub async fn whole(&mut self, path: &Path) -> Result<(), Error> {
        while let Some(file) = self.files.iter().find(|f| f.path == path && f.text.is_none()) {
            if file.tracker.held() == Some(Held::Changing) {
                return Err(Error::of_file(path, reason(Held::Changing)));
            }
            self.step().await;
        }
        Ok(())
    }

    /// Does what is due, or waits until something is.
    async fn step(&mut self) -> Option<Change> {
        self.take_events();
        if let Some(work) = &mut self.work {
            let found = work.await;
            self.work = None;
            // What happened until then counts before what was found.
            self.take_events();
            // It can't panic, and ends early only with the daemon.
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
        let look = |(path, idle): (PathBuf, _)| {
            let what = What::Look(look::look(&path, idle), look::places(&path));
            Found { path, what }
        };
        self.work = Some(spawn_blocking(move || due.into_iter().map(look).collect()));
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

    /// Decides by what was found.
    fn found(&mut self, found: Vec<Found>) -> Option<Change> {
        let now = Instant::now();
        let (mut to_read, mut meant, mut is_new, mut has_moved) = (Vec::new(), false, false, false);
        for Found { path, what } in found {
            let Some(file) = self.files.iter_mut().find(|f| f.path == path) else { continue };
            match what {
                // Only what is seen while changes are told counts; it is still due.
                What::Look(_, places) if file.places != places => {
                    file.places = places;
                    has_moved = true;
                }
                What::Look(look, _) => {
                    if file.tracker.looked(&look, now) == Decision::Read {
                        to_read.push((path, look));
                    }
                }
                // What changed while it was read is looked at again.
                What::Text(look, Some(text)) if file.tracker.may_be_taken() => {
                    // Who could write and did not is no news.
                    let is_same = !file.tracker.is_meant()
                        && file.tracker.is_decided(look.state)
                        && matches!((&file.text, &text), (Some(Ok(old)), Ok(new)) if old == new);
                    meant |= file.tracker.is_meant();
                    file.tracker.was_read(&look, now);
                    file.text = Some(text);
                    is_new |= !is_same;
                }
                What::Text(..) => file.tracker.was_disturbed(now),
            }
            // That nothing is told of changes was said, and why.
            for note in file.tracker.notes().into_iter().filter(|n| *n != Note::Unheard || !self.is_limited) {
                say(&file.path, note);
            }
        }
        if has_moved || self.watches.is_partial() {
            self.watch();
        }
        if !to_read.is_empty() {
            let read = |(path, look): (PathBuf, Look)| {
                let what = What::Text(look, look::read(&path, look.state));
                Found { path, what }
            };
            self.work = Some(spawn_blocking(move || to_read.into_iter().map(read).collect()));
        }
        let held = self.held();
        let is_other = std::mem::replace(&mut self.told, held) != self.told;
        if is_new { Some(Change::Texts { meant }) } else { is_other.then_some(Change::Held) }
    }

    fn watch(&mut self) {
        let was_partial = self.watches.is_partial();
        let set = self.watches.set(self.files.iter().map(|f| &*f.places));
        let is_limited = set.as_ref().is_err_and(Unwatched::is_limit);
        let was_limited = std::mem::replace(&mut self.is_limited, is_limited);
        match set {
            Err(e) => {
                let was_told = if is_limited { was_limited } else { was_partial };
                if !was_told {
                    log::warn!("{e}: not watched; changes there are found by looking");
                }
            }
            // What happened in between was not told.
            Ok(()) if was_partial => {
                let now = Instant::now();
                self.files.iter_mut().for_each(|f| f.tracker.event(Event::Unclear, now));
            }
            Ok(()) => {}
        }
    }
}

const fn reason(held: Held) -> &'static str {
    match held {
        Held::Writer => {
            "somebody has had it open for writing for 10 s or more: what it said before stays in effect until that is over"
        }
        Held::NoEnd => {
            "its last line has no end, so it may be half-written: what it said before stays in effect until it ends with a \
             newline, or SIGHUP says that it is meant"
        }
        Held::Changing => "it goes on changing; try again when it is written",
    }
}

fn say(path: &Path, note: Note) {
    let path = path.display();
    match note {
        Note::Held(held) => log::warn!("{path}: {}", reason(held)),
        Note::WriterGone => log::info!("{path}: nobody has it open for writing any more"),
        Note::Trusted => {
            log::warn!(
                "{path}: its last line has no end, or somebody has it open; believed, since it is unchanged for 10 s"
            );
        }
        Note::Unheard => log::warn!(
            "{path}: changes without a word of inotify (a network file system?); looked at every 2 s, and read when two \
             looks are the same"
        ),
    }
}
