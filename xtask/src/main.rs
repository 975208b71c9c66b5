//! Prints the man page edns(8) for the package (`make deb`). The commands come from the definition of the command line, the config
//! keys from the table in docs/configuration.md.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_mangen::Man;
use edns::cli::Cli;

const CONFIGURATION: &str = include_str!("../../docs/configuration.md");

/// Paths that the daemon reads or creates, with their meaning.
const FILES: [(&str, &str); 5] = [
    (
        "/etc/edns/config.yaml",
        "The config, unless --config names another file or configs/config.yaml exists in the working directory.",
    ),
    ("/etc/edns/domain.yaml", "Static names; DomainFile names another file."),
    ("/run/edns", "Control sockets, by which the commands reach the daemons."),
    ("/sys/kernel/btf/vmlinux", "BTF of the kernel; ExtBTF names another file."),
    ("/usr/share/doc/edns", "The manual: start with README.md; operate.md in docs has troubleshooting by symptom."),
];

fn main() -> io::Result<()> {
    let mut edns = <Cli as CommandFactory>::command().disable_help_subcommand(true);
    let mut out = io::stdout().lock();
    let man = Man::new(edns.clone()).section("8").manual("System administration");
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    edns.build();
    // All commands are on one page: a page for each would be short.
    for command in edns.get_subcommands() {
        writeln!(out, ".SH \"EDNS {}\"", command.get_name().to_uppercase())?;
        writeln!(out, "{}", command.get_about().map(ToString::to_string).unwrap_or_default())?;
        for option in command.get_arguments().filter(|a| !a.is_global_set() && a.get_id() != "help") {
            entry(&mut out, &option.to_string(), &option.get_help().map(ToString::to_string).unwrap_or_default())?;
        }
    }
    writeln!(out, ".SH CONFIGURATION\nKeys of config.yaml; an unknown key is an error.")?;
    for [key, default, effect, meaning] in keys() {
        entry(&mut out, &key, &format!("{meaning}. Default: {default}. Takes effect: {effect}."))?;
    }
    writeln!(out, ".SH FILES")?;
    for (path, meaning) in FILES {
        entry(&mut out, path, meaning)?;
    }
    writeln!(out, ".SH \"EXIT STATUS\"\n0 done, 1 failure at run time, 2 bad usage or config.")
}

fn entry(out: &mut impl Write, term: &str, text: &str) -> io::Result<()> {
    // The \& before the text: a line that begins with a dot or an apostrophe would be a roff request.
    let escaped = |s: &str| s.replace('\\', "\\e").replace('-', "\\-");
    writeln!(out, ".TP\n\\fB{}\\fR\n\\&{}", escaped(term), escaped(text))
}

/// The rows of the first table of docs/configuration.md as plain text: key, default, live or restart, meaning.
fn keys() -> impl Iterator<Item = [String; 4]> {
    let rows =
        CONFIGURATION.lines().skip_while(|l| !l.starts_with("| --- ")).skip(1).take_while(|l| l.starts_with('|'));
    rows.filter_map(|row| {
        let mut cells = row.trim_matches('|').split(" |").map(|cell| plain(cell.trim()));
        Some([cells.next()?, cells.next()?, cells.next()?, cells.next()?])
    })
}

/// Removes code marks and link targets from Markdown.
fn plain(cell: &str) -> String {
    let mut text = String::new();
    let mut rest = cell;
    while let Some((before, link)) = rest.split_once("](") {
        let (before, label) = before.rsplit_once('[').unwrap_or((before, ""));
        text.push_str(before);
        text.push_str(label);
        rest = link.split_once(')').map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    text.replace('`', "")
}
