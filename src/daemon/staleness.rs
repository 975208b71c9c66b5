//! For how long answers go on that rest on a view of the cluster which is not current any more: MaxStale.

use std::time::Duration;

use tokio::time::Instant;

use crate::source::kubernetes::random;

/// The bound is drawn from this share of MaxStale on, up to as much more than all of it: nodes that lost the API at one moment
/// do not send all their queries to the DNS servers at one moment, too.
const SHARE_MIN: f64 = 0.8;

/// Since when the view is not current, and what follows from that.
#[derive(Debug)]
pub(super) struct Staleness {
    /// Of MaxStale, for as long as the daemon runs.
    share: f64,
    max: Option<Duration>,
    since: Option<Instant>,
    is_expired: bool,
}

impl Staleness {
    pub(super) fn new() -> Self {
        let share = SHARE_MIN + 2.0 * (1.0 - SHARE_MIN) * random();
        Self { share, max: None, since: None, is_expired: false }
    }

    /// MaxStale is so many seconds now; 0: there is no bound.
    pub(super) fn set_max(&mut self, seconds: u32) {
        self.max = (seconds > 0).then(|| Duration::from_secs(seconds.into()).mul_f64(self.share));
    }

    /// Takes note of whether the view is stale, and says what changes by that.
    pub(super) fn note(&mut self, is_stale: bool) {
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

    /// Whether it is not current for too long.
    pub(super) const fn is_expired(&self) -> bool {
        self.is_expired
    }

    /// For how long it has not been current.
    pub(super) fn time(&self) -> Option<Duration> {
        self.since.map(|since| since.elapsed())
    }

    /// How long that may be here.
    pub(super) const fn max(&self) -> Option<Duration> {
        self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_end_at_the_bound_and_come_back_with_the_view() {
        let mut staleness = Staleness::new();
        staleness.share = 1.0;
        staleness.set_max(60);
        let mut after = async |seconds, is_stale| {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            staleness.note(is_stale);
            staleness.is_expired()
        };
        assert!(!after(1000, false).await && !after(0, true).await && !after(59, true).await);
        assert!(after(1, true).await && after(1000, true).await && !after(1, false).await);
        assert!(!after(1, true).await && !after(59, true).await, "counted anew");
        staleness.set_max(30);
        staleness.note(true);
        assert!(staleness.is_expired(), "a lower bound is live");
        staleness.set_max(0);
        staleness.note(true);
        assert!(!staleness.is_expired(), "and so is none");
    }

    #[test]
    fn bounds_of_nodes_lie_apart() {
        let bounds: Vec<f64> = (0..1000)
            .map(|_| {
                let mut staleness = Staleness::new();
                staleness.set_max(1000);
                staleness.max().unwrap().as_secs_f64()
            })
            .collect();
        let (min, max) = bounds.iter().fold((f64::MAX, 0f64), |(min, max), b| (min.min(*b), max.max(*b)));
        assert!((800.0..820.0).contains(&min) && (1180.0..=1200.0).contains(&max), "{min} to {max}");
    }
}
