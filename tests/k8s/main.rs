//! The daemon beside a real API server and a real CoreDNS, in network namespaces of its own: `make test-k8s`.

#[path = "../daemon/lab.rs"]
mod lab;

mod changes;
mod client;
mod cluster;
mod coredns;
mod outages;
mod pods;
