//! What holds answers back that can't be told for certain. Whoever learns of a reason closes a gate at once, which is a store; a
//! gate opens when the writer has waited for the programs that may have missed a name.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::datapath::{Gate, ProgramSettings};
use crate::zone::node::ZoneId;

/// Some gates of parts of the cluster's zone, by number ([`crate::zone::node::Node::gate`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Numbers([u64; 4]);

impl Numbers {
    pub(super) const fn insert(&mut self, number: u8) {
        self.0[number as usize / 64] |= 1 << (number % 64);
    }

    const fn remove(&mut self, number: u8) {
        self.0[number as usize / 64] &= !(1 << (number % 64));
    }

    pub(super) const fn has(&self, number: u8) -> bool {
        self.0[number as usize / 64] >> (number % 64) & 1 != 0
    }

    pub(super) fn iter(self) -> impl Iterator<Item = u8> {
        (0..=u8::MAX).filter(move |number| self.has(*number))
    }
}

/// What is known. Each thread sets its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    /// Whether the cluster's zone was read whole, or there is none to be read.
    pub synced: bool,
    /// Whether the view of the cluster is current.
    pub current: bool,
    /// Whether it has not been for longer than MaxStale allows.
    pub expired: bool,
    /// Whether changes of the maps had the order that they need.
    pub in_order: bool,
    /// Whether changes wait for too long to be written.
    pub late: bool,
    /// Gates of parts of the cluster's zone whose changes do.
    pub behind: Numbers,
}

impl Facts {
    /// What holds back all of the cluster's answers, the negative ones of static names, and those of the cluster.
    fn gates(self) -> [Gate; 3] {
        let positive = match (self.synced, self.expired) {
            (false, _) => Gate::NotSynced,
            (true, true) => Gate::Stale,
            (true, false) => Gate::Open,
        };
        let in_order = if self.in_order { Gate::Open } else { Gate::Incomplete };
        let first = |gates: [Gate; 3]| gates.into_iter().find(|g| *g != Gate::Open).unwrap_or(Gate::Open);
        let late = if self.late { Gate::Stale } else { Gate::Open };
        let current = if self.current { Gate::Open } else { Gate::Stale };
        let cluster = if self.synced { first([in_order, current, late]) } else { positive };
        [positive, first([in_order, late, Gate::Open]), cluster]
    }
}

/// The gates that programs ask.
pub(super) struct Gates {
    settings: ProgramSettings,
    state: Mutex<State>,
}

struct State {
    facts: Facts,
    gates: [Gate; 3],
    /// How often each was closed, so that what is about to open it sees that.
    closed: [u64; 3],
    /// Gates of parts that are closed, and how often each was.
    parts: Numbers,
    parts_closed: Box<[u64; 256]>,
}

/// Which gates may be opened: those that nobody closes until all programs have ended that ran when it was made.
pub(super) struct Ticket([u64; 3], Box<[u64; 256]>);

impl Gates {
    /// Nothing is known of the cluster, and all is written that there is.
    pub(super) fn new(settings: ProgramSettings) -> Self {
        let behind = Numbers::default();
        let facts = Facts { synced: false, current: false, expired: false, in_order: true, late: false, behind };
        let state =
            State { facts, gates: [Gate::Open; 3], closed: [0; 3], parts: behind, parts_closed: Box::new([0; 256]) };
        let gates = Self { settings, state: Mutex::new(state) };
        gates.set(|_| ());
        gates
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of something, and closes at once what is to be closed. Returns whether gates are to be opened.
    pub(super) fn set(&self, note: impl FnOnce(&mut Facts)) -> bool {
        let state = &mut *self.state();
        note(&mut state.facts);
        let mut opens = false;
        for (i, wanted) in state.facts.gates().into_iter().enumerate() {
            if wanted == Gate::Open {
                opens |= state.gates[i] != Gate::Open;
            } else {
                state.gates[i] = wanted;
                state.closed[i] += 1;
            }
        }
        for number in state.facts.behind.iter() {
            state.parts_closed[usize::from(number)] += 1;
            if !state.parts.has(number) {
                state.parts.insert(number);
                self.settings.set_gate(number, Gate::Stale);
            }
        }
        self.show(state.gates);
        opens || state.parts != state.facts.behind
    }

    /// To be taken before programs are waited for.
    pub(super) fn ticket(&self) -> Ticket {
        let state = self.state();
        Ticket(state.closed, state.parts_closed.clone())
    }

    /// Opens what is to be opened still, and was not closed since the ticket was taken.
    pub(super) fn open(&self, ticket: &Ticket) {
        let state = &mut *self.state();
        for (i, wanted) in state.facts.gates().into_iter().enumerate() {
            if wanted == Gate::Open && state.closed[i] == ticket.0[i] {
                state.gates[i] = Gate::Open;
            }
        }
        for number in state.parts.iter() {
            let at = usize::from(number);
            if !state.facts.behind.has(number) && state.parts_closed[at] == ticket.1[at] {
                state.parts.remove(number);
                self.settings.set_gate(number, Gate::Open);
            }
        }
        self.show(state.gates);
    }

    /// Gates of parts that programs see closed.
    #[cfg(test)]
    pub(super) fn closed_parts(&self) -> Vec<u8> {
        self.state().parts.iter().collect()
    }

    /// What programs see.
    #[cfg(test)]
    pub(super) fn shown(&self) -> [Gate; 3] {
        self.state().gates
    }

    fn show(&self, [cluster, static_negative, cluster_negative]: [Gate; 3]) {
        self.settings.set_negative_gate(ZoneId::Static, static_negative);
        self.settings.set_negative_gate(ZoneId::Cluster, cluster_negative);
        self.settings.set_positive_gate(ZoneId::Cluster, cluster);
    }
}
