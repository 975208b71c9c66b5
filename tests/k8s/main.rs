//! The daemon with a real control plane and a real CoreDNS, in network namespaces of its own: `make test-k8s`.

#[path = "../common/lab/mod.rs"]
mod lab;

#[allow(dead_code, reason = "the tests of the daemon use the rest")]
#[path = "../common/collisions.rs"]
mod hash_collisions;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../common/rng.rs"]
mod rng;

mod access;
mod api;
mod api_restart;
mod changes;
mod client;
mod cluster;
mod collisions;
mod controllers;
mod coredns;
mod dns_servers;
mod edns;
mod etcd_restore;
mod full_maps;
mod kernel_share;
mod large_objects;
mod manifests;
mod names;
mod node;
mod outages;
mod oversized_tenant;
mod pods;
mod settings;
mod verify;
mod work;
