//! Many changes with few waits.
//!
//! A name that begins to speak for those below it has to wait for programs that may have missed one of them ([`Recent`]). In a
//! batch that adds names at many levels each level would wait for the one below. So only the first one waits; from then on names
//! are put without what is new in their statements, which needs no order: those below them get what they got before, or pass.
//! When programs have ended that ran then, all names are known to be there, and those nodes are put once more, whole.
//!
//! Where a processor's loads may pass each other, names that go wait for changed statements above them, in the same way: those
//! that make statements fall silent at once and go with the others when programs have ended that may have read one.
//!
//! [`Recent`]: super::Recent

use std::collections::HashSet;

use super::super::encode::{Refs, Stored};
use super::Table;
use crate::zone::change::Change;
use crate::zone::name::Name;
use crate::zone::node::{Node, ZoneId};

/// Puts or removals that are made together.
#[derive(Default)]
pub(super) struct Batch {
    /// Whether it has waited, so that what needs a wait is postponed.
    has_waited: bool,
    /// Names whose nodes are to be put once more.
    postponed: HashSet<Name>,
    /// Names that are to be removed when all that remain are known, in order. Also a put may find that a name has to go.
    leaving: Vec<Name>,
}

impl Table {
    /// Has `make` put or remove what each change says, in their order ([`crate::zone::change::order`]; several such batches may
    /// follow each other). Returns how many times it did something.
    pub fn batch(&mut self, changes: &[Change], mut make: impl FnMut(&mut Self, &Change) -> bool) -> usize {
        let mut count = 0;
        let mut rest = changes;
        while !rest.is_empty() {
            let (puts, others) = split(rest, |c| matches!(c, Change::Put(..)));
            let (removals, others) = split(others, |c| matches!(c, Change::Remove(_)));
            rest = others;
            self.batch = Some(Batch::default());
            count += puts.iter().filter(|change| make(self, change)).count();
            let postponed = self.end();
            // By `make`, which knows what else became of names meanwhile.
            puts.iter().filter(|c| postponed.contains(c.name())).for_each(|change| _ = make(self, change));
            self.batch = Some(Batch::default());
            count += removals.iter().filter(|change| make(self, change)).count();
            self.end();
        }
        count
    }

    /// Ends a batch, and returns the names that are to be put once more. Then programs have ended that ran before.
    fn end(&mut self) -> HashSet<Name> {
        let Batch { postponed, leaving, .. } = self.batch.take().unwrap_or_default();
        // Where that can't be waited for, each change that is left tries to, and fails with the reason.
        if !postponed.is_empty() || !leaving.is_empty() {
            self.settle();
        }
        for name in leaving {
            self.remove(&name);
        }
        postponed
    }

    /// In place of a node whose statement would have to wait: one that says of the names below what was said before. None
    /// where it may wait.
    pub(super) fn postpone(&mut self, name: &Name, node: &Node, old: Refs) -> Option<Node> {
        let loads_pass = self.loads_pass;
        let batch = self.batch.as_mut()?;
        // Where removals need a wait, too, there is one less for nodes.
        if !loads_pass && !std::mem::replace(&mut batch.has_waited, true) {
            return None;
        }
        batch.postponed.insert(name.clone());
        let said = |at| self.shared_at.get(&at).cloned();
        Some(Node { child: said(old.child), deep: said(old.deep), ..node.clone() })
    }

    /// Whether a name goes at the end of a batch: one that speaks for those below it, which it does no longer, and those that
    /// such a one may have spoken for.
    pub(super) fn postpone_removal(&mut self, name: &Name, at: u32, restated: bool) -> bool {
        let refs = Stored::new(self.arena.octets_at(at)).refs();
        let states = refs.states();
        let Some(batch) = self.batch.as_mut().filter(|_| states || restated) else { return false };
        batch.leaving.push(name.clone());
        if states {
            self.restate(at, name.label_count(), refs, Refs { child: 0, deep: 0, ..refs });
            self.unshare(Refs { fallback: 0, ..refs });
        }
        true
    }

    /// A name that was to go at the end of a batch has a node again.
    pub(super) fn stay(&mut self, name: &Name) {
        if let Some(batch) = self.batch.as_mut().filter(|batch| !batch.leaving.is_empty()) {
            batch.leaving.retain(|leaving| leaving != name);
        }
    }

    /// Whether programs hold back whatever is said of the names below: nobody sees in which order that and they come, since all
    /// programs end before the gate opens.
    pub(super) fn is_held_back(&self, node: &Node) -> bool {
        let is_cluster = |node: &Node| node.zone == ZoneId::Cluster;
        let mut below = [&node.child, &node.deep].into_iter().flatten();
        below.all(|node| is_cluster(node) && node.fallback.as_deref().is_none_or(is_cluster))
            && self.settings.is_held_back(ZoneId::Cluster)
    }
}

/// The changes up to the first that is none of these, and the rest.
fn split(changes: &[Change], is: impl Fn(&Change) -> bool) -> (&[Change], &[Change]) {
    changes.split_at(changes.iter().position(|c| !is(c)).unwrap_or(changes.len()))
}
