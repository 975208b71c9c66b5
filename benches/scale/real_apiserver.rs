//! The Services in a real API server.

use serde_json::json;

use crate::api;
use crate::cluster::Cluster;
use crate::objects::{NAMESPACES, Services, namespace, namespace_of, service, slice};

/// A control plane with these Services.
pub fn cluster(all: &Services) -> Cluster {
    let cluster = Cluster::without_dns();
    cluster.lab.write("domain.yaml", "Domains: []\n");
    cluster
        .lab
        .write("config.yaml", "EnableK8S: true\nKubeConfig: kubeconfig\nIfname: veth0\nNetworkDirection: Ingress\nMetricsAddr: 127.0.0.1:9153\n");
    let namespaces = (0..NAMESPACES).map(namespace).collect();
    let [services, slices] = [service, slice].map(|object| (0..all.count).map(object).collect());
    api::create(&cluster, &[namespaces, services, slices]);
    cluster
}

/// Prints the octets that the API server sends per object.
pub fn print_sizes(cluster: &Cluster) {
    let get = |path: &str| cluster.ask(&["get", "--raw", path]).len();
    let mut large = slice(0);
    large["metadata"]["name"] = json!("large");
    let endpoint = large["endpoints"][0].clone();
    let endpoints = (0..100).map(|i| {
        let mut endpoint = endpoint.clone();
        endpoint["addresses"] = json!([format!("10.200.0.{}", i + 1)]);
        endpoint
    });
    large["endpoints"] = endpoints.collect();
    large["apiVersion"] = json!("discovery.k8s.io/v1");
    large["kind"] = json!("EndpointSlice");
    cluster.apply(&large.to_string());
    let slices = format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", namespace_of(0));
    println!("\n| what the API server sends | octets |\n| --- | --- |");
    println!("| all 10,000 Services | {} |", get("/api/v1/services"));
    println!("| all 10,000 EndpointSlices | {} |", get("/apis/discovery.k8s.io/v1/endpointslices"));
    println!("| an event of a slice with one endpoint | {} |", get(&format!("{slices}/svc-0-x7k2p")));
    println!("| an event of a slice with a hundred | {} |", get(&format!("{slices}/large")));
}
