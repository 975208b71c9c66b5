//! Tells in the log that names pass for want of a place, and that all are there again: not each time that one comes and goes.

use std::time::Duration;

use tokio::time::Instant;

/// For so long all have to be there before that is said. So each message comes once a minute at most.
const CALM: Duration = Duration::from_secs(60);

/// What was said last.
#[derive(Debug, Default)]
pub(super) enum Shortage {
    /// Nothing, or that all are there.
    #[default]
    None,
    /// That names pass; since then all are there, or not.
    Said(Option<Instant>),
}

impl Shortage {
    /// Takes note of how many names pass, and says what is to be said.
    pub(super) fn note(&mut self, passing: usize) {
        match self {
            Self::None if passing > 0 => {
                log::warn!(
                    "record maps full: some names are not answered ({passing} now); `edns stats` shows the reasons"
                );
                *self = Self::Said(None);
            }
            Self::Said(since) if passing > 0 => *since = None,
            Self::Said(since) => {
                if since.get_or_insert_with(Instant::now).elapsed() >= CALM {
                    log::info!("record maps: all names are answered again");
                    *self = Self::None;
                }
            }
            Self::None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_shortage_is_said_when_it_has_lasted() {
        let mut shortage = Shortage::default();
        // Seconds later, how many names pass, and whether the last that was said is that some do.
        for (row, (seconds, passing, is_said)) in [
            (0, 0, false),
            (1, 5, true),
            (1, 0, true),
            (59, 0, true),
            (1, 0, false),
            (1, 1, true),
            (1, 0, true),
            (59, 1, true),
            (1, 0, true),
            (59, 2, true),
            (600, 2, true),
            (1, 0, true),
            (60, 0, false),
            (600, 0, false),
            (0, 1, true),
        ]
        .into_iter()
        .enumerate()
        {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            shortage.note(passing);
            assert_eq!(matches!(shortage, Shortage::Said(_)), is_said, "row {row}");
        }
    }
}
