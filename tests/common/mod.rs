//! What the tests of the data plane share: the lab of network namespaces, frames in and out of it, and independent checks of
//! replies.
// Each test is a crate of its own and uses a part of this.
#![allow(dead_code)]

pub mod attach;
pub mod collisions;
pub mod decode;
pub mod lab;
pub mod model;
pub mod mutate;
pub mod packet;
pub mod raw;
pub mod rng;
pub mod tun;
pub mod witness;

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use edns::datapath::{Datapath, Options, Outcome, Table};
use edns::interfaces::Accepts;

/// The program's verdicts (`linux/pkt_cls.h`) as a test run returns them.
pub const TC_ACT_UNSPEC: u32 = u32::MAX;
pub const TC_ACT_REDIRECT: u32 = 7;

/// Both zones, for `ProgramSettings::set_any_server`.
pub const BOTH_ZONES: u8 = 0b11;

/// Loads the program, configured to answer for any server, after one heartbeat.
///
/// # Panics
/// If it does not load, for example without privileges. The message has the reason.
pub fn load(egress: bool, max_records: u32) -> (Datapath, Table) {
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests load BPF programs and make network namespaces: run them as root"
    );
    let options = Options { ext_btf: None, egress, max_records, programs: Vec::new() };
    let (datapath, table) = Datapath::load(&options).unwrap_or_else(|e| panic!("{e}"));
    datapath.settings().set_any_server(BOTH_ZONES);
    accept_any(&datapath);
    datapath.beat().expect("heartbeat");
    (datapath, table)
}

/// The name of the outcome that a test run of a probe returned. None for a packet that is no query to port 53.
pub fn outcome_name(outcome: u32) -> Option<&'static str> {
    Outcome::from_number(outcome).map(|outcome| outcome.name)
}

/// Accepts frames to any link-layer address on ifindexes 1 to 64 of every network namespace: lo, where test runs happen, and
/// the interfaces of the test.
pub fn accept_any(datapath: &Datapath) {
    let ports = (1..=64).map(|ifindex| (ifindex, Accepts::Any)).collect();
    datapath.set_accepted_macs(&ports).expect("frames that interfaces take");
}

/// Sends heartbeats from a thread of its own until it is dropped. On a loaded machine a thread that also does other work may
/// be late.
pub struct Heart {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Heart {
    pub fn new(datapath: Datapath) -> Self {
        let (stop, stopped) = channel();
        let beat = move || {
            while stopped.recv_timeout(Duration::from_millis(300)) == Err(RecvTimeoutError::Timeout) {
                datapath.beat().expect("heartbeat");
            }
        };
        Self { stop: Some(stop), thread: Some(std::thread::spawn(beat)) }
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A number from an environment variable, for runs longer than the default.
pub fn env_number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |v| v.replace('_', "").parse().unwrap_or_else(|_| panic!("{name}={v}: not a number")))
}
