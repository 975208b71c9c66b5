//! The settings that running programs read (`struct edns_settings`). The daemon changes them one field at a time.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use super::abi::{KEYS, SERVERS_FIRST, edns_key, edns_settings};
use super::mapped::Mapped;
use super::skel::types::edns_outcome;
use crate::zone::node::ZoneId;

/// The state of a gate: whether queries that it covers are answered, and why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// The queries are answered.
    Open,
    /// They pass: the initial sync of the zone is not done.
    NotSynced,
    /// They pass: the view of the zone's source is stale, or the maps lag behind the source.
    Stale,
    /// They pass: a name was removed without waiting for running programs, so that programs may combine old and new nodes.
    Incomplete,
}

impl Gate {
    const fn outcome(self) -> u8 {
        match self {
            Self::Open => 0,
            Self::NotSynced => edns_outcome::EDNS_PASS_NOT_SYNCED.0 as u8,
            Self::Stale => edns_outcome::EDNS_PASS_STALE.0 as u8,
            Self::Incomplete => edns_outcome::EDNS_PASS_INCOMPLETE.0 as u8,
        }
    }
}

/// A field of the mapped settings.
macro_rules! atomic {
    ($atomic:ident, $settings:ident.$($field:tt)+) => {
        // SAFETY: the field is within the mapping, aligned, and accessed only as a whole; an index is checked.
        unsafe { $atomic::from_ptr(&raw mut (*$settings.raw()).$($field)+) }
    };
}

/// The settings in the object's `.bss`, which is mapped into the daemon. Every change takes effect at once.
#[derive(Clone)]
pub struct ProgramSettings {
    bss: Arc<Mapped>,
    /// Offset of the settings in `bss`, in bytes.
    at: usize,
}

impl ProgramSettings {
    /// The settings at offset `at` (bytes) of this mapping.
    pub(super) fn new(bss: Mapped, at: usize) -> Self {
        assert!(at + size_of::<edns_settings>() <= bss.len() && at.is_multiple_of(align_of::<edns_settings>()));
        Self { bss: Arc::new(bss), at }
    }

    /// Settings that no program reads, for tests.
    #[cfg(test)]
    pub(crate) fn detached() -> Self {
        Self::new(Mapped::anonymous(size_of::<edns_settings>()).expect("memory"), 0)
    }

    fn raw(&self) -> *mut edns_settings {
        // SAFETY: within the mapping, as `new` asserts.
        unsafe { self.bss.as_ptr().add(self.at).cast() }
    }

    /// Sets hash key number `nth`. No running program may use that key.
    pub(super) fn set_key(&self, nth: usize, key: &edns_key) {
        assert!(nth < KEYS);
        for (i, multiplier) in key.multiplier.iter().enumerate() {
            atomic!(AtomicU64, self.keys[nth].multiplier[i]).store(*multiplier, Ordering::Release);
        }
        for (i, word) in key.word.iter().enumerate() {
            atomic!(AtomicU64, self.keys[nth].word[i]).store(*word, Ordering::Release);
        }
    }

    /// Sets whether programs run on egress. Call it before any is attached.
    pub(super) fn set_egress(&self, egress: bool) {
        atomic!(AtomicU8, self.egress).store(egress.into(), Ordering::Release);
    }

    /// Sets whether IPVS has services. Only programs that can't read the kernel's memory use it.
    pub(super) fn set_ipvs(&self, in_use: bool) {
        atomic!(AtomicU8, self.ipvs).store(in_use.into(), Ordering::Release);
    }

    /// Sets how old the last heartbeat may be; with an older one programs pass every query. `tick` is the length of a jiffy.
    pub(super) fn set_beat_max(&self, max: Duration, tick: Duration) {
        let jiffies = (max.as_nanos() / tick.as_nanos().max(1)) as u64;
        atomic!(AtomicU64, self.beat_max).store(jiffies, Ordering::Release);
    }

