//! The hash index: maps a name's hash to the ref of its node. It uses open addressing over cache lines of words. A change is one
//! store of a word.
//!
//! The map has an area for an index of each size, a power of 2: an index of n lines starts at line n, so areas of different sizes
//! never overlap. A sibling area of the same size starts at line 2n. To move the index, the writer copies the words to another
//! area and then publishes it in the settings. Programs that still read the old area find it unchanged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::datapath::abi::{LINE_WORDS, PROBE_LINES, REF_BITS, WORD_TOMBSTONE};
use crate::datapath::mapped::Mapped;
use crate::datapath::skel::types::edns_index_part;

/// Slots per name, at least: half of an index stays free, so that a lookup ends after one or two slots.
const SLOTS_PER_NAME: usize = 2;
/// Lines of the smallest index: a page.
const LINES_MIN: usize = 64;
/// Slots per tombstone, at least: with more tombstones the index moves, since they make lookups of absent names longer.
const SLOTS_PER_TOMBSTONE: usize = 4;

/// Lines of an index for `names` names: at least two, since programs shift by 64 minus the number of bits of a line's number.
fn lines_for(names: usize) -> usize {
    (names * SLOTS_PER_NAME).div_ceil(LINE_WORDS).next_power_of_two().max(2)
}

/// Lines of the map for `names` names: the largest index, its sibling and all smaller ones.
pub(in crate::datapath) fn map_lines(names: usize) -> usize {
    3 * lines_for(names)
}

/// The area of an index, in lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Area {
    first: usize,
    lines: usize,
}

impl Area {
    /// The area and the number of its hash key as in `edns_settings` (`enum edns_index_part`).
    pub(super) const fn abi(self, key: usize) -> u8 {
        let is_sibling = (self.first != self.lines) as u32;
        let parts = self.bits()
            | is_sibling << edns_index_part::EDNS_INDEX_SIBLING_SHIFT.0
            | (key as u32) << edns_index_part::EDNS_INDEX_KEY_SHIFT.0;
        parts as u8
    }

    /// Number of bits of a line's number.
    const fn bits(self) -> u32 {
        self.lines.trailing_zeros()
    }
}

/// The result of a search for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// The name is in this slot, with this ref.
    At(usize, u32),
    /// The name is absent, and this slot is free for it.
    Free(usize),
    /// The name is absent, and all its slots are taken.
    NoSlot,
}

/// The index, for the writer.
pub(super) struct Index {
    map: Arc<Mapped>,
    area: Area,
    lines_max: usize,
    names: usize,
    tombstones: usize,
    /// The lines from this one on were never used: they are zero, and no program reads them.
    untouched: usize,
}

impl Index {
    /// An empty index in a zeroed map of [`map_lines`] lines.
    pub(super) fn new(map: Arc<Mapped>, names_max: usize) -> Self {
        let lines_max = lines_for(names_max);
        let lines = LINES_MIN.min(lines_max);
        let area = Area { first: lines, lines };
        Self { map, area, lines_max, names: 0, tombstones: 0, untouched: 2 * lines }
    }

    pub(super) const fn area(&self) -> Area {
        self.area
    }

    pub(super) const fn len(&self) -> usize {
        self.names
    }

    fn words(&self) -> &[AtomicU32] {
        words_of(&self.map, self.area)
    }

    /// Searches for the name with this hash whose ref `is_match` accepts.
    pub(super) fn find(&self, hash: u64, is_match: impl Fn(u32) -> bool) -> Found {
        let words = self.words();
        let mut free = None;
        for slot in slots(self.area, hash) {
            let word = words[slot].load(Ordering::Relaxed);
            if word == 0 {
                return Found::Free(free.unwrap_or(slot));
            }
            if word == WORD_TOMBSTONE {
                free = free.or(Some(slot));
            } else if word >> REF_BITS == tag(hash) && is_match(word & !WORD_TOMBSTONE) {
                return Found::At(slot, word & !WORD_TOMBSTONE);
            }
        }
        free.map_or(Found::NoSlot, Found::Free)
    }

    /// The ref in a slot.
    pub(super) fn at(&self, slot: usize) -> u32 {
        self.words()[slot].load(Ordering::Relaxed) & !WORD_TOMBSTONE
    }

    /// Stores a node's ref in a slot that [`Self::find`] returned.
    pub(super) fn put(&mut self, slot: usize, hash: u64, at: u32) {
        match self.words()[slot].load(Ordering::Relaxed) {
            0 => self.names += 1,
            WORD_TOMBSTONE => {
                self.names += 1;
                self.tombstones -= 1;
            }
            _ => {}
        }
        // Release: the node's bytes become visible before the word that refers to them.
        self.words()[slot].store(word(hash, at), Ordering::Release);
    }

