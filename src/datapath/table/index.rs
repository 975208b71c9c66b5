//! The hash index: from a name's hash to the ref of its node. Open addressing over lines of words; a change is one store.
//!
//! The map has room for an index of each size, a power of 2, that of n lines from line n on: so a larger one never lies over
//! a smaller one. Beside the index of n lines, from line 2n on, is room for another of the same size. A move copies the words
//! to another area and then tells programs of it; who still reads the old one finds there what held until then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::datapath::abi::{LINE_WORDS, PROBE_LINES, REF_BITS, WORD_DEAD};
use crate::datapath::mapped::Mapped;
use crate::datapath::skel::types::edns_index_part;

/// Slots per name, at least: half of an index stays free, so that a look-up ends after a slot or two.
const SLOTS_PER_NAME: usize = 2;
/// Lines that an index begins with: a page of them.
const LINES_MIN: usize = 64;
/// One slot in so many may be dead before all are moved: they make look-ups of what is not there longer.
const SLOTS_PER_DEAD: usize = 4;

/// Lines of an index for `names` names: two at least, since a program shifts by how many bits number them.
fn lines_for(names: usize) -> usize {
    (names * SLOTS_PER_NAME).div_ceil(LINE_WORDS).next_power_of_two().max(2)
}

/// Lines of the map: of the largest index, the one beside it, and all smaller ones.
pub(in crate::datapath) fn map_lines(names: usize) -> usize {
    3 * lines_for(names)
}

/// Where an index is, in lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Area {
    first: usize,
    lines: usize,
}

impl Area {
    /// As in `edns_settings`, with the number of the key that hashes its names.
    pub(super) const fn abi(self, key: usize) -> u8 {
        let beside = (self.first != self.lines) as u32;
        let parts = self.bits()
            | beside << edns_index_part::EDNS_INDEX_BESIDE_SHIFT.0
            | (key as u32) << edns_index_part::EDNS_INDEX_KEY_SHIFT.0;
        parts as u8
    }

    /// How many bits number its lines.
    const fn bits(self) -> u32 {
        self.lines.trailing_zeros()
    }
}

/// Where a search for a name ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// In this slot, with this ref.
    At(usize, u32),
    /// Nowhere; this slot could take it.
    Free(usize),
    /// Nowhere, and all slots for it are taken.
    NoSlot,
}

/// The writer's side.
pub(super) struct Index {
    map: Arc<Mapped>,
    area: Area,
    lines_max: usize,
    names: usize,
    dead: usize,
    /// Lines from here on were never used: they are zero, and no program reads them.
    untouched: usize,
}

impl Index {
    /// An empty index in a map of [`map_lines`] lines of zeros.
    pub(super) fn new(map: Arc<Mapped>, names_max: usize) -> Self {
        let lines_max = lines_for(names_max);
        let lines = LINES_MIN.min(lines_max);
        let area = Area { first: lines, lines };
        Self { map, area, lines_max, names: 0, dead: 0, untouched: 2 * lines }
    }

    pub(super) const fn area(&self) -> Area {
        self.area
    }

    /// Names in it.
    pub(super) const fn len(&self) -> usize {
        self.names
    }

    fn words(&self) -> &[AtomicU32] {
        words_of(&self.map, self.area)
    }

    /// Looks for the name with this hash that `is` knows by its ref.
    pub(super) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Found {
        let words = self.words();
        let mut free = None;
        for slot in slots(self.area, hash) {
            let word = words[slot].load(Ordering::Relaxed);
            if word == 0 {
                return Found::Free(free.unwrap_or(slot));
            }
            if word == WORD_DEAD {
                free = free.or(Some(slot));
            } else if word >> REF_BITS == tag(hash) && is(word & !WORD_DEAD) {
                return Found::At(slot, word & !WORD_DEAD);
            }
        }
        free.map_or(Found::NoSlot, Found::Free)
    }

    /// What a slot leads to.
    pub(super) fn at(&self, slot: usize) -> u32 {
        self.words()[slot].load(Ordering::Relaxed) & !WORD_DEAD
    }

    /// Makes a slot that [`Self::find`] gave lead to a node.
    pub(super) fn put(&mut self, slot: usize, hash: u64, at: u32) {
        match self.words()[slot].load(Ordering::Relaxed) {
            0 => self.names += 1,
            WORD_DEAD => {
                self.names += 1;
                self.dead -= 1;
            }
            _ => {}
        }
        // The node's octets before the word that leads to them.
        self.words()[slot].store(word(hash, at), Ordering::Release);
    }

    /// Frees a slot. It may only become empty, which ends a look-up, where the next one in its line is: else names behind
    /// it would be lost. Slots are looked at round a line, so its next one is the same for every name.
    pub(super) fn clear(&mut self, slot: usize) {
        self.names -= 1;
        let (line, at) = (slot / LINE_WORDS * LINE_WORDS, slot % LINE_WORDS);
        let slot = |i: usize| line + i % LINE_WORDS;
        if self.words()[slot(at + 1)].load(Ordering::Relaxed) != 0 {
            self.words()[slot(at)].store(WORD_DEAD, Ordering::Release);
            self.dead += 1;
            return;
        }
        self.words()[slot(at)].store(0, Ordering::Release);
        // Dead slots in front of an empty one hold up nothing but look-ups.
        for i in (1..LINE_WORDS).map(|n| at + LINE_WORDS - n) {
            if self.words()[slot(i)].load(Ordering::Relaxed) != WORD_DEAD {
                break;
            }
            self.words()[slot(i)].store(0, Ordering::Release);
            self.dead -= 1;
        }
    }

