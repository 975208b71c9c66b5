//! Logs the start and end of a shortage: the record maps have no room for some names. Logs at most one of each in a minute.

use std::time::Duration;

use tokio::time::Instant;

/// The end of a shortage is logged after this time without one, so each message is logged once a minute at most.
const QUIET: Duration = Duration::from_secs(60);

/// Whether the last message in the log reports a shortage.
#[derive(Debug, Default)]
pub(super) enum Shortage {
    /// No message, or its end.
    #[default]
    None,
    /// A shortage. The time is when all names were in the maps again; None while some are not.
    Logged(Option<Instant>),
}

impl Shortage {
    /// Logs the start or end of a shortage. `refused`: names without a place in the maps now.
    pub(super) fn update(&mut self, refused: usize) {
        match self {
            Self::None if refused > 0 => {
                log::warn!(
                    "record maps full: some names are not answered ({refused} now); `edns stats` shows the reasons"
                );
                *self = Self::Logged(None);
            }
            Self::Logged(since) if refused > 0 => *since = None,
            Self::Logged(since) => {
                if since.get_or_insert_with(Instant::now).elapsed() >= QUIET {
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
    async fn the_end_of_a_shortage_is_logged_after_a_minute() {
        let mut shortage = Shortage::default();
        // Seconds since the row before, names without a place, and whether the last message reports a shortage.
        for (row, (seconds, refused, is_logged)) in [
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
            shortage.update(refused);
            assert_eq!(matches!(shortage, Shortage::Logged(_)), is_logged, "row {row}");
        }
    }
}
