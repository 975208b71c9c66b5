//! The `edns` binary: command line in, exit status out.

use std::path::Path;
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
        _ => cli.running_config(),
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
        Command::Completions { .. } => unreachable!("dealt with above, since it needs no config"),
    }
}

fn run(config: &Path) -> ExitCode {
    // Of these libraries' warnings ours say the same, once and with what helps.
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
        let names = file::parse(&config.domain_file, &domains, config.domain_file_optional)?;
        let texts = [(path.to_owned(), Some(text.into())), (config.domain_file, domains?)];
        Ok((names.map_or(0, |names| names.len()), config.max_records, texts))
    });
    match checked {
        Ok((names, max, texts)) => {
            println!("{}: fine, {names} static names", path.display());
            if names > max as usize {
                println!("MaxRecords allows {max}: names without room pass to the DNS server, raise it");
            }
            for (path, text) in texts {
                if text.is_some_and(|text| file::may_be_incomplete(&path, &text)) {
                    println!(
                        "{}: its last line has no end: where it is written in place, a running daemon takes it for \
                         half-written until it ends with a newline, or SIGHUP says that it is meant",
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
        // As other tools do where the reader of a pipe has enough.
        Err(CommandError::Output(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(e @ CommandError::Usage(_)) => fail(USAGE, &e),
        Err(e) => fail(FAILURE, &e),
    }
}

fn fail(status: u8, error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("edns: {error}");
    ExitCode::from(status)
}
