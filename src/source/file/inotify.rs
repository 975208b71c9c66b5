//! What inotify tells of files.
//!
//! Folders are watched, not files: editors replace a file, and a ConfigMap's files are symbolic links into a folder that is
//! replaced by another one, which shows beside them only.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::future::pending;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::look::Place;
use super::tracker::Event;

/// Room for some tens of events.
const BUFFER: usize = 4096;

/// Why a place is not watched.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unwatched {
    /// As a rule it is not there.
    #[error("{folder}: {1}", folder = .0.display())]
    Folder(PathBuf, #[source] io::Error),
    /// All that this user may watch is watched, by other programs.
    #[error("{folder}: {1}: raise fs.inotify.max_user_watches (sysctl)", folder = .0.display())]
    Watches(PathBuf, #[source] io::Error),
    /// Nothing is.
    #[error("config and static names: inotify: {0}: raise fs.inotify.max_user_instances (sysctl)")]
    Instances(#[source] io::Error),
}

impl Unwatched {
    /// Whether the system has no more of it to give.
    pub(super) const fn is_limit(&self) -> bool {
        matches!(self, Self::Watches(..) | Self::Instances(_))
    }
}

/// Watches the places at which files can change.
pub(super) struct Watches {
    /// None while the system has none to give.
    inotify: Option<AsyncFd<Inotify>>,
    folders: HashMap<WatchDescriptor, PathBuf>,
    /// The files, by their numbers, that a name in a folder belongs to.
    names: HashMap<(WatchDescriptor, OsString), Vec<usize>>,
    /// Other files of these folders, too, that were written and not closed since: they may be renamed.
    written: HashSet<(WatchDescriptor, OsString)>,
    /// The last of them that was moved away, by the number that its arrival bears, too. That may be read later.
    moved: Option<u32>,
    /// Whether a folder is not watched that should be: it may come yet.
    is_partial: bool,
}

impl Watches {
    /// Watches nothing yet.
    pub(super) fn new() -> Self {
        Self {
            inotify: None,
            folders: HashMap::new(),
            names: HashMap::new(),
            written: HashSet::new(),
            moved: None,
            is_partial: false,
        }
    }

    fn open() -> io::Result<AsyncFd<Inotify>> {
        // SAFETY: it owns its descriptor, and closes it when it is dropped, not before.
        let inotify = unsafe { AsyncFd::register_with_interest(Inotify::init()?, Interest::READABLE) };
        Ok(inotify?)
    }

    /// Watches these places, of files by their numbers, and no others. Folders that were watched before are without a gap.
    ///
    /// # Errors
    /// Where a folder is not there, or the system has no more watches to give; the others are watched. Where it has not even an
    /// inotify to give, none is.
    pub(super) fn set<'a>(&mut self, files: impl Iterator<Item = &'a [Place]>) -> Result<(), Unwatched> {
        self.is_partial = true;
        let inotify = match &self.inotify {
            Some(inotify) => inotify,
            None => self.inotify.insert(Self::open().map_err(Unwatched::Instances)?),
        };
        let mask = WatchMask::MODIFY
            | WatchMask::CLOSE_WRITE
            | WatchMask::ATTRIB
            | WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::MOVE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            // Who writes on to what was replaced is nobody's concern.
            | WatchMask::EXCL_UNLINK;
        let old = std::mem::take(&mut self.folders);
        self.names.clear();
        let mut done = Ok(());
        for (file, places) in files.enumerate() {
            for (folder, name) in places {
                match inotify.get_ref().watches().add(folder, mask) {
                    Ok(watch) => {
                        self.folders.insert(watch.clone(), folder.clone());
                        self.names.entry((watch, name.clone())).or_default().push(file);
                    }
                    Err(e) if e.raw_os_error() == Some(libc::ENOSPC) => {
                        done = Err(Unwatched::Watches(folder.clone(), e));
                    }
                    Err(e) => done = done.and(Err(Unwatched::Folder(folder.clone(), e))),
                }
            }
        }
        for watch in old.into_keys().filter(|w| !self.folders.contains_key(w)) {
            // It fails where the folder is gone.
            let _ = inotify.get_ref().watches().remove(watch);
        }
        self.written.retain(|(watch, _)| self.folders.contains_key(watch));
        self.is_partial = done.is_err();
        done
    }

    /// Whether a folder is not watched, since it is or was not there, or the system has no more to give.
    pub(super) const fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// Returns when there are events; never, where none are told.
    pub(super) async fn wait(&mut self) {
        let Some(inotify) = &mut self.inotify else { return pending().await };
        // Only a closed descriptor fails.
        if let Ok(mut ready) = inotify.readable_mut().await {
            ready.clear_ready();
        }
    }

    /// The events that came since, with the numbers of their files.
    pub(super) fn take(&mut self) -> Vec<(usize, Event)> {
        let mut events = Vec::new();
        let mut buffer = [0; BUFFER];
        let Some(inotify) = &mut self.inotify else { return events };
        loop {
            let Ok(read) = inotify.get_mut().read_events(&mut buffer) else { return events };
            let before = events.len();
            let mut is_empty = true;
            for event in read {
                is_empty = false;
                let of_watch = |files: &Vec<usize>| files.clone();
                if event.mask.contains(EventMask::Q_OVERFLOW) {
                    self.written.clear();
                    events.extend(self.names.values().flatten().map(|file| (*file, Event::Unclear)));
                } else if let Some(name) = event.name {
                    let key = (event.wd, name.to_owned());
                    let Some(folder) = self.folders.get(&key.0) else { continue };
                    let Some(kind) = kind(event.mask, &folder.join(name)) else { continue };
                    let files = self.names.get(&key).map(of_watch).unwrap_or_default();
                    let was_written = self.written.remove(&key);
                    let is_written = match kind {
                        // What is linked there has no writer (O_TMPFILE), and who creates a file writes it next.
                        Event::Written => event.mask.contains(EventMask::MODIFY),
                        Event::Touched => was_written,
                        Event::Renamed => self.moved.take() == Some(event.cookie),
                        Event::Closed | Event::Unclear => false,
                    };
                    if event.mask.contains(EventMask::MOVED_FROM) {
                        self.moved = was_written.then_some(event.cookie);
                    }
                    for file in files {
                        events.push((file, kind));
                        if kind == Event::Renamed && is_written {
                            events.push((file, Event::Written));
                        }
                    }
                    if is_written {
                        self.written.insert(key);
                    }
                } else {
                    // Of the folder itself: it is removed or moved away.
                    let files = self.names.iter().filter(|((watch, _), _)| *watch == event.wd).flat_map(|(_, f)| f);
                    events.extend(files.map(|file| (*file, Event::Unclear)));
                    self.is_partial |= self.folders.contains_key(&event.wd) && !event.mask.contains(EventMask::ATTRIB);
                }
            }
            log::trace!("inotify: {:?}", &events[before..]);
            if is_empty {
                return events;
            }
        }
    }
}

fn kind(mask: EventMask, path: &Path) -> Option<Event> {
    // Links are not closed.
    let is_link = || path.symlink_metadata().is_ok_and(|m| m.is_symlink() || m.nlink() > 1);
    Some(if mask.contains(EventMask::MOVED_TO) {
        Event::Renamed
    } else if mask.contains(EventMask::MODIFY) {
        Event::Written
    } else if mask.contains(EventMask::CREATE) {
        if is_link() { Event::Unclear } else { Event::Written }
    } else if mask.contains(EventMask::CLOSE_WRITE) {
        Event::Closed
    } else if mask.contains(EventMask::ATTRIB) {
        Event::Touched
    } else if mask.intersects(EventMask::DELETE | EventMask::MOVED_FROM) {
        Event::Unclear
    } else {
        return None;
    })
}
