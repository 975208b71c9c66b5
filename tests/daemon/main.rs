//! The daemon as its users have it: the binary, in network namespaces of its own, asked by real clients. Needs root and the
//! packages of `scripts/setup.sh`.

mod checksums;
mod clients;
mod clsact;
mod commands;
mod egress;
mod errors;
mod interfaces;
mod lab;
mod lifecycle;
mod metrics;
mod passing;
mod reload;
