//! Gates suspend answers that may be wrong now; each group of answers has one. [`Facts`] computes, without side effects, which gates
//! are open; [`Gates`] writes them to the settings that the programs read.

mod shared;

use std::collections::BTreeSet;

pub(super) use self::shared::Gates;
use crate::datapath::Gate;

/// Gates of namespaces, by number ([`crate::zone::node::Node::gate`]).
pub(super) type GateSet = BTreeSet<u8>;

/// The facts that decide which gates are open. The event loop and the thread that writes the maps each set their own.
#[derive(Debug)]
pub(super) struct Facts {
    /// Whether the initial sync is done.
    pub synced: bool,
    /// Whether the view of the cluster is current.
    pub current: bool,
    /// Whether the view has been stale longer than `MaxStale` allows.
    pub expired: bool,
    /// Whether all changes of the maps were written in the order that they need ([`crate::datapath::Table::is_in_order`]).
    pub in_order: bool,
    /// Whether changes are late.
    pub late: bool,
    /// Gates of the namespaces whose changes are late.
    pub late_namespaces: GateSet,
}

impl Facts {
    /// The gates of all answers of the cluster zone, of negative answers of static names, and of negative answers of the cluster
    /// zone.
    fn gates(&self) -> [Gate; 3] {
        let cluster = match (self.synced, self.expired) {
            (false, _) => Gate::NotSynced,
            (true, true) => Gate::Stale,
            (true, false) => Gate::Open,
        };
        let static_negative = match (self.in_order, self.late) {
            (false, _) => Gate::Incomplete,
            (true, true) => Gate::Stale,
            (true, false) => Gate::Open,
        };
        let cluster_negative = match (self.synced, static_negative) {
            (false, _) => Gate::NotSynced,
            (true, Gate::Open) if !self.current => Gate::Stale,
            (true, gate) => gate,
        };
        [cluster, static_negative, cluster_negative]
    }
}

#[cfg(test)]
mod tests {
    use super::Gate::{Incomplete, NotSynced, Open, Stale};
    use super::*;

    /// Columns: synced, current, expired, in order, late (1: true, 0: false, -: either). Results: all answers of the cluster
    /// zone, negative answers of static names, negative answers of the cluster zone.
    const TRUTH_TABLE: [(&str, [Gate; 3]); 11] = [
        ("0 - - 1 0", [NotSynced, Open, NotSynced]),
        ("0 - - 1 1", [NotSynced, Stale, NotSynced]),
        ("0 - - 0 -", [NotSynced, Incomplete, NotSynced]),
        ("1 1 0 1 0", [Open, Open, Open]),
        ("1 1 1 1 0", [Stale, Open, Open]),
        ("1 0 0 1 0", [Open, Open, Stale]),
        ("1 0 1 1 0", [Stale, Open, Stale]),
        ("1 - 0 1 1", [Open, Stale, Stale]),
        ("1 - 1 1 1", [Stale, Stale, Stale]),
        ("1 - 0 0 -", [Open, Incomplete, Incomplete]),
        ("1 - 1 0 -", [Stale, Incomplete, Incomplete]),
    ];

    #[test]
    fn gates_follow_the_truth_table() {
        for bits in 0..32 {
            let row = format!("{bits:05b}");
            let [synced, current, expired, in_order, late] = [0, 1, 2, 3, 4].map(|i| row.as_bytes()[i] == b'1');
            let facts = Facts { synced, current, expired, in_order, late, late_namespaces: GateSet::default() };
            let is_match =
                |pattern: &str| pattern.split(' ').zip(row.chars()).all(|(p, c)| p == "-" || p == c.to_string());
            let matches: Vec<_> = TRUTH_TABLE.iter().filter(|(pattern, _)| is_match(pattern)).collect();
            let [(pattern, gates)] = matches[..] else { panic!("{facts:?}: rows {matches:?}") };
            assert_eq!(facts.gates(), *gates, "row {pattern}: {facts:?}");
        }
    }
}
