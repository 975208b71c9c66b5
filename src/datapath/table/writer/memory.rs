//! The memory of nodes: who makes room, and who gives it back.

use super::super::arena::{ArenaError, NodeKind, UNITS_MAX};
use super::super::encode::Stored;
use super::super::index::Found;
use super::Table;
use crate::datapath::abi::UNIT;

impl Table {
    /// Copies a name's node into the arena, where others may have to move for it.
    pub(super) fn store(&mut self, octets: &[u8], is_new: bool) -> Result<u32, ArenaError> {
        if is_new && self.arena.live_units() + octets.len().div_ceil(UNIT) > UNITS_MAX {
            return Err(ArenaError::Exhausted);
        }
        match self.arena.store(NodeKind::Named, octets) {
            Err(ArenaError::Exhausted) if self.arena.may_compact() => {
                self.compact()?;
                self.arena.store(NodeKind::Named, octets)
            }
            result => result,
        }
    }

    /// After a change: tells readers of it, makes memory usable again where much was retired, and moves nodes together where they
    /// lie too far apart.
    pub(super) fn tidy(&mut self) {
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
}
