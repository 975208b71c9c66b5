//! The command line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use glob::Pattern;

use crate::control::running;

/// Of the server that `verify` asks, where no other is said.
pub const DNS_PORT: u16 = 53;
/// Looked for in this order where --config is not given.
const CONFIGS: [&str; 2] = ["configs/config.yaml", "/etc/edns/config.yaml"];

/// Answers DNS queries in the kernel, on the interface that they come in by.
///
/// A TC eBPF program looks names up in maps that this daemon keeps true; what it can't answer with certainty goes on to the
/// DNS server, untouched. Without a command, the daemon runs.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Is it answering? `edns stats`; `edns stats --watch` and `edns trace` show it live, `edns verify` that it is right.\n\
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
    /// The config file; it also names the daemon that a command talks to [default: configs/config.yaml, else
    /// /etc/edns/config.yaml]
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run the daemon. SIGHUP reloads config and records; SIGTERM and SIGINT detach and end it
    Run,
    /// Validate config and records; touch nothing
    Check,
    /// Show what the running daemon's maps answer, as dig does; exit status 1 where the question passes
    Lookup {
        /// The name; absolute, with or without the final dot
        name: String,
        /// The type, such as A, AAAA, SRV or PTR
        #[arg(name = "TYPE", default_value = "A")]
        qtype: String,
    },
    /// Show what the running daemon's maps hold
    Records {
        /// As JSON, a list
        #[arg(long)]
        json: bool,
    },
    /// Show whether eDNS answers, how much, why the rest passes, and how old its view of the cluster is
    Stats {
        /// As JSON, an object
        #[arg(long)]
        json: bool,
        /// Again every second, with rates, until interrupted
        #[arg(long, short, conflicts_with = "json")]
        watch: bool,
        /// With --watch: the N names that are asked for most, too
        #[arg(long, value_name = "N", requires = "watch", num_args = 0..=1, default_missing_value = "10")]
        top: Option<usize>,
    },
    /// Show each query as the kernel sees it, with its outcome, until interrupted; one trace at a time
    Trace {
        /// Only for names that match this, such as '*.example.org', in any case and without the final dot
        #[arg(long, value_name = "GLOB")]
        name: Option<Pattern>,
        /// Only on this interface
        #[arg(long, value_name = "I")]
        ifname: Option<String>,
    },
    /// Ask the real DNS server what the maps answer, and print every difference; exit status 1 where there is one
    ///
    /// It is asked over TCP, which eDNS never answers, for all names in the maps and for made-up ones beside and below them.
    /// rcode, AA and records are compared, whatever their order and TTL.
    Verify {
        /// The server's address, with or without a port [default: one that the daemon answers for, by DnsServers]
        #[arg(long, value_name = "IP", value_parser = server)]
        server: Option<SocketAddr>,
        /// Only so many names, chosen at random
        #[arg(long, value_name = "N")]
        sample: Option<usize>,
    },
    /// Make the running daemon pass everything to the DNS server
    Pause {
        /// For so long, such as 90s, 10m or 2h; else until `edns resume`
        #[arg(long = "for", value_name = "TIME", value_parser = duration)]
        time: Option<Duration>,
    },
    /// End a pause
    Resume,
    /// Write a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

impl Cli {
    /// The command; `run` where none is given.
    #[must_use]
    pub fn command(&self) -> Command {
        self.command.clone().unwrap_or(Command::Run)
    }

    /// The config file.
    ///
    /// # Errors
    /// Where none is given and none is there: a text that says where it was looked for.
    pub fn config(&self) -> Result<PathBuf, String> {
        if let Some(config) = &self.global.config {
            return Ok(config.clone());
        }
        CONFIGS.iter().map(Path::new).find(|p| p.exists()).map(Path::to_owned).ok_or_else(|| {
            format!("no config file: neither {} nor {} is there; name one with --config FILE", CONFIGS[0], CONFIGS[1])
        })
    }

    /// The config of the daemon that a command talks to: without --config the first of the usual ones whose daemon runs.
    ///
    /// # Errors
    /// As [`Self::config`], where none of them runs.
    pub fn running_config(&self) -> Result<PathBuf, String> {
        let mut usual = CONFIGS.iter().map(Path::new).filter(|_| self.global.config.is_none());
        usual.find(|c| running::is_running(c)).map_or_else(|| self.config(), |c| Ok(c.to_owned()))
    }
}

/// An address, on the port of DNS where none is said.
fn server(text: &str) -> Result<SocketAddr, String> {
    let addr = text.parse().or_else(|_| text.parse().map(|ip| SocketAddr::new(ip, DNS_PORT)));
    addr.map_err(|_| "an IP address, such as 10.96.0.10 or [fd00::10]:5353".into())
}

/// A number of seconds, minutes or hours.
fn duration(text: &str) -> Result<Duration, String> {
    let unit = text.chars().last().and_then(|c| [('s', 1), ('m', 60), ('h', 3600)].into_iter().find(|(u, _)| *u == c));
    let number = unit.and_then(|(unit, _)| text.strip_suffix(unit)).unwrap_or(text).parse::<u64>();
    match (number, unit) {
        (Ok(n), Some((_, seconds))) if n > 0 => Ok(Duration::from_secs(n.saturating_mul(seconds))),
        _ => Err("a number with s, m or h behind it, such as 10m".into()),
    }
}

/// Writes a completion script to standard output.
pub fn completions(shell: Shell) {
    clap_complete::generate(shell, &mut <Cli as CommandFactory>::command(), "edns", &mut std::io::stdout());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
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
    fn runs_without_a_command_and_takes_the_config_anywhere() {
        assert_eq!(Cli::parse_from(["edns"]).command(), Command::Run);
        let cli = Cli::parse_from(["edns", "lookup", "a.example", "--config", "x.yaml"]);
        assert_eq!(cli.config(), Ok("x.yaml".into()));
        assert_eq!(cli.command(), Command::Lookup { name: "a.example".into(), qtype: "A".into() });
    }
}
