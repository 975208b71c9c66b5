//! The only writer of index and arena. Each change of a name is one store of an index word, so a program sees the node from
//! before or after the change and nothing else.
//!
//! # Order
//! A program looks up the name of a query first and then its ancestors. So it may combine nodes from different moments, and
//! some changes must wait for an RCU grace period after others, when every program that ran before has ended ([`Unsettled`]):
//!
//! 1. Add names.
//! 2. Wait: programs that still run may have missed an added name.
//! 3. Update enclosers: give nodes their new child and deep nodes, which hold for absent names below them.
//! 4. Wait: programs that still run may use an old child or deep node. Only processors that reorder loads need this.
//! 5. Remove names.
//!
//! [`Table::put`] and [`Table::remove`] wait when a single change needs it. [`Table::batch`] goes through these phases once for
//! many changes.

mod batch;
mod depths;
mod encloser;
mod memory;
mod rekey;
mod shared;

use std::collections::HashMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::batch::Batch;
use self::depths::{DepthCounts, DepthRange, Tree};
pub use self::encloser::EncloserNodes;
use self::rekey::REKEY_INTERVAL;
use self::shared::Shared;
use super::arena::{Arena, ArenaError, UNITS_MAX};
use super::encode::{Refs, Stored, encode, encoded_len};
use super::error::TableError;
use super::hash::HashKey;
use super::index::{Found, Index, map_lines};
use super::reader::Reader;
use crate::datapath::abi::{ANSWER_MAX, LINE_WORDS, UNIT, edns_answer, edns_node, edns_type};
use crate::datapath::mapped::Mapped;
use crate::datapath::settings::ProgramSettings;
use crate::datapath::sys::page_size;
use crate::zone::cluster::share::Size;
use crate::zone::name::Name;
use crate::zone::node::Node;

/// The result of [`Table::put`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The name was added.
    Added,
    /// The name's node was replaced.
    Changed,
    /// The table already held this node.
    Same,
}

const _: () = assert!(
    Size::UNIT == UNIT
        && Size::NODE_HEAD == size_of::<edns_node>()
        && Size::TYPE == size_of::<edns_type>()
        && Size::ANSWER_HEAD == size_of::<edns_answer>()
        && Size::ANSWER_MAX == ANSWER_MAX
);

/// The writer of the table.
pub struct Table {
    arena: Arena,
    index: Index,
    reader: Reader,
    key: HashKey,
    /// The key's number in the settings.
    key_number: usize,
    rekeys: u64,
    /// Time of the last attempt to change the key because of a collision.
    rekeyed: Option<Instant>,
    rekey_interval: Duration,
    /// Whether a name was refused because of a collision since the last attempt.
    wants_key: bool,
    max_names: usize,
    /// Shared nodes by content.
    shared: HashMap<Arc<Node>, Shared>,
    /// Content of shared nodes by ref.
    shared_at: HashMap<u32, Arc<Node>>,
    settings: ProgramSettings,
    /// Depths of all names, by [`Tree`].
    depths: [DepthCounts; 2],
    /// Depths of names with a child or deep node.
    encloser_depths: DepthCounts,
    unsettled: Unsettled,
    /// The batch in progress.
    batch: Option<Batch>,
    /// Whether every change since the last wait kept the order.
    is_in_order: bool,
    /// Number of waits for a grace period.
    waits: u64,
    /// Whether this machine's processors reorder loads.
    loads_reorder: bool,
}

/// Changes since the last grace period. A program that runs now may have read the table before or after each of them.
///
/// The program may have missed an added name and then find a newer child or deep node of an ancestor. On processors that reorder
/// loads the program may also miss a removed name and then find an older child or deep node of an ancestor.
#[derive(Default)]
struct Unsettled {
    /// Labels of the longest added name.
    added: Option<usize>,
    /// Labels of the shortest name whose child or deep node was changed or removed.
    updated_encloser: Option<usize>,
    /// Depths of names in an old area of the index, which programs may still read.
    old_depths: Option<DepthRange>,
}

impl Unsettled {
    fn encloser_updated(&mut self, labels: usize) {
        self.updated_encloser = Some(self.updated_encloser.map_or(labels, |r| r.min(labels)));
    }
}

/// Whether this machine's processors reorder loads. Those of x86-64 don't.
const LOADS_REORDER: bool = cfg!(not(target_arch = "x86_64"));

impl Table {
    /// Limit of the nodes' memory, in units of 64 bytes.
    pub const UNITS_MAX: usize = UNITS_MAX;

    /// Memory of a name's node, in units of 64 bytes, without the shared nodes that it refers to.
    #[must_use]
    pub fn units_of(name: &Name, node: &Node) -> usize {
        encoded_len(name, node).div_ceil(UNIT)
    }

    pub(in crate::datapath) fn new(
        index: BorrowedFd<'_>,
        chunks: OwnedFd,
        max_names: usize,
        settings: ProgramSettings,
    ) -> Result<Self, TableError> {
        let octets = (map_lines(max_names) * LINE_WORDS * size_of::<u32>()).next_multiple_of(page_size());
        let map = Arc::new(Mapped::new(index, octets).map_err(ArenaError::from)?);
        let index = Index::new(Arc::clone(&map), max_names);
        let (key, key_number) = (HashKey::random(), 0);
        settings.set_key(key_number, &key.abi());
        settings.set_index(index.area().abi(key_number));
        let reader = Reader::new(map, index.area(), max_names);
        Ok(Self {
            arena: Arena::new(chunks, reader.clone())?,
            index,
            reader,
            key,
            key_number,
            rekeys: 0,
            rekeyed: None,
            rekey_interval: REKEY_INTERVAL,
            wants_key: false,
            max_names,
            shared: HashMap::new(),
            shared_at: HashMap::new(),
            settings,
            depths: [DepthCounts::NONE; 2],
            encloser_depths: DepthCounts::NONE,
            unsettled: Unsettled::default(),
            batch: None,
            is_in_order: true,
            waits: 0,
            loads_reorder: LOADS_REORDER,
        })
    }