    /// Frees a slot. An empty slot ends a lookup, so the slot becomes empty only if the next slot of its line is empty; if not,
    /// it becomes a tombstone, and names in later slots are still found. Probing wraps within a line, so the next slot does
    /// not depend on the name.
    pub(super) fn clear(&mut self, slot: usize) {
        self.names -= 1;
        let (line, at) = (slot / LINE_WORDS * LINE_WORDS, slot % LINE_WORDS);
        let slot = |i: usize| line + i % LINE_WORDS;
        if self.words()[slot(at + 1)].load(Ordering::Relaxed) != 0 {
            self.words()[slot(at)].store(WORD_TOMBSTONE, Ordering::Release);
            self.tombstones += 1;
            return;
        }
        self.words()[slot(at)].store(0, Ordering::Release);
        // Tombstones before an empty slot only make lookups longer.
        for i in (1..LINE_WORDS).map(|n| at + LINE_WORDS - n) {
            if self.words()[slot(i)].load(Ordering::Relaxed) != WORD_TOMBSTONE {
                break;
            }
            self.words()[slot(i)].store(0, Ordering::Release);
            self.tombstones -= 1;
        }
    }

    /// Whether another name would make it more than half full.
    pub(super) const fn is_half_full(&self) -> bool {
        (self.names + 1) * SLOTS_PER_NAME > self.area.lines * LINE_WORDS
    }

    /// Whether it has too many tombstones.
    pub(super) const fn has_many_tombstones(&self) -> bool {
        self.tombstones * SLOTS_PER_TOMBSTONE > self.area.lines * LINE_WORDS
    }

    /// The area to move to for more slots: the one of twice the size, or first the primary area if the sibling, which overlaps
    /// the larger one, is in use. None if no larger area exists.
    pub(super) fn next_area_to_grow(&self) -> Option<Area> {
        let lines = 2 * self.area.lines;
        match self.area.first == lines {
            _ if lines > self.lines_max => None,
            true => Some(self.sibling()),
            false => Some(Area { first: lines, lines }),
        }
    }

    /// The other area of the same size, to move to when tombstones are many.
    pub(super) const fn sibling(&self) -> Area {
        let Area { first, lines } = self.area;
        Area { first: if first == lines { 2 * lines } else { lines }, lines }
    }

    /// Whether the area was used since the map was created. Programs may still read it then, so a move to it must wait for a
    /// grace period.
    pub(super) const fn was_used(&self, area: Area) -> bool {
        area.first < self.untouched
    }

    /// Moves to another area, which the caller then publishes to programs. False if names don't fit there; the index then stays.
    pub(super) fn move_to(&mut self, area: Area, hash: impl Fn(u32) -> u64) -> bool {
        let words = words_of(&self.map, area);
        let clear = || words.iter().for_each(|w| w.store(0, Ordering::Relaxed));
        if self.was_used(area) {
            clear();
        }
        for at in refs_in(&self.map, self.area, 0, usize::MAX).into_iter().flatten() {
            let hash = hash(at);
            let Some(slot) = slots(area, hash).find(|s| words[*s].load(Ordering::Relaxed) == 0) else {
                clear();
                return false;
            };
            words[slot].store(word(hash, at), Ordering::Relaxed);
        }
        self.untouched = self.untouched.max(area.first + area.lines);
        self.area = area;
        self.tombstones = 0;
        true
    }
}

fn words_of(map: &Mapped, area: Area) -> &[AtomicU32] {
    assert!((area.first + area.lines) * LINE_WORDS * size_of::<AtomicU32>() <= map.len());
    // SAFETY: within the borrowed mapping, as asserted. Programs and the daemon access whole aligned words only.
    unsafe {
        let first = map.as_ptr().cast::<AtomicU32>().add(area.first * LINE_WORDS);
        std::slice::from_raw_parts(first, area.lines * LINE_WORDS)
    }
}

/// The refs in `slots` slots of an area, starting with `slot`; None if `slot` is after the last one.
pub(super) fn refs_in(map: &Mapped, area: Area, slot: usize, slots: usize) -> Option<impl Iterator<Item = u32>> {
    let words = words_of(map, area).get(slot..).filter(|w| !w.is_empty())?;
    // Acquire: pairs with the Release of `put`.
    Some(words.iter().take(slots).map(|w| w.load(Ordering::Acquire) & !WORD_TOMBSTONE).filter(|at| *at != 0))
}

const fn tag(hash: u64) -> u32 {
    (hash >> 32) as u8 as u32
}

