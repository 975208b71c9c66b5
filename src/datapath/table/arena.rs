//! The memory that nodes lie in: maps of equal size in `edns_chunks`, mapped into the daemon, made as they are needed and given
//! back when they are empty.
//!
//! A ref names a unit: chunk * [`CHUNK_UNITS`] + unit within it. Ref 0 is none, so unit 0 of chunk 0 is never given out.
//!
//! # Two kinds of nodes
//! One index word leads to a name's node, so it can move: its copy is stored elsewhere, the word changes, the old one is retired.
//! Shared nodes are referred to by any number of others and stay where they are. They lie apart, in the first chunk's front and
//! then in chunks of their own, so that none keeps a chunk of named nodes from becoming empty.
//!
//! # How much memory
//! Free runs are joined and the best fit is taken, chunk by chunk from the first. Where names come and go, or change their size,
//! that leaves holes; so named nodes move out of the emptiest chunks ([`Arena::take_sparsest`]) before chunks are more than
//! 1.5 times what is live and two more. They move until an eighth is free: then a quarter of what is live has to go before they
//! have to again, so each change pays for a copy or two at the most.

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

/// Why a node got no memory.
#[derive(Debug, thiserror::Error)]
pub enum ArenaError {
    /// As much is live as may be.
    #[error("the record maps hold their {} MiB", (UNITS_MAX * UNIT) >> 20)]
    Exhausted,
    /// The kernel gave no memory for a further map.
    #[error("the kernel made no further record map: {0}")]
    Kernel(#[from] io::Error),
}

/// Whether an index word leads to a node, so that it can move, or other nodes refer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NodeKind {
    Shared,
    Named,
}

/// Units retired or gone below this number are nothing to wait or to move nodes for.
const RECLAIM_MIN: usize = 4096;
/// Units of the first chunk that are for shared nodes: most zones have a few.
const SHARED_FIRST: usize = CHUNK_UNITS / 32;
/// Chunks that are for nodes on the move alone: where all others are full, they get no further without.
const CHUNKS_SPARE: usize = CHUNKS / 16;
/// Units that may be live: a quarter of all is for what programs may still read, and for holes.
pub(super) const UNITS_MAX: usize = CHUNKS * CHUNK_UNITS / 4 * 3;

