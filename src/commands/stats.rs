//! `edns stats`: counters, interfaces, the view of the cluster, and why queries pass.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::top::Top;
use super::{CommandResult, stdout};
use crate::control::client::ask_one;
use crate::control::{HolderReply, InFrontReply, InterfaceReply, Request, StatsReply, SyncReply};
use crate::datapath::Outcome;

const INTERVAL: Duration = Duration::from_secs(1);
/// Clears the terminal (ECMA-48: cursor to the upper left corner, erase to the end).
const CLEAR: &str = "\x1b[H\x1b[J";
/// Maximum number of interface names that are printed. The others are only counted.
const INTERFACES_MAX: usize = 4;

/// Prints the state and the counters once.
///
/// # Errors
/// If no daemon runs.
pub fn run(config: &Path, json: bool) -> CommandResult {
    let stats: StatsReply = ask_one(config, &Request::Stats)?;
    let mut out = stdout();
    if json {
        serde_json::to_writer_pretty(&mut out, &stats).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        print(&mut out, &stats, None)?;
    }
    out.flush()?;
    Ok(true)
}

/// Prints state, counters and rates every second; with `names`, also that many of the names with the most queries.
///
/// # Errors
/// If no daemon runs, or it ends.
pub fn watch(config: &Path, names: Option<usize>) -> CommandResult {
    let mut top = names.map(|count| Top::start(config, count)).transpose()?;
    let ask = || ask_one::<StatsReply>(config, &Request::Stats).map(|stats| (stats, Instant::now()));
    let (mut last, mut then) = ask()?;
    loop {
        match &mut top {
            Some(top) => top.listen(INTERVAL)?,
            None => sleep(INTERVAL),
        }
        let (stats, now) = ask()?;
        let mut out = stdout();
        write!(out, "{CLEAR}")?;
        print(&mut out, &stats, Some((&last, now - then)))?;
        if let Some(top) = &top {
            top.print(&mut out)?;
        }
        out.flush()?;
        (last, then) = (stats, now);
    }
}

/// Number of queries by outcome, over IPv4 and IPv6.
struct Queries<'a>(HashMap<&'a str, u64>);

impl<'a> Queries<'a> {
    fn of(stats: &'a StatsReply) -> Self {
        let mut sums = HashMap::new();
        for q in &stats.queries {
            *sums.entry(q.outcome.as_str()).or_default() += q.count;
        }
        Self(sums)
    }

    fn get(&self, outcome: &str) -> u64 {
        self.0.get(outcome).copied().unwrap_or_default()
    }

    fn total(&self) -> u64 {
        self.0.values().sum()
    }

    fn answered(&self) -> u64 {
        self.0.iter().filter(|(outcome, _)| !outcome.starts_with("pass_")).map(|(_, n)| n).sum()
    }

