//! The daemon as a child process of a test.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Lab, PATIENCE, until};

/// A daemon that is killed when this is dropped.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// The peak of its resident memory in MiB.
    pub fn peak(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a running daemon");
        let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")).expect("a peak");
        peak.parse::<usize>().expect("a number") >> 10
    }

    /// Starts it with any command.
    pub fn of(lab: &Lab, mut command: Command) -> Self {
        static DAEMONS: AtomicU32 = AtomicU32::new(0);
        let log = lab.path(&format!("log-{}", DAEMONS.fetch_add(1, Ordering::Relaxed)));
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).unwrap()).spawn().unwrap();
        Self { child, log }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until a line of the log contains this text.
    pub fn wait_for(&self, text: &str) {
        until(&format!("{text:?} in the log"), || {
            let log = self.log();
            log.lines().any(|l| l.contains(text)).then_some(()).ok_or(log)
        });
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Waits until it exits. Returns the exit status; None if a signal ended it.
    pub fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(PATIENCE);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the daemon does not exit: {}", self.log());
            sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}:\n{}---", self.log.display(), self.log());
        }
    }
}
