//! What can happen to the daemon and to its way to the API.

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal::{SIGKILL, SIGTERM};

use crate::Beside;
use crate::proxy::Mode;

/// Milliseconds that the way to the API is bad, at most.
const BAD: usize = 3000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Day {
    Proxy(Mode),
    /// The API server is killed before something is written.
    KilledBefore,
    /// It is killed when something was just written: its news may have been sent, or not.
    KilledAfter,
    /// Another daemon takes over.
    TakeOver,
    /// The daemon is killed, and then starts again.
    Crash,
}

const ALL: [Day; 10] = [
    Day::Proxy(Mode::Gone),
    Day::KilledBefore,
    Day::Proxy(Mode::GoneInStream),
    Day::TakeOver,
    Day::Proxy(Mode::Error),
    Day::KilledAfter,
    Day::Proxy(Mode::ErrorInStream),
    Day::Crash,
    Day::Proxy(Mode::Half),
    Day::Proxy(Mode::HalfLists),
];

impl Day {
    /// They come in turn.
    pub fn of(number: usize) -> Self {
        ALL[number % ALL.len()]
    }
}

impl Beside {
    pub fn begin(&mut self, day: Option<Day>) {
        match day {
            Some(Day::Proxy(mode)) => self.proxy.set(mode),
            Some(Day::KilledBefore) => self.restart_api(),
            Some(Day::TakeOver) => {
                let new = self.node.daemon();
                let mut old = std::mem::replace(&mut self.daemon, new);
                old.signal(SIGTERM);
                assert_eq!(old.wait(), Some(0));
            }
            Some(Day::Crash) => {
                self.daemon.signal(SIGKILL);
                self.daemon.wait();
                self.daemon = self.node.daemon();
            }
            Some(Day::KilledAfter) | None => {}
        }
    }

    pub fn end(&mut self, day: Option<Day>) {
        match day {
            Some(Day::KilledAfter) => self.restart_api(),
            Some(Day::Proxy(_)) => {
                thread::sleep(Duration::from_millis(self.rng.below(BAD) as u64));
                self.proxy.set(Mode::Through);
            }
            _ => {}
        }
    }

    fn restart_api(&self) {
        self.cluster.kill_api();
        self.cluster.start_api();
    }
}
