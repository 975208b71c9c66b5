//! Moves the index to another area: for more slots, for fewer tombstones, or for another hash key.

use std::time::{Duration, Instant};

use super::super::encode::Stored;
use super::super::hash::HashKey;
use super::super::index::{Area, Found};
use super::Table;
use crate::datapath::abi::KEYS;

/// Shortest interval between two changes of the hash key because of collisions. A change of the key costs as much as
/// about 10,000 changes of names.
pub(super) const REKEY_INTERVAL: Duration = Duration::from_secs(60);

impl Table {
    /// Moves the index or changes its key if another name needs it. `found` is the result of the name's search. False if nothing
    /// changed.
    pub(super) fn make_room(&mut self, found: Found) -> bool {
        let no_slot = found == Found::NoSlot;
        let area = if self.index.is_half_full() || no_slot {
            self.index.next_area_to_grow()
        } else if self.index.has_many_tombstones() {
            Some(self.index.sibling())
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
            log::warn!("hash collisions: all names were rehashed with a new key; later rehashes are not logged");
        }
        done
    }

    /// Rehashes all names with another key. False if names don't fit with that key or the wait for programs failed; the old key
    /// then stays.
    pub fn rekey(&mut self, key: HashKey) -> bool {
        // Running programs may still use the key that is overwritten here, and the sibling area.
        if self.wait_for_programs().is_err() {
            return false;
        }
        let number = (self.key_number + 1) % KEYS;
        self.settings.set_key(number, &key.abi());
        let old = (std::mem::replace(&mut self.key, key), std::mem::replace(&mut self.key_number, number));
        let moved = self.move_to(self.index.sibling());
        if moved {
            self.rekeys += 1;
            self.reader.set_rekeys(self.rekeys);
        } else {
            (self.key, self.key_number) = old;
        }
        moved
    }

    fn may_rekey(&self) -> bool {
        self.rekeyed.is_none_or(|last| last.elapsed() > self.rekey_interval)
    }

    /// Whether to retry names refused for collisions. True once after a refusal, as soon as the key may be changed again.
    pub fn take_retry(&mut self) -> bool {
        self.may_rekey() && std::mem::take(&mut self.wants_key)
    }

    /// Sets the shortest interval between two changes of the hash key (for tests).
    #[doc(hidden)]
    pub const fn set_rekey_interval(&mut self, interval: Duration) {
        self.rekey_interval = interval;
    }

    /// Number of changes of the hash key so far.
    #[must_use]
    pub const fn rekeys(&self) -> u64 {
        self.rekeys
    }

    /// Moves the index to an area that no program reads. False if names don't fit there; the index then stays.
    fn move_to(&mut self, area: Area) -> bool {
        let (arena, key) = (&self.arena, &self.key);
        let moved = self.index.move_to(area, |at| key.hash(Stored::new(arena.octets_at(at)).wire()));
        if moved {
            self.unsettled.old_depths = Some(self.depth_range());
            self.settings.set_index(area.abi(self.key_number));
            self.reader.lock().set_area(area);
        }
        moved
    }
}
