//! Opens and closes gates, for the event loop and for the thread that writes the maps.
//!
//! A gate closes at once, with one store. It opens only after a grace period: a program that was already running may have missed
//! a name and must not find the gate open.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Facts, GateSet};
use crate::datapath::{Gate, ProgramSettings};
use crate::zone::node::ZoneId;

/// The gates that the programs read.
pub(in crate::daemon) struct Gates {
    settings: ProgramSettings,
    state: Mutex<GateState>,
}

struct GateState {
    facts: Facts,
    /// The gates of groups of answers, in the order of [`Facts::gates`].
    gates: [Gate; 3],
    /// The closed gates of namespaces.
    closed_namespaces: GateSet,
    close_counts: CloseCounts,
}

/// How often each gate was closed.
#[derive(Clone)]
struct CloseCounts {
    /// In the order of [`Facts::gates`].
    gates: [u64; 3],
    /// The gates of namespaces, by number.
    namespaces: Box<[u64; 256]>,
}

/// The close counts before a grace period. A gate that was closed since then stays closed.
pub(in crate::daemon) struct Ticket(CloseCounts);

impl Gates {
    /// The gates before the initial sync, with no changes to write.
    pub(in crate::daemon) fn new(settings: ProgramSettings) -> Self {
        let facts = Facts {
            synced: false,
            current: false,
            expired: false,
            in_order: true,
            late: false,
            late_namespaces: GateSet::default(),
        };
        let state = GateState {
            facts,
            gates: [Gate::Open; 3],
            closed_namespaces: GateSet::default(),
            close_counts: CloseCounts { gates: [0; 3], namespaces: Box::new([0; 256]) },
        };
        let gates = Self { settings, state: Mutex::new(state) };
        gates.set(|_| ());
        gates
    }

    fn state(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes facts, and closes gates for them at once. Returns true if a closed gate may open: the caller should then call
    /// [`Self::open`].
    pub(in crate::daemon) fn set(&self, change: impl FnOnce(&mut Facts)) -> bool {
        let state = &mut *self.state();
        change(&mut state.facts);
        let mut opens = false;
        for (i, wanted) in state.facts.gates().into_iter().enumerate() {
            if wanted == Gate::Open {
                opens |= state.gates[i] != Gate::Open;
            } else {
                state.gates[i] = wanted;
                state.close_counts.gates[i] += 1;
            }
        }
        for number in &state.facts.late_namespaces {
            state.close_counts.namespaces[usize::from(*number)] += 1;
            if state.closed_namespaces.insert(*number) {
                self.settings.set_gate(*number, Gate::Stale);
            }
        }
        self.show(state.gates);
        opens || state.closed_namespaces != state.facts.late_namespaces
    }

    /// A ticket for [`Self::open`], to be taken before the wait for a grace period.
    pub(in crate::daemon) fn ticket(&self) -> Ticket {
        Ticket(self.state().close_counts.clone())
    }

    /// Opens the gates that no fact keeps closed and that were not closed since the ticket was taken.
    pub(in crate::daemon) fn open(&self, Ticket(before): &Ticket) {
        let state = &mut *self.state();
        for (i, wanted) in state.facts.gates().into_iter().enumerate() {
            if wanted == Gate::Open && state.close_counts.gates[i] == before.gates[i] {
                state.gates[i] = Gate::Open;
            }
        }
        let GateState { facts, close_counts, closed_namespaces, .. } = state;
        closed_namespaces.retain(|number| {
            let at = usize::from(*number);
            let stays = facts.late_namespaces.contains(number) || close_counts.namespaces[at] != before.namespaces[at];
            if !stays {
                self.settings.set_gate(*number, Gate::Open);
            }
            stays
        });
        self.show(state.gates);
    }

    /// The gates of namespaces that programs see closed.
    #[cfg(test)]
    pub(in crate::daemon) fn closed_namespaces(&self) -> Vec<u8> {
        self.state().closed_namespaces.iter().copied().collect()
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
