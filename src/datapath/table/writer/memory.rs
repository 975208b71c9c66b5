//! The nodes' memory: allocation, reclaim and compaction.

use super::super::arena::{ArenaError, NodeKind, UNITS_MAX};
use super::super::encode::Stored;
use super::super::index::Found;
use super::Table;
use crate::datapath::abi::UNIT;

impl Table {
    /// Stores a name's node in the arena. May compact first, which moves other nodes.
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

    /// Ends a change: publishes the counts to readers, and reclaims or compacts memory if enough was freed.
    pub(super) fn reclaim_if_due(&mut self) {
        self.reader.set_counts(self.index.len(), self.arena.live_units());
        let result = if self.arena.is_sparse() {
            self.compact()
        } else if self.arena.should_reclaim() {
            self.wait_for_programs().map(|()| self.arena.release_chunks())
        } else {
            Ok(())
        };
        if let Err(e) = result {
            log::warn!("memory of removed names is not reclaimed yet: {e}");
        }
    }

    /// Moves named nodes out of the emptiest chunks, and releases surplus chunks.
    fn compact(&mut self) -> Result<(), ArenaError> {
        while let Some(runs) = self.arena.drain_sparsest() {
            // Nodes stay where they are if the other chunks have no memory for them.
            if runs.into_iter().try_for_each(|(at, units)| self.move_nodes(at, units)).is_err() {
                break;
            }
        }
        self.arena.end_compaction();
        self.wait_for_programs()?;
        self.arena.release_chunks();
        Ok(())
    }

    /// Moves all nodes in the run of `units` units at `at`. Programs read the same bytes before and after.
    fn move_nodes(&mut self, mut at: u32, units: usize) -> Result<(), ArenaError> {
        let end = at + units as u32;
        while at < end {
            let stored = Stored::new(self.arena.octets_at(at));
            let (from, len, hash) = (at, stored.len(), self.key.hash(stored.wire()));
            at += len.div_ceil(UNIT) as u32;
            // A node that the index does not refer to is retired already.
            if let Found::At(slot, _) = self.index.find(hash, |found| found == from) {
                let to = self.arena.copy(from, len)?;
                self.index.put(slot, hash, to);
                self.arena.retire_moved(from, len);
            }
        }
        Ok(())
    }
}