    /// Whether a further name would take it above half full.
    pub(super) const fn is_crowded(&self) -> bool {
        (self.names + 1) * SLOTS_PER_NAME > self.area.lines * LINE_WORDS
    }

    /// Whether too many slots are dead.
    pub(super) const fn is_littered(&self) -> bool {
        self.dead * SLOTS_PER_DEAD > self.area.lines * LINE_WORDS
    }

    /// Where to move for more room, step by step: an index that lies beside goes to its proper place first. None: there is
    /// no larger one.
    pub(super) fn larger(&self) -> Option<Area> {
        let lines = 2 * self.area.lines;
        match self.area.first == lines {
            _ if lines > self.lines_max => None,
            true => Some(self.beside()),
            false => Some(Area { first: lines, lines }),
        }
    }

    /// Where to move for the sake of dead slots.
    pub(super) const fn beside(&self) -> Area {
        let Area { first, lines } = self.area;
        Area { first: if first == lines { 2 * lines } else { lines }, lines }
    }

    /// Whether programs may still read there, so that they have to be waited for before a move.
    pub(super) const fn was_used(&self, area: Area) -> bool {
        area.first < self.untouched
    }

    /// Moves to another area, which programs have to be told of then. False where it stays: names do not fit there.
    pub(super) fn move_to(&mut self, area: Area, hash: impl Fn(u32) -> u64) -> bool {
        let words = words_of(&self.map, area);
        let empty = || words.iter().for_each(|w| w.store(0, Ordering::Relaxed));
        if self.was_used(area) {
            empty();
        }
        for at in refs_in(&self.map, self.area, 0, usize::MAX).into_iter().flatten() {
            let hash = hash(at);
            let Some(slot) = slots(area, hash).find(|s| words[*s].load(Ordering::Relaxed) == 0) else {
                empty();
                return false;
            };
            words[slot].store(word(hash, at), Ordering::Relaxed);
        }
        self.untouched = self.untouched.max(area.first + area.lines);
        self.area = area;
        self.dead = 0;
        true
    }
}

fn words_of(map: &Mapped, area: Area) -> &[AtomicU32] {
    assert!((area.first + area.lines) * LINE_WORDS * size_of::<AtomicU32>() <= map.len());
    // SAFETY: within the mapping, as asserted, which is borrowed; programs and we access words as words only.
    unsafe {
        let first = map.as_ptr().cast::<AtomicU32>().add(area.first * LINE_WORDS);
        std::slice::from_raw_parts(first, area.lines * LINE_WORDS)
    }
}

/// The refs in `slots` slots of an area, from `slot` on; None behind the last one.
pub(super) fn refs_in(map: &Mapped, area: Area, slot: usize, slots: usize) -> Option<impl Iterator<Item = u32>> {
    let words = words_of(map, area).get(slot..).filter(|w| !w.is_empty())?;
    // The octets of a node are there before the word that leads to it.
    Some(words.iter().take(slots).map(|w| w.load(Ordering::Acquire) & !WORD_DEAD).filter(|at| *at != 0))
}

const fn tag(hash: u64) -> u32 {
    (hash >> 32) as u8 as u32
}

const fn word(hash: u64, at: u32) -> u32 {
    tag(hash) << REF_BITS | at
}

/// The slots of an area that may hold a name in the order in which the program looks at them (`suffix_find` in lookup.h).
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

    /// A hash of a ref, which stands for its name here.
    fn hash(at: u32) -> u64 {
        let hash = u64::from(at).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (hash ^ hash >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    /// As a table does it.
    fn put(index: &mut Index, at: u32) -> bool {
        loop {
            let found = index.find(hash(at), |found| found == at);
            let crowded = index.is_crowded() || found == Found::NoSlot;
            let area = match found {
                Found::At(..) => return true,
                _ if crowded => index.larger(),
                _ if index.is_littered() => Some(index.beside()),
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
        let Found::At(slot, _) = index.find(hash(at), |found| found == at) else { panic!("{at} is there") };
        index.clear(slot);
    }

    #[test]
    fn finds_what_is_there_through_growth_and_churn() {
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
    fn churn_does_not_make_misses_long() {
        let mut index = index();
        for at in 1..=4000 {
            assert!(put(&mut index, at));
        }
        for at in 4001..=400_000 {
            remove(&mut index, at - 4000);
            assert!(put(&mut index, at));
        }
        let words = |at: u32| {
            let mut looked_at = 0;
            slots(index.area, hash(at))
                .take_while(|s| index.words()[*s].load(Ordering::Relaxed) != 0)
                .for_each(|_| looked_at += 1);
            looked_at
        };
        let missing = 1_000_000..1_010_000;
        let mean = missing.clone().map(words).sum::<usize>() as f64 / missing.len() as f64;
        // Half of the slots are names, and up to a quarter dead.
        assert!(mean < 8.0, "{mean} words in front of an empty one");
        assert_eq!(index.dead, index.words().iter().filter(|w| w.load(Ordering::Relaxed) == WORD_DEAD).count());
    }

    #[test]
    fn grows_from_either_of_two_areas_to_the_largest() {
        let mut index = index();
        for at in 1..=NAMES as u32 {
            assert!(put(&mut index, at));
            if at % 1000 == 0 {
                let beside = index.beside();
                assert!(index.move_to(beside, hash));
            }
        }
        assert_eq!(index.area.lines, index.lines_max);
        assert!(index.larger().is_none());
    }
}
