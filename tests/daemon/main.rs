//! The daemon as its users have it: the binary, in network namespaces of its own, asked by real clients. Needs root and the
//! packages of `scripts/setup.sh`.

#[path = "../common/mod.rs"]
mod common;

mod beside;
mod chain;
mod checksums;
mod clients;
mod clsact;
mod colliding;
mod commands;
mod crash;
mod egress;
mod errors;
mod files;
mod frames;
mod interfaces;
mod lab;
mod lifecycle;
mod metrics;
mod passing;
mod privileges;
mod qdisc;
mod reload;
mod rewrites;
#[allow(dead_code, reason = "tests on other kernels use the rest")]
mod sockets;
mod tap;
mod trace;
mod verify;
mod waits;
