//! The names that are asked for most, over the last seconds.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::CommandError;
use super::stream::{Tracing, question};

/// Seconds that count.
const WINDOW: usize = 10;
/// Names that are counted in each of them: somebody may ask for another one each time.
const NAMES_MAX: usize = 100_000;
/// Characters of a name that are shown.
const WIDTH: usize = 58;

/// Counts while it lives.
pub(super) struct Top {
    tracing: Tracing,
    /// How many names are shown.
    count: usize,
    seconds: VecDeque<HashMap<String, u64>>,
    lost: u64,
}

impl Top {
    pub(super) fn start(config: &Path, count: usize) -> Result<Self, CommandError> {
        Ok(Self { tracing: Tracing::start(config)?, count, seconds: VecDeque::new(), lost: 0 })
    }

    /// Counts for so long.
    pub(super) fn listen(&mut self, time: Duration) -> Result<(), CommandError> {
        let end = Instant::now() + time;
        let mut names: HashMap<String, u64> = HashMap::new();
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| left.as_millis() > 0) {
            for event in self.tracing.poll(left)? {
                let Some((name, _)) = question(&event.message) else { continue };
                let name = name.to_ascii_lowercase();
                if names.len() < NAMES_MAX || names.contains_key(&name) {
                    *names.entry(name).or_default() += 1;
                }
            }
        }
        self.lost = self.tracing.lost()?;
        if self.seconds.len() == WINDOW {
            self.seconds.pop_front();
        }
        self.seconds.push_back(names);
        Ok(())
    }

    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let mut sums: HashMap<&str, u64> = HashMap::new();
        for (name, count) in self.seconds.iter().flatten() {
            *sums.entry(name).or_default() += count;
        }
        let total: u64 = sums.values().sum();
        let mut sums: Vec<(&str, u64)> = sums.into_iter().collect();
        sums.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), *name));
        let sample = if self.lost > 0 { ", of a sample: more come than can be read" } else { "" };
        writeln!(out, "\nmost asked for in {} s{sample}", self.seconds.len())?;
        for (name, count) in sums.into_iter().take(self.count) {
            let share = count as f64 * 100.0 / total as f64;
            writeln!(out, "{count:>10}{share:>7.1}%  {name:.WIDTH$}")?;
        }
        Ok(())
    }
}
