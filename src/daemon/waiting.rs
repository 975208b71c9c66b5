//! How long changes have waited: from their arrival, through the work on the zone, until they are written to the maps.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::time::Instant;

use super::gates::GateSet;
use crate::datapath::BEAT_MAX;
use crate::source::kubernetes::WaitingUpdates;
use crate::zone::cluster::{WaitingNamespace, gate};

/// Changes that have waited longer are late, and negative answers are suspended. Equal to [`BEAT_MAX`]: outdated negative answers
/// end after the same time, whether the daemon is slow or dead.
pub(super) const LATE: Duration = BEAT_MAX;

/// The changes that wait.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Arrival of the oldest changes that are being computed or written.
    since: Cell<Option<Instant>>,
    /// Namespaces whose changes wait for a commit. If late, they suspend negative answers of these namespaces only.
    behind: RefCell<Vec<WaitingNamespace>>,
    /// Updates of the API that are not applied to the zone yet. They may belong to any namespace.
    updates: WaitingUpdates,
}

impl Waiting {
    /// Nothing waits except `updates`.
    pub(super) fn new(updates: WaitingUpdates) -> Self {
        Self { updates, ..Self::default() }
    }

    /// Whether updates that are not applied to the zone yet are late.
    pub(super) fn has_late_updates(&self) -> bool {
        self.updates.oldest().is_some_and(|arrived| arrived.elapsed() > LATE)
    }

    /// Records that changes have waited since then, and will be written.
    pub(super) fn await_changes(&self, since: Instant) {
        self.since.set(Some(since));
    }

    /// Records that writing begins. Changes that [`Self::await_changes`] did not record have waited from now on.
    pub(super) fn begin(&self) {
        self.since.set(self.since.get().or_else(|| Some(Instant::now())));
    }

    /// Records that these changes are written.
    pub(super) fn end(&self) {
        self.since.set(None);
    }

    /// Whether changes that are being computed or written are late.
    pub(super) fn is_late(&self) -> bool {
        self.since.get().is_some_and(|since| since.elapsed() > LATE)
    }

    /// Adds namespaces whose changes wait for a commit. Earlier ones stay, because some of their changes are not written yet.
    pub(super) fn add_behind(&self, behind: &[WaitingNamespace]) {
        self.behind.borrow_mut().extend_from_slice(behind);
    }

    /// Replaces the namespaces whose changes wait for a commit. The changes of all other namespaces are written.
    pub(super) fn set_behind(&self, behind: Vec<WaitingNamespace>) {
        *self.behind.borrow_mut() = behind;
    }

