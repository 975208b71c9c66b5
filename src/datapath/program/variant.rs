//! The variants of the program for packets, and the options to load them with.

use std::path::PathBuf;

use crate::datapath::skel::types::{edns_step, edns_variant};

/// Options that are fixed when the program is loaded.
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

/// The variants of the program for packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Program {
    /// For interfaces with Ethernet header.
    Ethernet,
    /// For ingress of interfaces whose peer is in another network namespace.
    EthernetToPeer,
    /// For interfaces without link-layer header.
    Ip,
    /// For the daemon's own queries, in Ethernet frames: skips heartbeat, pause and DnsServers, and is not counted.
    Probe,
}

impl Program {
    pub(super) const ALL: [Self; 4] = [Self::Ethernet, Self::EthernetToPeer, Self::Ip, Self::Probe];

    pub(super) const fn variant(self) -> edns_variant {
        match self {
            Self::Ethernet => edns_variant::EDNS_VARIANT_ETH,
            Self::EthernetToPeer => edns_variant::EDNS_VARIANT_ETH_TO_PEER,
            Self::Ip => edns_variant::EDNS_VARIANT_IP,
            Self::Probe => edns_variant::EDNS_VARIANT_PROBE,
        }
    }

    /// The slots of `edns_search` and `edns_reply` in `edns_steps`, which programs with the same header share.
    pub(super) const fn steps(self) -> [edns_step; 2] {
        match self {
            Self::Ethernet | Self::EthernetToPeer | Self::Probe => {
                [edns_step::EDNS_STEP_SEARCH_ETH, edns_step::EDNS_STEP_REPLY_ETH]
            }
            Self::Ip => [edns_step::EDNS_STEP_SEARCH_IP, edns_step::EDNS_STEP_REPLY_IP],
        }
    }
}
