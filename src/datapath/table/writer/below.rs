//! What nodes say of the names below them, changed in place.
//!
//! A program reads one of the two fields that say it, and each is one store. So the node stays where it lies, and a statement
//! can also be taken back where there is no memory left.

use std::sync::Arc;

use super::super::encode::{Refs, Stored};
use super::super::error::TableError;
use super::super::index::Found;
use super::Table;
use crate::zone::name::Name;
use crate::zone::node::{Node, ZoneId};

/// What a name's node says of the names below it that have no node of their own; see [`Node::child`] and [`Node::deep`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Below {
    /// Of names one label below.
    pub child: Option<Arc<Node>>,
    /// Of names further below.
    pub deep: Option<Arc<Node>>,
}

impl Table {
    /// What the node of a name says of the names below it; None where it has no node.
    #[must_use]
    pub fn below(&self, name: &Name) -> Option<Below> {
        let Found::At(_, at) = self.find(name) else { return None };
        let refs = Stored::new(self.arena.octets_at(at)).refs();
        let node = |at| self.shared_at.get(&at).cloned();
        Some(Below { child: node(refs.child), deep: node(refs.deep) })
    }

    /// Makes the node of a name say this of the names below it, and else what it says; false where it has no node.
    ///
    /// # Errors
    /// Where a statement is new and has no room; the old one stays.
    pub fn set_below(&mut self, name: &Name, below: &Below) -> Result<bool, TableError> {
        let Found::At(_, at) = self.find(name) else { return Ok(false) };
        let old = Stored::new(self.arena.octets_at(at)).refs();
        let labels = name.label_count();
        let fallback = self.shared_at.get(&old.fallback).cloned();
        let Below { child, deep } = below.clone();
        let node = Node { fallback, child, deep, ..const { Node::pass(ZoneId::Static) } };
        let new = self.share(&node)?;
        if self.has_to_wait(labels, &node, old, new)
            && let Err(e) = self.wait_for_programs()
        {
            self.unshare(new);
            return Err(e.into());
        }
        self.restate(at, labels, old, new);
        self.unshare(old);
        self.tidy();
        Ok(true)
    }

    /// Makes the node of a name say nothing of names two or more labels below it, nor, where `child`, of those one label
    /// below. That needs no memory, and can't fail.
    pub fn withhold(&mut self, name: &Name, child: bool) {
        let Found::At(_, at) = self.find(name) else { return };
        let old = Stored::new(self.arena.octets_at(at)).refs();
        let gone = Refs { fallback: 0, child: if child { old.child } else { 0 }, deep: old.deep };
        self.restate(at, name.label_count(), old, Refs { child: if child { 0 } else { old.child }, deep: 0, ..old });
        self.unshare(gone);
    }

    /// Whether programs may have missed a name which is about to be spoken for by this node.
    pub(super) fn has_to_wait(&self, labels: usize, node: &Node, old: Refs, new: Refs) -> bool {
        let differs = |old, new| new != 0 && new != old;
        let states = differs(old.child, new.child) || differs(old.deep, new.deep);
        states && self.recent.added.is_some_and(|added| added > labels) && !self.is_held_back(node)
    }

    /// Makes a stored node refer to others.
    pub(super) fn restate(&mut self, at: u32, labels: usize, old: Refs, new: Refs) {
        // It is looked at before it can be an encloser.
        if new.states() {
            self.below.change(labels, true);
            self.tell_depths();
        }
        self.arena.set_below(at, new.child, new.deep);
        if old.states() {
            self.below.change(labels, false);
            self.recent.restate(labels);
        }
        self.tell_depths();
    }
}
