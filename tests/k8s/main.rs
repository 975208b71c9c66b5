//! The daemon beside a real control plane and a real CoreDNS, in network namespaces of its own: `make test-k8s`.

#[allow(dead_code, reason = "the tests of the daemon use the rest")]
#[path = "../daemon/lab.rs"]
mod lab;

mod access;
mod changes;
mod client;
mod cluster;
mod controllers;
mod coredns;
mod edns;
mod full;
mod manifests;
mod names;
mod node;
mod outages;
mod pods;
mod restart;
mod restored;
mod servers;
mod settings;
mod share;
mod verify;
