//! What tests of the data plane share: a lab of network namespaces, packets in and out of it, and an opinion of its own on
//! what a right reply is.
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

use edns::datapath::interfaces::Accepts;
use edns::datapath::{Datapath, Options, Table};

/// The program's verdicts (`linux/pkt_cls.h`) as a test run returns them.
pub const TC_ACT_UNSPEC: u32 = u32::MAX;
pub const TC_ACT_REDIRECT: u32 = 7;

/// Both zones, for `Settings::set_any_server`.
pub const BOTH_ZONES: u8 = 0b11;

/// The loaded program, answering for any server, its heart beating once.
///
/// # Panics
/// With the reason where it does not load; without privileges, that is one.
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

/// Answers frames to any address, on the first interfaces of whatever network namespace: lo, which test runs are on, and those of
/// a test.
pub fn accept_any(datapath: &Datapath) {
    let ports = (1..=64).map(|ifindex| (ifindex, Accepts::Any)).collect();
    datapath.set_ports(&ports).expect("frames that interfaces take");
}

/// Beats for a program until it is dropped, in a thread of its own: who has something else to do may come late on a loaded
/// machine.
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

/// A number out of the environment, for runs longer than usual.
pub fn env_number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |v| v.replace('_', "").parse().unwrap_or_else(|_| panic!("{name}={v}: no number")))
}
