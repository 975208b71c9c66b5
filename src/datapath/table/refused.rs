//! Names that the table has no place for: they pass to the DNS server, and so does all below them.
//!
//! A name without a node is spoken for by the closest one above that has one, which knows nothing of names that were refused.
//! So that one is marked: of names like the refused it says nothing any more. A mark is a store in place, which takes no
//! memory and no name, and everywhere else negative answers and wildcards go on.

use std::borrow::Cow;
use std::collections::HashMap;

use super::error::TableError;
use super::writer::{Below, Put, Table};
use crate::zone::change::{Change, order};
use crate::zone::name::Name;
use crate::zone::node::Node;

/// Why a name passes that should be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// There are more than `MaxRecords`.
    Full,
    /// No memory is left for its node.
    Memory,
    /// No slot of the index is left for its hash.
    Collision,
    /// Its node is one that the maps can't express.
    Size,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Full, Self::Memory, Self::Collision, Self::Size];

    /// As in `edns_names_passed`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Memory => "memory",
            Self::Collision => "collision",
            Self::Size => "size",
        }
    }

    const fn of(e: &TableError) -> Self {
        match e {
            TableError::Full(_) => Self::Full,
            TableError::Collisions => Self::Collision,
            TableError::Arena(_) => Self::Memory,
            TableError::Node(_) => Self::Size,
        }
    }
}

/// For names one label below, and for those further below: whether one of them was refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Held([bool; 2]);

impl Held {
    /// What is left of what a node says.
    fn of(self, said: &Below) -> Below {
        let Self([near, far]) = self;
        let child = said.child.clone().filter(|_| !near);
        let deep = said.deep.clone().filter(|_| !near && !far);
        Below { child, deep }
    }
}

/// What the table has no place for, and the marks for that.
#[derive(Default)]
pub struct Refused {
    names: HashMap<Name, (Node, Reason)>,
    /// How many of them there are by [`Reason`].
    counts: [usize; Reason::ALL.len()],
    /// How many of them there are one label below a name, and how many further below.
    above: HashMap<Name, [usize; 2]>,
    /// What names that are marked would say.
    marks: HashMap<Name, Below>,
    /// Whether marks may be at other names than the closest ones above.
    is_untidy: bool,
}

impl Refused {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// How many there are for a reason.
    #[must_use]
    pub const fn count(&self, reason: Reason) -> usize {
        self.counts[reason as usize]
    }

    /// Makes a change in the table; returns whether something changed there. After the last of several: [`Self::settle`].
    ///
    /// In a [`Table::batch`], a node that is put once more is so by this, too, and says what is not withheld by then.
    pub fn apply(&mut self, table: &mut Table, change: &Change) -> bool {
        match change {
            Change::Put(name, node) => self.put(table, name, node),
            Change::Remove(name) => {
                if self.above.contains_key(name) {
                    self.mark_above(table, name);
                    self.marks.remove(name);
                }
                self.forget(name);
                table.remove(name)
            }
        }
    }

    /// Tries again what was refused, as far as there is a place now, and takes away marks that nothing needs any more: a batch
    /// of its own.
    pub fn settle(&mut self, table: &mut Table) {
        let is_full = table.len() == table.max_len();
        let again =
            self.names.iter().filter(|_| !is_full).map(|(name, (node, _))| Change::Put(name.clone(), node.clone()));
        let mut again: Vec<Change> = again.collect();
        order(&mut again);
        let mut has_room = true;
        table.batch(&again, |table, change| {
            // Where one found no room, the next one would find no more.
            let is_short = matches!(self.names.get(change.name()), Some((_, Reason::Full | Reason::Memory)));
            if is_short && !has_room {
                return false;
            }
            let changed = self.apply(table, change);
            has_room &= !matches!(self.names.get(change.name()), Some((_, Reason::Full | Reason::Memory)));
            changed
        });
        if self.is_untidy {
            self.is_untidy = false;
            self.tidy(table);
        }
    }

    fn put(&mut self, table: &mut Table, name: &Name, node: &Node) -> bool {
        let said = Below { child: node.child.clone(), deep: node.deep.clone() };
        let held = self.held(name).of(&said);
        let is_marked = held != said;
        let node = match is_marked {
            true => Cow::Owned(Node { child: held.child, deep: held.deep, ..node.clone() }),
            false => Cow::Borrowed(node),
        };
        match table.put(name, &node) {
            Ok(put) => {
                self.is_untidy |= self.above.contains_key(name);
                self.marks.remove(name);
                if is_marked {
                    self.marks.insert(name.clone(), said);
                }
                self.forget(name);
                put != Put::Same
            }
            Err(e) => {
                let node = Node { child: said.child, deep: said.deep, ..node.into_owned() };
                self.refuse(table, name, node, &e)
            }
        }
    }

    fn refuse(&mut self, table: &mut Table, name: &Name, node: Node, e: &TableError) -> bool {
        let reason = Reason::of(e);
        if self.count(reason) == 0 {
            log::error!("{name} passes to the DNS server, and so do others in its place: {e}");
        }
        self.counts[reason as usize] += 1;
        match self.names.insert(name.clone(), (node, reason)) {
            Some((_, before)) => self.counts[before as usize] -= 1,
            None => {
                for (labels, above) in name.ancestors().enumerate().skip(1) {
                    self.above.entry(above).or_default()[usize::from(labels > 1)] += 1;
                }
            }
        }
        self.is_untidy = true;
        self.mark_above(table, name);
        self.marks.remove(name);
        // What was there may be what shall be no more: it must not go on.
        table.remove(name)
    }

    /// A name is in the table, or is not to be.
    fn forget(&mut self, name: &Name) {
        let Some((_, reason)) = self.names.remove(name) else { return };
        self.counts[reason as usize] -= 1;
        for (labels, above) in name.ancestors().enumerate().skip(1) {
            if let Some(counts) = self.above.get_mut(&above) {
                counts[usize::from(labels > 1)] -= 1;
                if *counts == [0; 2] {
                    self.above.remove(&above);
                }
            }
        }
        self.is_untidy = true;
    }

    fn held(&self, name: &Name) -> Held {
        Held(self.above.get(name).map_or([false; 2], |counts| counts.map(|n| n > 0)))
    }

    /// Marks the closest name above that has a node.
    fn mark_above(&mut self, table: &mut Table, name: &Name) {
        let closest = name.ancestors().skip(1).find_map(|above| Some((table.below(&above)?, above)));
        let Some((says, above)) = closest else { return };
        let said = self.marks.get(&above).unwrap_or(&says);
        let held = self.held(&above).of(said);
        if held != says {
            let said = said.clone();
            table.withhold(&above, held.child.is_none());
            self.marks.insert(above, said);
        }
    }

    /// Leaves marks only at the names that are closest above what was refused.
    fn tidy(&mut self, table: &mut Table) {
        let mut needed: HashMap<Name, Held> = HashMap::new();
        for name in self.names.keys() {
            let above = name.ancestors().enumerate().skip(1).find(|(_, above)| table.below(above).is_some());
            if let Some((labels, above)) = above {
                needed.entry(above).or_default().0[usize::from(labels > 1)] = true;
            }
        }
        for (name, said) in std::mem::take(&mut self.marks) {
            let held = needed.get(&name).copied().unwrap_or_default().of(&said);
            if let Err(e) = table.set_below(&name, &held) {
                log::warn!("names below {name} pass for a while longer: {e}");
                self.is_untidy = true;
                self.marks.insert(name, said);
            } else if held != said {
                self.marks.insert(name, said);
            }
        }
    }
}
