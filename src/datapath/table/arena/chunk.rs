//! One of the arena's maps, and which of its units are taken.
//!
//! range-alloc keeps free ranges of numbers, joined with their neighbours, outside of the memory that they stand for, and is told
//! the length of what is freed: all that is needed for memory that programs read. (offset-allocator wants a handle of each run
//! back, which would be another word a node; buddy allocators round lengths up to powers of two, which is more than the holes
//! take that there may be.)

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use range_alloc::RangeAllocator;

use super::NodeKind;
use crate::datapath::abi::{CHUNK_UNITS, CHUNK_VALUE};
use crate::datapath::mapped::Mapped;
use crate::datapath::sys::{self, page_size};

/// Units for nodes of one kind.
struct Room {
    runs: RangeAllocator<u32>,
    live: usize,
    /// No run is longer.
    longest: usize,
}

impl Room {
    fn new(units: Range<u32>) -> Self {
        Self { longest: units.len(), runs: RangeAllocator::new(units), live: 0 }
    }

    fn units(&self) -> usize {
        self.runs.initial_range().len()
    }

    fn take(&mut self, units: usize) -> Option<u32> {
        if units > self.longest {
            return None;
        }
        let Ok(run) = self.runs.allocate_range(units as u32) else {
            self.longest = units - 1;
            return None;
        };
        self.live += units;
        Some(run.start)
    }
}

/// A map, mapped into the daemon.
pub(super) struct Chunk {
    map: OwnedFd,
    mapped: Arc<Mapped>,
    shared: Room,
    named: Room,
    /// Whether nodes move out of it, so that none may come.
    pub is_leaving: bool,
    /// Whether it was made for nodes on the move, which do not move on from there.
    pub is_arriving: bool,
}

impl Chunk {
    /// Makes a map with so many units for shared nodes, and the rest for named ones. The `first` chunk's unit 0 is no node's.
    pub(super) fn new(shared: usize, first: bool) -> io::Result<Self> {
        // As the inner map in edns.bpf.c is, else the outer map refuses it.
        let map = sys::map_create(c"edns_chunk", CHUNK_VALUE as u32)?;
        let mapped = Mapped::new(map.as_fd(), CHUNK_VALUE.next_multiple_of(page_size()))?;
        let split = shared as u32;
        Ok(Self {
            map,
            mapped: Arc::new(mapped),
            shared: Room::new(u32::from(first)..split.max(first.into())),
            named: Room::new(split..CHUNK_UNITS as u32),
            is_leaving: false,
            is_arriving: false,
        })
    }

    pub(super) fn map(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }

    pub(super) const fn mapped(&self) -> &Arc<Mapped> {
        &self.mapped
    }

    /// The first unit of a free run.
    pub(super) fn take(&mut self, kind: NodeKind, units: usize) -> Option<u32> {
        match kind {
            NodeKind::Shared => self.shared.take(units),
            NodeKind::Named if self.is_leaving => None,
            NodeKind::Named => self.named.take(units),
        }
    }

    /// Takes note that the node at a unit is retired, and returns what it was.
    pub(super) fn retire(&mut self, unit: usize, units: usize) -> NodeKind {
        let kind = if self.is_named(unit) { NodeKind::Named } else { NodeKind::Shared };
        self.room(kind).live -= units;
        kind
    }

    /// Frees a run; nobody reads it any more.
    pub(super) fn give(&mut self, unit: usize, units: usize) {
        let kind = if self.is_named(unit) { NodeKind::Named } else { NodeKind::Shared };
        let room = self.room(kind);
        room.runs.free_range(unit as u32..(unit + units) as u32);
        room.longest = room.units();
    }

    const fn room(&mut self, kind: NodeKind) -> &mut Room {
        match kind {
            NodeKind::Shared => &mut self.shared,
            NodeKind::Named => &mut self.named,
        }
    }

    fn is_named(&self, unit: usize) -> bool {
        unit >= self.named.runs.initial_range().start as usize
    }

    /// Units for named nodes.
    pub(super) fn named(&self) -> usize {
        self.named.units()
    }

    /// Units of named nodes.
    pub(super) const fn live_named(&self) -> usize {
        self.named.live
    }

    /// Whether nodes that move out of it leave a chunk to others, or make room at least.
    pub(super) fn is_sparse(&self) -> bool {
        self.named.live * 8 < self.named.units() * 7
    }

    /// Whether named nodes are in it, retired ones included.
    pub(super) fn has_named(&self) -> bool {
        self.named.units() > 0 && !self.named.runs.is_empty()
    }

    /// Runs of units that named nodes lie in, one behind another, retired ones included.
    pub(super) fn named_runs(&self) -> impl Iterator<Item = Range<u32>> {
        self.named.runs.allocated_ranges()
    }

    /// Whether it holds nothing that anybody may read.
    pub(super) fn is_empty(&self) -> bool {
        [&self.shared, &self.named].into_iter().all(|room| room.units() == 0 || room.runs.is_empty())
    }
}
