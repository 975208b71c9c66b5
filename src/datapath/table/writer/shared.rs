//! Shared nodes: each is stored once in the arena, however many nodes refer to it.

use std::sync::Arc;

use super::super::arena::NodeKind;
use super::super::encode::{Refs, Stored, encode};
use super::super::error::TableError;
use super::Table;
use crate::zone::node::Node;

/// A shared node's ref, and how many nodes refer to it.
pub(super) struct Shared {
    at: u32,
    references: usize,
}

impl Table {
    /// The refs of the shared nodes that `node` refers to. Stores those that are new and counts a reference to each.
    pub(super) fn share(&mut self, node: &Node) -> Result<Refs, TableError> {
        let mut refs = Refs::default();
        let result = (|| {
            refs.fallback = self.share_one(node.fallback.as_ref())?;
            refs.child = self.share_one(node.child.as_ref())?;
            refs.deep = self.share_one(node.deep.as_ref())?;
            Ok(())
        })();
        if let Err(e) = result {
            self.unshare(refs);
            return Err(e);
        }
        Ok(refs)
    }

    fn share_one(&mut self, node: Option<&Arc<Node>>) -> Result<u32, TableError> {
        let Some(node) = node else { return Ok(0) };
        if let Some(shared) = self.shared.get_mut(node) {
            shared.references += 1;
            return Ok(shared.at);
        }
        let refs = self.share(node)?;
        let stored = encode(None, node, refs)
            .map_err(TableError::from)
            .and_then(|o| Ok(self.arena.store(NodeKind::Shared, &o)?));
        let at = match stored {
            Ok(at) => at,
            Err(e) => {
                self.unshare(refs);
                return Err(e);
            }
        };
        self.shared.insert(Arc::clone(node), Shared { at, references: 1 });
        self.shared_at.insert(at, Arc::clone(node));
        Ok(at)
    }

    /// Drops a reference to each of these shared nodes. Retires those without further references.
    pub(super) fn unshare(&mut self, refs: Refs) {
        for at in [refs.fallback, refs.child, refs.deep] {
            let Some(node) = self.shared_at.get(&at) else { continue };
            let Some(shared) = self.shared.get_mut(node) else { continue };
            shared.references -= 1;
            if shared.references == 0 {
                self.shared.remove(node);
                self.shared_at.remove(&at);
                let stored = Stored::new(self.arena.octets_at(at));
                let (refs, len) = (stored.refs(), stored.len());
                self.arena.retire(at, len);
                self.unshare(refs);
            }
        }
    }
}
