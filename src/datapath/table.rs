//! The zone in the maps: the only writer of index and arena. Each change of a name is one store of an index word, so a
//! program sees the node before or after it and never anything else.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::abi::{CASE_BIT, LINE_WORDS, UNIT};
use super::arena::{Arena, ArenaError, Kind, Mapped, UNITS_MAX};
use super::encode::{EncodeError, Refs, Stored, encode, encoded_len};
use super::index::{Found, Index, map_lines};
use super::settings::Settings;
use crate::zone::cluster::share::Size;
use crate::zone::name::Name;
use crate::zone::node::{Node, ZoneId};

/// Why a name is not in the maps.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// As many names as MaxRecords allows.
    #[error("the record maps are full: MaxRecords allows {0} names; raise it and restart")]
    Full(usize),
    /// Too many names whose hashes are alike.
    #[error("no slot is left for its hash; a restart makes others")]
    Collisions,
    /// No memory for its node.
    #[error(transparent)]
    Arena(#[from] ArenaError),
    /// A node that the maps can't express.
    #[error(transparent)]
    Node(#[from] EncodeError),
}

/// What [`Table::put`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The name is new.
    Added,
    /// Its node is another one now.
    Changed,
    /// It was there already, octet by octet.
    Same,
}

/// What a name's node says of the names below it that have no node of their own; see [`Node::child`] and [`Node::deep`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Below {
    /// Of names one label below.
    pub child: Option<Arc<Node>>,
    /// Of names further below.
    pub deep: Option<Arc<Node>>,
}

/// What makes hashes that nobody can foresee, so that nobody can choose names which collide.
#[derive(Debug, Clone, Copy)]
pub(super) struct HashKey {
    pub seed: u64,
    pub multiplier: u64,
}

impl HashKey {
    pub(super) fn random() -> Self {
        // Odd, so that no two words give the same; large, so that each bit moves many.
        Self { seed: random(), multiplier: random() | 0x8000_0001_0000_0001 }
    }

    /// The hash of `qname_scan` and `suffix_find` in src/bpf. A word's upper bits are mixed into its lower ones first: a
    /// multiplication alone carries them nowhere, and who knows where they stay can cancel them out by the next word.
    fn hash(self, wire: &[u8]) -> u64 {
        wire.chunks(8).fold(self.seed, |hash, octets| {
            let mut word = [0; 8];
            word[..octets.len()].copy_from_slice(octets);
            let word = hash ^ (u64::from_le_bytes(word) | u64::from_ne_bytes([CASE_BIT; 8]));
            (word ^ word >> 32).wrapping_mul(self.multiplier)
        })
    }
}

pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A shared node in the arena, and how many nodes refer to it.
struct Shared {
    at: u32,
    users: usize,
}

/// How many names have so many labels.
struct Depths([usize; 129]);

impl Depths {
    const fn change(&mut self, labels: usize, add: bool) {
        self.0[labels] = if add { self.0[labels] + 1 } else { self.0[labels] - 1 };
    }

    fn min(&self) -> Option<usize> {
        self.0.iter().position(|n| *n > 0)
    }

    fn max(&self) -> Option<usize> {
        self.0.iter().rposition(|n| *n > 0)
    }
}

const _: () = assert!(Size::UNIT == UNIT);

/// The writer.
pub struct Table {
    arena: Arena,
    index: Index,
    key: HashKey,
    max_names: usize,
    /// Shared nodes by content, and the content by ref.
    shared: HashMap<Arc<Node>, Shared>,
    shared_at: HashMap<u32, Arc<Node>>,
    settings: Settings,
    depths: Depths,
    /// Of names with child or deep only.
    below: Depths,
    recent: Recent,
}

/// What has changed since every program that may run now began. A program looks a name up before those above it, and not all
/// at one moment: it could miss a name that is just being added, and then find a newer statement on the names below another.
/// Where a processor's loads may pass each other, it could also miss a name that is just being removed, and yet find the
/// older statement.
#[derive(Default)]
struct Recent {
    /// Labels of the longest name added.
    added: Option<usize>,
    /// Labels of the shortest name whose statement on the names below has changed.
    restated: Option<usize>,
}

/// Whether loads pass each other on this machine.
const LOADS_PASS: bool = cfg!(not(target_arch = "x86_64"));

impl Table {
    /// Units of memory that nodes may take.
    pub const UNITS_MAX: usize = UNITS_MAX;

    /// Units of memory that a name takes, without what it shares with others.
    #[must_use]
    pub fn units_of(name: &Name, node: &Node) -> usize {
        encoded_len(name, node).div_ceil(UNIT)
    }

