//! Names that the table refused: they do not fit. Queries for them and for all names below them pass to the DNS server.
//!
//! The program answers for a name without a node by the child or deep node of its closest encloser. For a refused name that is a
//! wrong answer, such as NXDOMAIN. So the encloser is suppressed: its child or deep node is removed, and such queries pass.
//! That is a store in place, which needs no memory. Negative answers and wildcards of other enclosers continue.

use std::borrow::Cow;
use std::collections::HashMap;

use super::error::TableError;
use super::writer::{EncloserNodes, Put, Table};
use crate::zone::change::{Change, order};
use crate::zone::name::Name;
use crate::zone::node::Node;

/// Why the table refused a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The table already holds `MaxRecords` names.
    Full,
    /// The arena has no memory for the node.
    Memory,
    /// The index has no slot for the name's hash.
    Collision,
    /// The node can't be encoded.
    Size,
}

impl Reason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Full, Self::Memory, Self::Collision, Self::Size];

    /// The value of the label `reason` of the metric `edns_names_passed`.
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

/// Whether names below a name were refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct HasRefused {
    /// Whether a name one label below was.
    near: bool,
    /// Whether a name further below was.
    far: bool,
}

impl HasRefused {
    /// The child and deep node without those that would answer for a refused name.
    fn filter(self, full: &EncloserNodes) -> EncloserNodes {
        let Self { near, far } = self;
        let child = full.child.clone().filter(|_| !near);
        let deep = full.deep.clone().filter(|_| !near && !far);
        EncloserNodes { child, deep }
    }
}

/// The refused names, and the enclosers that are suppressed for them.
#[derive(Default)]
pub struct Refused {
    names: HashMap<Name, (Node, Reason)>,
    /// Number of refused names by [`Reason`].
    counts: [usize; Reason::ALL.len()],
    /// Numbers of refused names by name above them: one label below it, and further below.
    below: HashMap<Name, [usize; 2]>,
    /// The suppressed enclosers, with their full child and deep nodes.
    suppressed: HashMap<Name, EncloserNodes>,
    /// Whether `suppressed` may contain enclosers that no refused name needs.
    is_outdated: bool,
}

impl Refused {
    /// Number of refused names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether no name is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Number of names refused for a reason.
    #[must_use]
    pub const fn count(&self, reason: Reason) -> usize {
        self.counts[reason as usize]
    }

    /// Applies a change to the table; returns whether the table changed. Call [`Self::settle`] after the last of several changes.
    ///
    /// [`Table::batch`] calls it again for postponed puts. The second call suppresses the enclosers of all names refused by then.
    pub fn apply(&mut self, table: &mut Table, change: &Change) -> bool {
        match change {
            Change::Put(name, node) => self.put(table, name, node),
            Change::Remove(name) => {
                if self.below.contains_key(name) {
                    self.suppress_encloser(table, name);
                    self.suppressed.remove(name);
                }
                self.drop_refused(name);
                table.remove(name)
            }
        }
    }

    /// Retries refused names that may fit now, and restores enclosers that need no longer be suppressed. It is a batch of its
    /// own.
    pub fn settle(&mut self, table: &mut Table) {
        let is_full = table.len() == table.max_len();
        let again =
            self.names.iter().filter(|_| !is_full).map(|(name, (node, _))| Change::Put(name.clone(), node.clone()));
        let mut again: Vec<Change> = again.collect();
        order(&mut again);
        let mut has_room = true;
        table.batch(&again, |table, change| {
            // After one name found the table full or no memory, others do, too.
            let is_short = matches!(self.names.get(change.name()), Some((_, Reason::Full | Reason::Memory)));
            if is_short && !has_room {
                return false;
            }
            let changed = self.apply(table, change);
            has_room &= !matches!(self.names.get(change.name()), Some((_, Reason::Full | Reason::Memory)));
            changed
        });
        if self.is_outdated {
            self.is_outdated = false;
            self.update_suppressed(table);
        }
    }

