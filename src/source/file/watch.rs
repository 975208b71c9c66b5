//! Tells when files have changed.
//!
//! Folders are watched, not files: editors replace a file, and a ConfigMap's files are symbolic links into a folder that is
//! replaced by another one, which shows beside them only.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

/// Without a further event for so long, what happened is looked at.
const SETTLE: Duration = Duration::from_millis(50);
/// And after so long in any case: others may write into the same folders all the time.
const SETTLE_MAX: Duration = Duration::from_millis(500);
/// And so long after a file was written that was not closed yet: half of it may be valid, too.
const WRITING: Duration = Duration::from_secs(2);

/// After this, folders that could not be watched are tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// What tells one state of a file from the next: inode, size, and when it was last changed. None: it is not there.
pub type State = Option<(u64, u64, i64, i64)>;

/// The state of a file, behind symbolic links.
#[must_use]
pub fn state(file: &Path) -> State {
    fs::metadata(file).ok().map(|m| (m.ino(), m.size(), m.mtime(), m.mtime_nsec()))
}

/// What the watcher's thread has seen.
#[derive(Default)]
struct Seen {
    /// The first and the last event that were not looked at yet.
    events: Option<(Instant, Instant)>,
    /// When one of our files was last written that is still open for that.
    writing: Option<Instant>,
    /// What our files are called.
    names: HashSet<OsString>,
}

impl Seen {
    fn event(&mut self, event: &Event) {
        let is_ours = event.paths.iter().any(|p| p.file_name().is_some_and(|n| self.names.contains(n)));
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) if is_ours => self.writing = None,
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
            // Our own reading.
            EventKind::Access(_) => return,
            EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_)) if is_ours => {
                self.writing = Some(Instant::now());
            }
            _ => {}
        }
        self.note();
    }

    fn note(&mut self) {
        let now = Instant::now();
        self.events = Some((self.events.map_or(now, |(first, _)| first), now));
    }

    /// How long to wait until what happened is looked at; None: nothing has.
    fn wait(&self) -> Option<Duration> {
        let (first, last) = self.events?;
        Some(match self.writing {
            Some(written) => WRITING.saturating_sub(written.elapsed()),
            None => SETTLE.saturating_sub(last.elapsed()).min(SETTLE_MAX.saturating_sub(first.elapsed())),
        })
    }
}

/// Watches some files.
pub struct FileWatcher {
    watcher: RecommendedWatcher,
    seen: Arc<Mutex<Seen>>,
    wake: Arc<Notify>,
    folders: HashSet<PathBuf>,
    /// Whether one of them could not be watched: it may come yet.
    is_partial: bool,
    /// As they were when they were last told of; a change while they are read is one.
    states: HashMap<PathBuf, State>,
}

