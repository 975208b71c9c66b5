//! At which depths there are names, so that programs look at no others.

use super::Table;
use crate::zone::name::Name;

/// How many names have so many labels, of which a name has 127 at most (RFC 1035 §3.1).
pub(super) struct Depths {
    counts: [usize; 128],
    /// The numbers that are not 0, since each change of a name asks for the first and the last.
    used: u128,
}

impl Depths {
    pub(super) const NONE: Self = Self { counts: [0; 128], used: 0 };

    pub(super) const fn change(&mut self, labels: usize, add: bool) {
        let count = &mut self.counts[labels];
        *count = if add { *count + 1 } else { *count - 1 };
        let bit = 1 << labels;
        self.used = if *count > 0 { self.used | bit } else { self.used & !bit };
    }

    pub(super) fn min(&self) -> Option<usize> {
        (self.used != 0).then(|| self.used.trailing_zeros() as usize)
    }

    pub(super) fn max(&self) -> Option<usize> {
        self.used.checked_ilog2().map(|labels| labels as usize)
    }
}

/// Of names outside arpa, and within. The names of IPv6 addresses have 34 labels, and a program that began at such depth would
/// not come to the zone of a longer name that does not exist.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tree {
    Forward,
    Arpa,
}

impl Tree {
    pub(super) fn of(name: &Name) -> Self {
        if name.labels().last() == Some(b"arpa") { Self::Arpa } else { Self::Forward }
    }
}

/// Labels of names that programs look at: of the shortest that says something of those below, and of the longest by [`Tree`].
#[derive(Clone, Copy, Default)]
pub(super) struct Range {
    min: Option<usize>,
    max: [Option<usize>; 2],
}

impl Table {
    /// Tells programs which names are worth a look, as long as the ones that read an index which was left need it.
    pub(super) fn tell_depths(&self) {
        let Range { min, max } = self.range();
        self.settings.set_below_min(min);
        self.settings.set_below_max(max);
    }

    /// What is worth a look, with what was in an index that was left.
    pub(super) fn range(&self) -> Range {
        let left = self.recent.left.unwrap_or_default();
        let max = |tree: usize| self.depths[tree].max().max(left.max[tree]);
        Range { min: [self.below.min(), left.min].into_iter().flatten().min(), max: [max(0), max(1)] }
    }
}