    fn put(&mut self, table: &mut Table, name: &Name, node: &Node) -> bool {
        let full = EncloserNodes { child: node.child.clone(), deep: node.deep.clone() };
        let kept = self.has_refused(name).filter(&full);
        let is_suppressed = kept != full;
        let node = match is_suppressed {
            true => Cow::Owned(Node { child: kept.child, deep: kept.deep, ..node.clone() }),
            false => Cow::Borrowed(node),
        };
        match table.put(name, &node) {
            Ok(put) => {
                self.is_outdated |= self.below.contains_key(name);
                self.suppressed.remove(name);
                if is_suppressed {
                    self.suppressed.insert(name.clone(), full);
                }
                self.drop_refused(name);
                put != Put::Same
            }
            Err(e) => {
                let node = Node { child: full.child, deep: full.deep, ..node.into_owned() };
                self.refuse(table, name, node, &e)
            }
        }
    }

    fn refuse(&mut self, table: &mut Table, name: &Name, node: Node, e: &TableError) -> bool {
        let reason = Reason::of(e);
        if self.count(reason) == 0 {
            log::error!("{name} does not fit into the record maps and passes to the DNS server: {e}");
        }
        self.counts[reason as usize] += 1;
        match self.names.insert(name.clone(), (node, reason)) {
            Some((_, before)) => self.counts[before as usize] -= 1,
            None => {
                for (labels, ancestor) in name.ancestors().enumerate().skip(1) {
                    self.below.entry(ancestor).or_default()[usize::from(labels > 1)] += 1;
                }
            }
        }
        self.is_outdated = true;
        self.suppress_encloser(table, name);
        self.suppressed.remove(name);
        // The name's old node is outdated and must not be answered any more.
        table.remove(name)
    }

    /// Drops a name from the refused ones: it is in the table now, or was removed.
    fn drop_refused(&mut self, name: &Name) {
        let Some((_, reason)) = self.names.remove(name) else { return };
        self.counts[reason as usize] -= 1;
        for (labels, ancestor) in name.ancestors().enumerate().skip(1) {
            if let Some(counts) = self.below.get_mut(&ancestor) {
                counts[usize::from(labels > 1)] -= 1;
                if *counts == [0; 2] {
                    self.below.remove(&ancestor);
                }
            }
        }
        self.is_outdated = true;
    }

    fn has_refused(&self, name: &Name) -> HasRefused {
        let [near, far] = self.below.get(name).copied().unwrap_or_default();
        HasRefused { near: near > 0, far: far > 0 }
    }

    /// Suppresses the closest encloser of a refused name.
    fn suppress_encloser(&mut self, table: &mut Table, name: &Name) {
        let closest = name.ancestors().skip(1).find_map(|above| Some((table.encloser_nodes(&above)?, above)));
        let Some((current, encloser)) = closest else { return };
        let full = self.suppressed.get(&encloser).unwrap_or(&current);
        let kept = self.has_refused(&encloser).filter(full);
        if kept != current {
            let full = full.clone();
            table.clear_encloser_nodes(&encloser, kept.child.is_none());
            self.suppressed.insert(encloser, full);
        }
    }

    /// Restores suppressed enclosers as far as they are not the closest enclosers of refused names.
    fn update_suppressed(&mut self, table: &mut Table) {
        let mut needed: HashMap<Name, HasRefused> = HashMap::new();
        for name in self.names.keys() {
            let mut above = name.ancestors().enumerate().skip(1);
            if let Some((labels, encloser)) = above.find(|(_, above)| table.encloser_nodes(above).is_some()) {
                let below = needed.entry(encloser).or_default();
                below.near |= labels == 1;
                below.far |= labels > 1;
            }
        }
        for (name, full) in std::mem::take(&mut self.suppressed) {
            let kept = needed.get(&name).copied().unwrap_or_default().filter(&full);
            if let Err(e) = table.set_encloser_nodes(&name, &kept) {
                log::warn!("queries for absent names below {name} still pass to the DNS server: {e}");
                self.is_outdated = true;
                self.suppressed.insert(name, full);
            } else if kept != full {
                self.suppressed.insert(name, full);
            }
        }
    }
}
