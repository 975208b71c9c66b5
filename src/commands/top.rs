//! `edns stats --watch --top`: the names with the most queries in the last seconds.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::CommandError;
use super::stream::{Tracing, question};

/// Length of the sliding window, in seconds.
const WINDOW: usize = 10;
/// Limit of distinct names in each second: a client may ask for a new name with every query.
const NAMES_MAX: usize = 100_000;
/// Maximum number of characters of a name that are printed.
const WIDTH: usize = 58;

/// Counts queries by name. The trace that it starts ends when it is dropped.
pub(super) struct Top {
    tracing: Tracing,
    /// Number of names to print.
    count: usize,
    seconds: VecDeque<HashMap<String, u64>>,
    lost: u64,
}

impl Top {
    pub(super) fn start(config: &Path, count: usize) -> Result<Self, CommandError> {
        Ok(Self { tracing: Tracing::start(config)?, count, seconds: VecDeque::new(), lost: 0 })
    }

    /// Counts the queries of the next `time`, which becomes one second of the window.
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
        let sample = if self.lost > 0 { ", from a sample: events were lost" } else { "" };
        writeln!(out, "\nmost queried names in {} s{sample}", self.seconds.len())?;
        for (name, count) in sums.into_iter().take(self.count) {
            let share = count as f64 * 100.0 / total as f64;
            writeln!(out, "{count:>10}{share:>7.1}%  {name:.WIDTH$}")?;
        }
        Ok(())
    }
}
