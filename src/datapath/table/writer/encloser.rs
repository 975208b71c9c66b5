//! Changes a node's child and deep node in place.
//!
//! A program reads only one of child and deep, and each changes by one store. So the node need not be copied, and removing a
//! child or deep node needs no memory.

use std::sync::Arc;

use super::super::encode::{Refs, Stored};
use super::super::error::TableError;
use super::super::index::Found;
use super::Table;
use crate::zone::name::Name;
use crate::zone::node::{Node, ZoneId};

/// The nodes that hold for absent names below a closest encloser; see [`Node::child`] and [`Node::deep`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncloserNodes {
    /// The node for absent names one label below; None if queries for them pass.
    pub child: Option<Arc<Node>>,
    /// The node for absent names further below; None if queries for them pass.
    pub deep: Option<Arc<Node>>,
}

impl Table {
    /// The child and deep node of a name; None if the table does not hold the name.
    #[must_use]
    pub fn encloser_nodes(&self, name: &Name) -> Option<EncloserNodes> {
        let Found::At(_, at) = self.find(name) else { return None };
        let refs = Stored::new(self.arena.octets_at(at)).refs();
        let node = |at| self.shared_at.get(&at).cloned();
        Some(EncloserNodes { child: node(refs.child), deep: node(refs.deep) })
    }

    /// Sets the child and deep node of a name; false if the table does not hold the name.
    ///
    /// # Errors
    /// If a new child or deep node does not fit or the wait fails; the old ones stay.
    pub fn set_encloser_nodes(&mut self, name: &Name, nodes: &EncloserNodes) -> Result<bool, TableError> {
        let Found::At(_, at) = self.find(name) else { return Ok(false) };
        let old = Stored::new(self.arena.octets_at(at)).refs();
        let labels = name.label_count();
        let fallback = self.shared_at.get(&old.fallback).cloned();
        let EncloserNodes { child, deep } = nodes.clone();
        let node = Node { fallback, child, deep, ..const { Node::pass(ZoneId::Static) } };
        let new = self.share(&node)?;
        if self.must_wait_to_update_encloser(labels, &node, old, new)
            && let Err(e) = self.wait_for_programs()
        {
            self.unshare(new);
            return Err(e.into());
        }
        self.update_encloser(at, labels, old, new);
        self.unshare(old);
        self.reclaim_if_due();
        Ok(true)
    }

    /// Removes the deep node of a name, and with `also_child` its child node. It needs no memory and can't fail.
    pub fn clear_encloser_nodes(&mut self, name: &Name, also_child: bool) {
        let Found::At(_, at) = self.find(name) else { return };
        let old = Stored::new(self.arena.octets_at(at)).refs();
        let removed = Refs { fallback: 0, child: if also_child { old.child } else { 0 }, deep: old.deep };
        self.update_encloser(
            at,
            name.label_count(),
            old,
            Refs { child: if also_child { 0 } else { old.child }, deep: 0, ..old },
        );
        self.unshare(removed);
    }

    /// Whether a name of `labels` labels must wait for its new child or deep node: a running program may have missed a name that
    /// was just added below, and would apply the new child or deep node to it.
    pub(super) fn must_wait_to_update_encloser(&self, labels: usize, node: &Node, old: Refs, new: Refs) -> bool {
        let is_new = |old, new| new != 0 && new != old;
        let has_new = is_new(old.child, new.child) || is_new(old.deep, new.deep);
        has_new && self.unsettled.added.is_some_and(|added| added > labels) && !self.is_gated(node)
    }

    /// Replaces the child and deep refs `old` of a stored node by `new`.
    pub(super) fn update_encloser(&mut self, at: u32, labels: usize, old: Refs, new: Refs) {
        // Programs must already search at its depth when it becomes an encloser.
        if new.is_encloser() {
            self.encloser_depths.change(labels, true);
            self.publish_depths();
        }
        self.arena.set_encloser_refs(at, new.child, new.deep);
        if old.is_encloser() {
            self.encloser_depths.change(labels, false);
            self.unsettled.encloser_updated(labels);
        }
        self.publish_depths();
    }
}
