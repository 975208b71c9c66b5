//! The addresses in objects that are not kept ([`super::keep`]): a counting Bloom filter with four bytes per address.
//!
//! An address is represented by its *mark*, a hash under a random key: a tenant can't choose addresses that have the marks of
//! others. Each mark is counted in four places of a table. If all places of an address are in use, an object that is not kept
//! may have the address; otherwise none has it. One address in thousands is a false positive if a million marks are kept, and
//! one in six at the limit.
//!
//! # Data model
//!
//! [`MarkTable`] is the table, one for the cluster, with a byte for each place. [`Marks`] are the marks of one object, kept
//! with it so that they can be removed from the table.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;

/// Places in the table, a byte each. The table is allocated when the first mark is added.
const PLACES: usize = 32 << 20;
/// Places in which each mark is counted.
const PLACES_EACH: u32 = 4;
/// The most marks that are kept.
const MARKS_MAX: usize = 8 << 20;

/// The marks of an object's addresses, sorted, each once. None: too many marks are kept already, so the object may have any
/// address.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Marks(Option<Box<[u32]>>);

/// The table of all marks.
#[derive(Default)]
pub(super) struct MarkTable {
    key: RandomState,
    /// The marks counted in each place. A count that has reached 255 stays there until no mark is left.
    counts: Vec<u8>,
    kept: usize,
    /// Objects whose marks are None.
    unknown: usize,
    has_changed: bool,
}

/// The places of a mark: double hashing with two numbers derived from it.
fn places(mark: u32) -> impl Iterator<Item = usize> {
    let mixed = u64::from(mark).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let (first, step) = (mixed as u32, (mixed >> 32) as u32 | 1);
    (0..PLACES_EACH).map(move |n| first.wrapping_add(step.wrapping_mul(n)) as usize % PLACES)
}

impl MarkTable {
    fn mark(&self, address: IpAddr) -> u32 {
        self.key.hash_one(address) as u32
    }

    /// The marks of some addresses. They are not counted before [`Self::add`].
    pub(super) fn of(&self, addresses: impl Iterator<Item = IpAddr>) -> Marks {
        let marks: HashSet<u32> = addresses.map(|a| self.mark(a)).collect();
        let mut marks: Vec<u32> = marks.into_iter().collect();
        marks.sort_unstable();
        Marks((self.kept + marks.len() <= MARKS_MAX).then(|| marks.into()))
    }

    pub(super) fn add(&mut self, Marks(marks): &Marks) {
        self.has_changed = true;
        let Some(marks) = marks else {
            self.unknown += 1;
            return;
        };
        self.kept += marks.len();
        if self.counts.is_empty() && !marks.is_empty() {
            self.counts = vec![0; PLACES];
        }
        for place in marks.iter().flat_map(|mark| places(*mark)) {
            self.counts[place] = self.counts[place].saturating_add(1);
        }
    }

    pub(super) fn remove(&mut self, Marks(marks): &Marks) {
        self.has_changed = true;
        let Some(marks) = marks else {
            self.unknown -= 1;
            return;
        };
        self.kept -= marks.len();
        if self.kept == 0 {
            self.counts = Vec::new();
            return;
        }
        for place in marks.iter().flat_map(|mark| places(*mark)) {
            if self.counts[place] < u8::MAX {
                self.counts[place] -= 1;
            }
        }
    }

    /// Whether an object that is not kept may have this address.
    pub(super) fn may_list(&self, address: IpAddr) -> bool {
        let is_taken = |place| self.counts[place] > 0;
        self.unknown > 0 || !self.counts.is_empty() && places(self.mark(address)).all(is_taken)
    }

    /// Whether no object is counted.
    pub(super) const fn is_empty(&self) -> bool {
        self.kept == 0 && self.unknown == 0
    }

    /// Whether the marks of an object with at most `addresses` addresses would fit, leaving an eighth of the limit free.
    pub(super) const fn has_room(&self, addresses: usize) -> bool {
        self.kept + addresses <= MARKS_MAX - MARKS_MAX / 8
    }

    /// Whether marks were added or removed since the last call.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }
}

impl Marks {
    /// Whether the marks are kept.
    pub(super) const fn is_known(&self) -> bool {
        self.0.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn addresses(net: u32, count: u32) -> impl Iterator<Item = IpAddr> {
        (0..count).map(move |i| Ipv4Addr::from_bits(net << 24 | i).into())
    }

    #[test]
    fn every_address_that_was_added_is_found_and_few_others() {
        let mut mark_table = MarkTable::default();
        let all: Vec<Marks> = (10..13).map(|net| mark_table.of(addresses(net, 200_000))).collect();
        all.iter().for_each(|marks| mark_table.add(marks));
        assert!((10..13).flat_map(|net| addresses(net, 200_000)).all(|a| mark_table.may_list(a)));
        let false_positives = addresses(20, 100_000).filter(|a| mark_table.may_list(*a)).count();
        assert!(false_positives < 100, "{false_positives} false positives of 100,000");

        mark_table.remove(&all[1]);
        assert!(addresses(10, 200_000).chain(addresses(12, 200_000)).all(|a| mark_table.may_list(a)));
        let left = addresses(11, 200_000).filter(|a| mark_table.may_list(*a)).count();
        assert!(left < 200, "{left} addresses of 200,000 are still found");
        [&all[0], &all[2]].iter().for_each(|marks| mark_table.remove(marks));
        assert!(mark_table.is_empty() && !addresses(10, 10).any(|a| mark_table.may_list(a)));
    }

    #[test]
    fn an_object_beyond_the_limit_may_have_any_address() {
        let mut mark_table = MarkTable { kept: MARKS_MAX - 10, ..MarkTable::default() };
        let few = mark_table.of(addresses(10, 10));
        assert!(few.is_known());
        mark_table.add(&few);
        let more = mark_table.of(addresses(11, 1));
        assert!(!more.is_known());
        mark_table.add(&more);
        assert!(addresses(20, 10).all(|a| mark_table.may_list(a)));
        mark_table.remove(&more);
        assert!(!addresses(20, 10).any(|a| mark_table.may_list(a)));
    }
}
