//! Nodes that others refer to, each once in the arena.

use std::sync::Arc;

use super::super::arena::NodeKind;
use super::super::encode::{Refs, Stored, encode};
use super::super::error::TableError;
use super::Table;
use crate::zone::node::Node;

/// A shared node in the arena, and how many nodes refer to it.
pub(super) struct Shared {
    at: u32,
    users: usize,
}

impl Table {
    /// Refs of the nodes that `node` shares with others, each counted once more.
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
            shared.users += 1;
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
        self.shared.insert(Arc::clone(node), Shared { at, users: 1 });
        self.shared_at.insert(at, Arc::clone(node));
        Ok(at)
    }

    pub(super) fn unshare(&mut self, refs: Refs) {
        for at in [refs.fallback, refs.child, refs.deep] {
            let Some(node) = self.shared_at.get(&at) else { continue };
            let Some(shared) = self.shared.get_mut(node) else { continue };
            shared.users -= 1;
            if shared.users == 0 {
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
