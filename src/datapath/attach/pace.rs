//! How often we insist against somebody else who changes the same chain.

use std::time::{Duration, Instant};

/// In this time…
const MINUTE: Duration = Duration::from_secs(60);
/// …a filter is moved so often at most.
const MOVES_MAX: usize = 3;
/// Between the second and the third return of a filter that is taken away.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Moves to the front of a chain.
#[derive(Debug, Default)]
pub(super) struct Moves(Vec<Instant>);

impl Moves {
    /// Whether one more is allowed.
    pub(super) fn may(&mut self, now: Instant) -> bool {
        self.0.retain(|moved| now.duration_since(*moved) < MINUTE);
        self.0.len() < MOVES_MAX
    }

    pub(super) fn moved(&mut self, now: Instant) {
        self.0.push(now);
    }

    /// When one more is allowed where it is not now.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.first().map(|moved| *moved + MINUTE)
    }

    /// Whether nothing was moved for a minute.
    pub(super) fn is_calm(&self, now: Instant) -> bool {
        self.0.iter().all(|moved| now.duration_since(*moved) >= MINUTE)
    }
}

/// Returns of a program that somebody takes away: at once, then after 1, 2, 4 … 30 s. One that stays for a minute starts anew.
#[derive(Debug, Default)]
pub(super) struct Returns {
    wait: Duration,
    returned: Option<Instant>,
}

impl Returns {
    /// It was taken away: when it may return.
    pub(super) fn taken(&mut self, now: Instant) -> Instant {
        if self.returned.take().is_some_and(|returned| now.duration_since(returned) >= MINUTE) {
            self.wait = Duration::ZERO;
        }
        let at = now + self.wait;
        self.wait = (self.wait * 2).clamp(WAIT_MIN, WAIT_MAX);
        at
    }

    pub(super) const fn returned(&mut self, now: Instant) {
        self.returned = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn three_moves_a_minute() {
        let begin = Instant::now();
        let mut moves = Moves::default();
        for i in 0..3 {
            assert!(moves.may(begin + i * SECOND));
            moves.moved(begin + i * SECOND);
        }
        assert!(!moves.may(begin + 59 * SECOND) && !moves.is_calm(begin + 61 * SECOND));
        assert_eq!(moves.next(), Some(begin + MINUTE));
        assert!(moves.may(begin + MINUTE));
        moves.moved(begin + MINUTE);
        assert!(!moves.may(begin + MINUTE), "the second of the three is not a minute old");
        assert!(moves.may(begin + 2 * MINUTE) && moves.is_calm(begin + 2 * MINUTE));
    }

    #[test]
    fn a_return_is_at_once_then_ever_later_and_never_given_up() {
        let begin = Instant::now();
        let mut now = begin;
        let mut returns = Returns::default();
        let mut waits = Vec::new();
        for _ in 0..9 {
            let at = returns.taken(now);
            waits.push((at - now).as_secs());
            returns.returned(at);
            now = at + SECOND;
        }
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 30, 30, 30]);
        now += MINUTE;
        assert_eq!(returns.taken(now), now, "it had stayed for a minute");
    }
}
