//! What the maps hold, read back out of them while another thread changes them.
//!
//! A reader stands to the table as the kernel's programs do: it follows index words to nodes that never change. Where programs
//! have a grace period, it has a lock, which the writer takes for a moment before it uses memory again. So whoever reads is
//! never held up by a writer that waits for programs.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::encode::Stored;
use super::index::{Area, refs_in};
use crate::datapath::abi::{CHUNK_UNITS, CHUNK_VALUE, UNIT};
use crate::datapath::mapped::Mapped;
use crate::zone::name::Name;
use crate::zone::node::ANY_TYPE;

/// An answer in the maps.
#[derive(Debug, Clone)]
pub struct Record {
    /// The owner.
    pub name: Name,
    /// Whether this is what holds for the names below, in place of the name itself.
    pub below: bool,
    /// The type; [`ANY_TYPE`] for all that the name does not list.
    pub qtype: u16,
    /// Records in answer, authority and additional section, with their octets behind the question; None: the question passes.
    pub answer: Option<([u16; 3], Vec<u8>)>,
}

/// Reads the maps, from any thread.
#[derive(Clone)]
pub struct Reader(Arc<Shared>);

struct Shared {
    view: RwLock<View>,
    names: AtomicUsize,
    max_names: usize,
    units: AtomicUsize,
    rekeys: AtomicU64,
}

/// The memory in use.
pub(super) struct View {
    index: Arc<Mapped>,
    area: Area,
    chunks: Vec<Option<Arc<Mapped>>>,
}

impl View {
    /// Puts a chunk there, or none.
    pub(super) fn set_chunk(&mut self, number: usize, chunk: Option<Arc<Mapped>>) {
        if self.chunks.len() <= number {
            self.chunks.resize_with(number + 1, || None);
        }
        self.chunks[number] = chunk;
    }

    /// The index has moved.
    pub(super) const fn set_area(&mut self, area: Area) {
        self.area = area;
    }

    /// The node at a ref; None for ref 0.
    fn node(&self, at: u32) -> Option<Stored<'_>> {
        let (chunk, unit) = (at as usize / CHUNK_UNITS, at as usize % CHUNK_UNITS);
        let chunk = self.chunks.get(chunk)?.as_ref().filter(|_| at != 0)?;
        // SAFETY: a ref leads to a node, which does not change and stays mapped for as long as the view is locked.
        Some(unsafe { Stored::read(chunk.as_ptr().add(unit * UNIT)) })
    }

    fn nodes(&self, slot: usize, slots: usize) -> Option<impl Iterator<Item = Stored<'_>>> {
        Some(refs_in(&self.index, self.area, slot, slots)?.filter_map(|at| self.node(at)))
    }

    fn push(&self, records: &mut Vec<Record>, name: &Name, below: bool, stored: Stored<'_>) {
        let own: Vec<u16> = stored.types().map(|(t, _)| t).collect();
        let fallback = self.node(stored.refs().fallback);
        // What the node lists itself hides what its fallback lists.
        let inherited = fallback.iter().flat_map(Stored::types).filter(|(t, _)| !own.contains(t));
        for (qtype, answer) in stored.types().chain(inherited) {
            let answer = answer.map(|a| (a.counts(), a.bytes().to_vec()));
            records.push(Record { name: name.clone(), below, qtype, answer });
        }
    }
}

impl Reader {
    pub(super) fn new(index: Arc<Mapped>, area: Area, max_names: usize) -> Self {
        let view = View { index, area, chunks: Vec::new() };
        Self(Arc::new(Shared {
            view: RwLock::new(view),
            names: AtomicUsize::new(0),
            max_names,
            units: AtomicUsize::new(0),
            rekeys: AtomicU64::new(0),
        }))
    }

    /// For the writer, who changes what readers see: none of them reads anything that was there before.
    pub(super) fn lock(&self) -> RwLockWriteGuard<'_, View> {
        self.0.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn view(&self) -> RwLockReadGuard<'_, View> {
        self.0.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what the writer has counted.
    pub(super) fn set_counts(&self, names: usize, units: usize) {
        self.0.names.store(names, Ordering::Relaxed);
        self.0.units.store(units, Ordering::Relaxed);
    }

    /// How many names there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.names.load(Ordering::Relaxed)
    }

    /// Whether there is no name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many names there may be.
    #[must_use]
    pub fn max_len(&self) -> usize {
        self.0.max_names
    }

    /// Units of memory that nodes take at present.
    #[must_use]
    pub fn units(&self) -> usize {
        self.0.units.load(Ordering::Relaxed)
    }

    /// How often the names got another hash key.
    #[must_use]
    pub fn rekeys(&self) -> u64 {
        self.0.rekeys.load(Ordering::Relaxed)
    }

    /// Takes note that they got another one.
    pub(super) fn set_rekeys(&self, rekeys: u64) {
        self.0.rekeys.store(rekeys, Ordering::Relaxed);
    }

    /// Octets of kernel memory in index and arena.
    #[must_use]
    pub fn memory(&self) -> usize {
        let view = self.view();
        view.index.len() + view.chunks.iter().flatten().count() * CHUNK_VALUE
    }

    /// Names in `slots` slots of the index, from `slot` on; None behind the last one. A name that is put in between may move
    /// all others.
    #[must_use]
    pub fn names(&self, slot: usize, slots: usize) -> Option<Vec<Name>> {
        Some(self.view().nodes(slot, slots)?.filter_map(|stored| stored.name()).collect())
    }

    /// What the index' slots from `slot` on lead to, `slots` of them; None behind the last one.
    #[must_use]
    pub fn records(&self, slot: usize, slots: usize) -> Option<Vec<Record>> {
        let view = self.view();
        let mut records = Vec::new();
        for stored in view.nodes(slot, slots)? {
            let Some(name) = stored.name() else { continue };
            let refs = stored.refs();
            if stored.types().next().is_none() && refs.fallback == 0 {
                records.push(Record { name: name.clone(), below: false, qtype: ANY_TYPE, answer: None });
            }
            view.push(&mut records, &name, false, stored);
            if let Some(child) = view.node(refs.child) {
                view.push(&mut records, &name, true, child);
            }
        }
        Some(records)
    }
}
