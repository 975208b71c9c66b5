//! Batches: many changes with few waits, in the phases of [`writer`](super).
//!
//! Putting names level by level would need one wait per level. In a batch the nodes are first put with the child and deep nodes
//! that they had before. Until the new ones are set, absent names below them get the old answer or pass, so no wait is needed.
//! After one wait all added names are visible to every program, and the postponed nodes are put once more with their new child
//! and deep nodes.
//!
//! On processors that reorder loads, removals wait for updated ancestors in the same way. A removed name that has a child or deep
//! node loses these at once. It is removed, together with the names below it, after one wait.

use std::collections::HashSet;

use super::super::encode::{Refs, Stored};
use super::Table;
use crate::zone::change::Change;
use crate::zone::name::Name;
use crate::zone::node::{Node, ZoneId};

/// The state of a batch between its phases.
#[derive(Default)]
pub(super) struct Batch {
    /// Whether a put has waited. Later puts that need a wait are postponed instead.
    has_waited: bool,
    /// Names whose child and deep nodes are updated after the wait: their nodes are put once more then.
    encloser_updates: HashSet<Name>,
    /// Names to remove after the wait, in order. A put adds one if the table refuses the name's new node.
    removals: Vec<Name>,
}

impl Table {
    /// Calls `apply` for each change. `changes` is one or more ordered lists ([`crate::zone::change::order`]). Postponed puts are
    /// applied twice. Returns the number of changes whose first `apply` returned true.
    pub fn batch(&mut self, changes: &[Change], mut apply: impl FnMut(&mut Self, &Change) -> bool) -> usize {
        let mut count = 0;
        let mut rest = changes;
        while !rest.is_empty() {
            let (puts, others) = split(rest, |c| matches!(c, Change::Put(..)));
            let (removals, others) = split(others, |c| matches!(c, Change::Remove(_)));
            rest = others;
            // 1. Add names, without new child and deep nodes that would need a wait.
            self.batch = Some(Batch::default());
            count += puts.iter().filter(|change| apply(self, change)).count();
            // 2. Wait.
            let encloser_updates = self.finish_phase();
            // 3. Update enclosers. By `apply`, which re-evaluates refused names.
            puts.iter().filter(|c| encloser_updates.contains(c.name())).for_each(|change| _ = apply(self, change));
            // 4, 5. Remove names; postponed removals after a wait.
            self.batch = Some(Batch::default());
            count += removals.iter().filter(|change| apply(self, change)).count();
            self.finish_phase();
        }
        count
    }

    /// Waits for a grace period if changes were postponed, and removes the names whose removal was postponed. Returns the names
    /// whose child and deep nodes are to be updated.
    fn finish_phase(&mut self) -> HashSet<Name> {
        let Batch { encloser_updates, removals, .. } = self.batch.take().unwrap_or_default();
        // If this wait fails, each postponed change tries to wait itself and fails with the reason.
        if !encloser_updates.is_empty() || !removals.is_empty() {
            self.settle();
        }
        for name in removals {
            self.remove(&name);
        }
        encloser_updates
    }

    /// Postpones the new child and deep node of a name within a batch: returns `node` with the child and deep node that the name
    /// has now. None if the caller should wait instead.
    pub(super) fn postpone_encloser_update(&mut self, name: &Name, node: &Node, old: Refs) -> Option<Node> {
        let loads_reorder = self.loads_reorder;
        let batch = self.batch.as_mut()?;
        // On x86 the first put waits itself, which may spare the wait of phase 2; later ones are postponed. Elsewhere, where
        // removals may need a wait, too, all are postponed. So a batch waits at most twice.
        if !loads_reorder && !std::mem::replace(&mut batch.has_waited, true) {
            return None;
        }
        batch.encloser_updates.insert(name.clone());
        let shared = |at| self.shared_at.get(&at).cloned();
        Some(Node { child: shared(old.child), deep: shared(old.deep), ..node.clone() })
    }

    /// Postpones the removal of a name within a batch if it is an encloser, whose child and deep node are cleared at once, or
    /// if the child or deep node of an ancestor was updated. False if the caller should remove it.
    pub(super) fn postpone_removal(&mut self, name: &Name, at: u32, has_updated_ancestor: bool) -> bool {
        let refs = Stored::new(self.arena.octets_at(at)).refs();
        let is_encloser = refs.is_encloser();
        let Some(batch) = self.batch.as_mut().filter(|_| is_encloser || has_updated_ancestor) else { return false };
        batch.removals.push(name.clone());
        if is_encloser {
            self.update_encloser(at, name.label_count(), refs, Refs { child: 0, deep: 0, ..refs });
            self.unshare(Refs { fallback: 0, ..refs });
        }
        true
    }

    /// Cancels the postponed removal of a name that got a node again.
    pub(super) fn cancel_removal(&mut self, name: &Name) {
        if let Some(batch) = self.batch.as_mut().filter(|batch| !batch.removals.is_empty()) {
            batch.removals.retain(|removed| removed != name);
        }
    }

    /// Whether a closed gate covers the child and deep node of `node`. No program answers by them then, and all programs that run
    /// now end before the gate opens, so no wait is needed.
    pub(super) fn is_gated(&self, node: &Node) -> bool {
        let is_cluster = |node: &Node| node.zone == ZoneId::Cluster;
        let mut nodes = [&node.child, &node.deep].into_iter().flatten();
        nodes.all(|node| is_cluster(node) && node.fallback.as_deref().is_none_or(is_cluster))
            && self.settings.is_positive_gate_closed(ZoneId::Cluster)
    }
}

/// Splits `changes` before the first that `is_wanted` does not accept.
fn split(changes: &[Change], is_wanted: impl Fn(&Change) -> bool) -> (&[Change], &[Change]) {
    changes.split_at(changes.iter().position(|c| !is_wanted(c)).unwrap_or(changes.len()))
}
