//! Objects of the greatest size that the API server accepts.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::api;
use crate::cluster::Cluster;
use crate::node::Node;

/// Slices whose total size is several times the greatest page of a list.
const SLICES: usize = 24;
/// The most resident memory of the daemon, in MiB. The text of a page with all of them would take more.
const PEAK_MAX: usize = 100;

/// A slice with 999 unready endpoints of a hundred addresses each, and one ready endpoint.
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
        log.contains("endpointslices: a response is longer than 8 MiB: retrying with fewer objects per page"),
        "{log}"
    );
    assert!(!log.contains("retrying until it succeeds"), "{log}");
    assert!(daemon.peak() < PEAK_MAX, "{} MiB", daemon.peak());
    // A watch event of the same size.
    let changed = slice(0)
        .to_string()
        .replace("\"10.99.0.0\"", "\"10.99.1.0\"")
        .replace(r#""kind":"#, r#""apiVersion":"discovery.k8s.io/v1","kind":"#);
    cluster.lab.write("large.json", &changed);
    cluster.ask(&["replace", "-f", "large.json"]);
    node.until_address(&client, "e0.large.default.svc.cluster.local", "10.99.1.0");
}
