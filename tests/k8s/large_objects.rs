//! Objects as large as the API server takes them.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::api;
use crate::cluster::Cluster;
use crate::node::Node;

/// Slices, which together are some times as long as a page of a list may be.
const SLICES: usize = 24;
/// MiB that the daemon has resident at most. A page of all of them would take more for its text alone.
const PEAK_MAX: usize = 100;

/// One of a thousand endpoints with a hundred addresses each, of which none is ready, and one that is.
fn slice(n: usize) -> Value {
    let addresses = |e: usize| -> Vec<String> { (0..100).map(|a| format!("10.{}.{}.{a}", 100 + n, e % 250)).collect() };
    let idle = (0..999).map(|e| json!({"addresses": addresses(e), "conditions": {"ready": false}}));
    let ready =
        json!({"addresses": [format!("10.99.0.{n}")], "hostname": format!("e{n}"), "conditions": {"ready": true}});
    let endpoints: Vec<Value> = idle.chain([ready]).collect();
    json!({"kind": "EndpointSlice", "addressType": "IPv4", "endpoints": endpoints, "ports": [{"port": 80}],
        "metadata": {"name": format!("large-{n}"), "namespace": "default", "labels": {"kubernetes.io/service-name": "large"}}})
}

#[test]
fn slices_of_a_hundred_thousand_addresses_come_in_pages_that_fit_into_memory() {
    let cluster = Arc::new(Cluster::new());
    let service = json!({"kind": "Service", "metadata": {"name": "large", "namespace": "default"},
        "spec": {"clusterIP": "None", "ports": [{"port": 80}]}});
    let slices = (0..SLICES).map(slice).map(|slice| vec![slice]);
    api::create(&cluster, &[vec![service]].into_iter().chain(slices).collect::<Vec<_>>());
    let node = Node::new(&cluster);
    let daemon = node.daemon();
    let client = node.pod();
    for n in 0..SLICES {
        node.until_rcode(&client, 20, &format!("e{n}.large.default.svc.cluster.local"), "NoError");
    }
    let log = daemon.log();
    assert!(
        log.contains("endpointslices: a response is longer than 8 MiB: asked for again with fewer objects"),
        "{log}"
    );
    assert!(!log.contains("tried again until it works"), "{log}");
    assert!(daemon.peak() < PEAK_MAX, "{} MiB", daemon.peak());
    // An event of the same size.
    let changed = slice(0)
        .to_string()
        .replace("\"10.99.0.0\"", "\"10.99.1.0\"")
        .replace(r#""kind":"#, r#""apiVersion":"discovery.k8s.io/v1","kind":"#);
    cluster.lab.write("large.json", &changed);
    cluster.ask(&["replace", "-f", "large.json"]);
    node.until_address(&client, "e0.large.default.svc.cluster.local", "10.99.1.0");
}
