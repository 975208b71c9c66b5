//! Watches the folders of files by inotify.
//!
//! Folders are watched instead of files: editors replace a file, and a ConfigMap's files are symbolic links through a link in
//! the same folder, which the kubelet replaces.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::future::pending;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::inspect::Place;
use super::tracker::FileEvent;

/// The size of the buffer for events: room for some tens of them.
const BUFFER: usize = 4096;

/// Why a folder is not watched.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unwatched {
    /// Most often the folder does not exist.
    #[error("{folder}: {1}", folder = .0.display())]
    Folder(PathBuf, #[source] io::Error),
    /// The user's limit of watches is reached.
    #[error("{folder}: {1}: raise fs.inotify.max_user_watches (sysctl)", folder = .0.display())]
    Watches(PathBuf, #[source] io::Error),
    /// The user's limit of inotify instances is reached.
    #[error("config and static names: inotify: {0}: raise fs.inotify.max_user_instances (sysctl)")]
    Instances(#[source] io::Error),
}

impl Unwatched {
    /// Whether a limit is reached.
    pub(super) const fn is_limit(&self) -> bool {
        matches!(self, Self::Watches(..) | Self::Instances(_))
    }
}

/// Watches the folders in which files can change.
pub(super) struct Watches {
    /// None while the limit of instances is reached.
    inotify: Option<AsyncFd<Inotify>>,
    folders: HashMap<WatchDescriptor, PathBuf>,
    /// The files (by index) that a name in a folder belongs to.
    names: HashMap<(WatchDescriptor, OsString), Vec<usize>>,
    /// Names in these folders that were written and not closed since. Other files than the followed ones are included, because
    /// a rename may turn one into a followed file.
    written: HashSet<(WatchDescriptor, OsString)>,
    /// The inotify cookie of the last of them that was moved away. The event of its arrival has the same cookie and may be
    /// read later.
    moved: Option<u32>,
    /// Whether a folder is not watched. It may be created later.
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
        // SAFETY: the instance owns its descriptor, and closes it only when it is dropped.
        let inotify = unsafe { AsyncFd::register_with_interest(Inotify::init()?, Interest::READABLE) };
        Ok(inotify?)
    }

    /// Watches these places, by index of the file, and no others. A folder that was watched before loses no event.
    ///
    /// # Errors
    /// If a folder does not exist or the limit of watches is reached; the other folders are watched. If the limit of instances
    /// is reached, none is.
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
            // Writes to a file that was replaced don't matter.
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
            // Fails if the folder no longer exists.
            let _ = inotify.get_ref().watches().remove(watch);
        }
        self.written.retain(|(watch, _)| self.folders.contains_key(watch));
        self.is_partial = done.is_err();
        done
    }

    /// Whether a folder is not watched, as it does not or did not exist, or a limit is reached.
    pub(super) const fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// Returns when events are available. Never returns while there is no inotify instance.
    pub(super) async fn wait(&mut self) {
        let Some(inotify) = &mut self.inotify else { return pending().await };
        // Fails only on a closed descriptor.
        if let Ok(mut ready) = inotify.readable_mut().await {
            ready.clear_ready();
        }
    }

    /// The events since the last call, with the index of their file.
    pub(super) fn take(&mut self) -> Vec<(usize, FileEvent)> {
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
                    events.extend(self.names.values().flatten().map(|file| (*file, FileEvent::Unclear)));
                } else if let Some(name) = event.name {
                    let key = (event.wd, name.to_owned());
                    let Some(folder) = self.folders.get(&key.0) else { continue };
                    let Some(kind) = classify(event.mask, &folder.join(name)) else { continue };
                    let files = self.names.get(&key).map(of_watch).unwrap_or_default();
                    let was_written = self.written.remove(&key);
                    let is_written = match kind {
                        // A file that is linked there (O_TMPFILE) has no writer; a file that is created is written next.
                        FileEvent::Written => event.mask.contains(EventMask::MODIFY),
                        FileEvent::Touched => was_written,
                        FileEvent::Renamed => self.moved.take() == Some(event.cookie),
                        FileEvent::Closed | FileEvent::Unclear => false,
                    };
                    if event.mask.contains(EventMask::MOVED_FROM) {
                        self.moved = was_written.then_some(event.cookie);
                    }
                    for file in files {
                        events.push((file, kind));
                        if kind == FileEvent::Renamed && is_written {
                            events.push((file, FileEvent::Written));
                        }
                    }
                    if is_written {
                        self.written.insert(key);
                    }
                } else {
                    // An event of the folder itself: it was removed or moved.
                    let files = self.names.iter().filter(|((watch, _), _)| *watch == event.wd).flat_map(|(_, f)| f);
                    events.extend(files.map(|file| (*file, FileEvent::Unclear)));
                    self.is_partial |= self.folders.contains_key(&event.wd) && !event.mask.contains(EventMask::ATTRIB);
                }
            }
            // Events of other files are not logged: the log may be one of them, and each line would cause the next event.
            if events.len() > before {
                log::trace!("inotify: {:?}", &events[before..]);
            }
            if is_empty {
                return events;
            }
        }
    }
}

fn classify(mask: EventMask, path: &Path) -> Option<FileEvent> {
    // No close follows the creation of a link.
    let is_link = || path.symlink_metadata().is_ok_and(|m| m.is_symlink() || m.nlink() > 1);
    Some(if mask.contains(EventMask::MOVED_TO) {
        FileEvent::Renamed
    } else if mask.contains(EventMask::MODIFY) {
        FileEvent::Written
    } else if mask.contains(EventMask::CREATE) {
        if is_link() { FileEvent::Unclear } else { FileEvent::Written }
    } else if mask.contains(EventMask::CLOSE_WRITE) {
        FileEvent::Closed
    } else if mask.contains(EventMask::ATTRIB) {
        FileEvent::Touched
    } else if mask.intersects(EventMask::DELETE | EventMask::MOVED_FROM) {
        FileEvent::Unclear
    } else {
        return None;
    })
}
