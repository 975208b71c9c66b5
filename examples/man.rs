//! Writes the man page, made of the command line's definition, to standard output: `make deb` packs it.

use std::io::{self, Write as _};

use clap::CommandFactory as _;
use edns::cli::Cli;

fn main() -> io::Result<()> {
    let command = Cli::command();
    let mut out = io::stdout().lock();
    let man = clap_mangen::Man::new(command.clone()).section("8").manual("System administration");
    man.render(&mut out)?;
    for command in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        // As sections of the one page: a page for each would say little.
        let mut options = Vec::new();
        clap_mangen::Man::new(command.clone()).render_options_section(&mut options)?;
        writeln!(out, ".SH \"EDNS {}\"", command.get_name().to_uppercase())?;
        out.write_all(&options)?;
    }
    Ok(())
}
