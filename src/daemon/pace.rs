//! Limits the work of a turn to about 200 ms, so that other changes don't wait too long. How much work fits is measured, because
//! machines and changes differ.

use std::time::Duration;

/// Target duration of a turn: working on the zone and writing the maps.
const TURN: Duration = Duration::from_millis(200);
/// Bounds of the work of a turn, in endpoints and ports, approximately.
const WORK_MIN: usize = 500;
const WORK_MAX: usize = 20_000;

/// The work of the next turn, adapted to the duration of earlier ones.
#[derive(Debug)]
pub(super) struct Pace(usize);

impl Pace {
    pub(super) const fn new() -> Self {
        Self(WORK_MAX / 4)
    }

    /// Maximum of work of the next turn, in endpoints and ports.
    pub(super) const fn work(&self) -> usize {
        self.0
    }

    /// Adapts to a turn that took `time` for `work`. Turns with little work are ignored: their duration is mostly the wait for
    /// grace periods.
    pub(super) fn adapt(&mut self, work: usize, time: Duration) {
        if work < self.0 / 2 {
            return;
        }
        let fits = work as f64 * TURN.as_secs_f64() / time.as_secs_f64().max(0.001);
        self.0 = usize::midpoint(self.0, fits as usize).clamp(WORK_MIN, WORK_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_approach_the_target_duration() {
        // Microseconds per unit of work, and milliseconds that a turn waits for grace periods.
        for (unit, wait) in [(10, 0), (10, 20), (100, 10), (150, 50), (1000, 0)] {
            let (unit, wait) = (Duration::from_micros(unit), Duration::from_millis(wait));
            let mut pace = Pace::new();
            let turn = |pace: &Pace| wait + unit * pace.work() as u32;
            for _ in 0..20 {
                pace.adapt(pace.work(), turn(&pace));
            }
            assert!(turn(&pace) < TURN * 11 / 10 || pace.work() == WORK_MIN, "{unit:?}: {:?}", turn(&pace));
            assert!(turn(&pace) > TURN * 9 / 10 || pace.work() == WORK_MAX, "{unit:?}: {:?}", turn(&pace));
        }
        // One Service larger than the maximum counts too; turns with little work don't.
        let mut pace = Pace::new();
        pace.adapt(200_000, Duration::from_secs(20));
        assert_eq!(pace.work(), (WORK_MAX / 4 + 2_000) / 2);
        pace.adapt(10, Duration::from_secs(1));
        assert_eq!(pace.work(), (WORK_MAX / 4 + 2_000) / 2);
    }
}