impl FileWatcher {
    /// Watches these files, whether they are there or not, from what they are now.
    ///
    /// # Errors
    /// Where a folder is not there, or the system has no more watches to give.
    pub fn new(files: &[PathBuf]) -> io::Result<Self> {
        let (seen, wake) = <(Arc<Mutex<Seen>>, Arc<Notify>)>::default();
        let (to, waker) = (Arc::clone(&seen), Arc::clone(&wake));
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error means that something may have been missed.
            lock(&to).event(&event.unwrap_or_default());
            waker.notify_one();
        })
        .map_err(io::Error::other)?;
        let mut this = Self { watcher, seen, wake, folders: HashSet::new(), is_partial: false, states: HashMap::new() };
        this.set(files)?;
        Ok(this)
    }

    /// Watches these files instead. What was watched before is compared with what it was then.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn set(&mut self, files: &[PathBuf]) -> io::Result<()> {
        // Anew also where they are the same: a folder that was removed and made again is another one.
        for folder in std::mem::take(&mut self.folders) {
            let _ = self.watcher.unwatch(&folder);
        }
        let known = std::mem::take(&mut self.states);
        self.states = files.iter().map(|f| (f.clone(), known.get(f).copied().unwrap_or_else(|| state(f)))).collect();
        lock(&self.seen).names =
            files.iter().flat_map(|f| [Some(f.clone()), f.canonicalize().ok()]).flatten().filter_map(name).collect();
        self.folders = files.iter().flat_map(|f| folders(f)).collect();
        let mut failed = Ok(());
        for folder in &self.folders {
            if let Err(e) = self.watcher.watch(folder, RecursiveMode::NonRecursive) {
                failed = Err(io::Error::other(format!("{}: {e}", folder.display())));
            }
        }
        self.is_partial = failed.is_err();
        // What happened while nothing was watched.
        lock(&self.seen).note();
        failed
    }

    /// Returns when a file has changed, and nobody is writing it any more. May be dropped and called again.
    pub async fn changed(&mut self) {
        loop {
            let wait = lock(&self.seen).wait();
            match wait {
                None if self.is_partial => {
                    let _ = timeout(AGAIN, self.wake.notified()).await;
                    let files: Vec<PathBuf> = self.states.keys().cloned().collect();
                    let _ = self.set(&files);
                }
                None => self.wake.notified().await,
                // The end of a file's writing may come earlier.
                Some(wait) if !wait.is_zero() => sleep(wait.min(SETTLE)).await,
                Some(_) => {
                    let mut seen = lock(&self.seen);
                    (seen.events, seen.writing) = (None, None);
                    drop(seen);
                    // Others write into the same folders.
                    let states: HashMap<_, _> = self.states.keys().map(|f| (f.clone(), state(f))).collect();
                    if states != self.states {
                        self.states = states;
                        return;
                    }
                }
            }
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn name(file: PathBuf) -> Option<OsString> {
    file.file_name().map(OsString::from)
}

/// The folders that a file is in, by its path, by each symbolic link on that, and behind them all.
fn folders(file: &Path) -> impl Iterator<Item = PathBuf> {
    let folder = |file: &Path| {
        let parent = file.parent().filter(|p| !p.as_os_str().is_empty());
        parent.map_or_else(|| PathBuf::from("."), Path::to_owned)
    };
    let real = file.canonicalize().ok().map(|f| folder(&f));
    let links = file.ancestors().skip(1).filter(|a| a.is_symlink()).map(folder);
    std::iter::once(folder(file)).chain(links).chain(real)
}

#[cfg(test)]
mod tests {
    use notify::event::DataChange;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_never_settles_is_looked_at_nevertheless() {
        let mut seen = Seen::default();
        assert_eq!(seen.wait(), None);
        let began = Instant::now();
        seen.note();
        assert_eq!(seen.wait(), Some(SETTLE));
        while seen.wait() != Some(Duration::ZERO) {
            tokio::time::advance(SETTLE / 5).await;
            seen.note();
            assert!(began.elapsed() <= SETTLE_MAX);
        }
        assert!(began.elapsed() >= SETTLE * 5, "several events are one change");
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_file_is_none_but_others_are_not_waited_for() {
        let mut seen = Seen { names: HashSet::from(["ours".into()]), ..Seen::default() };
        let written = |file: &str| Event::new(EventKind::Modify(ModifyKind::Any)).add_path(file.into());
        let data = |file| Event { kind: EventKind::Modify(ModifyKind::Data(DataChange::Any)), ..written(file) };
        seen.event(&data("ours"));
        tokio::time::advance(WRITING / 2).await;
        seen.event(&data("ours"));
        assert_eq!(seen.wait(), Some(WRITING));
        let began = Instant::now();
        while seen.wait() != Some(Duration::ZERO) {
            tokio::time::advance(SETTLE / 5).await;
            seen.event(&data("another"));
            assert!(began.elapsed() <= WRITING);
        }
        assert!(began.elapsed() >= WRITING);
        // Closed, there is nothing to wait for.
        seen = Seen { names: seen.names, ..Seen::default() };
        seen.event(&data("ours"));
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
        seen.event(&Event { kind: closed, ..written("ours") });
        assert_eq!(seen.wait(), Some(SETTLE));
    }
}
