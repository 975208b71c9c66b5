//! The released daemon in network namespaces of its own, asked by real clients. Needs root and the packages of
//! `scripts/setup.sh`.

#[path = "../common/mod.rs"]
mod common;

use common::lab;

mod chain;
mod checksums;
mod clients;
mod clsact;
mod coexistence;
mod collisions;
mod commands;
mod crash;
mod egress;
mod errors;
mod files;
mod frames;
mod interfaces;
mod lifecycle;
mod metrics;
mod passed_packets;
mod privileges;
mod qdisc;
mod reload;
mod rewrites;
mod slow_grace;
#[allow(dead_code, reason = "tests on other kernels use the rest")]
mod sockets;
mod tap;
mod trace;
mod verify;