/// The allocator. Single writer; programs read at any time.
pub(super) struct Arena {
    outer: OwnedFd,
    /// Who reads the nodes beside programs.
    reader: Reader,
    /// By number; None where there is none at present.
    chunks: Vec<Option<Chunk>>,
    /// Runs no longer referred to, which programs may still read.
    retired: Vec<(u32, usize)>,
    retired_units: usize,
    /// Units that became free since nodes moved last, other than by moving.
    gone_units: usize,
    /// Units of nodes, by [`NodeKind`].
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
            gone_units: 0,
            live: [0; 2],
        };
        arena.add_chunk(SHARED_FIRST)?;
        Ok(arena)
    }

    /// Units of nodes that are referred to.
    pub(super) const fn live_units(&self) -> usize {
        self.live[0] + self.live[1]
    }

    /// Copies a node into the arena.
    ///
    /// # Errors
    /// [`ArenaError::Exhausted`] where there is no run for it; nodes that move, or a wait, may make one.
    pub(super) fn store(&mut self, kind: NodeKind, node: &[u8]) -> Result<u32, ArenaError> {
        let at = self.take(kind, node.len().div_ceil(UNIT), kind == NodeKind::Named)?;
        // SAFETY: the run is within its chunk and free: no program and no other node refers to it.
        unsafe { std::ptr::copy_nonoverlapping(node.as_ptr(), self.ptr(at), node.len()) };
        Ok(at)
    }

    /// Copies a named node, of which the caller retires the original.
    pub(super) fn copy(&mut self, from: u32, octets: usize) -> Result<u32, ArenaError> {
        let at = self.take(NodeKind::Named, octets.div_ceil(UNIT), false)?;
        // SAFETY: both runs are within their chunks, and the new one is free, so they are apart.
        unsafe { std::ptr::copy_nonoverlapping(self.ptr(from), self.ptr(at), octets) };
        Ok(at)
    }

    /// A node that nothing refers to any more; its memory is used again when no program can be reading it.
    pub(super) fn retire(&mut self, at: u32, octets: usize) {
        self.gone_units += octets.div_ceil(UNIT);
        self.retire_moved(at, octets);
    }

    /// The same for a node whose copy is in its place.
    pub(super) fn retire_moved(&mut self, at: u32, octets: usize) {
        let units = octets.div_ceil(UNIT);
        self.retired.push((at, units));
        self.retired_units += units;
        let chunk = self.chunks[at as usize / CHUNK_UNITS].as_mut().expect("a node's chunk is there");
        self.live[chunk.retire(at as usize % CHUNK_UNITS, units) as usize] -= units;
    }

    /// From a node on, to the end of its chunk's value.
    pub(super) fn octets_at(&self, at: u32) -> &[u8] {
        let len = CHUNK_VALUE - at as usize % CHUNK_UNITS * UNIT;
        // SAFETY: within the mapping; a stored node changes only by &mut self, as when it is retired and reused.
        unsafe { std::slice::from_raw_parts(self.ptr(at), len) }
    }

    /// Whether so much is retired that it is worth a wait.
    pub(super) fn has_retired_much(&self) -> bool {
        self.retired_units > RECLAIM_MIN.max(self.live_units() / 8)
    }

    /// Whether it is worth it that nodes move: not again before enough has gone.
    pub(super) fn may_compact(&self) -> bool {
        self.gone_units > RECLAIM_MIN.max(self.live_units() / 8)
    }

    /// Whether there are more chunks than what is live accounts for.
    pub(super) fn is_sparse(&self) -> bool {
        self.may_compact() && self.named_units() > most(self.live[NodeKind::Named as usize])
    }

    /// The runs of the emptiest chunk of named nodes, which shall move elsewhere; None where enough is free for the chunks that
    /// are in use. Nothing is stored there until [`Self::reclaim`].
    pub(super) fn take_sparsest(&mut self) -> Option<Vec<(u32, usize)>> {
        let in_use: usize =
            self.present().filter(|(_, c)| !c.is_leaving && c.has_named()).map(|(_, c)| c.named()).sum();
        if in_use <= enough(self.live[NodeKind::Named as usize]) {
            return None;
        }
        let stays = |c: &Chunk| c.is_leaving || c.is_arriving;
        let candidates = self.present().filter(|(_, c)| !stays(c) && c.has_named() && c.is_sparse());
        let (number, _) = candidates.min_by_key(|(_, c)| c.live_named())?;
        let chunk = self.chunks[number].as_mut()?;
        chunk.is_leaving = true;
        Some(chunk.named_runs().map(|run| ((number * CHUNK_UNITS) as u32 + run.start, run.len())).collect())
    }

    /// Nodes have moved as far as they do.
    pub(super) fn end_compaction(&mut self) {
        self.gone_units = 0;
    }

    /// Waits until no program can read what was retired, and frees it. Takes as long as an RCU grace period, some 10 ms.
    pub(super) fn reclaim(&mut self) -> io::Result<()> {
        let first = self.chunks[0].as_ref().expect("it is never given back");
        self.publish(0, first.map())?;
        // Nor any reader: who has just begun finds none of it.
        drop(self.reader.lock());
        self.retired_units = 0;
        for (at, units) in std::mem::take(&mut self.retired) {
            let chunk = self.chunks[at as usize / CHUNK_UNITS].as_mut().expect("a node's chunk is there");
            chunk.give(at as usize % CHUNK_UNITS, units);
        }
        self.chunks.iter_mut().flatten().for_each(|chunk| (chunk.is_leaving, chunk.is_arriving) = (false, false));
        Ok(())
    }

    /// Gives chunks back to the kernel that were empty at the last [`Self::reclaim`], as far as there are too many.
    pub(super) fn give_back(&mut self) {
        let live = self.live[NodeKind::Named as usize];
        let mut named = self.named_units();
        let least = if named > most(live) { enough(live) } else { named };
        let empty =
            |(number, chunk): (usize, &Chunk)| (number > 0 && chunk.is_empty()).then_some((number, chunk.named()));
        let mut given = Vec::new();
        for (number, units) in self.present().filter_map(empty) {
            // A chunk of shared nodes has none that are named.
            if units == 0 || named > least {
                named -= units;
                given.push(number);
            }
        }
        // The kernel waits for programs at each, so all are taken out at the same time.
        for numbers in given.chunks(THREADS_MAX) {
            std::thread::scope(|scope| {
                for number in numbers {
                    let take_out = || self.withdraw(*number as u32);
                    if std::thread::Builder::new().spawn_scoped(scope, take_out).is_err() {
                        self.withdraw(*number as u32);
                    }
                }
            });
        }
        for number in given {
            self.reader.lock().set_chunk(number, None);
            self.chunks[number] = None;
        }
    }

    /// Changes what a stored node says of the names below it, while programs read it.
    pub(super) fn set_below(&mut self, at: u32, child: u32, deep: u32) {
        // Readers take a node for what does not change.
        let _none_reads = self.reader.lock();
        for (offset, to) in [(offset_of!(edns_node, child), child), (offset_of!(edns_node, deep), deep)] {
            // SAFETY: a field of a node, aligned as that is; whoever else uses it at this time is a program, which loads it whole.
            let field = unsafe { AtomicU32::from_ptr(self.ptr(at).add(offset).cast()) };
            // The octets of what it refers to come before it.
            field.store(to, Ordering::Release);
        }
    }

    fn present(&self) -> impl Iterator<Item = (usize, &Chunk)> {
        self.chunks.iter().enumerate().filter_map(|(number, chunk)| Some((number, chunk.as_ref()?)))
    }

    /// Units that there are for named nodes.
    fn named_units(&self) -> usize {
        self.present().map(|(_, chunk)| chunk.named()).sum()
    }

    fn ptr(&self, at: u32) -> *mut u8 {
        let (chunk, unit) = (at as usize / CHUNK_UNITS, at as usize % CHUNK_UNITS);
        let chunk = self.chunks[chunk].as_ref().expect("a node's chunk is there");
        // SAFETY: a ref's unit is within the chunk.
        unsafe { chunk.mapped().as_ptr().add(unit * UNIT) }
    }

    /// A free run. `new` nodes get no further chunk where nodes could move instead.
    fn take(&mut self, kind: NodeKind, units: usize, new: bool) -> Result<u32, ArenaError> {
        let mut found = self.find(kind, units);
        if found.is_none() {
            let live = self.live[NodeKind::Named as usize];
            let is_enough = new && self.may_compact() && self.named_units() + CHUNK_UNITS > most(live);
            let chunks = if new || kind == NodeKind::Shared { CHUNKS - CHUNKS_SPARE } else { CHUNKS };
            if is_enough || self.present().count() >= chunks {
                return Err(ArenaError::Exhausted);
            }
            let number = self.add_chunk(if kind == NodeKind::Shared { CHUNK_UNITS } else { 0 })?;
            // While it is the emptiest by far: nodes would go from one new chunk to the next until there are no more.
            self.chunks[number].as_mut().expect("it was made").is_arriving = !new && kind == NodeKind::Named;
            found = self.find(kind, units);
        }
        let at = found.ok_or(ArenaError::Exhausted)?;
        self.live[kind as usize] += units;
        Ok(at)
    }

    fn find(&mut self, kind: NodeKind, units: usize) -> Option<u32> {
        self.chunks.iter_mut().enumerate().find_map(|(number, chunk)| {
            let unit = chunk.as_mut()?.take(kind, units)?;
            Some((number * CHUNK_UNITS) as u32 + unit)
        })
    }

    /// Makes a chunk with so many units for shared nodes; returns its number.
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

    /// Puts a chunk into the outer map. The kernel waits until every program that runs now is done before it returns
    /// (`maybe_wait_bpf_programs`), so that who updates a map of maps knows that nothing uses what was there before.
    fn publish(&self, chunk: u32, map: BorrowedFd<'_>) -> io::Result<()> {
        sys::map_of_maps_update(self.outer.as_fd(), chunk, map)
    }

    /// Takes a chunk out of the outer map. No program holds a ref into it.
    fn withdraw(&self, chunk: u32) {
        if let Err(e) = sys::map_of_maps_delete(self.outer.as_fd(), chunk) {
            // Then the map lives until another one takes its place.
            log::debug!("taking out a record map: {e}");
        }
    }
}

/// System calls that wait at the same time.
const THREADS_MAX: usize = 32;

/// Units that chunks of named nodes may have for so many that are live; shared nodes have [`SHARED_FIRST`] beside.
const fn most(live: usize) -> usize {
    live + live / 2 + CHUNK_UNITS / 4 * 7
}

/// Units that chunks of named nodes have at least where nodes have moved.
const fn enough(live: usize) -> usize {
    live + live / 8 + CHUNK_UNITS
}
