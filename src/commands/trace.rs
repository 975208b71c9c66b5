//! `edns trace`: each query as the kernel sees it.

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

/// How long at most until what has come is shown, and until the end of the daemon is seen.
const WAIT: Duration = Duration::from_millis(200);

/// Prints queries until it is interrupted, or the daemon ends: those for names that match, on this interface.
///
/// # Errors
/// No daemon, or another trace.
pub fn run(config: &Path, name: Option<&Pattern>, ifname: Option<&str>) -> CommandResult {
    let mut tracing = Tracing::start(config)?;
    let mut interfaces = Interfaces { config, names: HashMap::new() };
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
            // An answer says itself what it is.
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

/// The time of the day, in UTC as the daemon's log has it.
fn clock(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs() % 86400;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{:06}Z", seconds % 60, since_epoch.subsec_micros())
}

/// Names of interfaces where the daemon is, which may be another network namespace.
struct Interfaces<'a> {
    config: &'a Path,
    names: HashMap<u32, String>,
}

impl Interfaces<'_> {
    fn name(&mut self, ifindex: u32) -> Result<String, CommandError> {
        if !self.names.contains_key(&ifindex) {
            let attached: Vec<(u32, String)> = ask_one(self.config, &Request::Interfaces)?;
            self.names.extend(attached);
        }
        // One that has gone meanwhile has no name any more.
        Ok(self.names.entry(ifindex).or_insert_with(|| format!("if{ifindex}")).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_of_the_day() {
        assert_eq!(clock(Duration::new(1_700_000_000, 123_456_789)), "22:13:20.123456Z");
    }
}
