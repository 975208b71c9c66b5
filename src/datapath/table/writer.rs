//! The zone in the maps: the only writer of index and arena. Each change of a name is one store of an index word, so a
//! program sees the node before or after it and never anything else.

mod batch;
mod below;

use std::collections::HashMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::batch::Batch;
pub use self::below::Below;
use crate::datapath::abi::{ANSWER_MAX, KEYS, LINE_WORDS, UNIT, edns_answer, edns_node, edns_type};
use super::arena::{Arena, ArenaError, Kind, UNITS_MAX};
use crate::datapath::mapped::{Mapped, page_size};
use super::encode::{EncodeError, Refs, Stored, encode, encoded_len};
use super::hash::HashKey;
use super::index::{Area, Found, Index, map_lines};
use super::reader::Reader;
use crate::datapath::program::Settings;
use crate::zone::cluster::share::Size;
use crate::zone::name::Name;
use crate::zone::node::Node;

/// Why a name is not in the maps.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// As many names as MaxRecords allows.
    #[error("the record maps are full: MaxRecords allows {0} names; raise it and restart")]
    Full(usize),
    /// Too many names whose hashes are alike, so soon after the index got another key.
    #[error("no slot is left for its hash until the index gets another key, in a minute at the latest")]
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

/// A shared node in the arena, and how many nodes refer to it.
struct Shared {
    at: u32,
    users: usize,
}

/// How many names have so many labels, of which a name has 127 at most (RFC 1035 §3.1).
struct Depths {
    counts: [usize; 128],
    /// The numbers that are not 0, since each change of a name asks for the first and the last.
    used: u128,
}

impl Depths {
    const NONE: Self = Self { counts: [0; 128], used: 0 };

    const fn change(&mut self, labels: usize, add: bool) {
        let count = &mut self.counts[labels];
        *count = if add { *count + 1 } else { *count - 1 };
        let bit = 1 << labels;
        self.used = if *count > 0 { self.used | bit } else { self.used & !bit };
    }

    fn min(&self) -> Option<usize> {
        (self.used != 0).then(|| self.used.trailing_zeros() as usize)
    }

    fn max(&self) -> Option<usize> {
        self.used.checked_ilog2().map(|labels| labels as usize)
    }
}

/// Of names outside arpa, and within. The names of IPv6 addresses have 34 labels, and a program that began at such depth would
/// not come to the zone of a longer name that does not exist.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tree {
    Forward,
    Arpa,
}

impl Tree {
    fn of(name: &Name) -> Self {
        if name.labels().last() == Some(b"arpa") { Self::Arpa } else { Self::Forward }
    }
}

/// From one time that the index gets another key to the next: it takes as long as some ten thousand changes.
const REKEY_INTERVAL: Duration = Duration::from_secs(60);

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
    settings: Settings,
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

/// Labels of names that programs look at: of the shortest that says something of those below, and of the longest by [`Tree`].
#[derive(Clone, Copy, Default)]
struct Range {
    min: Option<usize>,
    max: [Option<usize>; 2],
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
        settings: Settings,
    ) -> Result<Self, TableError> {
        let octets = (map_lines(max_names) * LINE_WORDS * size_of::<u32>()).next_multiple_of(page_size());
        let map = Arc::new(Mapped::new(index, octets).map_err(ArenaError::from)?);
        let index = Index::new(Arc::clone(&map), max_names);
        let (key, key_at) = (HashKey::random(), 0);
        settings.set_key(key_at, &key);
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

    /// After a change: tells readers of it, makes memory usable again where much was retired, and moves nodes together where they
    /// lie too far apart.
    fn tidy(&mut self) {
        self.reader.set_counts(self.index.len(), self.arena.live_units());
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

    /// Tells programs which names are worth a look, as long as the ones that read an index which was left need it.
    fn tell_depths(&self) {
        let Range { min, max } = self.range();
        self.settings.set_below_min(min);
        self.settings.set_below_max(max);
    }

    /// What is worth a look, with what was in an index that was left.
    fn range(&self) -> Range {
        let left = self.recent.left.unwrap_or_default();
        let max = |tree: usize| self.depths[tree].max().max(left.max[tree]);
        Range { min: [self.below.min(), left.min].into_iter().flatten().min(), max: [max(0), max(1)] }
    }

    /// Moves the index where a further name needs that, or gives it another key. False where it stays.
    fn make_room(&mut self, found: Found) -> bool {
        let no_slot = found == Found::NoSlot;
        let area = if self.index.is_crowded() || no_slot {
            self.index.larger()
        } else if self.index.is_littered() {
            Some(self.index.beside())
        } else {
            None
        };
        let may_move = |table: &mut Self, area| !table.index.was_used(area) || table.wait_for_programs().is_ok();
        if area.is_some_and(|area| may_move(self, area) && self.move_to(area)) {
            return true;
        }
        if !no_slot || self.len() == self.max_names {
            return false;
        }
        self.wants_key = !self.may_rekey();
        if self.wants_key {
            return false;
        }
        self.rekeyed = Some(Instant::now());
        let done = self.rekey(HashKey::random());
        if done && self.rekeys == 1 {
            log::warn!(
                "too many names with one hash: they are hashed by another key now, as they will be if that comes again"
            );
        }
        done
    }

    /// Has another key hash the names. False where it stays as it is: names do not fit by that key, or programs can't be waited for.
    pub fn rekey(&mut self, key: HashKey) -> bool {
        // Programs may still hash by the key that is to be overwritten, and read the area beside.
        if self.wait_for_programs().is_err() {
            return false;
        }
        let key_at = (self.key_at + 1) % KEYS;
        self.settings.set_key(key_at, &key);
        let old = (std::mem::replace(&mut self.key, key), std::mem::replace(&mut self.key_at, key_at));
        let moved = self.move_to(self.index.beside());
        if moved {
            self.rekeys += 1;
            self.reader.set_rekeys(self.rekeys);
        } else {
            (self.key, self.key_at) = old;
        }
        moved
    }

    fn may_rekey(&self) -> bool {
        self.rekeyed.is_none_or(|last| last.elapsed() > self.rekey_interval)
    }

    /// Whether names that were refused for want of a slot should be put again, since the index may take another key by now. Said
    /// once.
    pub fn takes_refused(&mut self) -> bool {
        self.may_rekey() && std::mem::take(&mut self.wants_key)
    }

    /// For tests that don't want to wait for a minute.
    #[doc(hidden)]
    pub const fn set_rekey_interval(&mut self, interval: Duration) {
        self.rekey_interval = interval;
    }

    /// How often the names got another key.
    #[must_use]
    pub const fn rekeys(&self) -> u64 {
        self.rekeys
    }

    /// Moves the index to an area that no program reads. False where it stays.
    fn move_to(&mut self, area: Area) -> bool {
        let (arena, key) = (&self.arena, &self.key);
        let moved = self.index.move_to(area, |at| key.hash(Stored::new(arena.octets_at(at)).wire()));
        if moved {
            self.recent.left = Some(self.range());
            self.settings.set_index(area.abi(self.key_at));
            self.reader.lock().set_area(area);
        }
        moved
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
