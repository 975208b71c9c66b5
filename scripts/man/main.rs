//! Writes the man page, made of the command line's definition, to standard output: `make deb` packs it.

use std::io::{self, Write as _};

use clap::CommandFactory;
use clap_mangen::Man;
use edns::cli::Cli;

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
    // Those of one page: a page for each would say little.
    for command in edns.get_subcommands() {
        writeln!(out, ".SH \"EDNS {}\"", command.get_name().to_uppercase())?;
        writeln!(out, "{}", command.get_about().map(ToString::to_string).unwrap_or_default())?;
        for option in command.get_arguments().filter(|a| !a.is_global_set() && a.get_id() != "help") {
            let help = option.get_help().map(ToString::to_string).unwrap_or_default();
            writeln!(out, ".TP\n\\fB{}\\fR\n{help}", option.to_string().replace('-', "\\-"))?;
        }
    }
    writeln!(out, ".SH \"EXIT STATUS\"\n0 done, 1 failure at run time, 2 bad usage or config.")
}
