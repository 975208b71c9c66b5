//! How long to wait before the API server is asked again.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
const MAX: Duration = Duration::from_secs(8);

/// Waits grow twofold, and each is drawn at random from nothing up to that: thousands of nodes that lost the same API server
/// do not come back to it at one moment.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next wait.
    pub(super) fn next(&mut self) -> Duration {
        let max = FIRST.saturating_mul(1 << self.failures.min(8)).min(MAX);
        self.failures += 1;
        // Good enough to spread, and nothing to depend on.
        let random = RandomState::new().build_hasher().finish();
        max.mul_f64(random as f64 / u64::MAX as f64)
    }

    /// It works again.
    pub(super) const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_limit_and_starts_again() {
        let largest = |backoff: &mut Backoff, failures: u32| {
            (0..200)
                .map(|_| {
                    backoff.failures = failures;
                    backoff.next()
                })
                .max()
                .unwrap()
        };
        let mut backoff = Backoff::default();
        for (failures, ms) in [(0, 500), (1, 1000), (4, 8000), (5, 8000), (1000, 8000)] {
            let largest = largest(&mut backoff, failures);
            let max = Duration::from_millis(ms);
            assert!(largest <= max && largest > max.mul_f64(0.8), "{failures}: {largest:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