    /// The queries since `earlier`. Counts that are lower than before give 0: another daemon has taken over and counts from 0.
    fn since(&self, earlier: &Self) -> Self {
        Self(self.0.iter().map(|(outcome, n)| (*outcome, n.saturating_sub(earlier.get(outcome)))).collect())
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

fn print(out: &mut impl Write, stats: &StatsReply, last: Option<(&StatsReply, Duration)>) -> io::Result<()> {
    print_state(out, stats)?;
    let all = Queries::of(stats);
    let new = last.map(|(last, time)| (all.since(&Queries::of(last)), time.as_secs_f64()));
    writeln!(out, "\n{:.1} % of {} queries answered", percent(all.answered(), all.total()), all.total())?;
    if let Some((new, seconds)) = &new {
        let rate = new.total() as f64 / seconds;
        writeln!(out, "{:.1} % of {rate:.0} per second now", percent(new.answered(), new.total()))?;
    }
    if all.total() == 0 {
        writeln!(out, "no UDP query to port 53 was seen: check Ifname and NetworkDirection")?;
    }
    let rates = if new.is_some() { format!("{:>12}", "per second") } else { String::new() };
    writeln!(out, "\n{:<16}{:>13}{:>8}{rates}", "outcome", "queries", "share")?;
    let mut shown: Vec<&str> = Vec::new();
    for outcome in stats.queries.iter().map(|q| q.outcome.as_str()) {
        // Answers are always printed, reasons to pass only if they occurred.
        let count = all.get(outcome);
        if shown.contains(&outcome) || (count == 0 && outcome.starts_with("pass_")) {
            continue;
        }
        shown.push(outcome);
        write!(out, "{outcome:<16}{count:>13}{:>7.1}%", percent(count, all.total()))?;
        if let Some((new, seconds)) = &new {
            write!(out, "{:>12.0}", new.get(outcome) as f64 / seconds)?;
        }
        writeln!(out, "  {}", Outcome::from_name(outcome).map_or("", |outcome| outcome.meaning))?;
    }
    Ok(())
}

/// Prints the state of the daemon, and what keeps it from answering.
fn print_state(out: &mut impl Write, stats: &StatsReply) -> io::Result<()> {
    let up = format_duration(stats.uptime_seconds as f64);
    writeln!(
        out,
        "edns {} (pid {}), up {up}, on {}",
        stats.version,
        stats.pid,
        interfaces(&stats.attached_interfaces)
    )?;
    let memory = stats.map_bytes as f64 / f64::from(1 << 20);
    writeln!(out, "{} of {} names, {memory:.1} MiB of maps", stats.records, stats.max_records)?;
    if !stats.holders.is_empty() {
        let holder = |h: &HolderReply| match (h.passing, &h.largest) {
            (0, _) | (_, None) => format!("{} {}", h.namespace, h.names),
            (passing, Some(largest)) => {
                format!("{} {} ({passing} pass; largest object: {largest})", h.namespace, h.names)
            }
        };
        writeln!(out, "most names: {}", stats.holders.iter().map(holder).collect::<Vec<_>>().join(", "))?;
    }
    if let Some(sync) = &stats.sync {
        writeln!(out, "cluster: {}", format_view(sync))?;
    }
    if stats.paused {
        writeln!(out, "paused: all queries pass to the DNS server; `edns resume` ends the pause")?;
    }
    for error in &stats.unattached {
        writeln!(out, "not attached: {error}")?;
    }
    print_places(out, &stats.interfaces)?;
    for passed in stats.names_passed.iter().filter(|p| p.count > 0) {
        let (what, remedy) = shortage(&passed.reason);
        writeln!(out, "{what} for {} names: they and the names below them pass{remedy}", passed.count)?;
    }
    if stats.rekeys > 0 {
        writeln!(out, "names collided: the hash key was changed {} times", stats.rekeys)?;
    }
    // The mistake may be corrected in the version that is held back.
    let is_held =
        |error: &str| stats.held_files.iter().any(|h| h.split_once(": ").is_some_and(|(f, _)| error.starts_with(f)));
    if let Some(error) = stats.reload_error.as_ref().filter(|e| !is_held(e)) {
        writeln!(out, "last reload failed; keeping the previous configuration: {error}")?;
    }
    for file in &stats.held_files {
        writeln!(out, "{file}")?;
    }
    Ok(())
}

/// Prints whether eDNS runs before all other programs on each interface.
fn print_places(out: &mut impl Write, interfaces: &[InterfaceReply]) -> io::Result<()> {
    let (first, behind): (Vec<_>, Vec<_>) = interfaces.iter().partition(|i| i.is_first);
    for interface in &behind {
        let programs: Vec<String> = interface.in_front.iter().map(program).collect();
        let name = &interface.name;
        writeln!(out, "not first in the chain on {name}: {} may keep queries from eDNS", programs.join(", "))?;
    }
    match (first.len(), behind.len()) {
        (0, _) => Ok(()),
        (_, 0) => writeln!(out, "first in the chain on every interface"),
        _ => writeln!(out, "first in the chain on every other interface"),
    }
}

fn program(program: &InFrontReply) -> String {
    let mut text = program.name.clone().unwrap_or_else(|| "program".into());
    if let Some(id) = program.id {
        text += &format!(" id {id}");
    }
    if let Some(priority) = program.priority {
        text += &format!(" priority {priority}");
    }
    text
}

/// Why names have no place in the maps, and what to do about it.
fn shortage(reason: &str) -> (&'static str, &'static str) {
    match reason {
        "full" => ("no room", "; raise MaxRecords and restart"),
        "memory" => ("no memory", ""),
        "collision" => ("no free slot", ""),
        "size" => ("answers too large", ""),
        _ => ("no place", ""),
    }
}

fn interfaces(names: &[String]) -> String {
    match names.len() {
        0 => "no interface".into(),
        n if n <= INTERFACES_MAX => names.join(", "),
        n => format!("{n} interfaces: {} and {} more", names[..INTERFACES_MAX].join(", "), n - INTERFACES_MAX),
    }
}

/// Describes the view of the cluster: whether it is current, and when the API server was last heard.
fn format_view(sync: &SyncReply) -> String {
    let broken: Vec<_> = sync.kinds.iter().filter_map(|k| k.broken_seconds.map(|s| (k, s))).collect();
    let contact = if broken.is_empty() {
        let silent: Vec<_> =
            sync.kinds.iter().map(|k| format!("{} {}", k.kind, format_duration(k.silent_seconds))).collect();
        format!("last heard: {} ago", silent.join(", "))
    } else {
        let broken: Vec<_> = broken
            .iter()
            .map(|(k, s)| format!("{} for {} ({} failures)", k.kind, format_duration(*s), k.errors))
            .collect();
        format!("watch broken: {}", broken.join(", "))
    };
    let state = match (sync.synced, sync.current) {
        (false, _) => "initial sync not done, all its names pass",
        (true, false) => &stale(sync),
        (true, true) if sync.kinds.iter().any(|k| k.broken_seconds.is_some()) => "synced, view still current",
        (true, true) => "synced, view current",
    };
    format!("{state}; {contact}")
}

/// What happens to names of the cluster while the view is stale.
fn stale(sync: &SyncReply) -> String {
    let left = sync.max_stale_seconds.zip(sync.stale_seconds).map(|(max, time)| (max - time).max(0.0));
    match (sync.expired, left) {
        (true, _) => {
            let time = sync.stale_seconds.unwrap_or_default();
            format!("view stale for {}, longer than MaxStale: all its names pass", format_duration(time))
        }
        (false, Some(left)) => {
            format!("view stale: known names answered for {} more, negative answers suspended", format_duration(left))
        }
        (false, None) => "view stale: known names answered, negative answers suspended".into(),
    }
}

/// A duration in the most readable unit.
fn format_duration(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..120 => format!("{whole} s"),
        120..7200 => format!("{} min", whole / 60),
        7200..172_800 => format!("{} h", whole / 3600),
        _ => format!("{} days", whole / 86400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_view_says_what_happens_to_names() {
        let sync = |stale_seconds, max_stale_seconds, expired| SyncReply {
            synced: true,
            current: false,
            stale_seconds,
            max_stale_seconds,
            expired,
            kinds: Vec::new(),
        };
        for (sync, text) in [
            (sync(Some(90.0), None, false), "view stale: known names answered, negative answers suspended; "),
            (
                sync(Some(90.0), Some(270.0), false),
                "view stale: known names answered for 3 min more, negative answers suspended; ",
            ),
            (sync(Some(600.0), Some(270.0), true), "view stale for 10 min, longer than MaxStale: all its names pass; "),
        ] {
            assert!(format_view(&sync).starts_with(text), "{}", format_view(&sync));
        }
    }

    #[test]
    fn many_interfaces_are_counted() {
        let names: Vec<String> = (0..300).map(|n| format!("veth{n}")).collect();
        assert_eq!(interfaces(&names), "300 interfaces: veth0, veth1, veth2, veth3 and 296 more");
        assert_eq!(interfaces(&names[..2]), "veth0, veth1");
        assert_eq!(interfaces(&[]), "no interface");
    }

    #[test]
    fn every_interface_is_first_or_behind_something() {
        let place = |name: &str, in_front: Vec<InFrontReply>| InterfaceReply {
            name: name.into(),
            is_first: in_front.is_empty(),
            in_front,
        };
        let text = |interfaces: &[InterfaceReply]| {
            let mut out = Vec::new();
            print_places(&mut out, interfaces).unwrap();
            String::from_utf8(out).unwrap()
        };
        let first = place("veth0", Vec::new());
        let tcx = InFrontReply { id: Some(7), name: None, priority: None };
        let filter = InFrontReply { id: Some(8), name: Some("ender".into()), priority: Some(1) };
        let behind = place("veth1", vec![filter, tcx]);
        assert_eq!(text(&[]), "");
        assert_eq!(text(std::slice::from_ref(&first)), "first in the chain on every interface\n");
        assert_eq!(
            text(&[behind, first]),
            "not first in the chain on veth1: ender id 8 priority 1, program id 7 may keep queries from eDNS\n\
             first in the chain on every other interface\n"
        );
    }

    #[test]
    fn durations_have_the_most_readable_unit() {
        for (seconds, text) in
            [(0.42, "0.4 s"), (59.9, "59 s"), (600.0, "10 min"), (7200.0, "2 h"), (864_000.0, "10 days")]
        {
            assert_eq!(format_duration(seconds), text);
        }
    }
}
