//! The programs of the object, by what they are for, and the options to load them with.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;

use crate::datapath::skel::EdnsSkel;
use crate::datapath::skel::types::edns_step;

/// What has to be known before loading.
#[derive(Debug, Clone)]
pub struct Options {
    /// A BTF file in place of the kernel's.
    pub ext_btf: Option<PathBuf>,
    /// Whether programs are attached to egress; else to ingress.
    pub egress: bool,
    /// How many names the maps can hold.
    pub max_records: u32,
    /// Programs to load at once; others are when they are first asked for.
    pub programs: Vec<Program>,
}

/// The programs for packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Program {
    /// For interfaces with Ethernet header.
    Ethernet,
    /// For ingress of interfaces whose peer is in another network namespace.
    EthernetToPeer,
    /// For interfaces without link-layer header.
    Ip,
    /// For questions of our own, in Ethernet frames: answers whoever may ask whom, and counts nothing.
    Probe,
}

impl Program {
    pub(super) const ALL: [Self; 4] = [Self::Ethernet, Self::EthernetToPeer, Self::Ip, Self::Probe];

    /// The programs that a query goes on to, by their number in `edns_steps`.
    pub(super) const fn steps(self) -> [edns_step; 2] {
        match self {
            Self::Ethernet | Self::EthernetToPeer | Self::Probe => {
                [edns_step::EDNS_STEP_SEARCH_ETH, edns_step::EDNS_STEP_REPLY_ETH]
            }
            Self::Ip => [edns_step::EDNS_STEP_SEARCH_IP, edns_step::EDNS_STEP_REPLY_IP],
        }
    }
}

pub(super) fn progs_fd<'a>(skel: &'a EdnsSkel<'_>, program: Program) -> BorrowedFd<'a> {
    let progs = &skel.progs;
    match program {
        Program::Ethernet => progs.edns_eth.as_fd(),
        Program::EthernetToPeer => progs.edns_eth_peer.as_fd(),
        Program::Ip => progs.edns_ip.as_fd(),
        Program::Probe => progs.edns_probe.as_fd(),
    }
}

pub(super) fn step_fd<'a>(skel: &'a EdnsSkel<'_>, step: edns_step) -> BorrowedFd<'a> {
    let progs = &skel.progs;
    match step {
        edns_step::EDNS_STEP_SEARCH_ETH => progs.edns_search_eth.as_fd(),
        edns_step::EDNS_STEP_SEARCH_IP => progs.edns_search_ip.as_fd(),
        edns_step::EDNS_STEP_REPLY_IP => progs.edns_reply_ip.as_fd(),
        _ => progs.edns_reply_eth.as_fd(),
    }
}