    /// Number of names.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether it holds no name.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The largest number of names (`MaxRecords`).
    #[must_use]
    pub const fn max_len(&self) -> usize {
        self.max_names
    }

    /// Kernel memory of index and arena, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.reader.memory()
    }

    /// A reader of the table, which other threads may use.
    #[must_use]
    pub const fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Memory of the live nodes, in units of 64 bytes.
    #[must_use]
    pub const fn units(&self) -> usize {
        self.arena.live_units()
    }

    /// Adds a name or replaces its node. Waits for a grace period if the order needs it.
    ///
    /// # Errors
    /// If the node does not fit or the wait fails; the old node stays.
    pub fn put(&mut self, name: &Name, node: &Node) -> Result<Put, TableError> {
        let mut found = self.find(name);
        while !matches!(found, Found::At(..)) && self.make_room(found) {
            found = self.find(name);
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
        let must_wait = self.must_wait_to_update_encloser(labels, node, old_refs, refs);
        if must_wait && let Some(postponed) = self.postpone_encloser_update(name, node, old_refs) {
            self.unshare(refs);
            return self.put(name, &postponed);
        }
        if must_wait && let Err(e) = self.wait_for_programs() {
            self.unshare(refs);
            return Err(e.into());
        }
        if let Some(at) = old
            && Stored::new(self.arena.octets_at(at)).differs_in_encloser_refs(&octets)
        {
            self.update_encloser(at, labels, old_refs, refs);
            self.unshare(old_refs);
            self.cancel_removal(name);
            self.reclaim_if_due();
            return Ok(Put::Changed);
        }
        let at = match self.store(&octets, old.is_none()) {
            Ok(at) => at,
            Err(e) => {
                self.unshare(refs);
                return Err(e.into());
            }
        };
        // A compaction may have moved the old node.
        let old = old.map(|_| self.index.at(slot));
        // Publish the depths before the name: programs must already search at its depth when it becomes an encloser.
        if old.is_none() {
            self.depths[Tree::of(name) as usize].change(labels, true);
        }
        if refs.is_encloser() {
            self.encloser_depths.change(labels, true);
        }
        self.publish_depths();
        self.index.put(slot, self.key.hash(name.wire()), at);
        match old {
            Some(old) => self.retire(old, labels),
            None => self.unsettled.added = self.unsettled.added.max(Some(labels)),
        }
        self.publish_depths();
        self.cancel_removal(name);
        self.reclaim_if_due();
        Ok(if old.is_some() { Put::Changed } else { Put::Added })
    }

    /// Removes a name; false if the table does not hold it. Waits for a grace period if the order needs it.
    pub fn remove(&mut self, name: &Name) -> bool {
        let Found::At(slot, at) = self.find(name) else { return false };
        let labels = name.label_count();
        let has_updated_ancestor = self.unsettled.updated_encloser.is_some_and(|updated| updated < labels);
        if self.loads_reorder {
            if self.postpone_removal(name, at, has_updated_ancestor) {
                return true;
            }
            if has_updated_ancestor && self.wait_for_programs().is_err() {
                // Fails only on ENOMEM; remove without waiting rather than keep a stale name.
                log::warn!("{name}: removed without waiting for running programs: out of memory");
                self.is_in_order = false;
            }
        }
        self.index.clear(slot);
        self.depths[Tree::of(name) as usize].change(labels, false);
        self.retire(at, labels);
        self.publish_depths();
        self.reclaim_if_due();
        true
    }

    /// Waits for a grace period: on return no program runs that saw an older state. False if the wait failed; the error is
    /// logged.
    pub fn settle(&mut self) -> bool {
        self.wait_for_programs().inspect_err(|e| log::warn!("waiting for running programs: {e}")).is_ok()
    }

    /// Whether every change since the last wait kept the order. False after [`Self::remove`] could not wait, until a wait
    /// succeeds: programs may then answer for the removed name by an old child or deep node.
    #[must_use]
    pub const fn is_in_order(&self) -> bool {
        self.is_in_order
    }

    /// Makes the table wait as on a machine whose processors reorder loads (for tests).
    #[doc(hidden)]
    pub const fn assume_loads_reorder(&mut self) {
        self.loads_reorder = true;
    }

    /// Number of waits for a grace period so far.
    #[must_use]
    pub const fn waits(&self) -> u64 {
        self.waits
    }

    /// Waits for a grace period, and reclaims retired memory.
    fn wait_for_programs(&mut self) -> Result<(), ArenaError> {
        self.waits += 1;
        self.arena.reclaim()?;
        self.unsettled = Unsettled::default();
        self.is_in_order = true;
        self.publish_depths();
        Ok(())
    }

    fn find(&self, name: &Name) -> Found {
        self.index.find(self.key.hash(name.wire()), |at| Stored::new(self.arena.octets_at(at)).wire() == name.wire())
    }

    /// Retires the node of a name that was removed or got another node.
    fn retire(&mut self, at: u32, labels: usize) {
        let stored = Stored::new(self.arena.octets_at(at));
        let (refs, len) = (stored.refs(), stored.len());
        if refs.is_encloser() {
            self.encloser_depths.change(labels, false);
            self.unsettled.encloser_updated(labels);
        }
        self.arena.retire(at, len);
        self.unshare(refs);
    }
}
