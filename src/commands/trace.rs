//! `edns trace`: prints each query with its outcome.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use glob::{MatchOptions, Pattern};

use super::stream::{Tracing, monotonic, question};
use super::{CommandError, CommandResult, stdout};
use crate::control::Request;
use crate::control::client::ask_one;

/// Maximum delay before queries are printed and before the end of the daemon is noticed.
const WAIT: Duration = Duration::from_millis(200);

/// Prints queries until it is interrupted or the daemon ends: those whose name matches `name`, on the interface `ifname`.
///
/// # Errors
/// If no daemon runs, another trace is on, or eDNS is not attached to `ifname`.
pub fn run(config: &Path, name: Option<&Pattern>, ifname: Option<&str>) -> CommandResult {
    let mut tracing = Tracing::start(config)?;
    let mut interfaces = Interfaces { config, names: HashMap::new() };
    if let Some(ifname) = ifname {
        interfaces.require(ifname)?;
    }
    loop {
        let events = tracing.poll(WAIT)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let monotonic = monotonic()?;
        let mut out = stdout();
        for event in events {
            let asked = question(&event.message);
            let matches = |pattern: &Pattern| {
                let any_case = MatchOptions { case_sensitive: false, ..MatchOptions::default() };
                let name = asked.as_ref().map(|(name, _)| name.strip_suffix('.').unwrap_or(name));
                name.is_some_and(|name| pattern.matches_with(name, any_case))
            };
            if name.is_some_and(|pattern| !matches(pattern)) {
                continue;
            }
            let interface = interfaces.name(event.ifindex)?;
            if ifname.is_some_and(|ifname| ifname != interface) {
                continue;
            }
            let time = now.saturating_sub(monotonic.saturating_sub(event.time));
            let client = SocketAddr::from(event.client);
            let asked = asked.map_or_else(|| "(no question)".into(), |(name, qtype)| format!("{name} {qtype}"));
            write!(out, "{} {interface} {client} > {} {asked} {}", clock(time), event.server, event.outcome.name)?;
            // The names of answers (`answered`, `nodata`, `nxdomain`) need no explanation.
            if !event.outcome.is_answer {
                write!(out, ": {}", event.outcome.meaning)?;
            }
            writeln!(out)?;
        }
        out.flush()?;
        drop(out);
        let lost = tracing.lost()?;
        if lost > 0 {
            eprintln!("edns: {lost} queries are not shown: they came faster than they can be read");
        }
    }
}

/// The time of day in UTC, as in the daemon's log.
fn clock(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs() % 86400;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{:06}Z", seconds % 60, since_epoch.subsec_micros())
}

/// Interface names by ifindex, in the daemon's network namespace, which need not be this one.
struct Interfaces<'a> {
    config: &'a Path,
    names: HashMap<u32, String>,
}

impl Interfaces<'_> {
    fn read(&mut self) -> Result<(), CommandError> {
        let attached: Vec<(u32, String)> = ask_one(self.config, &Request::Interfaces)?;
        self.names.extend(attached);
        Ok(())
    }

    /// Fails if eDNS is not attached to this interface: its queries would never be shown.
    fn require(&mut self, ifname: &str) -> Result<(), CommandError> {
        self.read()?;
        let mut attached: Vec<&str> = self.names.values().map(String::as_str).collect();
        if attached.contains(&ifname) {
            return Ok(());
        }
        attached.sort_unstable();
        let attached = if attached.is_empty() { "no interface".into() } else { attached.join(", ") };
        Err(CommandError::Failed(format!("--ifname: eDNS is not attached to {ifname}; it is attached to {attached}")))
    }

    fn name(&mut self, ifindex: u32) -> Result<String, CommandError> {
        if !self.names.contains_key(&ifindex) {
            self.read()?;
        }
        // The interface may have been removed since the query.
        Ok(self.names.entry(ifindex).or_insert_with(|| format!("if{ifindex}")).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_the_time_of_day() {
        assert_eq!(clock(Duration::new(1_700_000_000, 123_456_789)), "22:13:20.123456Z");
    }
}
