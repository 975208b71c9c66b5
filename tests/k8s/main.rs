//! The daemon beside a real control plane and a real CoreDNS, in network namespaces of its own: `make test-k8s`.

#[allow(dead_code, reason = "the tests of the daemon use the rest")]
#[path = "../daemon/lab.rs"]
mod lab;

#[allow(dead_code, reason = "the tests of the daemon use the rest")]
#[path = "../common/collide.rs"]
mod collide;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../common/rng.rs"]
mod rng;

mod access;
mod api;
mod changes;
mod client;
mod cluster;
mod colliding;
mod controllers;
mod coredns;
mod edns;
mod full;
mod hoard;
mod large;
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
mod work;
