//! The variants of the packet program, and the options to load them with.

use std::path::PathBuf;

use crate::datapath::skel::types::{edns_step, edns_variant};

/// Options that can't change after the programs are loaded.
#[derive(Debug, Clone)]
pub struct Options {
    /// A BTF file to use instead of the kernel's.
    pub ext_btf: Option<PathBuf>,
    /// Whether programs run on egress; if not, on ingress.
    pub egress: bool,
    /// The largest number of names that the maps can hold.
    pub max_records: u32,
    /// Programs to load at start; the others are loaded on first use.
    pub programs: Vec<Program>,
}

/// A variant of the packet program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Program {
    /// The variant for interfaces with an Ethernet header.
    Ethernet,
    /// The variant for ingress of Ethernet interfaces whose peer is in another network namespace. It redirects replies there.
    EthernetToPeer,
    /// The variant for interfaces without a link-layer header.
    Ip,
    /// The variant for the daemon's own queries, in Ethernet frames. It skips heartbeat, pause and DnsServers, and counts
    /// nothing.
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

    /// The slots of `edns_search` and `edns_reply` in `edns_steps`. Variants with the same link-layer header share them.
    pub(super) const fn steps(self) -> [edns_step; 2] {
        match self {
            Self::Ethernet | Self::EthernetToPeer | Self::Probe => {
                [edns_step::EDNS_STEP_SEARCH_ETH, edns_step::EDNS_STEP_REPLY_ETH]
            }
            Self::Ip => [edns_step::EDNS_STEP_SEARCH_IP, edns_step::EDNS_STEP_REPLY_IP],
        }
    }
}
