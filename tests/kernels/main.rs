//! The daemon on the running kernel, asked by real sockets. `make test-kernels` boots other kernels and runs this there.

#[path = "../daemon/chain/mod.rs"]
mod chain;
#[path = "../daemon/coexistence.rs"]
mod coexistence;
#[path = "../common/mod.rs"]
mod common;
#[path = "../daemon/crash.rs"]
mod crash;
#[path = "../daemon/frames.rs"]
mod frames;
#[path = "../daemon/sockets.rs"]
mod sockets;

mod answers;
mod btf;
mod hooks;
mod ipvs;
mod lifecycle;
mod links;
mod memlock;
mod nics;

use common::lab;
use common::lab::Lab;

/// Whether the kernel is of this version or a newer one.
fn is_at_least(version: (u32, u32)) -> bool {
    let name = nix::sys::utsname::uname().expect("uname");
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= version
}

/// A lab with this config.
fn lab(config: &str) -> Lab {
    let lab = Lab::new();
    lab.configure(config);
    lab
}
