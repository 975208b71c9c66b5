//! Limits how often the daemon moves or re-attaches its program while another process changes the same chain.

use std::time::{Duration, Instant};

/// The window of [`MOVES_MAX`], and the time attached after which the re-attach backoff starts over.
const MINUTE: Duration = Duration::from_secs(60);
/// Moves of a filter in one [`MINUTE`].
const MOVES_MAX: usize = 3;
/// Wait before the second retry. The first retry is at once.
const WAIT_MIN: Duration = Duration::from_secs(1);
/// Longest wait.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// The times of recent moves to the front of a chain.
#[derive(Debug, Default)]
pub(super) struct Moves(Vec<Instant>);

impl Moves {
    /// Whether another move is allowed.
    pub(super) fn may_move(&mut self, now: Instant) -> bool {
        self.0.retain(|moved| now.duration_since(*moved) < MINUTE);
        self.0.len() < MOVES_MAX
    }

    pub(super) fn moved(&mut self, now: Instant) {
        self.0.push(now);
    }

    /// When another move is allowed after [`Self::may_move`] was false.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.first().map(|moved| *moved + MINUTE)
    }

    /// Whether the last move is at least a minute ago.
    pub(super) fn is_calm(&self, now: Instant) -> bool {
        self.0.iter().all(|moved| now.duration_since(*moved) >= MINUTE)
    }
}

/// Backoff for a program that other processes keep removing. It is attached again at once, then after 1, 2, 4 … 30 s. The backoff
/// starts over after it has stayed for a minute.
#[derive(Debug, Default)]
pub(super) struct ReattachBackoff {
    wait: Duration,
    attached: Option<Instant>,
}

impl ReattachBackoff {
    /// The program was removed. Returns when to attach it again.
    pub(super) fn removed(&mut self, now: Instant) -> Instant {
        if self.attached.take().is_some_and(|attached| now.duration_since(attached) >= MINUTE) {
            self.wait = Duration::ZERO;
        }
        let at = now + self.wait;
        self.wait = (self.wait * 2).clamp(WAIT_MIN, WAIT_MAX);
        at
    }

    /// The program was attached again.
    pub(super) const fn attached(&mut self, now: Instant) {
        self.attached = Some(now);
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
            assert!(moves.may_move(begin + i * SECOND));
            moves.moved(begin + i * SECOND);
        }
        assert!(!moves.may_move(begin + 59 * SECOND) && !moves.is_calm(begin + 61 * SECOND));
        assert_eq!(moves.next(), Some(begin + MINUTE));
        assert!(moves.may_move(begin + MINUTE));
        moves.moved(begin + MINUTE);
        assert!(!moves.may_move(begin + MINUTE), "the second of the three is not a minute old");
        assert!(moves.may_move(begin + 2 * MINUTE) && moves.is_calm(begin + 2 * MINUTE));
    }

    #[test]
    fn a_return_is_immediate_at_first_then_delayed_up_to_30_s() {
        let begin = Instant::now();
        let mut now = begin;
        let mut backoff = ReattachBackoff::default();
        let mut waits = Vec::new();
        for _ in 0..9 {
            let at = backoff.removed(now);
            waits.push((at - now).as_secs());
            backoff.attached(at);
            now = at + SECOND;
        }
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 30, 30, 30]);
        now += MINUTE;
        assert_eq!(backoff.removed(now), now, "it had stayed for a minute");
    }
}
