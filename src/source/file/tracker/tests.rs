//! The rules of a [`Tracker`], each on a [`Scene`].

mod events;
mod polling;
mod sighup;
mod start;

use super::*;

/// A file and its tracker, with a simulated clock.
struct Scene {
    tracker: Tracker,
    snapshot: Snapshot,
    now: Instant,
}

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

impl Scene {
    /// At start: a file of 100 bytes that was modified this long ago.
    fn start(age: Duration) -> Self {
        let now = Instant::now();
        let state = Stat { inode: (1, 1), size: 100, modified: (1, 0) };
        let (is_swapped, has_newline, has_writer) = (false, true, None);
        let snapshot = Snapshot { taken: now, state: Some(state), age, is_swapped, has_newline, has_writer };
        Self { tracker: Tracker::new(now), snapshot, now }
    }

    /// A file that is in effect.
    fn running() -> Self {
        let mut scene = Self::start(QUIESCENT);
        assert!(scene.is_read_within(Duration::ZERO));
        scene.read();
        scene
    }

    /// Like [`Self::running`], but the file does not end with a newline.
    fn running_without_newline() -> Self {
        let mut scene = Self::start(QUIESCENT);
        scene.snapshot.has_newline = false;
        assert!(scene.is_read_within(Duration::ZERO));
        scene.read();
        scene
    }

    fn read(&mut self) {
        self.tracker.record_read(&self.snapshot, self.now);
        self.tracker.mark_applied();
    }

    /// Changes the file without an event.
    fn change(&mut self, size: u64) {
        let state = self.snapshot.state.as_mut().expect("the file exists");
        (state.size, state.modified.0) = (size, state.modified.0 + 1);
        self.snapshot.age = Duration::ZERO;
    }

    fn replace(&mut self, size: u64) {
        self.change(size);
        self.snapshot.state.as_mut().expect("the file exists").inode.1 += 1;
    }

    fn event(&mut self, event: FileEvent) {
        self.tracker.event(event, self.now);
    }

    fn write(&mut self, size: u64) {
        self.change(size);
        self.event(FileEvent::Written);
    }

    fn advance(&mut self, time: Duration) {
        self.now += time;
        self.snapshot.age += time;
    }

    /// Takes snapshots when due, for this long. Returns whether the file is to be read.
    fn is_read_within(&mut self, time: Duration) -> bool {
        let end = self.now + time;
        loop {
            let due = self.tracker.due().max(self.now);
            if due > end {
                self.advance(end - self.now);
                return false;
            }
            self.advance(due - self.now);
            self.snapshot.taken = self.now;
            if self.tracker.observe(&self.snapshot, self.now) == Decision::Read {
                return true;
            }
            assert!(self.tracker.due() > self.now, "the next snapshot is due at once");
        }
    }
}