    /// Namespaces whose changes are late, and the gates to close for that: their own, and the one of wildcards.
    pub(super) fn late_namespaces(&self) -> (Vec<Box<str>>, GateSet) {
        let (mut names, mut gates) = (Vec::new(), GateSet::default());
        let is_late =
            |behind: &&WaitingNamespace| behind.since.is_none_or(|since| Instant::from_std(since).elapsed() > LATE);
        for WaitingNamespace { namespace, gate, .. } in self.behind.borrow().iter().filter(is_late) {
            gates.insert(*gate);
            gates.insert(gate::WILDCARDS);
            names.push(namespace.clone());
        }
        (names, gates)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::daemon::gates::Gates;
    use crate::datapath::{Gate, ProgramSettings};

    const ALMOST: Duration = Duration::from_millis(2400);
    const SOON: Duration = Duration::from_millis(200);

    /// Simulates a change that arrived `arrived` ago, with these durations of the work on the zone and of the writing. Returns
    /// whether it was late before the work, after it, and before the writing ended.
    async fn changed(waiting: &Waiting, arrived: Duration, work: Duration, writing: Duration) -> [bool; 3] {
        let since = Instant::now();
        advance(arrived).await;
        waiting.await_changes(since);
        let before = waiting.is_late();
        advance(work).await;
        let worked = waiting.is_late();
        waiting.begin();
        advance(writing).await;
        let late = [before, worked, waiting.is_late()];
        waiting.end();
        assert!(!waiting.is_late(), "late after the writing");
        late
    }

    #[tokio::test(start_paused = true)]
    async fn slow_work_counts_like_slow_writing() {
        let (waiting, none) = (Waiting::default(), Duration::ZERO);
        for (times, late) in [
            ([SOON, SOON, SOON], [false, false, false]),
            ([none, ALMOST, none], [false, false, false]),
            ([none, ALMOST + SOON, none], [false, true, true]),
            ([none, none, ALMOST + SOON], [false, false, true]),
            ([none, ALMOST, SOON], [false, false, true]),
            ([ALMOST, SOON, none], [false, true, true]),
            ([ALMOST + SOON, none, none], [true, true, true]),
        ] {
            assert_eq!(changed(&waiting, times[0], times[1], times[2]).await, late, "{times:?}");
        }
        // Changes that were not recorded before, such as those of a file.
        waiting.begin();
        advance(ALMOST).await;
        assert!(!waiting.is_late());
        advance(SOON).await;
        assert!(waiting.is_late());
    }

    /// Late changes of one namespace suspend negative answers of this namespace, and of no other.
    #[tokio::test(start_paused = true)]
    async fn late_changes_of_a_namespace_close_its_own_gate() {
        let (gates, waiting) = (Gates::new(ProgramSettings::detached()), Waiting::default());
        let update = || {
            gates.set(|facts| {
                (facts.synced, facts.current) = (true, true);
                (facts.late, facts.late_namespaces) = (waiting.is_late(), waiting.late_namespaces().1);
            })
        };
        let behind = |namespace: &str, gate, since: Option<Instant>| WaitingNamespace {
            namespace: namespace.into(),
            gate,
            since: since.map(Instant::into_std),
        };
        let open_all = || gates.open(&gates.ticket());
        update();
        open_all();
        waiting.add_behind(&[behind("heavy", 7, Some(Instant::now()))]);
        advance(ALMOST).await;
        waiting.add_behind(&[behind("other", 9, Some(Instant::now()))]);
        assert!(!update());
        assert!(gates.closed_namespaces().is_empty());
        advance(SOON).await;
        assert!(!update(), "no gate may open");
        assert_eq!(gates.closed_namespaces(), [7, gate::WILDCARDS]);
        assert_eq!(gates.shown(), [Gate::Open; 3]);
        assert_eq!(waiting.late_namespaces().0.iter().map(|name| &**name).collect::<Vec<_>>(), ["heavy"]);
        open_all();
        assert_eq!(gates.closed_namespaces(), [7, gate::WILDCARDS], "its changes are still late");

        // Another namespace is late at once: its changes may be older than their arrival.
        waiting.set_behind(vec![behind("recovered", 200, None)]);
        assert!(update(), "the gate of the first namespace may open");
        let ticket = gates.ticket();
        assert_eq!(gates.closed_namespaces(), [7, 200, gate::WILDCARDS]);
        gates.open(&ticket);
        assert_eq!(gates.closed_namespaces(), [200, gate::WILDCARDS]);
        assert!(!update(), "changes are still late");
        waiting.set_behind(Vec::new());
        assert!(update());
        gates.open(&ticket);
        assert_eq!(gates.closed_namespaces(), [200, gate::WILDCARDS], "closed again since the ticket was taken");
        open_all();
        assert!(gates.closed_namespaces().is_empty());
    }

    /// Negative answers of both zones are suspended until a grace period after the writing.
    #[tokio::test(start_paused = true)]
    async fn late_changes_close_the_gates_of_negative_answers() {
        let (gates, waiting) = (Gates::new(ProgramSettings::detached()), Waiting::default());
        let update = || {
            gates.set(|facts| {
                (facts.synced, facts.current) = (true, true);
                facts.late = waiting.is_late();
            })
        };
        let open_all = || gates.open(&gates.ticket());
        update();
        open_all();
        assert_eq!(gates.shown(), [Gate::Open; 3]);
        waiting.await_changes(Instant::now());
        advance(ALMOST).await;
        update();
        assert_eq!(gates.shown(), [Gate::Open; 3]);
        advance(SOON).await;
        assert!(!update(), "no gate may open");
        let suspended = [Gate::Open, Gate::Stale, Gate::Stale];
        assert_eq!(gates.shown(), suspended, "positive answers continue");
        let ticket = gates.ticket();
        open_all();
        assert_eq!(gates.shown(), suspended, "changes are still late");
        update();
        waiting.begin();
        waiting.end();
        assert!(update(), "both gates may open");
        assert_eq!(gates.shown(), suspended);
        gates.open(&ticket);
        assert_eq!(gates.shown(), suspended, "closed again since the ticket was taken");
        open_all();
        assert_eq!(gates.shown(), [Gate::Open; 3]);
    }
}
