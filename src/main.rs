//! The `edns` binary: command line in, exit status out.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser as _;
use edns::cli::{self, Cli, Command};
use edns::commands::{CommandError, CommandResult, lookup, pause, records, stats, trace, verify};
use edns::source::file;
use edns::{config, daemon, yaml};

const FAILURE: u8 = 1;
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let command = cli.command();
    if let Command::Completions { shell } = command {
        cli::completions(shell);
        return ExitCode::SUCCESS;
    }
    let config = match command {
        Command::Run | Command::Check => cli.config(),
        _ => daemon_config(&cli),
    };
    let config = match config {
        Ok(config) => config,
        Err(e) => return fail(USAGE, &e),
    };
    match command {
        Command::Run => run(&config),
        Command::Check => check(&config),
        Command::Lookup { name, qtype } => finish(lookup::run(&config, &name, &qtype)),
        Command::Records { json } => finish(records::run(&config, json)),
        Command::Stats { watch: true, top, .. } => finish(stats::watch(&config, top)),
        Command::Stats { json, .. } => finish(stats::run(&config, json)),
        Command::Trace { name, ifname } => finish(trace::run(&config, name.as_ref(), ifname.as_deref())),
        Command::Verify { server, sample } => finish(verify::run(&config, server, sample)),
        Command::Pause { time } => finish(pause::pause(&config, time)),
        Command::Resume => finish(pause::resume(&config)),
        Command::Completions { .. } => unreachable!("handled above: it needs no config"),
    }
}

/// The config of the daemon that a command asks. In a clone this may be the installed daemon; stderr says so.
fn daemon_config(cli: &Cli) -> Result<PathBuf, String> {
    let usual = cli.config();
    let Some(running) = cli.running_config() else { return usual };
    if let Ok(usual) = usual.as_ref()
        && *usual != running
    {
        eprintln!("edns: no daemon runs with {}; asking the one with {}", usual.display(), running.display());
    }
    Ok(running)
}

fn run(config: &Path) -> ExitCode {
    // The daemon logs these libraries' warnings itself, once and with a way out.
    let default = env_logger::Env::default().default_filter_or(
        "info,kube_client::client=error,kube_runtime::watcher=error,netlink_proto=error,rustls_platform_verifier=off",
    );
    env_logger::Builder::from_env(default).format_target(false).init();
    match daemon::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            log::error!("{e}");
            ExitCode::from(if e.is_usage() { USAGE } else { FAILURE })
        }
    }
}

fn check(path: &Path) -> ExitCode {
    let checked = yaml::text(path).and_then(|text| {
        let config = config::Config::parse(path, &text)?;
        let domains = file::text(&config.domain_file);
        let entries = file::parse(&config.domain_file, &domains, config.domain_file_optional)?;
        Ok((text, config, domains?, entries))
    });
    match checked {
        Ok((text, config, domains, entries)) => {
            match &entries {
                Some(entries) => println!("{}: fine, {} static names", path.display(), entries.len()),
                None => println!(
                    "{}: fine, no static names: {} does not exist",
                    path.display(),
                    config.domain_file.display()
                ),
            }
            let max = config.max_records;
            if entries.is_some_and(|entries| entries.len() > max as usize) {
                println!("MaxRecords is {max}: static names beyond that pass to the DNS server; raise MaxRecords");
            }
            for (path, text) in [(path, Some(text.into())), (&*config.domain_file, domains)] {
                if text.is_some_and(|text| file::may_be_incomplete(path, &text)) {
                    println!(
                        "{}: its last line has no newline: a running daemon that has a version with one may hold this \
                         one back as half-written; add the newline, or send SIGHUP",
                        path.display()
                    );
                }
            }
            ExitCode::SUCCESS
        }
        Err(e) => fail(USAGE, &e),
    }
}

fn finish(result: CommandResult) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILURE),
        // The reader of the pipe has closed it, as `head` does: no failure.
        Err(CommandError::Output(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(e @ CommandError::Usage(_)) => fail(USAGE, &e),
        Err(e) => fail(FAILURE, &e),
    }
}

fn fail(status: u8, error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("edns: {error}");
    ExitCode::from(status)
}
