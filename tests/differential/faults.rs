//! Faults of the daemon and of its connection to the API server.

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal::{SIGKILL, SIGTERM};

use crate::Comparison;
use crate::proxy::Mode;

/// The longest time in milliseconds that the connection is faulty.
const BAD: usize = 3000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Proxy(Mode),
    /// The API server is killed before a write.
    KilledBefore,
    /// The API server is killed right after a write. Its watch event may have been sent or not.
    KilledAfter,
    /// A second daemon takes over.
    TakeOver,
    /// The daemon is killed and started again.
    Crash,
}

const ALL: [Fault; 10] = [
    Fault::Proxy(Mode::Gone),
    Fault::KilledBefore,
    Fault::Proxy(Mode::GoneInStream),
    Fault::TakeOver,
    Fault::Proxy(Mode::Error),
    Fault::KilledAfter,
    Fault::Proxy(Mode::ErrorInStream),
    Fault::Crash,
    Fault::Proxy(Mode::Half),
    Fault::Proxy(Mode::HalfLists),
];

impl Fault {
    /// The faults take turns.
    pub fn of(number: usize) -> Self {
        ALL[number % ALL.len()]
    }
}

impl Comparison {
    pub fn begin(&mut self, fault: Option<Fault>) {
        match fault {
            Some(Fault::Proxy(mode)) => self.proxy.set(mode),
            Some(Fault::KilledBefore) => self.restart_api(),
            Some(Fault::TakeOver) => {
                let new = self.node.daemon();
                let mut old = std::mem::replace(&mut self.daemon, new);
                old.signal(SIGTERM);
                assert_eq!(old.wait(), Some(0));
            }
            Some(Fault::Crash) => {
                self.daemon.signal(SIGKILL);
                self.daemon.wait();
                self.daemon = self.node.daemon();
            }
            Some(Fault::KilledAfter) | None => {}
        }
    }

    pub fn end(&mut self, fault: Option<Fault>) {
        match fault {
            Some(Fault::KilledAfter) => self.restart_api(),
            Some(Fault::Proxy(_)) => {
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
