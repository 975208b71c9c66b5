//! Changes of the names in the maps, and the order in which they are applied: after each step every query gets its old or its
//! new answer.

use std::cmp::Reverse;

use super::name::Name;
use super::node::Node;

/// A change of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Gives the name this node, whether or not it had one.
    Put(Name, Node),
    /// Takes the name's node away. The name may have had none.
    Remove(Name),
}

impl Change {
    /// The name that changes.
    #[must_use]
    pub const fn name(&self) -> &Name {
        let (Self::Put(name, _) | Self::Remove(name)) = self;
        name
    }
}

/// Sorts changes, at most one for each name, so that they can be applied one by one: after each of them every query gets the
/// answer from before the first or the answer from after the last.
///
/// Nodes are put before others are removed. Puts go from the deepest to the shallowest: names below an ancestor have their
/// nodes before the ancestor gets its `child` or `deep`. Removals go from the shallowest to the deepest, so a removed name
/// never falls to an ancestor that is removed later.
pub fn order(changes: &mut [Change]) {
    changes.sort_by_cached_key(|change| match change {
        Change::Put(name, _) => (false, Reverse(name.label_count()), 0),
        Change::Remove(name) => (true, Reverse(0), name.label_count()),
    });
}

/// Appends `more` to `changes`. An empty list is replaced instead: copying a long one would leave its memory resident.
pub fn append(changes: &mut Vec<Change>, mut more: Vec<Change>) {
    if changes.is_empty() {
        *changes = more;
    } else {
        changes.append(&mut more);
    }
}
