//! `kill -9` at any moment, under load, while records change. EDNS_CRASHES sets the number of kills.

use std::fs;
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::common::env_number;
use crate::common::packet::{Opt, Query, TYPE_A};
use crate::common::rng::Rng;
use crate::lab::{Lab, RefusingServer, SERVER, SERVER6, until};
use crate::sockets::{Client, Reply};

/// The promised time after which no program of a dead daemon answers.
const BOUND: Duration = Duration::from_secs(3);
/// A version that was replaced longer ago is not answered by any daemon; many times the duration of a reload.
const STALE: Duration = Duration::from_secs(20);
/// Long enough for some reloads.
const RELOADS: Duration = Duration::from_secs(1);
const NAME: &str = "version.example.org";

/// When each version of the record was written, and since when no daemon runs.
struct Truth {
    written: Mutex<Vec<Instant>>,
    /// Only set long after the last daemon was killed.
    nobody_since: Mutex<Option<Instant>>,
    stop: AtomicBool,
    answered: AtomicU64,
    passed: AtomicU64,
}

impl Truth {
    /// Writes the next version in one step (rename).
    fn change(&self, lab: &Lab) {
        let mut written = self.written.lock().unwrap();
        let ip = Ipv4Addr::from(0x0a00_0000 + written.len() as u32);
        lab.write("new", &format!("Domains:\n  - Name: {NAME}\n    IP: {ip}\n"));
        fs::rename(lab.path("new"), lab.path("domain.yaml")).unwrap();
        written.push(Instant::now());
    }

    fn until_answered(&self) {
        let before = self.answered.load(Ordering::Relaxed);
        until("an answer", || match self.answered.load(Ordering::Relaxed) {
            n if n > before => Ok(()),
            n => Err(format!("{n} so far")),
        });
    }

    /// Asks until it is stopped. Every query has one reply: of a version that may still be answered, or of the server.
    fn ask(&self, client: &Client) {
        let queries = [Query::new(NAME, TYPE_A), Query::new(NAME, TYPE_A).edns(&Opt::new(1232))];
        for query in queries.iter().cycle() {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let asked = Instant::now();
            match client.ask(query).unwrap_or_else(|e| panic!("lost or damaged: {e}")) {
                Reply::Server => self.passed.fetch_add(1, Ordering::Relaxed),
                Reply::Edns(data, _) => {
                    let version = u32::from_be_bytes(data[0][..].try_into().unwrap()) - 0x0a00_0000;
                    let next = self.written.lock().unwrap().get(version as usize + 1).copied();
                    let age = next.map_or(Duration::ZERO, |next| asked.saturating_duration_since(next));
                    assert!(age < STALE, "version {version} was replaced {age:?} before the question");
                    let since = *self.nobody_since.lock().unwrap();
                    assert!(since.is_none_or(|since| asked < since), "answered, though no daemon runs");
                    self.answered.fetch_add(1, Ordering::Relaxed)
                }
            };
        }
    }
}

#[test]
fn kill_9_at_any_moment_leaves_nothing_stale_lost_or_behind() {
    let crashes = env_number("EDNS_CRASHES", 20);
    let lab = Lab::new();
    let _server = RefusingServer::new(&lab, "host", &[SERVER, SERVER6]);
    let truth = Truth {
        written: Mutex::default(),
        nobody_since: Mutex::default(),
        stop: AtomicBool::new(false),
        answered: AtomicU64::new(0),
        passed: AtomicU64::new(0),
    };
    truth.change(&lab);
    let began = Instant::now();
    drop(lab.daemon());
    let start = began.elapsed();
    let mut rng = Rng::new(crashes);
    std::thread::scope(|scope| {
        // Stops the threads also if this fails.
        let stop = Stop(&truth.stop);
        for server in [SERVER, SERVER6, SERVER] {
            let client = Client::new(&lab, "pod", server);
            let truth = &truth;
            scope.spawn(move || truth.ask(&client));
        }
        let changes = scope.spawn(|| {
            let mut rng = Rng::new(crashes);
            while !truth.stop.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(rng.below(200) as u64));
                truth.change(&lab);
            }
        });
        for crash in 0..crashes {
            let mut daemon = lab.spawn("host", "config.yaml");
            // At any moment of a start or after it, however slow the machine is.
            let moment = rng.below(100) as f64 / 100.0;
            if crash.is_multiple_of(2) {
                sleep(start.mul_f64(moment));
            } else {
                truth.until_answered();
                sleep(RELOADS.mul_f64(moment));
            }
            assert!(!changes.is_finished());
            daemon.signal(Signal::SIGKILL);
            assert_eq!(daemon.wait(), None, "it exited before: {}", daemon.log());
            if crash % 8 == 1 {
                let killed = Instant::now();
                sleep(BOUND);
                *truth.nobody_since.lock().unwrap() = Some(killed + BOUND);
                sleep(BOUND / 6);
                *truth.nobody_since.lock().unwrap() = None;
            }
        }
        drop(stop);
    });
    let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
    assert!(count(&truth.answered) >= crashes / 2 && count(&truth.passed) > crashes, "{crashes} crashes under load");

    // The next start works and removes what it and the others left.
    let mut daemon = lab.daemon();
    let client = Client::new(&lab, "pod", SERVER);
    until("an answer", || match client.ask(&Query::new(NAME, TYPE_A)) {
        Ok(Reply::Edns(..)) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(lab.tcx_programs("host", "veth0") + lab.filters("host", "veth0"), 1);
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait(), Some(0));
    assert_eq!(lab.tcx_programs("host", "veth0") + lab.filters("host", "veth0"), 0);
    assert_eq!(sockets(&lab), 0);
}

/// Stops threads when dropped, also after a failure.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The number of control sockets of this config.
fn sockets(lab: &Lab) -> usize {
    let socket = edns::control::socket_path(&lab.path("config.yaml")).unwrap();
    let stem = socket.file_stem().unwrap();
    let files = fs::read_dir(socket.parent().unwrap()).unwrap();
    files.filter(|f| f.as_ref().unwrap().path().file_stem() == Some(stem)).count()
}

#[test]
fn a_socket_of_a_start_that_was_killed_is_removed_by_the_next() {
    let lab = Lab::new();
    let socket = edns::control::socket_path(&lab.path("config.yaml")).unwrap();
    fs::create_dir_all(socket.parent().unwrap()).unwrap();
    // A socket between bind and rename, of a pid that doesn't exist.
    drop(std::os::unix::net::UnixListener::bind(socket.with_extension("4194305")).unwrap());
    let mut daemon = lab.daemon();
    assert_eq!(sockets(&lab), 1);
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait(), Some(0));
    assert_eq!(sockets(&lab), 0);
}
