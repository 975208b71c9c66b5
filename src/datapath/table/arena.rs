//! The arena: the memory of the nodes. It consists of chunks, which are maps of equal size in `edns_chunks`, mapped into the
//! daemon. Chunks are created on demand and released when they are empty.
//!
//! A ref is the number of a node's first unit: chunk * [`CHUNK_UNITS`] + unit within the chunk. Ref 0 means no node, so unit 0 of
//! chunk 0 is never allocated.
//!
//! # Two kinds of nodes
//! A named node can move, since only one index word refers to it: a copy is stored elsewhere, the word changes, and the original
//! is retired. A shared node can't move, since any number of nodes refer to it. Shared nodes have regions of their own, at the
//! start of the first chunk and then in chunks of their own, so that they never keep a chunk of named nodes from becoming empty.
//!
//! # How much memory
//! Adjacent free runs are merged, and allocation takes the best fit, chunk by chunk from the first. Changes leave holes. So named
//! nodes move out of the emptiest chunks ([`Arena::drain_sparsest`]) before the chunks exceed 1.5 times the live nodes plus 1.75
//! chunks. They move until an eighth is free. The next compaction then comes only after a quarter of the live nodes is freed, so
//! a change costs one or two copies on average.

mod chunk;

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use self::chunk::Chunk;
use super::reader::Reader;
use crate::datapath::abi::{CHUNK_UNITS, CHUNK_VALUE, CHUNKS, UNIT, edns_node};
use crate::datapath::sys;

/// Why the arena has no memory for a node.
#[derive(Debug, thiserror::Error)]
pub enum ArenaError {
    /// The live nodes take the largest size that the arena may have.
    #[error("the record maps are full: {} MiB is their limit", (UNITS_MAX * UNIT) >> 20)]
    Exhausted,
    /// The kernel did not create another map.
    #[error("creating a record map: {0}")]
    Kernel(#[from] io::Error),
}

/// The kind of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NodeKind {
    /// Other nodes refer to it; it can't move.
    Shared,
    /// An index word refers to it; it can move.
    Named,
}

/// Minimum number of retired or freed units before a reclaim or a compaction.
const RECLAIM_MIN: usize = 4096;
/// Units of the first chunk for shared nodes: most zones have only a few.
const SHARED_FIRST: usize = CHUNK_UNITS / 32;
/// Chunks reserved for compaction, which needs free memory even if all other chunks are full.
const CHUNKS_SPARE: usize = CHUNKS / 16;
/// Limit of live units. The remaining quarter is for retired nodes and for holes.
pub(super) const UNITS_MAX: usize = CHUNKS * CHUNK_UNITS / 4 * 3;

/// The allocator of the nodes' memory. It has a single writer; programs read the nodes at any time.
pub(super) struct Arena {
    outer: OwnedFd,
    /// The user-space readers of the nodes.
    reader: Reader,
    /// Chunks by number; None for a number that is not in use.
    chunks: Vec<Option<Chunk>>,
    /// Runs without references, which programs may still read: ref and units.
    retired: Vec<(u32, usize)>,
    retired_units: usize,
    /// Units retired since the last compaction, without those of moved nodes.
    freed_units: usize,
    /// Units of live nodes, by [`NodeKind`].
    live: [usize; 2],
}

impl Arena {
    /// An arena over the map `edns_chunks`, with one chunk.
    pub(super) fn new(outer: OwnedFd, reader: Reader) -> Result<Self, ArenaError> {
        let mut arena = Self {
            outer,
            reader,
            chunks: Vec::new(),
            retired: Vec::new(),
            retired_units: 0,
            freed_units: 0,
            live: [0; 2],
        };
        arena.add_chunk(SHARED_FIRST)?;
        Ok(arena)
    }

    pub(super) const fn live_units(&self) -> usize {
        self.live[0] + self.live[1]
    }

    /// Copies a node into the arena.
    ///
    /// # Errors
    /// [`ArenaError::Exhausted`] if no free run is long enough. A compaction or [`Self::reclaim`] may free one.
    pub(super) fn store(&mut self, kind: NodeKind, node: &[u8]) -> Result<u32, ArenaError> {
        let at = self.allocate(kind, node.len().div_ceil(UNIT), kind == NodeKind::Named)?;
        // SAFETY: the run is within its chunk and free: no program and no other node refers to it.
        unsafe { std::ptr::copy_nonoverlapping(node.as_ptr(), self.ptr(at), node.len()) };
        Ok(at)
    }

    /// Copies a named node of `octets` bytes within the arena. The caller then retires the original.
    pub(super) fn copy(&mut self, from: u32, octets: usize) -> Result<u32, ArenaError> {
        let at = self.allocate(NodeKind::Named, octets.div_ceil(UNIT), false)?;
        // SAFETY: both runs are within their chunks, and the new one is free, so they don't overlap.
        unsafe { std::ptr::copy_nonoverlapping(self.ptr(from), self.ptr(at), octets) };
        Ok(at)
    }