    pub(super) fn new(
        index: BorrowedFd<'_>,
        chunks: OwnedFd,
        key: HashKey,
        max_names: usize,
        settings: Settings,
    ) -> Result<Self, TableError> {
        let octets = (map_lines(max_names) * LINE_WORDS * size_of::<u32>()).next_multiple_of(super::arena::page_size());
        let index = Index::new(Mapped::new(index, octets).map_err(ArenaError::from)?, max_names);
        settings.set_index(index.area().abi());
        Ok(Self {
            arena: Arena::new(chunks)?,
            index,
            key,
            max_names,
            shared: HashMap::new(),
            shared_at: HashMap::new(),
            settings,
            depths: Depths([0; 129]),
            below: Depths([0; 129]),
            recent: Recent::default(),
        })
    }

    /// How many names it holds.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether it holds no name.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many names it may hold.
    #[must_use]
    pub const fn max_len(&self) -> usize {
        self.max_names
    }

    /// Octets of kernel memory in index and arena.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.index.octets() + self.arena.octets()
    }

    /// Units of memory that nodes take at present.
    #[must_use]
    pub const fn units(&self) -> usize {
        self.arena.live_units()
    }

    /// Adds a name or replaces its node.
    ///
    /// # Errors
    /// Where it does not fit; what was there before stays.
    pub fn put(&mut self, name: &Name, node: &Node) -> Result<Put, TableError> {
        let hash = self.key.hash(name.wire());
        let mut found = self.find(hash, name);
        while !matches!(found, Found::At(..)) && self.make_room(found) {
            found = self.find(hash, name);
        }
        let (slot, old) = match found {
            Found::At(slot, at) => (slot, Some(at)),
            Found::Free(_) if self.len() >= self.max_names => return Err(TableError::Full(self.max_names)),
            Found::Free(slot) => (slot, None),
            Found::NoSlot => return Err(TableError::Collisions),
        };
        let refs = self.share(node)?;
        let octets = match encode(Some(name), node, refs) {
            Ok(octets) => octets,
            Err(e) => {
                self.unshare(refs);
                return Err(e.into());
            }
        };
        if let Some(old) = old
            && Stored::new(self.arena.octets_at(old)).octets() == octets
        {
            self.unshare(refs);
            return Ok(Put::Same);
        }
        let labels = name.label_count();
        let old_refs = old.map_or(Refs::default(), |at| Stored::new(self.arena.octets_at(at)).refs());
        if let Err(e) = self.wait_to_state(labels, old_refs, refs) {
            self.unshare(refs);
            return Err(e.into());
        }
        if let Some(at) = old
            && Stored::new(self.arena.octets_at(at)).differs_below(&octets)
        {
            self.restate(at, labels, old_refs, refs);
            self.unshare(old_refs);
            return Ok(Put::Changed);
        }
        let at = match self.store(&octets, old.is_none()) {
            Ok(at) => at,
            Err(e) => {
                self.unshare(refs);
                return Err(e.into());
            }
        };
        // Which may have moved to make room.
        let old = old.map(|_| self.index.at(slot));
        // Deeper names are looked up from now on: before the name can be an encloser, so that none is passed over.
        if old.is_none() {
            self.depths.change(labels, true);
        }
        if refs.states() {
            self.below.change(labels, true);
        }
        self.settings.set_below_max(self.depths.max());
        self.index.put(slot, hash, at);
        match old {
            Some(old) => self.retire(old, labels),
            None => self.recent.added = self.recent.added.max(Some(labels)),
        }
        self.settings.set_below_min(self.below.min());
        self.tidy();
        Ok(if old.is_some() { Put::Changed } else { Put::Added })
    }

    /// Removes a name; false where it was not there.
    pub fn remove(&mut self, name: &Name) -> bool {
        let Found::At(slot, at) = self.find(self.key.hash(name.wire()), name) else { return false };
        let labels = name.label_count();
        let restated = self.recent.restated.is_some_and(|restated| restated < labels);
        if LOADS_PASS && restated && self.wait_for_programs().is_err() {
            // It fails where the kernel has no memory for a pointer. Better late than torn.
            log::warn!("{name} is removed without waiting for programs that read it");
        }
        self.index.clear(slot);
        self.depths.change(labels, false);
        self.retire(at, labels);
        self.settings.set_below_min(self.below.min());
        self.settings.set_below_max(self.depths.max());
        self.tidy();
        true
    }

    /// What the node of a name says of the names below it; None where it has no node.
    #[must_use]
    pub fn below(&self, name: &Name) -> Option<Below> {
        let Found::At(_, at) = self.find(self.key.hash(name.wire()), name) else { return None };
        let refs = Stored::new(self.arena.octets_at(at)).refs();
        let node = |at| self.shared_at.get(&at).cloned();
        Some(Below { child: node(refs.child), deep: node(refs.deep) })
    }

    /// Makes the node of a name say this of the names below it, and else what it says; false where it has no node.
    ///
    /// # Errors
    /// Where a statement is new and has no room; the old one stays.
    pub fn set_below(&mut self, name: &Name, below: &Below) -> Result<bool, TableError> {
        let Found::At(_, at) = self.find(self.key.hash(name.wire()), name) else { return Ok(false) };
        let old = Stored::new(self.arena.octets_at(at)).refs();
        let labels = name.label_count();
        let fallback = self.shared_at.get(&old.fallback).cloned();
        let Below { child, deep } = below.clone();
        let new = self.share(&Node { fallback, child, deep, ..const { Node::pass(ZoneId::Static) } })?;
        if let Err(e) = self.wait_to_state(labels, old, new) {
            self.unshare(new);
            return Err(e.into());
        }
        self.restate(at, labels, old, new);
        self.unshare(old);
        Ok(true)
    }

    /// Makes the node of a name say nothing of names two or more labels below it, nor, where `child`, of those one label
    /// below. That needs no memory, and can't fail.
    pub fn withhold(&mut self, name: &Name, child: bool) {
        let Found::At(_, at) = self.find(self.key.hash(name.wire()), name) else { return };
        let old = Stored::new(self.arena.octets_at(at)).refs();
        let gone = Refs { fallback: 0, child: if child { old.child } else { 0 }, deep: old.deep };
        self.restate(at, name.label_count(), old, Refs { child: old.child - gone.child, deep: 0, ..old });
        self.unshare(gone);
    }

    /// Waits for programs that may have missed a name which is about to be spoken for.
    fn wait_to_state(&mut self, labels: usize, old: Refs, new: Refs) -> Result<(), ArenaError> {
        let differs = |old, new| new != 0 && new != old;
        let states = differs(old.child, new.child) || differs(old.deep, new.deep);
        let waits = states && self.recent.added.is_some_and(|added| added > labels);
        if waits { self.wait_for_programs() } else { Ok(()) }
    }

    /// Makes a stored node refer to others.
    ///
    /// A program reads one of the two fields that may differ, and each is one store: so the node stays where it is, and a
    /// statement can be taken back also where there is no memory left.
    fn restate(&mut self, at: u32, labels: usize, old: Refs, new: Refs) {
        if new.states() {
            self.below.change(labels, true);
        }
        self.arena.set_below(at, new.child, new.deep);
        if old.states() {
            self.below.change(labels, false);
            self.recent.restated = Some(self.recent.restated.map_or(labels, |r| r.min(labels)));
        }
        self.settings.set_below_min(self.below.min());
    }

    /// Names in `slots` slots of the index, from `slot` on; None behind the last one. A name that is put in between may move
    /// all others.
    pub fn names(&self, slot: usize, slots: usize) -> Option<impl Iterator<Item = Name>> {
        Some(self.stored(slot, slots)?.filter_map(|s| s.name()))
    }

    /// Returns true when every program that runs now has ended, so that those to come see all that was written; false where
    /// that can't be waited for, and the log says why.
    pub fn settle(&mut self) -> bool {
        self.wait_for_programs().inspect_err(|e| log::warn!("waiting for programs: {e}")).is_ok()
    }

    /// The nodes that `slots` of the index lead to, from `slot` on; None behind the last one.
    pub(super) fn stored(&self, slot: usize, slots: usize) -> Option<impl Iterator<Item = Stored<'_>>> {
        Some(self.index.refs(slot, slots)?.map(|at| Stored::new(self.arena.octets_at(at))))
    }

    /// The node that `fallback`, `child` or `deep` of another refers to.
    pub(super) fn stored_at(&self, at: u32) -> Option<Stored<'_>> {
        (at != 0).then(|| Stored::new(self.arena.octets_at(at)))
    }

    /// Copies a name's node into the arena, where others may have to move for it.
    fn store(&mut self, octets: &[u8], is_new: bool) -> Result<u32, ArenaError> {
        if is_new && self.arena.live_units() + octets.len().div_ceil(UNIT) > UNITS_MAX {
            return Err(ArenaError::Exhausted);
        }
        match self.arena.store(Kind::Named, octets) {
            Err(ArenaError::Exhausted) if self.arena.may_compact() => {
                self.compact()?;
                self.arena.store(Kind::Named, octets)
            }
            result => result,
        }
    }

    /// Makes memory usable that much was retired of, and moves nodes together where they lie too far apart.
    fn tidy(&mut self) {
        let result = if self.arena.is_sparse() {
            self.compact()
        } else if self.arena.has_retired_much() {
            self.wait_for_programs().map(|()| self.arena.give_back())
        } else {
            Ok(())
        };
        if let Err(e) = result {
            log::warn!("memory of names that are gone is not used again yet: {e}");
        }
    }

    /// Moves nodes of names out of the emptiest chunks, and gives back those that are too many.
    fn compact(&mut self) -> Result<(), ArenaError> {
        while let Some(runs) = self.arena.take_sparsest() {
            // Where there is no room for them, they stay.
            if runs.into_iter().try_for_each(|(at, units)| self.move_nodes(at, units)).is_err() {
                break;
            }
        }
        self.arena.end_compaction();
        self.wait_for_programs()?;
        self.arena.give_back();
        Ok(())
    }

    /// Moves the nodes in `units` units, one behind another from `at` on. Programs find the same octets before and after.
    fn move_nodes(&mut self, mut at: u32, units: usize) -> Result<(), ArenaError> {
        let end = at + units as u32;
        while at < end {
            let stored = Stored::new(self.arena.octets_at(at));
            let (from, len, hash) = (at, stored.len(), self.key.hash(stored.wire()));
            at += len.div_ceil(UNIT) as u32;
            // Else it is retired.
            if let Found::At(slot, _) = self.index.find(hash, |found| found == from) {
                let to = self.arena.copy(from, len)?;
                self.index.put(slot, hash, to);
                self.arena.retire_moved(from, len);
            }
        }
        Ok(())
    }

    /// Returns when every program that runs now has ended.
    fn wait_for_programs(&mut self) -> Result<(), ArenaError> {
        self.arena.reclaim()?;
        self.recent = Recent::default();
        Ok(())
    }

    fn find(&self, hash: u64, name: &Name) -> Found {
        self.index.find(hash, |at| Stored::new(self.arena.octets_at(at)).wire() == name.wire())
    }

    /// Moves the index where a further name needs that. False where it stays.
    fn make_room(&mut self, found: Found) -> bool {
        let area = if self.index.is_crowded() || found == Found::NoSlot {
            self.index.larger()
        } else if self.index.is_littered() {
            Some(self.index.beside())
        } else {
            None
        };
        let Some(area) = area else { return false };
        if self.index.was_used(area) && self.wait_for_programs().is_err() {
            return false;
        }
        let (arena, key) = (&self.arena, self.key);
        let moved = self.index.move_to(area, |at| key.hash(Stored::new(arena.octets_at(at)).wire()));
        if moved {
            self.settings.set_index(area.abi());
        }
        moved
    }

    /// Gives back a node that was a name's.
    fn retire(&mut self, at: u32, labels: usize) {
        let stored = Stored::new(self.arena.octets_at(at));
        let (refs, len) = (stored.refs(), stored.len());
        if refs.states() {
            self.below.change(labels, false);
            self.recent.restated = Some(self.recent.restated.map_or(labels, |r| r.min(labels)));
        }
        self.arena.retire(at, len);
        self.unshare(refs);
    }

    /// Refs of the nodes that `node` shares with others, each counted once more.
    fn share(&mut self, node: &Node) -> Result<Refs, TableError> {
        let mut refs = Refs::default();
        let result = (|| {
            refs.fallback = self.share_one(node.fallback.as_ref())?;
            refs.child = self.share_one(node.child.as_ref())?;
            refs.deep = self.share_one(node.deep.as_ref())?;
            Ok(())
        })();
        if let Err(e) = result {
            self.unshare(refs);
            return Err(e);
        }
        Ok(refs)
    }

    fn share_one(&mut self, node: Option<&Arc<Node>>) -> Result<u32, TableError> {
        let Some(node) = node else { return Ok(0) };
        if let Some(shared) = self.shared.get_mut(node) {
            shared.users += 1;
            return Ok(shared.at);
        }
        let refs = self.share(node)?;
        let stored =
            encode(None, node, refs).map_err(TableError::from).and_then(|o| Ok(self.arena.store(Kind::Shared, &o)?));
        let at = match stored {
            Ok(at) => at,
            Err(e) => {
                self.unshare(refs);
                return Err(e);
            }
        };
        self.shared.insert(Arc::clone(node), Shared { at, users: 1 });
        self.shared_at.insert(at, Arc::clone(node));
        Ok(at)
    }

    fn unshare(&mut self, refs: Refs) {
        for at in [refs.fallback, refs.child, refs.deep] {
            let Some(node) = self.shared_at.get(&at) else { continue };
            let Some(shared) = self.shared.get_mut(node) else { continue };
            shared.users -= 1;
            if shared.users == 0 {
                self.shared.remove(node);
                self.shared_at.remove(&at);
                let stored = Stored::new(self.arena.octets_at(at));
                let (refs, len) = (stored.refs(), stored.len());
                self.arena.retire(at, len);
                self.unshare(refs);
            }
        }
    }
}
