//! Compiles the BPF program and generates its skeleton: the types and constants that it shares with the daemon come
//! from its BTF.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use libbpf_cargo::SkeletonBuilder;

const SOURCE: &str = "src/bpf/edns.bpf.c";
/// The first clang that keeps all bounds checks that the verifier of Linux 5.10 needs.
const CLANG: &str = "clang-19";

fn main() {
    // The folder, so that a changed header triggers a rebuild, too.
    println!("cargo::rerun-if-changed=src/bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("edns.skel.rs");
    if let Err(e) = build(&out) {
        println!("cargo::error={e}");
    }
}

fn build(out: &Path) -> Result<(), String> {
    let clang = clang()?;
    // benches/ compiles further BPF programs with the same compiler and headers.
    println!("cargo::rustc-env=BPF_CLANG={}", clang.display());
    // Set by libbpf-sys, where it builds libbpf.
    let headers = env::var("DEP_BPF_INCLUDE").unwrap_or_else(|_| "/usr/include".into());
    println!("cargo::rustc-env=BPF_INCLUDE={headers}");
    SkeletonBuilder::new()
        .source(SOURCE)
        .clang(&clang)
        // v3 has 32-bit jumps. Without them the verifier loses bounds between a comparison and the use of its operand.
        .clang_args(["-mcpu=v3", "-Wall", "-Wextra", "-Werror"])
        .build_and_generate(out)
        .map(|_| ())
        .map_err(|e| format!("{SOURCE} does not compile with {}: {e:#}", clang.display()).replace('\n', " | "))
}

/// The compiler: $CLANG, else [`CLANG`], else `clang`.
fn clang() -> Result<PathBuf, String> {
    let wanted = env::var("CLANG").ok().filter(|c| !c.is_empty());
    let candidates: Vec<&str> = wanted.as_deref().map_or_else(|| vec![CLANG, "clang"], |c| vec![c]);
    candidates
        .iter()
        .find(|c| Command::new(c).arg("--version").output().is_ok_and(|o| o.status.success()))
        .map(PathBuf::from)
        .ok_or_else(|| {
            format!(
                "cannot run {}, which compiles the BPF program; `scripts/setup.sh` installs it on Debian, \
                 CLANG=path names another compiler",
                candidates.join(" or ")
            )
        })
}