    /// Retires a node without references. Its memory is reused after [`Self::reclaim`], when no program can read it any more.
    pub(super) fn retire(&mut self, at: u32, octets: usize) {
        self.freed_units += octets.div_ceil(UNIT);
        self.retire_moved(at, octets);
    }

    /// Like [`Self::retire`], for the original of a node that was moved.
    pub(super) fn retire_moved(&mut self, at: u32, octets: usize) {
        let units = octets.div_ceil(UNIT);
        self.retired.push((at, units));
        self.retired_units += units;
        let chunk = self.chunks[at as usize / CHUNK_UNITS].as_mut().expect("the chunk of a node exists");
        self.live[chunk.retire(at as usize % CHUNK_UNITS, units) as usize] -= units;
    }

    /// The bytes from a node's start to the end of its chunk's value.
    pub(super) fn octets_at(&self, at: u32) -> &[u8] {
        let len = CHUNK_VALUE - at as usize % CHUNK_UNITS * UNIT;
        // SAFETY: within the mapping. Stored nodes and free runs change only through &mut self.
        unsafe { std::slice::from_raw_parts(self.ptr(at), len) }
    }

    /// Whether enough units are retired to be worth [`Self::reclaim`].
    pub(super) fn should_reclaim(&self) -> bool {
        self.retired_units > RECLAIM_MIN.max(self.live_units() / 8)
    }

    /// Whether enough units were freed since the last compaction to be worth another.
    pub(super) fn may_compact(&self) -> bool {
        self.freed_units > RECLAIM_MIN.max(self.live_units() / 8)
    }

    /// Whether the chunks hold so few live nodes that a compaction is due.
    pub(super) fn is_sparse(&self) -> bool {
        self.may_compact() && self.named_units() > units_max(self.live[NodeKind::Named as usize])
    }

    /// Starts to drain the emptiest chunk of named nodes: returns its runs (ref and units), whose nodes the caller moves.
    /// Nothing is stored in the chunk until [`Self::reclaim`]. None if the chunks are compact enough.
    pub(super) fn drain_sparsest(&mut self) -> Option<Vec<(u32, usize)>> {
        let in_use: usize =
            self.present().filter(|(_, c)| !c.is_draining && c.has_named()).map(|(_, c)| c.named()).sum();
        if in_use <= compacted_units(self.live[NodeKind::Named as usize]) {
            return None;
        }
        let is_busy = |c: &Chunk| c.is_draining || c.is_filling;
        let candidates = self.present().filter(|(_, c)| !is_busy(c) && c.has_named() && c.is_sparse());
        let (number, _) = candidates.min_by_key(|(_, c)| c.live_named())?;
        let chunk = self.chunks[number].as_mut()?;
        chunk.is_draining = true;
        Some(chunk.named_runs().map(|run| ((number * CHUNK_UNITS) as u32 + run.start, run.len())).collect())
    }

    /// Ends a compaction.
    pub(super) fn end_compaction(&mut self) {
        self.freed_units = 0;
    }

    /// Waits for an RCU grace period, some 10 ms, after which no program can read the retired nodes. Then frees their memory.
    pub(super) fn reclaim(&mut self) -> io::Result<()> {
        let first = self.chunks[0].as_ref().expect("the first chunk is never released");
        self.publish(0, first.map())?;
        // Waits for readers that still hold the lock; later ones find no retired node.
        drop(self.reader.lock());
        self.retired_units = 0;
        for (at, units) in std::mem::take(&mut self.retired) {
            let chunk = self.chunks[at as usize / CHUNK_UNITS].as_mut().expect("the chunk of a node exists");
            chunk.free(at as usize % CHUNK_UNITS, units);
        }
        self.chunks.iter_mut().flatten().for_each(|chunk| (chunk.is_draining, chunk.is_filling) = (false, false));
        Ok(())
    }

    /// Releases surplus chunks that have been empty since the last [`Self::reclaim`].
    pub(super) fn release_chunks(&mut self) {
        let live = self.live[NodeKind::Named as usize];
        let mut named = self.named_units();
        let least = if named > units_max(live) { compacted_units(live) } else { named };
        let empty =
            |(number, chunk): (usize, &Chunk)| (number > 0 && chunk.is_empty()).then_some((number, chunk.named()));
        let mut released = Vec::new();
        for (number, units) in self.present().filter_map(empty) {
            // A chunk for shared nodes has no units for named ones.
            if units == 0 || named > least {
                named -= units;
                released.push(number);
            }
        }
        // The kernel waits for a grace period at each removal, so threads remove chunks at the same time.
        for numbers in released.chunks(THREADS_MAX) {
            std::thread::scope(|scope| {
                for number in numbers {
                    let unpublish = || self.unpublish(*number as u32);
                    if std::thread::Builder::new().spawn_scoped(scope, unpublish).is_err() {
                        self.unpublish(*number as u32);
                    }
                }
            });
        }
        for number in released {
            self.reader.lock().set_chunk(number, None);
            self.chunks[number] = None;
        }
    }

