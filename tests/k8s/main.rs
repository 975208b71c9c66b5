//! The daemon beside a real API server and a real CoreDNS, in network namespaces of its own: `make test-k8s`.

#[allow(dead_code, reason = "the tests of the daemon use the rest")]
#[path = "../daemon/lab.rs"]
mod lab;

mod changes;
mod client;
mod cluster;
mod coredns;
mod manifests;
mod outages;
mod pods;
