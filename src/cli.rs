//! The command line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use glob::Pattern;

use crate::control::running::{self, USUAL_CONFIGS};

/// Port of the server that `verify` asks, unless --server names another one.
pub const DNS_PORT: u16 = 53;

/// Answers DNS queries in the kernel, on the interface that they pass.
///
/// A TC eBPF program looks names up in maps that the daemon keeps up to date. A query that it can't answer with certainty goes
/// on to the DNS server, unchanged. Without a command, edns runs the daemon.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "`edns stats` shows whether queries are answered, `edns trace` each query, `edns verify` whether answers are right.\n\
                  Exit status: 0 done, 1 failure at run time, 2 bad usage or config."
)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Args)]
struct Global {
    /// Config file; a command asks the daemon that runs with it [default: configs/config.yaml, else /etc/edns/config.yaml]
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// A command of the command line.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run the daemon. SIGHUP reloads config and static names; SIGTERM and SIGINT detach the program and end the daemon
    Run,
    /// Validate the config and the static names; change nothing
    Check,
    /// Show what the kernel answers, in the form of dig; exit status 1 if the query passes
    Lookup {
        /// Absolute name, with or without the final dot
        name: String,
        /// Record type, such as A, AAAA, SRV or PTR
        #[arg(name = "TYPE", default_value = "A")]
        qtype: String,
    },
    /// Show the names and answers in the maps
    Records {
        /// Print a JSON list
        #[arg(long)]
        json: bool,
    },
    /// Show counters, interfaces, the view of the cluster, and why queries pass
    Stats {
        /// Print a JSON object
        #[arg(long)]
        json: bool,
        /// Print it every second, with rates, until interrupted
        #[arg(long, short, conflicts_with = "json")]
        watch: bool,
        /// With --watch: also show the N names with the most queries (10 if N is not given)
        #[arg(long, value_name = "N", requires = "watch", num_args = 0..=1, default_missing_value = "10")]
        top: Option<usize>,
    },
    /// Show each query with its outcome, live, until interrupted; one trace at a time
    Trace {
        /// Show only names that match, such as '*.example.org'; case and a final dot do not matter
        #[arg(long, value_name = "GLOB")]
        name: Option<Pattern>,
        /// Show only queries on this interface
        #[arg(long, value_name = "IFNAME")]
        ifname: Option<String>,
    },
    /// Compare the answers in the maps with those of the DNS server; exit status 1 if one differs
    ///
    /// The server is asked over TCP, which eDNS never answers, for all names in the maps and for made-up names beside and below
    /// them. rcode, AA and records are compared; the order and TTL of records are not.
    Verify {
        /// Address of the server, with or without a port [default: one of DnsServers]
        #[arg(long, value_name = "IP", value_parser = server)]
        server: Option<SocketAddr>,
        /// Compare only N names, chosen at random
        #[arg(long, value_name = "N")]
        sample: Option<usize>,
    },
    /// Pass all queries to the DNS server
    Pause {
        /// Duration, such as 90s, 10m or 2h; without it the pause lasts until `edns resume`
        #[arg(long = "for", value_name = "TIME", value_parser = duration)]
        time: Option<Duration>,
    },
    /// End a pause; queries are answered again
    Resume,
    /// Print a completion script for a shell
    Completions {
        /// Shell that runs the script
        shell: Shell,
    },
}

impl Cli {
    /// The command; `run` if none is given.
    #[must_use]
    pub fn command(&self) -> Command {
        self.command.clone().unwrap_or(Command::Run)
    }

    /// The config file.
    ///
    /// # Errors
    /// If --config is not given and neither of the usual files exists: a text that names both.
    pub fn config(&self) -> Result<PathBuf, String> {
        if let Some(config) = &self.global.config {
            return Ok(config.clone());
        }
        USUAL_CONFIGS.iter().map(Path::new).find(|p| p.exists()).map(Path::to_owned).ok_or_else(|| {
            format!(
                "no config file: neither {} nor {} exists; name one with --config FILE",
                USUAL_CONFIGS[0], USUAL_CONFIGS[1]
            )
        })
    }

    /// The first of the usual config files that a daemon runs with; None with --config, or if no daemon runs with either.
    #[must_use]
    pub fn running_config(&self) -> Option<PathBuf> {
        let mut usual = USUAL_CONFIGS.iter().map(Path::new).filter(|_| self.global.config.is_none());
        usual.find(|c| running::is_running(c)).map(Path::to_owned)
    }
}

/// Parses an IP address with or without a port; without one the port is 53.
fn server(text: &str) -> Result<SocketAddr, String> {
    let addr = text.parse().or_else(|_| text.parse().map(|ip| SocketAddr::new(ip, DNS_PORT)));
    addr.map_err(|_| "not an IP address, such as 10.96.0.10 or [fd00::10]:5353".into())
}

/// Parses a number of seconds, minutes or hours: `90s`, `10m`, `2h`.
fn duration(text: &str) -> Result<Duration, String> {
    let unit = text.chars().last().and_then(|c| [('s', 1), ('m', 60), ('h', 3600)].into_iter().find(|(u, _)| *u == c));
    let number = unit.and_then(|(unit, _)| text.strip_suffix(unit)).unwrap_or(text).parse::<u64>();
    match (number, unit) {
        (Ok(n), Some((_, seconds))) if n > 0 => Ok(Duration::from_secs(n.saturating_mul(seconds))),
        _ => Err("not a number followed by s, m or h, such as 10m".into()),
    }
}

/// Prints a completion script on standard output.
pub fn completions(shell: Shell) {
    clap_complete::generate(shell, &mut <Cli as CommandFactory>::command(), "edns", &mut std::io::stdout());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_valid() {
        <Cli as CommandFactory>::command().debug_assert();
    }

    #[test]
    fn times_have_a_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        for text in ["", "10", "m", "0s", "-1s", "1.5h", "10 m"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_server_may_have_a_port() {
        for (text, addr) in [
            ("10.96.0.10", "10.96.0.10:53"),
            ("10.96.0.10:5353", "10.96.0.10:5353"),
            ("fd00::10", "[fd00::10]:53"),
            ("[fd00::10]:5353", "[fd00::10]:5353"),
        ] {
            assert_eq!(server(text), Ok(addr.parse().unwrap()), "{text}");
        }
        assert!(server("dns.example").is_err());
    }

    #[test]
    fn without_a_command_it_runs_and_config_may_follow_the_command() {
        assert_eq!(Cli::parse_from(["edns"]).command(), Command::Run);
        let cli = Cli::parse_from(["edns", "lookup", "a.example", "--config", "x.yaml"]);
        assert_eq!(cli.config(), Ok("x.yaml".into()));
        assert_eq!(cli.command(), Command::Lookup { name: "a.example".into(), qtype: "A".into() });
    }
}
