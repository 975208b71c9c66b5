//! Reads names and answers from the maps while another thread writes them.
//!
//! A reader follows index words to nodes that never change, as programs do. Programs are protected by the RCU grace period that
//! the writer waits for; a reader is protected by a lock. The writer takes that lock only for a moment before it reuses memory,
//! and not while it waits for programs, so it never delays readers for long.

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
    /// The name in the maps.
    pub name: Name,
    /// Whether it is the answer of the child node, for absent names one label below `name`, and not for `name` itself.
    pub is_below: bool,
    /// The qtype; [`ANY_TYPE`] for all types that the name does not list.
    pub qtype: u16,
    /// The numbers of records in the answer, authority and additional section, and the records in wire format, as they follow
    /// the question. None if the query passes.
    pub answer: Option<([u16; 3], Vec<u8>)>,
}

/// Reads the maps, from any thread. Clones share one state.
#[derive(Clone)]
pub struct Reader(Arc<Shared>);

struct Shared {
    view: RwLock<View>,
    names: AtomicUsize,
    max_names: usize,
    units: AtomicUsize,
    rekeys: AtomicU64,
}

/// The mapped memory that readers use.
pub(super) struct View {
    index: Arc<Mapped>,
    area: Area,
    chunks: Vec<Option<Arc<Mapped>>>,
}

impl View {
    /// Sets or removes a chunk.
    pub(super) fn set_chunk(&mut self, number: usize, chunk: Option<Arc<Mapped>>) {
        if self.chunks.len() <= number {
            self.chunks.resize_with(number + 1, || None);
        }
        self.chunks[number] = chunk;
    }

    /// Sets the area that the index moved to.
    pub(super) const fn set_area(&mut self, area: Area) {
        self.area = area;
    }

    /// The node at a ref; None for ref 0.
    fn node(&self, at: u32) -> Option<Stored<'_>> {
        let (chunk, unit) = (at as usize / CHUNK_UNITS, at as usize % CHUNK_UNITS);
        let chunk = self.chunks.get(chunk)?.as_ref().filter(|_| at != 0)?;
        // SAFETY: a ref leads to a node that does not change and stays mapped while the view is locked.
        Some(unsafe { Stored::read(chunk.as_ptr().add(unit * UNIT)) })
    }

    fn nodes(&self, slot: usize, slots: usize) -> Option<impl Iterator<Item = Stored<'_>>> {
        Some(refs_in(&self.index, self.area, slot, slots)?.filter_map(|at| self.node(at)))
    }

    fn push(&self, records: &mut Vec<Record>, name: &Name, is_below: bool, stored: Stored<'_>) {
        let own: Vec<u16> = stored.types().map(|(t, _)| t).collect();
        let fallback = self.node(stored.refs().fallback);
        // Types of the node hide those of its fallback.
        let inherited = fallback.iter().flat_map(Stored::types).filter(|(t, _)| !own.contains(t));
        for (qtype, answer) in stored.types().chain(inherited) {
            let answer = answer.map(|a| (a.counts(), a.bytes().to_vec()));
            records.push(Record { name: name.clone(), is_below, qtype, answer });
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

    /// Locks readers out, for the writer. Readers that come later see the writer's changes.
    pub(super) fn lock(&self) -> RwLockWriteGuard<'_, View> {
        self.0.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn view(&self) -> RwLockReadGuard<'_, View> {
        self.0.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes the writer's counts.
    pub(super) fn set_counts(&self, names: usize, units: usize) {
        self.0.names.store(names, Ordering::Relaxed);
        self.0.units.store(units, Ordering::Relaxed);
    }

    /// Number of names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.names.load(Ordering::Relaxed)
    }

    /// Whether the maps hold no name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The largest number of names (`MaxRecords`).
    #[must_use]
    pub fn max_len(&self) -> usize {
        self.0.max_names
    }

    /// Memory of the live nodes, in units of 64 bytes.
    #[must_use]
    pub fn units(&self) -> usize {
        self.0.units.load(Ordering::Relaxed)
    }

    /// Number of changes of the hash key so far.
    #[must_use]
    pub fn rekeys(&self) -> u64 {
        self.0.rekeys.load(Ordering::Relaxed)
    }

    /// Publishes how often the hash key was changed.
    pub(super) fn set_rekeys(&self, rekeys: u64) {
        self.0.rekeys.store(rekeys, Ordering::Relaxed);
    }

    /// Kernel memory of index and arena, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        let view = self.view();
        view.index.len() + view.chunks.iter().flatten().count() * CHUNK_VALUE
    }

    /// The names in `slots` slots of the index, starting with `slot`; None if `slot` is after the last one. Between two calls the
    /// writer may move names to other slots.
    #[must_use]
    pub fn names(&self, slot: usize, slots: usize) -> Option<Vec<Name>> {
        Some(self.view().nodes(slot, slots)?.filter_map(|stored| stored.name()).collect())
    }

    /// The records in `slots` slots of the index, starting with `slot`; None if `slot` is after the last one. Between two calls
    /// the writer may move names to other slots.
    #[must_use]
    pub fn records(&self, slot: usize, slots: usize) -> Option<Vec<Record>> {
        let view = self.view();
        let mut records = Vec::new();
        for stored in view.nodes(slot, slots)? {
            let Some(name) = stored.name() else { continue };
            let refs = stored.refs();
            if stored.types().next().is_none() && refs.fallback == 0 {
                records.push(Record { name: name.clone(), is_below: false, qtype: ANY_TYPE, answer: None });
            }
            view.push(&mut records, &name, false, stored);
            if let Some(child) = view.node(refs.child) {
                view.push(&mut records, &name, true, child);
            }
        }
        Some(records)
    }
}
