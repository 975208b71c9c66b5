//! `struct edns_settings`: what the daemon tells running programs, a field at a time.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::abi::edns_settings;
use super::skel::types::edns_outcome;
use crate::zone::node::ZoneId;

/// Why answers of a zone are held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// They are not.
    Open,
    /// The zone was not read whole yet.
    NotSynced,
    /// What it was read from is not current.
    Stale,
    /// It did not fit whole.
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

/// The settings in the object's `.bss`, which is shared with the kernel and stays mapped as long as the object lives.
#[derive(Clone, Copy)]
pub struct Settings(*mut edns_settings);

// SAFETY: fields are only accessed atomically, and the memory stays mapped (see `Datapath`, which owns object and Settings).
unsafe impl Send for Settings {}

impl Settings {
    /// # Safety
    /// `settings` stays valid as long as this and its copies are used.
    pub(super) const unsafe fn new(settings: *mut edns_settings) -> Self {
        Self(settings)
    }

    fn octet(&self, field: impl FnOnce(*mut edns_settings) -> *mut u8, value: u8) {
        // SAFETY: the field is within the struct, which `new` promises to be valid.
        unsafe { AtomicU8::from_ptr(field(self.0)) }.store(value, Ordering::Release);
    }

    /// How long programs go on without a heartbeat. `tick` is the length of a jiffy.
    pub(super) fn set_beat_max(&self, max: Duration, tick: Duration) {
        let jiffies = (max.as_nanos() / tick.as_nanos().max(1)) as u64;
        // SAFETY: as in `octet`; the field is aligned to 8.
        unsafe { AtomicU64::from_ptr(&raw mut (*self.0).beat_max) }.store(jiffies, Ordering::Release);
    }

    /// Which index programs read: the one of so many lines.
    pub(super) fn set_index_lines(&self, lines: usize) {
        // SAFETY: as in `octet`; the field is aligned to 4.
        unsafe { AtomicU32::from_ptr(&raw mut (*self.0).index_lines) }.store(lines as u32, Ordering::Release);
    }

    pub(super) fn set_below_min(&self, labels: Option<usize>) {
        // SAFETY: as in `octet`.
        self.octet(|s| unsafe { &raw mut (*s).below_min }, labels.map_or(u8::MAX, |n| n as u8));
    }

    pub(super) fn set_below_max(&self, labels: Option<usize>) {
        // SAFETY: as in `octet`.
        self.octet(|s| unsafe { &raw mut (*s).below_max }, labels.map_or(0, |n| n as u8));
    }

    /// Zones that are answered whatever server was asked; bit 1 << [`ZoneId`].
    pub fn set_any_server(&self, zones: u8) {
        // SAFETY: as in `octet`.
        self.octet(|s| unsafe { &raw mut (*s).any_server }, zones);
    }

    /// Everything passes, until it is told otherwise.
    pub fn set_paused(&self, paused: bool) {
        // SAFETY: as in `octet`.
        self.octet(|s| unsafe { &raw mut (*s).paused }, paused.into());
    }

    /// Holds back every answer of a zone.
    pub fn set_positive_gate(&self, zone: ZoneId, gate: Gate) {
        // SAFETY: as in `octet`; both arrays have an element for each zone.
        self.octet(|s| unsafe { (&raw mut (*s).positive_gate).cast::<u8>().add(zone as usize) }, gate.outcome());
    }

    /// Holds back a zone's answers that rest on the absence of a name or type: NXDOMAIN, NODATA, wildcards.
    pub fn set_negative_gate(&self, zone: ZoneId, gate: Gate) {
        // SAFETY: as above.
        self.octet(|s| unsafe { (&raw mut (*s).negative_gate).cast::<u8>().add(zone as usize) }, gate.outcome());
    }
}
