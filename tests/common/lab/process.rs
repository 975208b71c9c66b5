//! Programs whose failure fails the test.

use std::path::Path;
use std::process::{Command, Output};

pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}; scripts/setup.sh installs it"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Compiles a C program of tests/daemon with the glibc or musl compiler.
pub fn compile(compiler: &str, source: &str, out: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/daemon").join(source);
    run(Command::new(compiler).args(["-static", "-O1", "-Wall", "-o"]).arg(out).arg(source));
}
