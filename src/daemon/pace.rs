//! How much work a turn may take, so that it takes no longer than others can wait: machines differ, and so do changes.

use std::time::Duration;

/// A turn takes about as long at most, with what it writes.
const TURN: Duration = Duration::from_millis(200);
/// Its work is within these bounds: about as many endpoints and ports.
const LEAST: usize = 500;
const MOST: usize = 20_000;

/// Work of the next turn.
#[derive(Debug)]
pub(super) struct Pace(usize);

impl Pace {
    pub(super) const fn new() -> Self {
        Self(MOST / 4)
    }

    /// Work of the next turn, at most.
    pub(super) const fn work(&self) -> usize {
        self.0
    }

    /// A turn has taken so long for so much work. One of little tells of little but how long the kernel let it wait.
    pub(super) fn took(&mut self, work: usize, time: Duration) {
        if work < self.0 / 2 {
            return;
        }
        let fits = work as f64 * TURN.as_secs_f64() / time.as_secs_f64().max(0.001);
        self.0 = usize::midpoint(self.0, fits as usize).clamp(LEAST, MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_become_as_long_as_they_should_be() {
        // What a unit of work takes, and how long a turn waits for programs.
        for (unit, wait) in [(10, 0), (10, 20), (100, 10), (150, 50), (1000, 0)] {
            let (unit, wait) = (Duration::from_micros(unit), Duration::from_millis(wait));
            let mut pace = Pace::new();
            let turn = |pace: &Pace| wait + unit * pace.work() as u32;
            for _ in 0..20 {
                pace.took(pace.work(), turn(&pace));
            }
            assert!(turn(&pace) < TURN * 11 / 10 || pace.work() == LEAST, "{unit:?}: {:?}", turn(&pace));
            assert!(turn(&pace) > TURN * 9 / 10 || pace.work() == MOST, "{unit:?}: {:?}", turn(&pace));
        }
        // One Service that is larger tells, too, and small turns don't.
        let mut pace = Pace::new();
        pace.took(200_000, Duration::from_secs(20));
        assert_eq!(pace.work(), (MOST / 4 + 2_000) / 2);
        pace.took(10, Duration::from_secs(1));
        assert_eq!(pace.work(), (MOST / 4 + 2_000) / 2);
    }
}
