//! Limits how much of the API's objects waits to be applied, so that no tenant fills the memory by changing many objects at
//! once. When the budget is used up, the watches stop reading and the API server waits. Longer lists come in parts.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most endpoints and ports that wait to be applied. Each takes some hundred bytes.
const BUDGET: usize = 1 << 18;
/// The size of one part of a list.
pub(super) const LIST_PART: usize = BUDGET / 4;
/// The least that an object counts for.
pub(super) const OBJECT_MIN: usize = 4;

/// The budget, shared by all kinds.
#[derive(Debug, Clone)]
pub(super) struct Budget(Arc<Semaphore>);

/// A share of the budget. Dropping it returns the share.
#[derive(Debug)]
pub struct Permit(#[allow(dead_code, reason = "returned when it is dropped")] Option<OwnedSemaphorePermit>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BUDGET)))
    }
}

impl Budget {
    /// Waits until `size` of the budget is free, and takes it. A larger `size` than the budget takes the whole budget.
    pub(super) async fn acquire(&self, size: usize) -> Permit {
        // The semaphore is never closed.
        Permit(Arc::clone(&self.0).acquire_many_owned(size.min(BUDGET) as u32).await.ok())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_used_up_budget_makes_callers_wait() {
        let budget = Budget::default();
        let first = budget.acquire(BUDGET / 2).await;
        let _second = budget.acquire(BUDGET / 2).await;
        assert!(budget.acquire(1).now_or_never().is_none());
        drop(first);
        assert!(budget.acquire(1).now_or_never().is_some());
        assert!(budget.acquire(10 * BUDGET).now_or_never().is_none(), "needs the whole budget");
    }
}
