//! How long the view of the cluster has been stale, and whether that exceeds `MaxStale`.

use std::time::Duration;

use tokio::time::Instant;

use crate::source::kubernetes::random;

/// Lower bound of the limit. Each daemon's limit is 80 % to 120 % of `MaxStale`, at random, so that nodes that lose the API server at
/// the same time don't start to send their queries to the DNS servers at the same time.
const FACTOR_MIN: f64 = 0.8;

/// Since when the view has been stale, and the limit.
#[derive(Debug)]
pub(super) struct Staleness {
    /// The limit as a share of `MaxStale`, the same while the daemon runs.
    factor: f64,
    max: Option<Duration>,
    since: Option<Instant>,
    is_expired: bool,
}

impl Staleness {
    pub(super) fn new() -> Self {
        let factor = FACTOR_MIN + 2.0 * (1.0 - FACTOR_MIN) * random();
        Self { factor, max: None, since: None, is_expired: false }
    }

    /// Sets `MaxStale`; 0: no limit.
    pub(super) fn set_max(&mut self, seconds: u32) {
        self.max = (seconds > 0).then(|| Duration::from_secs(seconds.into()).mul_f64(self.factor));
    }

    /// Records whether the view is stale now, and logs a change.
    pub(super) fn update(&mut self, is_stale: bool) {
        match (is_stale, self.since) {
            (true, None) => {
                log::warn!("Kubernetes: view stale: negative answers suspended, known names answered");
                self.since = Some(Instant::now());
            }
            (false, Some(_)) => {
                log::info!("Kubernetes: view current: negative answers resumed");
                self.since = None;
            }
            _ => {}
        }
        let is_expired = self.time().zip(self.max).is_some_and(|(time, max)| time >= max);
        if is_expired && !self.is_expired {
            let seconds = self.max.unwrap_or_default().as_secs();
            log::warn!("Kubernetes: view stale for {seconds} s (MaxStale): all answers of the cluster zone suspended");
        }
        self.is_expired = is_expired;
    }

    /// Whether the view has been stale longer than the limit.
    pub(super) const fn is_expired(&self) -> bool {
        self.is_expired
    }

    /// How long the view has been stale; None if it is current.
    pub(super) fn time(&self) -> Option<Duration> {
        self.since.map(|since| since.elapsed())
    }

    /// The limit on this node; None: no limit.
    pub(super) const fn max(&self) -> Option<Duration> {
        self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_end_at_the_limit_and_resume_with_a_current_view() {
        let mut staleness = Staleness::new();
        staleness.factor = 1.0;
        staleness.set_max(60);
        let mut after = async |seconds, is_stale| {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            staleness.update(is_stale);
            staleness.is_expired()
        };
        assert!(!after(1000, false).await && !after(0, true).await && !after(59, true).await);
        assert!(after(1, true).await && after(1000, true).await && !after(1, false).await);
        assert!(!after(1, true).await && !after(59, true).await, "a new outage starts at zero");
        staleness.set_max(30);
        staleness.update(true);
        assert!(staleness.is_expired(), "a lower limit takes effect at once");
        staleness.set_max(0);
        staleness.update(true);
        assert!(!staleness.is_expired(), "no limit takes effect at once");
    }

    #[test]
    fn limits_of_nodes_differ() {
        let limits: Vec<f64> = (0..1000)
            .map(|_| {
                let mut staleness = Staleness::new();
                staleness.set_max(1000);
                staleness.max().unwrap().as_secs_f64()
            })
            .collect();
        let (min, max) = limits.iter().fold((f64::MAX, 0f64), |(min, max), b| (min.min(*b), max.max(*b)));
        assert!((800.0..820.0).contains(&min) && (1180.0..=1200.0).contains(&max), "{min} to {max}");
    }
}
