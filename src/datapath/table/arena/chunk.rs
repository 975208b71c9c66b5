//! A chunk of the arena: one map, and the allocator of its units.
//!
//! range-alloc keeps its free list outside the chunk and needs no header per run: the caller passes the length of a freed run.
//! That suits memory that programs read. (offset-allocator needs a handle for each run, another word for each node;
//! buddy allocators round lengths up to powers of two, which wastes more than holes do.)

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use range_alloc::RangeAllocator;

use super::NodeKind;
use crate::datapath::abi::{CHUNK_UNITS, CHUNK_VALUE};
use crate::datapath::mapped::Mapped;
use crate::datapath::sys::{self, page_size};

/// The units of a chunk for nodes of one kind.
struct Region {
    runs: RangeAllocator<u32>,
    /// Units of live nodes.
    live: usize,
    /// Upper bound of the longest free run, in units.
    longest: usize,
}

impl Region {
    fn new(units: Range<u32>) -> Self {
        Self { longest: units.len(), runs: RangeAllocator::new(units), live: 0 }
    }

    fn units(&self) -> usize {
        self.runs.initial_range().len()
    }

    fn allocate(&mut self, units: usize) -> Option<u32> {
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

/// A chunk: a map, mapped into the daemon.
pub(super) struct Chunk {
    map: OwnedFd,
    mapped: Arc<Mapped>,
    shared: Region,
    named: Region,
    /// Whether a compaction moves nodes out of it. No node is stored in it meanwhile.
    pub is_draining: bool,
    /// Whether a compaction added it for the nodes that it moves. It is not drained meanwhile.
    pub is_filling: bool,
}

impl Chunk {
    /// Creates a map with `shared` units for shared nodes and the rest for named ones. Unit 0 of the `first` chunk is never used.
    pub(super) fn new(shared: usize, first: bool) -> io::Result<Self> {
        // The same type and sizes as the inner map in maps.h; the outer map refuses others.
        let map = sys::map_create(c"edns_chunk", CHUNK_VALUE as u32)?;
        let mapped = Mapped::new(map.as_fd(), CHUNK_VALUE.next_multiple_of(page_size()))?;
        let split = shared as u32;
        Ok(Self {
            map,
            mapped: Arc::new(mapped),
            shared: Region::new(u32::from(first)..split.max(first.into())),
            named: Region::new(split..CHUNK_UNITS as u32),
            is_draining: false,
            is_filling: false,
        })
    }

    pub(super) fn map(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }

    pub(super) const fn mapped(&self) -> &Arc<Mapped> {
        &self.mapped
    }

    /// Allocates a run; returns its first unit.
    pub(super) fn allocate(&mut self, kind: NodeKind, units: usize) -> Option<u32> {
        match kind {
            NodeKind::Shared => self.shared.allocate(units),
            NodeKind::Named if self.is_draining => None,
            NodeKind::Named => self.named.allocate(units),
        }
    }

    /// Counts the node at a unit as retired; returns its kind.
    pub(super) fn retire(&mut self, unit: usize, units: usize) -> NodeKind {
        let kind = if self.is_named(unit) { NodeKind::Named } else { NodeKind::Shared };
        self.region(kind).live -= units;
        kind
    }

    /// Frees a run that no program reads any more.
    pub(super) fn free(&mut self, unit: usize, units: usize) {
        let kind = if self.is_named(unit) { NodeKind::Named } else { NodeKind::Shared };
        let region = self.region(kind);
        region.runs.free_range(unit as u32..(unit + units) as u32);
        region.longest = region.units();
    }

    const fn region(&mut self, kind: NodeKind) -> &mut Region {
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

    /// Units of live named nodes.
    pub(super) const fn live_named(&self) -> usize {
        self.named.live
    }

    /// Whether moving its nodes frees at least an eighth of its units.
    pub(super) fn is_sparse(&self) -> bool {
        self.named.live * 8 < self.named.units() * 7
    }

    /// Whether it holds named nodes, including retired ones.
    pub(super) fn has_named(&self) -> bool {
        self.named.units() > 0 && !self.named.runs.is_empty()
    }

    /// Runs of units that hold adjacent named nodes, including retired ones.
    pub(super) fn named_runs(&self) -> impl Iterator<Item = Range<u32>> {
        self.named.runs.allocated_ranges()
    }

    /// Whether it holds no nodes, not even retired ones.
    pub(super) fn is_empty(&self) -> bool {
        [&self.shared, &self.named].into_iter().all(|region| region.units() == 0 || region.runs.is_empty())
    }
}
