//! The index moves: to where there is more room, or to another key.

use std::time::{Duration, Instant};

use super::super::encode::Stored;
use super::super::hash::HashKey;
use super::super::index::{Area, Found};
use super::Table;
use crate::datapath::abi::KEYS;

/// From one time that the index gets another key to the next: it takes as long as some ten thousand changes.
pub(super) const REKEY_INTERVAL: Duration = Duration::from_secs(60);

impl Table {
    /// Moves the index where a further name needs that, or gives it another key. False where it stays.
    pub(super) fn make_room(&mut self, found: Found) -> bool {
        let no_slot = found == Found::NoSlot;
        let area = if self.index.is_crowded() || no_slot {
            self.index.larger()
        } else if self.index.is_littered() {
            Some(self.index.beside())
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
            log::warn!(
                "too many names with one hash: they are hashed by another key now, as they will be if that comes again"
            );
        }
        done
    }

    /// Has another key hash the names. False where it stays as it is: names do not fit by that key, or programs can't be waited for.
    pub fn rekey(&mut self, key: HashKey) -> bool {
        // Programs may still hash by the key that is to be overwritten, and read the area beside.
        if self.wait_for_programs().is_err() {
            return false;
        }
        let key_at = (self.key_at + 1) % KEYS;
        self.settings.set_key(key_at, &key.abi());
        let old = (std::mem::replace(&mut self.key, key), std::mem::replace(&mut self.key_at, key_at));
        let moved = self.move_to(self.index.beside());
        if moved {
            self.rekeys += 1;
            self.reader.set_rekeys(self.rekeys);
        } else {
            (self.key, self.key_at) = old;
        }
        moved
    }

    fn may_rekey(&self) -> bool {
        self.rekeyed.is_none_or(|last| last.elapsed() > self.rekey_interval)
    }

    /// Whether names that were refused for want of a slot should be put again, since the index may take another key by now. Said
    /// once.
    pub fn takes_refused(&mut self) -> bool {
        self.may_rekey() && std::mem::take(&mut self.wants_key)
    }

    /// For tests that don't want to wait for a minute.
    #[doc(hidden)]
    pub const fn set_rekey_interval(&mut self, interval: Duration) {
        self.rekey_interval = interval;
    }

    /// How often the names got another key.
    #[must_use]
    pub const fn rekeys(&self) -> u64 {
        self.rekeys
    }

    /// Moves the index to an area that no program reads. False where it stays.
    fn move_to(&mut self, area: Area) -> bool {
        let (arena, key) = (&self.arena, &self.key);
        let moved = self.index.move_to(area, |at| key.hash(Stored::new(arena.octets_at(at)).wire()));
        if moved {
            self.recent.left = Some(self.range());
            self.settings.set_index(area.abi(self.key_at));
            self.reader.lock().set_area(area);
        }
        moved
    }
}
