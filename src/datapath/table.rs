//! The zone in the maps: the only writer of index and arena. Each change of a name is one store of an index word, so a
//! program sees the node before or after it and never anything else.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use super::abi::{LINE_WORDS, PROBE_LINES, REF_BITS, WORD_DEAD};
use super::arena::{Arena, ArenaError, Mapped};
use super::encode::{EncodeError, Refs, Stored, encode};
use super::settings::Settings;
use crate::zone::name::Name;
use crate::zone::node::Node;

/// Why a name is not in the maps.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// As many names as MaxRecords allows.
    #[error("the record maps are full: MaxRecords allows {0} names; raise it and restart")]
    Full(usize),
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

/// Slots per name, at least: half of an index stays free, so that a look-up ends after a slot or two.
const SLOTS_PER_NAME: usize = 2;

/// Lines that the index begins with: a page of them.
const LINES_MIN: usize = 64;

/// Lines of an index that holds `max_records` names.
fn lines_for(max_records: usize) -> usize {
    (max_records * SLOTS_PER_NAME).div_ceil(LINE_WORDS).next_power_of_two()
}

/// Lines of the index' map: room for every size up to that one. The index of n lines lies behind all smaller ones, from
/// line n on.
pub(super) fn index_lines(max_records: usize) -> usize {
    2 * lines_for(max_records)
}