    /// Sets the area of the index that programs read and the number of its hash key (`enum edns_index_part`).
    pub(super) fn set_index(&self, index: u8) {
        atomic!(AtomicU8, self.index).store(index, Ordering::Release);
    }

    /// Sets the number of labels of the shortest name that has a child or deep node; None if no name has one.
    pub(super) fn set_encloser_labels_min(&self, labels: Option<usize>) {
        atomic!(AtomicU8, self.encloser_labels_min).store(labels.map_or(u8::MAX, |n| n as u8), Ordering::Release);
    }

    /// Sets the number of labels of the longest name outside arpa and of the longest one within; None if the tree is empty.
    pub(super) fn set_name_labels_max(&self, labels: [Option<usize>; 2]) {
        let [forward, arpa] = labels.map(|labels| labels.map_or(0, |n| n as u8));
        atomic!(AtomicU8, self.name_labels_max).store(forward, Ordering::Release);
        atomic!(AtomicU8, self.arpa_labels_max).store(arpa, Ordering::Release);
    }

    /// Sets the zones that are answered for every destination address: a bit 1 << [`ZoneId`] for each.
    pub fn set_any_server(&self, zones: u8) {
        atomic!(AtomicU8, self.any_server).store(zones, Ordering::Release);
    }

    /// Copies the first IPv4 servers, each with its zones (bits 1 << [`ZoneId`]), into the settings. Programs then need no lookup
    /// in the map of all servers ([`Datapath::set_server`](super::Datapath::set_server)), which only saves time.
    pub fn set_first_servers<'a>(&self, servers: impl IntoIterator<Item = (&'a IpAddr, &'a u8)>) {
        let words = servers.into_iter().filter_map(|(server, zones)| match server {
            IpAddr::V4(a) => Some(u64::from(u32::from_ne_bytes(a.octets())) << 32 | u64::from(*zones)),
            IpAddr::V6(_) => None,
        });
        for (i, word) in words.chain(std::iter::repeat(0)).take(SERVERS_FIRST).enumerate() {
            atomic!(AtomicU64, self.servers[i]).store(word, Ordering::Release);
        }
    }

    /// Pauses the programs or ends the pause. Paused programs pass every query.
    pub fn set_paused(&self, paused: bool) {
        atomic!(AtomicU8, self.paused).store(paused.into(), Ordering::Release);
    }

    /// Turns on or off the events that programs write for each query ([`QueryEvents`](super::QueryEvents)).
    pub fn set_trace(&self, trace: bool) {
        atomic!(AtomicU8, self.trace).store(trace.into(), Ordering::Release);
    }

    /// Opens or closes the gate for every answer of a zone.
    pub fn set_positive_gate(&self, zone: ZoneId, gate: Gate) {
        atomic!(AtomicU8, self.positive_gate[zone as usize]).store(gate.outcome(), Ordering::Release);
    }

    /// Opens or closes a gate for the negative answers of the nodes that name it ([`Node::gate`](crate::zone::node::Node::gate)).
    /// `number` is not 0.
    pub fn set_gate(&self, number: u8, gate: Gate) {
        atomic!(AtomicU8, self.gate[usize::from(number)]).store(gate.outcome(), Ordering::Release);
    }

    /// Whether the gate for every answer of a zone is closed.
    pub(super) fn is_positive_gate_closed(&self, zone: ZoneId) -> bool {
        atomic!(AtomicU8, self.positive_gate[zone as usize]).load(Ordering::Acquire) != 0
    }

    /// Opens or closes the gate for a zone's answers that depend on the absence of a name or type: NXDOMAIN, NODATA and
    /// wildcards.
    pub fn set_negative_gate(&self, zone: ZoneId, gate: Gate) {
        atomic!(AtomicU8, self.negative_gate[zone as usize]).store(gate.outcome(), Ordering::Release);
    }
}
