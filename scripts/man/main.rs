//! Writes the man page to standard output: `make deb` packs it. Commands come from the command line's definition, config keys from
//! the manual's table.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_mangen::Man;
use edns::cli::Cli;

const CONFIGURATION: &str = include_str!("../../docs/configuration.md");

/// Paths that the daemon reads or makes.
const FILES: [(&str, &str); 5] = [
    (
        "/etc/edns/config.yaml",
        "The configuration, where --config names no other file and configs/config.yaml is not there.",
    ),
    ("/etc/edns/domain.yaml", "Static names: domain.yaml beside the configuration."),
    ("/run/edns", "Sockets by which commands reach the daemon."),
    ("/sys/kernel/btf/vmlinux", "The kernel's types (BTF); ExtBTF names another file."),
    ("/usr/share/doc/edns", "The manual."),
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
    // Subcommands in one page: a page for each would say little.
    for command in edns.get_subcommands() {
        writeln!(out, ".SH \"EDNS {}\"", command.get_name().to_uppercase())?;
        writeln!(out, "{}", command.get_about().map(ToString::to_string).unwrap_or_default())?;
        for option in command.get_arguments().filter(|a| !a.is_global_set() && a.get_id() != "help") {
            entry(&mut out, &option.to_string(), &option.get_help().map(ToString::to_string).unwrap_or_default())?;
        }
    }
    writeln!(out, ".SH CONFIGURATION\nKeys of config.yaml; an unknown key is an error.")?;
    for [key, default, meaning] in keys() {
        let default = if default.is_empty() { String::new() } else { format!(" (default: {default})") };
        entry(&mut out, &key, &format!("{meaning}{default}"))?;
    }
    writeln!(out, ".SH FILES")?;
    for (path, meaning) in FILES {
        entry(&mut out, path, meaning)?;
    }
    writeln!(out, ".SH \"EXIT STATUS\"\n0 done, 1 failure at run time, 2 bad usage or config.")
}

fn entry(out: &mut impl Write, term: &str, text: &str) -> io::Result<()> {
    // A line that begins with a dot or an apostrophe would be a request to roff.
    let escaped = |s: &str| s.replace('\\', "\\e").replace('-', "\\-");
    writeln!(out, ".TP\n\\fB{}\\fR\n\\&{}", escaped(term), escaped(text))
}

/// Key, default and meaning of each row of the manual's first table, as plain text.
fn keys() -> impl Iterator<Item = [String; 3]> {
    let rows =
        CONFIGURATION.lines().skip_while(|l| !l.starts_with("| --- ")).skip(1).take_while(|l| l.starts_with('|'));
    rows.filter_map(|row| {
        let mut cells = row.trim_matches('|').split(" |").map(|cell| plain(cell.trim()));
        Some([cells.next()?, cells.next()?, cells.next()?])
    })
}

/// Markdown without code marks and links.
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
