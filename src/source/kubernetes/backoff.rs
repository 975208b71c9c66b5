//! How long to wait before the API server is asked again.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use tokio::time::Instant;

/// After so long without a wait they begin anew.
const CALM: Duration = Duration::from_secs(120);

/// Waits grow twofold up to a limit, and each is drawn at random from nothing up to that: thousands of nodes that lost the
/// same API server do not come back to it at one moment.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    max: Duration,
    failures: u32,
    /// When the last one was drawn.
    last: Option<Instant>,
}

impl Backoff {
    pub(super) const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, failures: 0, last: None }
    }

    /// The next wait.
    pub(super) fn next(&mut self) -> Duration {
        if self.last.is_some_and(|last| last.elapsed() > CALM) {
            self.reset();
        }
        self.last = Some(Instant::now());
        let limit = self.first.saturating_mul(1 << self.failures.min(8)).min(self.max);
        self.failures += 1;
        limit.mul_f64(random())
    }

    /// It works again.
    pub(super) const fn reset(&mut self) {
        self.failures = 0;
    }
}

/// From 0 to 1. Good enough to spread, and nothing to depend on.
pub fn random() -> f64 {
    RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(500);
    const MAX: Duration = Duration::from_secs(8);

    #[tokio::test(start_paused = true)]
    async fn grows_to_its_limit_and_starts_again() {
        let largest = |backoff: &mut Backoff, failures: u32| {
            (0..200)
                .map(|_| {
                    backoff.failures = failures;
                    backoff.next()
                })
                .max()
                .unwrap()
        };
        let mut backoff = Backoff::new(FIRST, MAX);
        for (failures, ms) in [(0, 500), (1, 1000), (4, 8000), (5, 8000), (1000, 8000)] {
            let largest = largest(&mut backoff, failures);
            let max = Duration::from_millis(ms);
            assert!(largest <= max && largest > max.mul_f64(0.8), "{failures}: {largest:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
        backoff.failures = 1000;
        tokio::time::advance(CALM + Duration::from_secs(1)).await;
        assert!(backoff.next() <= FIRST, "after a calm time");
    }
}
