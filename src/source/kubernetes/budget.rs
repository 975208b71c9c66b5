//! Limits how much of the API's objects waits to be applied, so that no tenant fills the memory by changing many objects at
//! once. When the budget is used up, the watches stop reading and the API server waits. Longer lists come in parts.
//!
//! The budget also knows since when updates wait: a view that lacks them is not current.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The most endpoints and ports that wait to be applied. Each takes some hundred bytes.
const BUDGET: usize = 1 << 18;
/// The size of one part of a list.
pub(super) const LIST_PART: usize = BUDGET / 4;
/// The least that an object counts for.
pub(super) const OBJECT_MIN: usize = 4;

/// The budget, shared by all kinds.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    semaphore: Arc<Semaphore>,
    waiting: WaitingUpdates,
}

/// The updates that have arrived from the API server and are not applied to the zone yet.
#[derive(Debug, Clone, Default)]
pub struct WaitingUpdates(Arc<Mutex<Arrivals>>);

/// Arrival times, with a number to tell equal ones apart.
#[derive(Debug, Default)]
struct Arrivals {
    times: BTreeSet<(Instant, u64)>,
    next: u64,
}

/// A share of the budget. Dropping it returns the share, and ends the wait of its update.
#[derive(Debug)]
pub struct Permit {
    #[allow(dead_code, reason = "returned when it is dropped")]
    share: Option<OwnedSemaphorePermit>,
    #[allow(dead_code, reason = "removed when it is dropped")]
    arrival: Arrival,
}

/// The arrival time of one update that waits.
#[derive(Debug)]
struct Arrival {
    waiting: WaitingUpdates,
    key: (Instant, u64),
}

impl Default for Budget {
    fn default() -> Self {
        Self { semaphore: Arc::new(Semaphore::new(BUDGET)), waiting: WaitingUpdates::default() }
    }
}

impl Budget {
    /// Waits until `size` of the budget is free, and takes it. A larger `size` than the budget takes the whole budget. The update
    /// counts as waiting since `arrived`.
    pub(super) async fn acquire(&self, size: usize, arrived: Instant) -> Permit {
        let arrival = self.waiting.add(arrived);
        // The semaphore is never closed.
        let share = Arc::clone(&self.semaphore).acquire_many_owned(size.min(BUDGET) as u32).await.ok();
        Permit { share, arrival }
    }

    /// The updates that wait.
    pub(super) const fn waiting(&self) -> &WaitingUpdates {
        &self.waiting
    }
}

impl WaitingUpdates {
    /// The arrival time of the oldest update that waits. None: none waits.
    #[must_use]
    pub fn oldest(&self) -> Option<Instant> {
        self.arrivals().times.first().map(|(arrived, _)| *arrived)
    }

    fn add(&self, arrived: Instant) -> Arrival {
        let arrivals = &mut *self.arrivals();
        let key = (arrived, arrivals.next);
        arrivals.next += 1;
        arrivals.times.insert(key);
        Arrival { waiting: self.clone(), key }
    }

    fn arrivals(&self) -> MutexGuard<'_, Arrivals> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.waiting.arrivals().times.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::time::advance;

    use super::*;

    #[tokio::test]
    async fn a_used_up_budget_makes_callers_wait() {
        let (budget, now) = (Budget::default(), Instant::now());
        let first = budget.acquire(BUDGET / 2, now).await;
        let _second = budget.acquire(BUDGET / 2, now).await;
        assert!(budget.acquire(1, now).now_or_never().is_none());
        drop(first);
        assert!(budget.acquire(1, now).now_or_never().is_some());
        assert!(budget.acquire(10 * BUDGET, now).now_or_never().is_none(), "needs the whole budget");
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_update_waits_until_it_is_applied() {
        let budget = Budget::default();
        assert_eq!(budget.waiting().oldest(), None);
        let first = Instant::now();
        let permit = budget.acquire(BUDGET, first).await;
        advance(Duration::from_secs(1)).await;
        let second = Instant::now();
        let mut waits = Box::pin(budget.acquire(1, second));
        assert!(waits.as_mut().now_or_never().is_none());
        assert_eq!(budget.waiting().oldest(), Some(first));
        drop(permit);
        assert_eq!(budget.waiting().oldest(), Some(second), "also while it waits for its share");
        let permit = waits.await;
        assert_eq!(budget.waiting().oldest(), Some(second));
        drop(permit);
        assert_eq!(budget.waiting().oldest(), None);
        // A watch that is restarted while it waits leaves nothing.
        let _all = budget.acquire(BUDGET, second).await;
        assert!(budget.acquire(1, first).now_or_never().is_none());
        assert_eq!(budget.waiting().oldest(), Some(second));
    }
}
