//! `struct edns_settings`: what the daemon tells running programs, a field at a time.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use super::abi::{KEYS, SERVERS_FIRST, edns_key, edns_settings};
use super::mapped::Mapped;
use super::skel::types::edns_outcome;
use crate::zone::node::ZoneId;

/// Why answers of a zone are held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// They are not.
    Open,
    /// The zone was not read whole yet.
    NotSynced,
    /// What it was read from is not current, or the maps are late behind it.
    Stale,
    /// Names went without the wait that their order asks for: programs may hear of them by what was said before of others.
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

/// The settings in the object's `.bss`, which kernel and daemon share.
#[derive(Clone)]
pub struct ProgramSettings {
    bss: Arc<Mapped>,
    /// Octets in front of them.
    at: usize,
}

impl ProgramSettings {
    /// The settings `at` octets behind the start of this mapping.
    pub(super) fn new(bss: Mapped, at: usize) -> Self {
        assert!(at + size_of::<edns_settings>() <= bss.len() && at.is_multiple_of(align_of::<edns_settings>()));
        Self { bss: Arc::new(bss), at }
    }

    /// Those that no program reads.
    #[cfg(test)]
    pub(crate) fn alone() -> Self {
        Self::new(Mapped::anonymous(size_of::<edns_settings>()).expect("memory"), 0)
    }

    fn raw(&self) -> *mut edns_settings {
        // SAFETY: within the mapping, as `new` asserts.
        unsafe { self.bss.as_ptr().add(self.at).cast() }
    }

    fn octet(&self, field: impl FnOnce(*mut edns_settings) -> *mut u8, value: u8) {
        // SAFETY: the field is within the struct, which is mapped.
        unsafe { AtomicU8::from_ptr(field(self.raw())) }.store(value, Ordering::Release);
    }

    fn word(&self, field: impl FnOnce(*mut edns_settings) -> *mut u64, value: u64) {
        // SAFETY: the field is within the struct, which is mapped, and aligned to 8.
        unsafe { AtomicU64::from_ptr(field(self.raw())) }.store(value, Ordering::Release);
    }

    /// Makes this key number `nth`, which no program uses.
    pub(super) fn set_key(&self, nth: usize, key: &edns_key) {
        assert!(nth < KEYS);
        for (i, multiplier) in key.multiplier.iter().enumerate() {
            // SAFETY: as in `word`; both arrays have these elements.
            self.word(|s| unsafe { (&raw mut (*s).keys[nth].multiplier[i]) }, *multiplier);
        }
        for (i, word) in key.word.iter().enumerate() {
            // SAFETY: as above.
            self.word(|s| unsafe { (&raw mut (*s).keys[nth].word[i]) }, *word);
        }
    }

    /// Whether programs are on egress; before anything is attached.
    pub(super) fn set_egress(&self, egress: bool) {
        // SAFETY: as in `octet`.
        self.octet(|s| unsafe { &raw mut (*s).egress }, egress.into());
    }

    /// Whether IPVS has services, where programs can't see which packets are theirs.
    pub(super) fn set_ipvs(&self, in_use: bool) {
        // SAFETY: as in `octet`.
        self.octet(|s| unsafe { &raw mut (*s).ipvs }, in_use.into());
    }

    /// How long programs go on without a heartbeat. `tick` is the length of a jiffy.
    pub(super) fn set_beat_max(&self, max: Duration, tick: Duration) {
        let jiffies = (max.as_nanos() / tick.as_nanos().max(1)) as u64;
        // SAFETY: as in `word`.
        self.word(|s| unsafe { &raw mut (*s).beat_max }, jiffies);
    }

    /// Which index programs read, and by which key; see `enum edns_index_part`.
    pub(super) fn set_index(&self, index: u8) {
        // SAFETY: as in `octet`.
        self.octet(|s| unsafe { &raw mut (*s).index }, index);
    }

    pub(super) fn set_below_min(&self, labels: Option<usize>) {
        // SAFETY: as in `octet`.
        self.octet(|s| unsafe { &raw mut (*s).encloser_labels_min }, labels.map_or(u8::MAX, |n| n as u8));
    }

    /// Of names outside arpa and within.
    pub(super) fn set_below_max(&self, labels: [Option<usize>; 2]) {
        let [most, arpa] = labels.map(|labels| labels.map_or(0, |n| n as u8));
        // SAFETY: as in `octet`.
        self.octet(|s| unsafe { &raw mut (*s).name_labels_max }, most);
        // SAFETY: as in `octet`.
        self.octet(|s| unsafe { &raw mut (*s).arpa_labels_max }, arpa);
    }

    /// Zones that are answered whatever server was asked; bit 1 << [`ZoneId`].
    pub fn set_any_server(&self, zones: u8) {
        // SAFETY: as in `octet`.
        self.octet(|s| unsafe { &raw mut (*s).any_server }, zones);
    }

    /// Servers whose zones (bit 1 << [`ZoneId`]) are found without a look into the map of all, those of IPv4 that come first:
    /// a matter of speed only.
    pub fn set_first_servers<'a>(&self, servers: impl IntoIterator<Item = (&'a IpAddr, &'a u8)>) {
        let words = servers.into_iter().filter_map(|(server, zones)| match server {
            IpAddr::V4(a) => Some(u64::from(u32::from_ne_bytes(a.octets())) << 32 | u64::from(*zones)),
            IpAddr::V6(_) => None,
        });
        for (i, word) in words.chain(std::iter::repeat(0)).take(SERVERS_FIRST).enumerate() {
            // SAFETY: as in `word`; the array has this element.
            self.word(|s| unsafe { (&raw mut (*s).servers).cast::<u64>().add(i) }, word);
        }
    }

    /// Everything passes, until it is told otherwise.
    pub fn set_paused(&self, paused: bool) {
        // SAFETY: as in `octet`.
        self.octet(|s| unsafe { &raw mut (*s).paused }, paused.into());
    }

    /// Queries are told of in the ring of events, or not any more.
    pub fn set_trace(&self, trace: bool) {
        // SAFETY: as in `octet`.
        self.octet(|s| unsafe { &raw mut (*s).trace }, trace.into());
    }

    /// Holds back every answer of a zone.
    pub fn set_positive_gate(&self, zone: ZoneId, gate: Gate) {
        // SAFETY: as in `octet`; both arrays have an element for each zone.
        self.octet(|s| unsafe { (&raw mut (*s).positive_gate).cast::<u8>().add(zone as usize) }, gate.outcome());
    }

    /// Holds back the negative answers of nodes with this gate ([`crate::zone::node::Node::gate`]), which is not 0.
    pub fn set_gate(&self, number: u8, gate: Gate) {
        // SAFETY: as in `octet`; the array has an element for each number.
        self.octet(|s| unsafe { (&raw mut (*s).gate).cast::<u8>().add(usize::from(number)) }, gate.outcome());
    }

    /// Whether every answer of a zone is held back.
    pub(super) fn is_held_back(&self, zone: ZoneId) -> bool {
        // SAFETY: as in `octet`; the array has an element for each zone.
        let gate =
            unsafe { AtomicU8::from_ptr((&raw mut (*self.raw()).positive_gate).cast::<u8>().add(zone as usize)) };
        gate.load(Ordering::Acquire) != 0
    }

    /// Holds back a zone's answers that rest on the absence of a name or type: NXDOMAIN, NODATA, wildcards.
    pub fn set_negative_gate(&self, zone: ZoneId, gate: Gate) {
        // SAFETY: as above.
        self.octet(|s| unsafe { (&raw mut (*s).negative_gate).cast::<u8>().add(zone as usize) }, gate.outcome());
    }
}
