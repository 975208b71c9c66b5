//! The daemon on whatever kernel this runs on, asked by real sockets: `make test-kernels` boots others and runs it there.

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, reason = "the tests of the daemon use the rest")]
#[path = "../daemon/lab.rs"]
mod lab;

mod answers;
mod btf;
mod hooks;
mod lifecycle;
mod links;
mod sockets;

use std::path::Path;

use lab::Lab;

/// The BTF of a kernel that has none of its own, and that of another kernel: put there for the guest.
const RIGHT_BTF: &str = "/btf/right";
const WRONG_BTF: &str = "/btf/wrong";

fn has_btf() -> bool {
    Path::new("/sys/kernel/btf/vmlinux").exists()
}

/// Whether the kernel is of this version or a newer one.
fn is_at_least(version: (u32, u32)) -> bool {
    let name = nix::sys::utsname::uname().expect("uname");
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= version
}

/// A lab whose config has these lines, and what this kernel needs besides.
fn lab(config: &str) -> Lab {
    let lab = Lab::new();
    configure(&lab, config);
    lab
}

fn configure(lab: &Lab, config: &str) {
    let btf = if has_btf() { String::new() } else { format!("ExtBTF: {RIGHT_BTF}\n") };
    lab.write("config.yaml", &format!("{btf}{config}"));
}