    /// Changes the refs of a stored node's child and deep node, while programs may read it.
    pub(super) fn set_encloser_refs(&mut self, at: u32, child: u32, deep: u32) {
        // Readers assume immutable nodes: lock them out.
        let _lock = self.reader.lock();
        for (offset, to) in [(offset_of!(edns_node, child), child), (offset_of!(edns_node, deep), deep)] {
            // SAFETY: an aligned field of a node. With readers locked out only programs access it, by loads of the whole field.
            let field = unsafe { AtomicU32::from_ptr(self.ptr(at).add(offset).cast()) };
            // The bytes of the node that it refers to become visible first.
            field.store(to, Ordering::Release);
        }
    }

    fn present(&self) -> impl Iterator<Item = (usize, &Chunk)> {
        self.chunks.iter().enumerate().filter_map(|(number, chunk)| Some((number, chunk.as_ref()?)))
    }

    /// Units of all chunks that are for named nodes.
    fn named_units(&self) -> usize {
        self.present().map(|(_, chunk)| chunk.named()).sum()
    }

    fn ptr(&self, at: u32) -> *mut u8 {
        let (chunk, unit) = (at as usize / CHUNK_UNITS, at as usize % CHUNK_UNITS);
        let chunk = self.chunks[chunk].as_ref().expect("the chunk of a node exists");
        // SAFETY: a ref's unit is within the chunk.
        unsafe { chunk.mapped().as_ptr().add(unit * UNIT) }
    }

    /// Allocates a run. A `new` node gets no additional chunk if a compaction could free memory instead.
    fn allocate(&mut self, kind: NodeKind, units: usize, new: bool) -> Result<u32, ArenaError> {
        let mut found = self.find(kind, units);
        if found.is_none() {
            let live = self.live[NodeKind::Named as usize];
            let should_compact = new && self.may_compact() && self.named_units() + CHUNK_UNITS > units_max(live);
            let chunks = if new || kind == NodeKind::Shared { CHUNKS - CHUNKS_SPARE } else { CHUNKS };
            if should_compact || self.present().count() >= chunks {
                return Err(ArenaError::Exhausted);
            }
            let number = self.add_chunk(if kind == NodeKind::Shared { CHUNK_UNITS } else { 0 })?;
            // Mark the chunk as a target: as the emptiest chunk it would be drained next.
            self.chunks[number].as_mut().expect("the chunk was added").is_filling = !new && kind == NodeKind::Named;
            found = self.find(kind, units);
        }
        let at = found.ok_or(ArenaError::Exhausted)?;
        self.live[kind as usize] += units;
        Ok(at)
    }

    fn find(&mut self, kind: NodeKind, units: usize) -> Option<u32> {
        self.chunks.iter_mut().enumerate().find_map(|(number, chunk)| {
            let unit = chunk.as_mut()?.allocate(kind, units)?;
            Some((number * CHUNK_UNITS) as u32 + unit)
        })
    }

    /// Adds a chunk with `shared` units for shared nodes; returns its number.
    fn add_chunk(&mut self, shared: usize) -> Result<usize, ArenaError> {
        let number = self.chunks.iter().position(Option::is_none).unwrap_or(self.chunks.len());
        let chunk = Chunk::new(shared, number == 0)?;
        self.publish(number as u32, chunk.map())?;
        if number == self.chunks.len() {
            self.chunks.push(None);
        }
        self.reader.lock().set_chunk(number, Some(Arc::clone(chunk.mapped())));
        self.chunks[number] = Some(chunk);
        Ok(number)
    }

    /// Stores a chunk in the outer map. The kernel returns from the update after every program that runs now has ended
    /// (`maybe_wait_bpf_programs`), so an update of a map of maps is also the wait for a grace period.
    fn publish(&self, chunk: u32, map: BorrowedFd<'_>) -> io::Result<()> {
        sys::map_of_maps_update(self.outer.as_fd(), chunk, map)
    }

    /// Removes a chunk from the outer map. No program may have a ref into it.
    fn unpublish(&self, chunk: u32) {
        if let Err(e) = sys::map_of_maps_delete(self.outer.as_fd(), chunk) {
            // The map then stays allocated until its number is reused.
            log::debug!("removing a record map: {e}");
        }
    }
}

/// Most threads that remove chunks at the same time.
const THREADS_MAX: usize = 32;

/// Most units that the chunks of named nodes may have for `live` units of live nodes.
const fn units_max(live: usize) -> usize {
    live + live / 2 + CHUNK_UNITS / 4 * 7
}

/// Units of the chunks of named nodes at which a compaction stops.
const fn compacted_units(live: usize) -> usize {
    live + live / 8 + CHUNK_UNITS
}