/// A hash seed that nobody can guess, so that nobody can choose names which collide.
pub(super) fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// The hash of `qname_hash` and `hash_mix` in zone.h.
fn hash(seed: u64, wire: &[u8]) -> u64 {
    wire.chunks(8).fold(seed, |hash, octets| {
        let mut word = [0; 8];
        word[..octets.len()].copy_from_slice(octets);
        let hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^ hash >> 32
    })
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

/// Where a search for a name ended.
enum Found {
    /// In this slot, with this ref.
    At(usize, u32),
    /// Nowhere; this slot could take it.
    Free(usize),
    /// Nowhere, and all slots for it are taken.
    NoSlot,
}

/// The writer.
pub struct Table {
    arena: Arena,
    index: Mapped,
    /// Of the index in use: as few as its names allow, so that few names take few cache lines.
    lines: usize,
    lines_max: usize,
    seed: u64,
    max_names: usize,
    names: usize,
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
    pub(super) fn new(
        index: BorrowedFd<'_>,
        chunks: OwnedFd,
        seed: u64,
        max_names: usize,
        settings: Settings,
    ) -> Result<Self, TableError> {
        let lines_max = lines_for(max_names);
        let lines = LINES_MIN.min(lines_max);
        settings.set_index_lines(lines);
        let octets =
            (index_lines(max_names) * LINE_WORDS * size_of::<u32>()).next_multiple_of(super::arena::page_size());
        Ok(Self {
            arena: Arena::new(chunks)?,
            index: Mapped::new(index, octets).map_err(ArenaError::from)?,
            lines,
            lines_max,
            seed,
            max_names,
            names: 0,
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
        self.names
    }

    /// Whether it holds no name.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.names == 0
    }

    /// How many names it may hold.
    #[must_use]
    pub const fn max_len(&self) -> usize {
        self.max_names
    }

    /// Octets of kernel memory in index and arena.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.index.len() + self.arena.octets()
    }

    /// Adds a name or replaces its node.
    ///
    /// # Errors
    /// Where it does not fit; what was there before stays.
    pub fn put(&mut self, name: &Name, node: &Node) -> Result<Put, TableError> {
        let mut found = self.find(name);
        let crowded = (self.names + 1) * SLOTS_PER_NAME > self.lines * LINE_WORDS;
        if (crowded && matches!(found, Found::Free(_)) || matches!(found, Found::NoSlot)) && self.grow() {
            found = self.find(name);
        }
        let (slot, old) = match found {
            Found::At(slot, at) => (slot, Some(at)),
            Found::Free(slot) if self.names < self.max_names => (slot, None),
            Found::Free(_) | Found::NoSlot => return Err(TableError::Full(self.max_names)),
        };
        let refs = self.share(node)?;
        let octets = encode(Some(name), node, refs)?;
        if let Some(old) = old
            && Stored::new(self.arena.octets_at(old)).octets() == octets
        {
            self.unshare(refs);
            return Ok(Put::Same);
        }
        let labels = name.label_count();
        let below = |refs: Refs| (refs.child, refs.deep);
        let old_below = old.map_or((0, 0), |at| below(Stored::new(self.arena.octets_at(at)).refs()));
        let has_below = below(refs) != (0, 0);
        let states = has_below && below(refs) != old_below;
        let ready = if states && self.recent.added.is_some_and(|added| added > labels) {
            self.wait_for_programs()
        } else {
            Ok(())
        };
        let at = match ready.and_then(|()| self.arena.store(&octets)) {
            Ok(at) => at,
            Err(e) => {
                self.unshare(refs);
                return Err(e.into());
            }
        };
        // Deeper names are looked up from now on: before the name can be an encloser, so that none is passed over.
        if old.is_none() {
            self.depths.change(labels, true);
        }
        if has_below {
            self.below.change(labels, true);
        }
        self.settings.set_below_max(self.depths.max());
        self.publish(slot, (hash(self.seed, name.wire()) >> 56) as u32, at);
        match old {
            Some(old) => self.retire(old, labels),
            None => {
                self.names += 1;
                self.recent.added = self.recent.added.max(Some(labels));
            }
        }
        self.settings.set_below_min(self.below.min());
        Ok(if old.is_some() { Put::Changed } else { Put::Added })
    }

    /// Removes a name; false where it was not there.
    pub fn remove(&mut self, name: &Name) -> bool {
        let Found::At(slot, at) = self.find(name) else { return false };
        let labels = name.label_count();
        let restated = self.recent.restated.is_some_and(|restated| restated < labels);
        if LOADS_PASS && restated && self.wait_for_programs().is_err() {
            // It fails where the kernel has no memory for a pointer. Better late than torn.
            log::warn!("{name} is removed without waiting for programs that read it");
        }
        self.clear(slot);
        self.names -= 1;
        self.depths.change(labels, false);
        self.retire(at, labels);
        self.settings.set_below_min(self.below.min());
        self.settings.set_below_max(self.depths.max());
        true
    }

    /// Removes every name for which `keep` is false, a wildcard's before the names below it: those would else become its.
    pub fn retain(&mut self, keep: impl Fn(&Name) -> bool) -> usize {
        let mut gone: Vec<Name> = self.names().filter(|n| !keep(n)).collect();
        gone.sort_by_cached_key(Name::label_count);
        gone.iter().filter(|n| self.remove(n)).count()
    }

    /// All names, in no order.
    pub fn names(&self) -> impl Iterator<Item = Name> {
        self.stored(0, usize::MAX).into_iter().flatten().filter_map(|s| s.name())
    }

    /// The nodes that `slots` of the index lead to, from `slot` on; None behind the last one.
    pub(super) fn stored(&self, slot: usize, slots: usize) -> Option<impl Iterator<Item = Stored<'_>>> {
        let words = self.words().get(slot..).filter(|w| !w.is_empty())?;
        Some(words.iter().take(slots).filter_map(|w| {
            let at = w.load(Ordering::Relaxed) & !WORD_DEAD;
            (at != 0).then(|| Stored::new(self.arena.octets_at(at)))
        }))
    }

    /// The node that `fallback`, `child` or `deep` of another refers to.
    pub(super) fn stored_at(&self, at: u32) -> Option<Stored<'_>> {
        (at != 0).then(|| Stored::new(self.arena.octets_at(at)))
    }

    /// Returns when every program that runs now has ended.
    fn wait_for_programs(&mut self) -> Result<(), ArenaError> {
        self.arena.reclaim()?;
        self.recent = Recent::default();
        Ok(())
    }

    fn words(&self) -> &[AtomicU32] {
        let words = self.lines * LINE_WORDS;
        // SAFETY: the mapping holds twice the largest index and lives as long as self; programs and we access the words as
        // words only.
        unsafe { std::slice::from_raw_parts(self.index.as_ptr().cast::<AtomicU32>().add(words), words) }
    }

    /// Moves to an index of twice the size, which was not in use before. Programs that still read the old one find in it
    /// what was there until now, and no node is reused before they are done. False where it stays as it is.
    fn grow(&mut self) -> bool {
        if self.lines == self.lines_max {
            return false;
        }
        let old = self.lines;
        let moved: Vec<(u64, u32)> = self
            .words()
            .iter()
            .map(|w| w.load(Ordering::Relaxed))
            .filter(|w| w & !WORD_DEAD != 0)
            .map(|w| (hash(self.seed, Stored::new(self.arena.octets_at(w & !WORD_DEAD)).wire()), w))
            .collect();
        self.lines = old * 2;
        for (hash, word) in moved {
            let Some(slot) = self.slots(hash).find(|s| self.words()[*s].load(Ordering::Relaxed) == 0) else {
                self.words().iter().for_each(|w| w.store(0, Ordering::Relaxed));
                self.lines = old;
                return false;
            };
            self.words()[slot].store(word, Ordering::Relaxed);
        }
        self.settings.set_index_lines(self.lines);
        true
    }

    /// The slots that may hold a name in the order in which the program looks at them (`node_find` in zone.h).
    fn slots(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let (line, start, lines) = ((hash >> 8) as u32 as usize, (hash >> 48) as usize % LINE_WORDS, self.lines);
        (0..PROBE_LINES)
            .flat_map(move |l| (0..LINE_WORDS).map(move |i| (line + l) % lines * LINE_WORDS + (start + i) % LINE_WORDS))
    }

    fn find(&self, name: &Name) -> Found {
        let hash = hash(self.seed, name.wire());
        let words = self.words();
        let mut free = None;
        for slot in self.slots(hash) {
            let word = words[slot].load(Ordering::Relaxed);
            if word == 0 {
                return Found::Free(free.unwrap_or(slot));
            }
            if word == WORD_DEAD {
                free = free.or(Some(slot));
            } else if word >> REF_BITS == (hash >> 56) as u32 {
                let at = word & !WORD_DEAD;
                if Stored::new(self.arena.octets_at(at)).wire() == name.wire() {
                    return Found::At(slot, at);
                }
            }
        }
        free.map_or(Found::NoSlot, Found::Free)
    }

    fn publish(&self, slot: usize, tag: u32, at: u32) {
        // The node's octets before the word that leads to them.
        self.words()[slot].store(tag << REF_BITS | at, Ordering::Release);
    }

    /// Frees a slot. It may only become empty, which ends a look-up, where the next one in its line is: else names behind
    /// it would be lost. Slots are looked at round a line, so its next one is the same for every name.
    fn clear(&self, slot: usize) {
        let words = self.words();
        let (line, at) = (slot / LINE_WORDS * LINE_WORDS, slot % LINE_WORDS);
        let word = |i: usize| &words[line + i % LINE_WORDS];
        if word(at + 1).load(Ordering::Relaxed) != 0 {
            word(at).store(WORD_DEAD, Ordering::Release);
            return;
        }
        word(at).store(0, Ordering::Release);
        // Dead slots in front of an empty one hold up nothing but look-ups.
        for i in (1..LINE_WORDS).map(|n| at + LINE_WORDS - n) {
            if word(i).load(Ordering::Relaxed) != WORD_DEAD {
                break;
            }
            word(i).store(0, Ordering::Release);
        }
        fence(Ordering::Release);
    }

    /// Gives back a node that was a name's.
    fn retire(&mut self, at: u32, labels: usize) {
        let stored = Stored::new(self.arena.octets_at(at));
        let (refs, len) = (stored.refs(), stored.len());
        if refs.child | refs.deep != 0 {
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
        let stored = encode(None, node, refs).map_err(TableError::from).and_then(|o| Ok(self.arena.store(&o)?));
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
