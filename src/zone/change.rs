//! Changes of the names that the kernel knows, in an order that shows nothing which never was true.

use std::cmp::Reverse;

use super::name::Name;
use super::node::Node;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The name has this node from now on, whether it had one before or not.
    Put(Name, Node),
    /// The name has no node any more. It may have had none.
    Remove(Name),
}

impl Change {
    /// The name that it is about.
    #[must_use]
    pub const fn name(&self) -> &Name {
        let (Self::Put(name, _) | Self::Remove(name)) = self;
        name
    }
}

/// Puts changes, at most one a name, into an order in which they can be applied one by one: after each of them every
/// question gets what it got before the first or what it gets after the last.
///
/// Nodes come before removals and the deepest first: when a node begins to speak for the names below it, all of these that
/// exist are there. Removals go from the shallowest to the deepest: a name without node is not spoken for by an ancestor
/// that is about to go, unless that was so before.
pub fn order(changes: &mut [Change]) {
    changes.sort_by_cached_key(|change| match change {
        Change::Put(name, _) => (false, Reverse(name.label_count()), 0),
        Change::Remove(name) => (true, Reverse(0), name.label_count()),
    });
}

/// Adds changes behind others. Where there are none the list is taken over: a copy of a long one would stay resident.
pub fn append(changes: &mut Vec<Change>, mut more: Vec<Change>) {
    if changes.is_empty() {
        *changes = more;
    } else {
        changes.append(&mut more);
    }
}
