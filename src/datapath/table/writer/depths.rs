//! Counts names by depth, so that programs search only at depths that have names.

use super::Table;
use crate::zone::name::Name;

/// Number of names by number of labels, which is at most 127 (RFC 1035 §3.1).
pub(super) struct DepthCounts {
    counts: [usize; 128],
    /// A bit for each count that is not 0. Each change of a name needs the lowest and the highest.
    used: u128,
}

impl DepthCounts {
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

/// The names outside arpa, or those within. Reverse names of IPv6 addresses have 34 labels. A search of 16 depths that started
/// there would not reach the zone of an absent name outside arpa.
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

/// The depths, in labels, that programs search.
#[derive(Clone, Copy, Default)]
pub(super) struct DepthRange {
    /// The shortest name that has a child or deep node.
    min: Option<usize>,
    /// The longest name, by [`Tree`].
    max: [Option<usize>; 2],
}

impl Table {
    /// Publishes the depths to programs.
    pub(super) fn publish_depths(&self) {
        let DepthRange { min, max } = self.depth_range();
        self.settings.set_encloser_labels_min(min);
        self.settings.set_name_labels_max(max);
    }

    /// The depths of all names, including those in an old area of the index that programs may still read.
    pub(super) fn depth_range(&self) -> DepthRange {
        let old = self.unsettled.old_depths.unwrap_or_default();
        let max = |tree: usize| self.depths[tree].max().max(old.max[tree]);
        DepthRange { min: [self.encloser_depths.min(), old.min].into_iter().flatten().min(), max: [max(0), max(1)] }
    }
}
