//! The gates that the programs read, shared by the event loop and the thread that writes the maps.
//!
//! A gate closes at once, with one store. It opens only after a grace period: a program that was already running may have missed
//! a name and must not find the gate open.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Facts, GateSet};
use crate::datapath::{Gate, ProgramSettings};
use crate::zone::node::ZoneId;

/// The gates, as the programs see them.
pub(in crate::daemon) struct Gates {
    settings: ProgramSettings,
    state: Mutex<State>,
}

struct State {
    facts: Facts,
    /// In the order of [`Facts::gates`].
    gates: [Gate; 3],
    /// How often each of them was closed.
    close_counts: [u64; 3],
    /// Closed gates of parts of the cluster zone.
    parts: GateSet,
    /// How often each of them was closed.
    part_close_counts: Box<[u64; 256]>,
}

/// The close counts before a grace period. A gate that was closed since then stays closed.
pub(in crate::daemon) struct Ticket([u64; 3], Box<[u64; 256]>);

impl Gates {
    /// The gates before the initial sync, with no changes to write.
    pub(in crate::daemon) fn new(settings: ProgramSettings) -> Self {
        let late_parts = GateSet::default();
        let facts = Facts { synced: false, current: false, expired: false, in_order: true, late: false, late_parts };
        let state = State {
            facts,
            gates: [Gate::Open; 3],
            close_counts: [0; 3],
            parts: late_parts,
            part_close_counts: Box::new([0; 256]),
        };
        let gates = Self { settings, state: Mutex::new(state) };
        gates.set(|_| ());
        gates
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes facts, and closes gates for them at once. Returns whether a closed gate may open, for which [`Self::open`] is
    /// needed.
    pub(in crate::daemon) fn set(&self, change: impl FnOnce(&mut Facts)) -> bool {
        let state = &mut *self.state();
        change(&mut state.facts);
        let mut opens = false;
        for (i, wanted) in state.facts.gates().into_iter().enumerate() {
            if wanted == Gate::Open {
                opens |= state.gates[i] != Gate::Open;
            } else {
                state.gates[i] = wanted;
                state.close_counts[i] += 1;
            }
        }
        for number in state.facts.late_parts.iter() {
            state.part_close_counts[usize::from(number)] += 1;
            if !state.parts.contains(number) {
                state.parts.insert(number);
                self.settings.set_gate(number, Gate::Stale);
            }
        }
        self.show(state.gates);
        opens || state.parts != state.facts.late_parts
    }

    /// A ticket for [`Self::open`], to be taken before the wait for a grace period.
    pub(in crate::daemon) fn ticket(&self) -> Ticket {
        let state = self.state();
        Ticket(state.close_counts, state.part_close_counts.clone())
    }

    /// Opens the gates that no fact keeps closed and that were not closed since the ticket was taken.
    pub(in crate::daemon) fn open(&self, ticket: &Ticket) {
        let state = &mut *self.state();
        for (i, wanted) in state.facts.gates().into_iter().enumerate() {
            if wanted == Gate::Open && state.close_counts[i] == ticket.0[i] {
                state.gates[i] = Gate::Open;
            }
        }
        for number in state.parts.iter() {
            let at = usize::from(number);
            if !state.facts.late_parts.contains(number) && state.part_close_counts[at] == ticket.1[at] {
                state.parts.remove(number);
                self.settings.set_gate(number, Gate::Open);
            }
        }
        self.show(state.gates);
    }

    /// The gates of parts of the cluster zone that programs see closed.
    #[cfg(test)]
    pub(in crate::daemon) fn closed_parts(&self) -> Vec<u8> {
        self.state().parts.iter().collect()
    }

    /// The other gates as programs see them, in the order of [`Facts::gates`].
    #[cfg(test)]
    pub(in crate::daemon) fn shown(&self) -> [Gate; 3] {
        self.state().gates
    }

    fn show(&self, [cluster, static_negative, cluster_negative]: [Gate; 3]) {
        self.settings.set_negative_gate(ZoneId::Static, static_negative);
        self.settings.set_negative_gate(ZoneId::Cluster, cluster_negative);
        self.settings.set_positive_gate(ZoneId::Cluster, cluster);
    }
}