const fn word(hash: u64, at: u32) -> u32 {
    tag(hash) << REF_BITS | at
}

/// The slots of an area that may hold a name, in the order in which programs probe them (`suffix_find` in lookup.h).
fn slots(area: Area, hash: u64) -> impl Iterator<Item = usize> {
    let (line, lines) = ((hash >> (u64::BITS - area.bits())) as usize, area.lines);
    let start = (hash >> 40) as usize % LINE_WORDS;
    (0..PROBE_LINES)
        .flat_map(move |l| (0..LINE_WORDS).map(move |i| (line + l) % lines * LINE_WORDS + (start + i) % LINE_WORDS))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const NAMES: usize = 1 << 14;

    fn index() -> Index {
        Index::new(Mapped::anonymous(map_lines(NAMES) * LINE_WORDS * size_of::<u32>()).unwrap().into(), NAMES)
    }

    /// A hash of a ref. These tests use refs as names.
    fn hash(at: u32) -> u64 {
        let hash = u64::from(at).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (hash ^ hash >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    /// Adds a name as the table does.
    fn put(index: &mut Index, at: u32) -> bool {
        loop {
            let found = index.find(hash(at), |found| found == at);
            let needs_slots = index.is_half_full() || found == Found::NoSlot;
            let area = match found {
                Found::At(..) => return true,
                _ if needs_slots => index.next_area_to_grow(),
                _ if index.has_many_tombstones() => Some(index.sibling()),
                _ => None,
            };
            if let Some(to) = area {
                let from = index.area;
                let apart = to.first >= from.first + from.lines || from.first >= to.first + to.lines;
                assert!(apart, "programs read {from:?} while {to:?} is written");
            }
            match (area, found) {
                (Some(area), _) if index.move_to(area, hash) => {}
                (_, Found::Free(slot)) => {
                    index.put(slot, hash(at), at);
                    return true;
                }
                _ => return false,
            }
        }
    }

    fn remove(index: &mut Index, at: u32) {
        let Found::At(slot, _) = index.find(hash(at), |found| found == at) else { panic!("{at} is in the index") };
        index.clear(slot);
    }

    #[test]
    fn the_index_agrees_with_a_model_through_growth_and_churn() {
        let mut index = index();
        let mut model: HashMap<u32, ()> = HashMap::new();
        let mut random = 1_u64;
        for round in 0..400_000_u32 {
            random = hash(round) ^ random.rotate_left(7);
            let at = 1 + (random >> 20) as u32 % (NAMES as u32 * 3 / 2);
            if model.remove(&at).is_some() {
                remove(&mut index, at);
            } else if model.len() < NAMES {
                assert!(put(&mut index, at));
                model.insert(at, ());
            }
            assert_eq!(index.len(), model.len());
        }
        for at in 1..NAMES as u32 * 3 / 2 {
            let found = matches!(index.find(hash(at), |f| f == at), Found::At(_, f) if f == at);
            assert_eq!(found, model.contains_key(&at), "{at}");
        }
        assert_eq!(refs_in(&index.map, index.area, 0, usize::MAX).unwrap().count(), model.len());
        assert!(refs_in(&index.map, index.area, index.area.lines * LINE_WORDS, 1).is_none());
    }

    #[test]
    fn churn_does_not_make_lookups_of_absent_names_long() {
        let mut index = index();
        for at in 1..=4000 {
            assert!(put(&mut index, at));
        }
        for at in 4001..=400_000 {
            remove(&mut index, at - 4000);
            assert!(put(&mut index, at));
        }
        let words = |at: u32| {
            let is_used = |slot: &usize| index.words()[*slot].load(Ordering::Relaxed) != 0;
            slots(index.area, hash(at)).take_while(is_used).count()
        };
        let absent = 1_000_000..1_010_000;
        let mean = absent.clone().map(words).sum::<usize>() as f64 / absent.len() as f64;
        // Half of the slots hold names, and up to a quarter are tombstones.
        assert!(mean < 8.0, "a lookup of an absent name probes {mean} slots on average");
        assert_eq!(
            index.tombstones,
            index.words().iter().filter(|w| w.load(Ordering::Relaxed) == WORD_TOMBSTONE).count()
        );
    }

    #[test]
    fn grows_from_either_of_two_areas_to_the_largest() {
        let mut index = index();
        for at in 1..=NAMES as u32 {
            assert!(put(&mut index, at));
            if at % 1000 == 0 {
                let sibling = index.sibling();
                assert!(index.move_to(sibling, hash));
            }
        }
        assert_eq!(index.area.lines, index.lines_max);
        assert!(index.next_area_to_grow().is_none());
    }
}
