//! `edns stats`: what became of queries.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use super::{Outcome, stdout};
use crate::control::client::ask_one;
use crate::control::{Request, StatsReply};

const INTERVAL: Duration = Duration::from_secs(1);
/// Clears the terminal from its upper left corner on (ECMA-48).
const CLEAR: &str = "\x1b[H\x1b[J";

/// Prints the counters once.
///
/// # Errors
/// No daemon.
pub fn run(config: &Path, json: bool) -> Outcome {
    let stats: StatsReply = ask_one(config, &Request::Stats)?;
    let mut out = stdout();
    if json {
        serde_json::to_writer_pretty(&mut out, &stats).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        print(&mut out, &stats, None)?;
    }
    out.flush()?;
    Ok(true)
}

/// Prints counters and rates every second.
///
/// # Errors
/// No daemon, or not any more.
pub fn watch(config: &Path) -> Outcome {
    let mut last: StatsReply = ask_one(config, &Request::Stats)?;
    loop {
        sleep(INTERVAL);
        let stats: StatsReply = ask_one(config, &Request::Stats)?;
        let mut out = stdout();
        write!(out, "{CLEAR}")?;
        print(&mut out, &stats, Some(&last))?;
        out.flush()?;
        last = stats;
    }
}

/// Queries by outcome, over both families.
fn by_outcome(stats: &StatsReply) -> HashMap<&str, u64> {
    let mut sums = HashMap::new();
    for q in &stats.queries {
        *sums.entry(q.outcome.as_str()).or_default() += q.count;
    }
    sums
}

fn print(out: &mut impl Write, stats: &StatsReply, last: Option<&StatsReply>) -> std::io::Result<()> {
    let now = by_outcome(stats);
    let before = last.map(by_outcome);
    let total: u64 = now.values().sum();
    let passed: u64 = now.iter().filter(|(o, _)| o.starts_with("pass_")).map(|(_, n)| n).sum();
    let percent = |n: u64| if total == 0 { 0.0 } else { n as f64 * 100.0 / total as f64 };

    let interfaces =
        if stats.attached_interfaces.is_empty() { "no interface".into() } else { stats.attached_interfaces.join(", ") };
    writeln!(out, "edns {} (pid {}), up {} s, on {interfaces}", stats.version, stats.pid, stats.uptime_seconds)?;
    writeln!(
        out,
        "{} of {} names, {:.1} MiB of maps; {:.1} % of {total} queries answered",
        stats.records,
        stats.max_records,
        stats.map_bytes as f64 / f64::from(1 << 20),
        percent(total - passed)
    )?;
    if stats.paused {
        writeln!(out, "paused: everything passes to the DNS server; `edns resume` ends that")?;
    }
    writeln!(out, "\n{:<18}{:>16}{:>9}{}", "outcome", "queries", "share", last.map_or("", |_| "    per second"))?;
    let mut shown: Vec<&str> = Vec::new();
    for outcome in stats.queries.iter().map(|q| q.outcome.as_str()) {
        // The answers always, reasons to pass where there are any.
        let count = now[outcome];
        if shown.contains(&outcome) || (count == 0 && outcome.starts_with("pass_")) {
            continue;
        }
        shown.push(outcome);
        write!(out, "{outcome:<18}{count:>16}{:>8.1}%", percent(count))?;
        match &before {
            Some(before) => writeln!(out, "{:>14}", count.saturating_sub(*before.get(outcome).unwrap_or(&0)))?,
            None => writeln!(out)?,
        }
    }
    Ok(())
}
