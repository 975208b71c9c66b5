//! Tells when files have changed.
//!
//! Folders are watched, not files: editors replace a file, and a ConfigMap's files are symbolic links into a folder that is
//! replaced by another one, which shows beside them only.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::{Instant, sleep_until};

/// Who writes a file does so in several steps, which come shortly after each other.
const SETTLE: Duration = Duration::from_millis(50);

/// What tells one state of a file from the next: inode, size, and when it was last changed. None: it is not there.
type State = Option<(u64, u64, i64, i64)>;

/// Watches some files.
pub struct FileWatcher {
    watcher: RecommendedWatcher,
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    states: Vec<State>,
    events: Receiver<()>,
    /// When what happened is looked at.
    due: Option<Instant>,
}

impl FileWatcher {
    /// Watches these files, whether they are there or not.
    ///
    /// # Errors
    /// Where a folder is not there, or the system has no more watches to give.
    pub fn new(files: Vec<PathBuf>) -> io::Result<Self> {
        // One place is enough: who was told once looks at everything.
        let (sender, events) = channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // Our own reading is none; a watcher's error means that something may have been missed.
            if !matches!(event, Ok(Event { kind: EventKind::Access(_), .. })) {
                let _ = sender.try_send(());
            }
        })
        .map_err(io::Error::other)?;
        let mut this = Self { watcher, files: Vec::new(), folders: Vec::new(), states: Vec::new(), events, due: None };
        this.set(files)?;
        Ok(this)
    }

    /// Watches these files instead; what they hold by now counts as known.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn set(&mut self, files: Vec<PathBuf>) -> io::Result<()> {
        let gone = std::mem::take(&mut self.folders);
        // Anew also where they are the same: a folder that was removed and made again is another one.
        for folder in &gone {
            let _ = self.watcher.unwatch(folder);
        }
        self.states = files.iter().map(|f| state(f)).collect();
        self.folders = files.iter().flat_map(|f| folders(f)).collect();
        self.folders.sort();
        self.folders.dedup();
        self.files = files;
        for folder in &self.folders {
            let watch = self.watcher.watch(folder, RecursiveMode::NonRecursive);
            watch.map_err(|e| io::Error::other(format!("{}: {e}", folder.display())))?;
        }
        Ok(())
    }

    /// Returns when a file has changed, and then nothing for a moment. May be dropped and called again.
    pub async fn changed(&mut self) {
        loop {
            let due = match self.due {
                Some(due) => due,
                None => {
                    // The sender lives in the watcher, as long as this does.
                    self.events.recv().await;
                    *self.due.insert(Instant::now() + SETTLE)
                }
            };
            sleep_until(due).await;
            self.due = None;
            // Others write into the same folders.
            let states: Vec<State> = self.files.iter().map(|f| state(f)).collect();
            if states != self.states {
                self.states = states;
                return;
            }
        }
    }
}

fn state(file: &Path) -> State {
    fs::metadata(file).ok().map(|m| (m.ino(), m.size(), m.mtime(), m.mtime_nsec()))
}

/// The folder that a file is in, and the one that it is in behind symbolic links.
fn folders(file: &Path) -> impl Iterator<Item = PathBuf> {
    let folder = |file: &Path| {
        let parent = file.parent().filter(|p| !p.as_os_str().is_empty());
        parent.map_or_else(|| PathBuf::from("."), Path::to_owned)
    };
    let real = file.canonicalize().ok().map(|f| folder(&f));
    std::iter::once(folder(file)).chain(real)
}
