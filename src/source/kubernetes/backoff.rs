//! Backoff between requests to the API server after failures.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use tokio::time::Instant;

/// The backoff is reset after this long without a failure.
const CALM: Duration = Duration::from_secs(120);

/// Exponential backoff with full jitter: the limit doubles up to a maximum, and each wait is uniform between zero and the
/// limit. So thousands of nodes that lost the same API server do not return at the same moment.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    max: Duration,
    failures: u32,
    /// When the last wait was drawn.
    last: Option<Instant>,
}

impl Backoff {
    pub(super) const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, failures: 0, last: None }
    }

    /// Draws the next wait.
    pub(super) fn next(&mut self) -> Duration {
        if self.last.is_some_and(|last| last.elapsed() > CALM) {
            self.reset();
        }
        self.last = Some(Instant::now());
        let limit = self.first.saturating_mul(1 << self.failures.min(8)).min(self.max);
        self.failures += 1;
        limit.mul_f64(random())
    }

    /// Starts from the first limit again.
    pub(super) const fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A random number from 0 to 1, good enough for jitter and nothing else.
pub fn random() -> f64 {
    RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(500);
    const MAX: Duration = Duration::from_secs(8);

    #[tokio::test(start_paused = true)]
    async fn the_wait_grows_to_its_maximum_and_is_reset() {
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
        assert!(backoff.next() <= FIRST, "reset after CALM");
    }
}
