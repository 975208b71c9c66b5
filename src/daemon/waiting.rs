//! For how long changes have waited that are not in the maps yet: from their arrival on, through the work on the zone, until they
//! are written.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::time::Instant;

use super::gates::Numbers;
use crate::zone::cluster::{Behind, gate};

/// Changes that wait for longer are what a view is not current without.
pub(super) const LATE: Duration = Duration::from_millis(2500);

/// Since when.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    since: Cell<Option<Instant>>,
    /// Namespaces whose changes wait for their turn. They hold back their own negative answers, not those of others.
    behind: RefCell<Vec<Behind>>,
}

impl Waiting {
    /// Changes have waited since then, and will be written.
    pub(super) fn await_changes(&self, since: Instant) {
        self.since.set(Some(since));
    }

    /// Changes are being written: those that were awaited, or others.
    pub(super) fn begin(&self) {
        self.since.set(self.since.get().or_else(|| Some(Instant::now())));
    }

    /// They are written.
    pub(super) fn end(&self) {
        self.since.set(None);
    }

    /// Whether they have waited for too long.
    pub(super) fn is_late(&self) -> bool {
        self.since.get().is_some_and(|since| since.elapsed() > LATE)
    }

    /// These wait as well as those that did before, of which some are about to be written.
    pub(super) fn add_behind(&self, behind: &[Behind]) {
        self.behind.borrow_mut().extend_from_slice(behind);
    }

    /// All is written but what these wait for.
    pub(super) fn set_behind(&self, behind: Vec<Behind>) {
        *self.behind.borrow_mut() = behind;
    }

    /// Namespaces whose changes have waited for too long, and the gates that this closes.
    pub(super) fn late_namespaces(&self) -> (Vec<Box<str>>, Numbers) {
        let (mut names, mut gates) = (Vec::new(), Numbers::default());
        let is_late = |behind: &&Behind| behind.since.is_none_or(|since| Instant::from_std(since).elapsed() > LATE);
        for Behind { namespace, gate, .. } in self.behind.borrow().iter().filter(is_late) {
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

    /// As the daemon does when the cluster changes, with `work` on the zone and `writing` that take so long, `arrived` ago. Returns
    /// whether it was late before, after the work, and before the writing ended.
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
        assert!(!waiting.is_late(), "all is written");
        late
    }

    #[tokio::test(start_paused = true)]
    async fn slow_work_counts_as_slow_writing_does() {
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
        // What nobody awaited, such as a file's names.
        waiting.begin();
        advance(ALMOST).await;
        assert!(!waiting.is_late());
        advance(SOON).await;
        assert!(waiting.is_late());
    }

    /// Changes of one namespace that wait for their turn hold back what is said of absence there, and of others nothing.
    #[tokio::test(start_paused = true)]
    async fn a_namespace_that_waits_closes_its_own_gate() {
        let (gates, waiting) = (Gates::new(ProgramSettings::detached()), Waiting::default());
        let note = || {
            gates.set(|facts| {
                (facts.synced, facts.current) = (true, true);
                (facts.late, facts.behind) = (waiting.is_late(), waiting.late_namespaces().1);
            })
        };
        let behind = |namespace: &str, gate, since: Option<Instant>| Behind {
            namespace: namespace.into(),
            gate,
            since: since.map(Instant::into_std),
        };
        let open_all = || gates.open(&gates.ticket());
        note();
        open_all();
        waiting.add_behind(&[behind("heavy", 7, Some(Instant::now()))]);
        advance(ALMOST).await;
        waiting.add_behind(&[behind("other", 9, Some(Instant::now()))]);
        assert!(!note());
        assert!(gates.closed_parts().is_empty());
        advance(SOON).await;
        assert!(!note(), "there is nothing to open");
        assert_eq!(gates.closed_parts(), [7, gate::WILDCARDS]);
        assert_eq!(gates.shown(), [Gate::Open; 3]);
        assert_eq!(waiting.late_namespaces().0.iter().map(|name| &**name).collect::<Vec<_>>(), ["heavy"]);
        open_all();
        assert_eq!(gates.closed_parts(), [7, gate::WILDCARDS], "still at work");

        // Another one is late from the first, since it may have been so for longer than is known.
        waiting.set_behind(vec![behind("mended", 200, None)]);
        assert!(note(), "one gate may be opened");
        let ticket = gates.ticket();
        assert_eq!(gates.closed_parts(), [7, 200, gate::WILDCARDS]);
        gates.open(&ticket);
        assert_eq!(gates.closed_parts(), [200, gate::WILDCARDS]);
        assert!(!note(), "still waiting");
        waiting.set_behind(Vec::new());
        assert!(note());
        gates.open(&ticket);
        assert_eq!(gates.closed_parts(), [200, gate::WILDCARDS], "closed again since that was asked for");
        open_all();
        assert!(gates.closed_parts().is_empty());
    }

    /// Negative answers of both zones are held back meanwhile, and until programs have ended that may have missed a name.
    #[tokio::test(start_paused = true)]
    async fn work_that_is_late_closes_the_gates_of_negative_answers() {
        let (gates, waiting) = (Gates::new(ProgramSettings::detached()), Waiting::default());
        let note = || {
            gates.set(|facts| {
                (facts.synced, facts.current) = (true, true);
                facts.late = waiting.is_late();
            })
        };
        let open_all = || gates.open(&gates.ticket());
        note();
        open_all();
        assert_eq!(gates.shown(), [Gate::Open; 3]);
        waiting.await_changes(Instant::now());
        advance(ALMOST).await;
        note();
        assert_eq!(gates.shown(), [Gate::Open; 3]);
        advance(SOON).await;
        assert!(!note(), "there is nothing to open");
        let held = [Gate::Open, Gate::Stale, Gate::Stale];
        assert_eq!(gates.shown(), held, "names that are there are answered");
        let ticket = gates.ticket();
        open_all();
        assert_eq!(gates.shown(), held, "still at work");
        note();
        waiting.begin();
        waiting.end();
        assert!(note(), "they may be opened");
        assert_eq!(gates.shown(), held);
        gates.open(&ticket);
        assert_eq!(gates.shown(), held, "closed again since that was asked for");
        open_all();
        assert_eq!(gates.shown(), [Gate::Open; 3]);
    }
}
