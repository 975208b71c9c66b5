//! The zone in the maps: the only writer of index and arena. Each change of a name is one store of an index word, so a
//! program sees the node before or after it and never anything else.

mod batch;
mod below;
mod depths;
mod memory;
mod rekey;
mod shared;

use std::collections::HashMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::batch::Batch;
pub use self::below::Below;
use self::depths::{Depths, Range, Tree};
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

const _: () = assert!(
    Size::UNIT == UNIT
        && Size::NODE_HEAD == size_of::<edns_node>()
        && Size::TYPE == size_of::<edns_type>()
        && Size::ANSWER_HEAD == size_of::<edns_answer>()
        && Size::ANSWER_MAX == ANSWER_MAX
);

/// The writer.
pub struct Table {
    arena: Arena,
    index: Index,
    reader: Reader,
    key: HashKey,
    /// The key's number in the settings.
    key_at: usize,
    rekeys: u64,
    /// When the index got another key because it had to, or could not get one.
    rekeyed: Option<Instant>,
    rekey_interval: Duration,
    /// Whether a name was refused that had a slot by another key.
    wants_key: bool,
    max_names: usize,
    /// Shared nodes by content, and the content by ref.
    shared: HashMap<Arc<Node>, Shared>,
    shared_at: HashMap<u32, Arc<Node>>,
    settings: ProgramSettings,
    /// By [`Tree`].
    depths: [Depths; 2],
    /// Of names with child or deep only.
    below: Depths,
    recent: Recent,
    /// Of changes that are made together.
    batch: Option<Batch>,
    /// Whether no name went without the wait that its order asks for.
    is_in_order: bool,
    /// Waits for programs so far.
    waits: u64,
    /// Whether loads pass each other on this machine.
    loads_pass: bool,
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
    /// What programs look at in an index that was left.
    left: Option<Range>,
}

impl Recent {
    fn restate(&mut self, labels: usize) {
        self.restated = Some(self.restated.map_or(labels, |r| r.min(labels)));
    }
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

    pub(in crate::datapath) fn new(
        index: BorrowedFd<'_>,
        chunks: OwnedFd,
        max_names: usize,
        settings: ProgramSettings,
    ) -> Result<Self, TableError> {
        let octets = (map_lines(max_names) * LINE_WORDS * size_of::<u32>()).next_multiple_of(page_size());
        let map = Arc::new(Mapped::new(index, octets).map_err(ArenaError::from)?);
        let index = Index::new(Arc::clone(&map), max_names);
        let (key, key_at) = (HashKey::random(), 0);
        settings.set_key(key_at, &key.abi());
        settings.set_index(index.area().abi(key_at));
        let reader = Reader::new(map, index.area(), max_names);
        Ok(Self {
            arena: Arena::new(chunks, reader.clone())?,
            index,
            reader,
            key,
            key_at,
            rekeys: 0,
            rekeyed: None,
            rekey_interval: REKEY_INTERVAL,
            wants_key: false,
            max_names,
            shared: HashMap::new(),
            shared_at: HashMap::new(),
            settings,
            depths: [Depths::NONE; 2],
            below: Depths::NONE,
            recent: Recent::default(),
            batch: None,
            is_in_order: true,
            waits: 0,
            loads_pass: LOADS_PASS,
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
        self.reader.memory()
    }

    /// Reads what it holds, also from other threads.
    #[must_use]
    pub const fn reader(&self) -> &Reader {
        &self.reader
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
        let waits = self.has_to_wait(labels, node, old_refs, refs);
        if waits && let Some(stand_in) = self.postpone(name, node, old_refs) {
            self.unshare(refs);
            return self.put(name, &stand_in);
        }
        if waits && let Err(e) = self.wait_for_programs() {
            self.unshare(refs);
            return Err(e.into());
        }
        if let Some(at) = old
            && Stored::new(self.arena.octets_at(at)).differs_below(&octets)
        {
            self.restate(at, labels, old_refs, refs);
            self.unshare(old_refs);
            self.stay(name);
            self.tidy();
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
            self.depths[Tree::of(name) as usize].change(labels, true);
        }
        if refs.states() {
            self.below.change(labels, true);
        }
        self.tell_depths();
        self.index.put(slot, self.key.hash(name.wire()), at);
        match old {
            Some(old) => self.retire(old, labels),
            None => self.recent.added = self.recent.added.max(Some(labels)),
        }
        self.tell_depths();
        self.stay(name);
        self.tidy();
        Ok(if old.is_some() { Put::Changed } else { Put::Added })
    }

    /// Removes a name; false where it was not there.
    pub fn remove(&mut self, name: &Name) -> bool {
        let Found::At(slot, at) = self.find(name) else { return false };
        let labels = name.label_count();
        let restated = self.recent.restated.is_some_and(|restated| restated < labels);
        if self.loads_pass {
            if self.postpone_removal(name, at, restated) {
                return true;
            }
            if restated && self.wait_for_programs().is_err() {
                // Fails only where the kernel has no memory for a pointer; the name is removed rather than kept for ever.
                log::warn!("{name} is removed without waiting for programs that read it");
                self.is_in_order = false;
            }
        }
        self.index.clear(slot);
        self.depths[Tree::of(name) as usize].change(labels, false);
        self.retire(at, labels);
        self.tell_depths();
        self.tidy();
        true
    }

    /// Returns true when every program that runs now has ended, so that those to come see all that was written; false where
    /// that can't be waited for, and the log says why.
    pub fn settle(&mut self) -> bool {
        self.wait_for_programs().inspect_err(|e| log::warn!("waiting for programs: {e}")).is_ok()
    }

    /// False where a name went without the wait that its order asks for, since programs could not be waited for, until they are:
    /// one may hear of it by what was said before of names that are not there.
    #[must_use]
    pub const fn is_in_order(&self) -> bool {
        self.is_in_order
    }

    /// For tests on machines whose loads do not: takes the precautions for loads that pass each other.
    #[doc(hidden)]
    pub const fn assume_loads_pass(&mut self) {
        self.loads_pass = true;
    }

    /// How often it has waited for programs.
    #[must_use]
    pub const fn waits(&self) -> u64 {
        self.waits
    }

    /// Returns when every program that runs now has ended.
    fn wait_for_programs(&mut self) -> Result<(), ArenaError> {
        self.waits += 1;
        self.arena.reclaim()?;
        self.recent = Recent::default();
        self.is_in_order = true;
        self.tell_depths();
        Ok(())
    }

    fn find(&self, name: &Name) -> Found {
        self.index.find(self.key.hash(name.wire()), |at| Stored::new(self.arena.octets_at(at)).wire() == name.wire())
    }

    /// Gives back a node that was a name's.
    fn retire(&mut self, at: u32, labels: usize) {
        let stored = Stored::new(self.arena.octets_at(at));
        let (refs, len) = (stored.refs(), stored.len());
        if refs.states() {
            self.below.change(labels, false);
            self.recent.restate(labels);
        }
        self.arena.retire(at, len);
        self.unshare(refs);
    }
}
